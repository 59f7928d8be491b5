import type { AccountRules, DayHours } from './owner-rules.js';
import { parseHours } from './setting-values.js';

/** Where a tunnel is opened, and with what. */
export interface TunnelInvitation {
  /** `ws://` or `wss://` URL of a gateway. */
  readonly url: string;
  /** Goes into the Authorization header of the handshake; short-lived. */
  readonly ticket: string;
}

/** The control plane's answer to Start. */
export type StartOutcome =
  | {
      readonly ok: true;
      readonly sessionId: string;
      readonly tunnel: TunnelInvitation;
      /** Null: the server told none. */
      readonly rules: AccountRules | null;
    }
  | StartRefusal;

/** What became of a report. */
export type ReportOutcome =
  | { readonly ok: true; readonly rules: AccountRules | null }
  | { readonly ok: false };

export interface StartRefusal {
  readonly ok: false;
  /**
   * `retry`: a passing trouble, try again with growing waits. `wait`: refused for where the device is; ask slowly,
   * the network may change. `final`: only its owner can help.
   */
  readonly kind: 'retry' | 'wait' | 'final';
  /** The `code` of the answer (API.md), or `http_503`, `network`, `bad_answer`. */
  readonly code: string;
  /** For the owner: what happened and what to do. */
  readonly text: string;
  /** From Retry-After; the next attempt comes no sooner. */
  readonly retryAfterMs: number | null;
}

/** Bytes that the device counted; advice for the control plane, which compares them with the gateway's. */
export interface ByteCounts {
  /** Buyer → destination: what the device sent to destinations. */
  readonly bytesUp: number;
  /** Destination → buyer: what the device received from destinations. */
  readonly bytesDown: number;
}

/** An answer of the API, or why there is none. */
export type ApiAnswer =
  | { readonly ok: true; readonly body: object }
  | { readonly ok: false; readonly refusal: StartRefusal };

/** A request that was not answered within this is a network failure. */
const REQUEST_TIMEOUT_MS = 15_000;

/** A retry-after longer than this is cut. */
const RETRY_AFTER_MAX_MS = 3_600_000;

/** Refusals whose answer is known, by `code`. */
const KNOWN_REFUSALS: Readonly<Record<string, { kind: StartRefusal['kind']; text: string }>> = {
  region_not_allowed: {
    kind: 'wait',
    text: 'Sharing is not offered in the country this device is seen in. The agent asks again now and then; on another network it may go through.',
  },
  vpn_detected: {
    kind: 'wait',
    text: 'The address of this device belongs to a VPN, proxy or hosting network. Switch the VPN off; the agent asks again now and then.',
  },
  denylisted: {
    kind: 'wait',
    text: 'The address of this device is on the denylist. On another network it may go through; the agent asks again now and then.',
  },
  consent_required: {
    kind: 'final',
    text: 'The current terms are not accepted yet. Accept them in the app or the bot, or by `traffic-share agent consent accept`, then start the agent again.',
  },
  banned: {
    kind: 'final',
    text: 'This account or device is banned. Write to support from the app or the bot.',
  },
  client_too_old: {
    kind: 'final',
    text: 'This version of the agent is too old. Update it, then start it again.',
  },
};

/** The calls a device makes, with its own key. */
export class DeviceApi {
  readonly #apiUrl: string;
  readonly #deviceId: string;
  readonly #deviceKey: string;
  readonly #clientVersion: string;

  constructor(access: { apiUrl: string; deviceId: string; deviceKey: string; clientVersion: string }) {
    this.#apiUrl = access.apiUrl.replace(/\/+$/, '');
    this.#deviceId = access.deviceId;
    this.#deviceKey = access.deviceKey;
    this.#clientVersion = access.clientVersion;
  }

  /** Asks for a session and a ticket; asking again gives a fresh ticket for the same session. Never rejects. */
  async start(signal: AbortSignal): Promise<StartOutcome> {
    const body = { device_id: this.#deviceId, client_version: this.#clientVersion };
    const answer = await this.#post('/api/traffic/start', body, signal);
    if (!answer.ok) return answer.refusal;
    const { session_id: sessionId, tunnel } = answer.body as {
      session_id?: unknown;
      tunnel?: { url?: unknown; ticket?: unknown };
    };
    const url = tunnel?.url;
    const ticket = tunnel?.ticket;
    if (typeof sessionId !== 'string' || typeof url !== 'string' || typeof ticket !== 'string')
      return refusal('retry', 'bad_answer', 'The server gave an answer that this agent does not understand.');
    return { ok: true, sessionId, tunnel: { url, ticket }, rules: accountRulesOf(answer.body) };
  }

  /** Reports the bytes of the interval that just ended. Not ok: not delivered, report them with the next ones. */
  async report(
    sessionId: string,
    counts: ByteCounts,
    intervalSeconds: number,
    signal: AbortSignal,
  ): Promise<ReportOutcome> {
    const body = {
      session_id: sessionId,
      bytes_tx: counts.bytesUp,
      bytes_rx: counts.bytesDown,
      interval_seconds: intervalSeconds,
    };
    const answer = await this.#post('/api/traffic/report', body, signal);
    return answer.ok ? { ok: true, rules: accountRulesOf(answer.body) } : { ok: false };
  }

  /** Ends the session; `counts` are those of the whole session. Null: delivered. */
  async stop(sessionId: string, counts: ByteCounts, signal: AbortSignal): Promise<StartRefusal | null> {
    const body = {
      session_id: sessionId,
      final_bytes_tx: counts.bytesUp,
      final_bytes_rx: counts.bytesDown,
    };
    const answer = await this.#post('/api/traffic/stop', body, signal);
    return answer.ok ? null : answer.refusal;
  }

  /** Reads something of the device or its owner. Never rejects. */
  get(path: string, signal: AbortSignal): Promise<ApiAnswer> {
    return this.#call('GET', path, null, signal);
  }

  #post(path: string, body: object, signal: AbortSignal): Promise<ApiAnswer> {
    return this.#call('POST', path, body, signal);
  }

  async #call(
    method: 'GET' | 'POST',
    path: string,
    body: object | null,
    signal: AbortSignal,
  ): Promise<ApiAnswer> {
    let status: number;
    let retryAfter: string | null;
    let text: string;
    try {
      const response = await fetch(this.#apiUrl + path, {
        method,
        headers: {
          authorization: `Bearer ${this.#deviceKey}`,
          ...(body === null ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === null ? {} : { body: JSON.stringify(body) }),
        redirect: 'error', // the key must not follow to another host
        signal: AbortSignal.any([signal, AbortSignal.timeout(REQUEST_TIMEOUT_MS)]),
      });
      status = response.status;
      retryAfter = response.headers.get('retry-after');
      text = await response.text();
    } catch (error) {
      const cause = (error as { cause?: { code?: string } }).cause?.code ?? (error as Error).name;
      return {
        ok: false,
        refusal: refusal('retry', 'network', `The server could not be reached (${cause}).`),
      };
    }
    const parsed = parseObject(text);
    if (status < 200 || status > 299)
      return { ok: false, refusal: refusalOf(status, parsed ?? {}, retryAfter) };
    if (parsed === null)
      return {
        ok: false,
        refusal: refusal('retry', 'bad_answer', 'The server gave an answer that is no JSON.'),
      };
    return { ok: true, body: parsed };
  }
}

/** `rules` of an answer; null when there are none, or none that this agent understands. */
function accountRulesOf(body: object): AccountRules | null {
  const { rules } = body as { rules?: Record<string, unknown> };
  if (typeof rules !== 'object' || rules === null) return null;
  const { cap_bytes_left: left, hours, blocked_destinations: blocked } = rules;
  const times = hours as { from?: unknown; to?: unknown } | null | undefined;
  return {
    capBytesLeft: typeof left === 'number' ? left : null,
    wifiOnly: rules.wifi_only === true,
    chargingOnly: rules.charging_only === true,
    blockHosts: Array.isArray(blocked) ? blocked.filter((host) => typeof host === 'string') : [],
    hours:
      typeof times?.from === 'string' && typeof times.to === 'string'
        ? hoursOrNull(`${times.from}-${times.to}`)
        : null,
  };
}

function hoursOrNull(text: string): DayHours | null {
  try {
    return parseHours(text);
  } catch {
    return null;
  }
}

function refusal(
  kind: StartRefusal['kind'],
  code: string,
  text: string,
  retryAfterMs: number | null = null,
): StartRefusal {
  return { ok: false, kind, code, text, retryAfterMs };
}

function refusalOf(status: number, problem: object, retryAfter: string | null): StartRefusal {
  const { code, detail } = problem as { code?: unknown; detail?: unknown };
  const name = typeof code === 'string' ? code : `http_${status}`;
  const known = Object.hasOwn(KNOWN_REFUSALS, name) ? KNOWN_REFUSALS[name] : undefined;
  const waitMs = retryAfterMs(retryAfter);
  if (known !== undefined) return refusal(known.kind, name, known.text, waitMs);
  if (typeof code !== 'string' && status < 500 && ![408, 426, 429].includes(status))
    // Something before the server answered, a proxy or the page of somebody's network: it knows nothing of the device
    return refusal('retry', name, `What answered is not the control plane (HTTP ${status}).`, waitMs);
  const said = typeof detail === 'string' ? ` It says: ${detail}` : '';
  if (status === 429) return refusal('retry', name, `The server asks to slow down.${said}`, waitMs);
  if (status >= 500 || status === 408)
    return refusal('retry', name, `The server is in trouble.${said}`, waitMs);
  if (status === 401)
    return refusal(
      'final',
      name,
      `The server does not know this device key. Register the device again and use the new key.${said}`,
    );
  if (status === 426) return refusal('final', name, KNOWN_REFUSALS.client_too_old?.text ?? '');
  return refusal('final', name, `The server refuses this device (HTTP ${status}).${said}`);
}

function retryAfterMs(header: string | null): number | null {
  if (header === null) return null;
  const seconds = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  if (Number.isNaN(seconds)) return null;
  return Math.min(RETRY_AFTER_MAX_MS, Math.max(0, seconds * 1000));
}

function parseObject(text: string): object | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : null;
  } catch {
    return null;
  }
}
