import { randomUUID } from 'node:crypto';
import { limitsMessage } from '../../agent-protocol/control.js';
import { defaultTimings, type SessionLimits } from '../../agent-protocol/limits.js';
import type { MuxSession } from '../../agent-protocol/session.js';
import { newestCommon, noCommonVersion } from '../../agent-protocol/versions.js';
import { connectTunnel } from '../../agent-protocol/websocket.js';
import type { Clock } from '../runtime/clock.js';
import type { Log } from '../runtime/logging.js';
import { type LinkIdentity, vouchesFor } from './identity.js';
import { LINK_GATEWAY_HEADER, LINK_PATH } from './link-server.js';

/** The pause after a failed attempt to make a link; it doubles with each further one, ms. */
const RETRY_MS_MIN = 200;
const RETRY_MS_MAX = 5_000;
/** The pause after a request that nobody answered on a link that is up, ms. */
const DOUBT_MS = 2_000;
/** How often idle links are looked for, ms. */
const IDLE_LOOK_MS = 1_000;

export interface LinkClientOptions {
  /** Of this gateway. */
  gatewayId: string;
  /** In force on links from here. */
  limits: SessionLimits;
  /** Of what gateways ask each other, that this one speaks. */
  versions: readonly number[];
  /** Bytes of datagrams, headers included, that may wait in the socket of one link; further ones are dropped. */
  datagramBytesMax: number;
  connectTimeoutMs: number;
  /** Of links with streams. */
  pingMs: number;
  idleMs: number;
}

/** Where a gateway takes links. */
export interface LinkPlace {
  readonly gatewayId: string;
  readonly host: string;
  readonly port: number;
}

/**
 * | state | is | left by |
 * |---|---|---|
 * | none | nobody asked, or it was idle for long | a request → connecting |
 * | connecting | requests wait for it | → open; → resting |
 * | open | carries streams | idle → none; lost → none (→ resting when it had just been made) |
 * | resting | requests go elsewhere at once | time → none |
 */
interface Link {
  mux: MuxSession | null;
  /** Of what may be asked on it; 0 before there was one. */
  version: number;
  connecting: Promise<MuxSession | null> | null;
  failures: number;
  /** Not before then, monotonic ms. */
  retryAtMs: number;
  /** Since when it carries nothing. */
  idleSinceMs: number;
}

/** Links from this gateway to others, made when one is wanted, and kept. */
export class LinkClient {
  readonly #links = new Map<string, Link>();
  readonly #timer: NodeJS.Timeout;
  #closed = false;
  /** Attempts to make one that failed, since the start. */
  failures = 0;

  constructor(
    private readonly options: LinkClientOptions,
    private readonly deps: { identity: LinkIdentity; clock: Clock; log: Log },
  ) {
    this.#timer = setInterval(() => this.#closeIdle(), IDLE_LOOK_MS).unref();
  }

  /** Links open now. */
  get size(): number {
    return this.gatewayIds.length;
  }

  get gatewayIds(): string[] {
    return [...this.#links].filter(([, { mux }]) => mux !== null).map(([gatewayId]) => gatewayId);
  }

  get streamCount(): number {
    let streams = 0;
    for (const { mux } of this.#links.values()) streams += mux?.streamCount ?? 0;
    return streams;
  }

  /** Whether it is of no use to ask for a link now: the last attempt, or request, failed a moment ago. */
  isResting(gatewayId: string): boolean {
    const link = this.#links.get(gatewayId);
    return link !== undefined && link.retryAtMs > this.deps.clock.monotonicMs();
  }

  /**
   * A request got no sign of life: nothing is asked there for a moment. A link that carries streams is found dead by its
   * pings; another one is given up: TCP may take as long again as the way was broken to find it whole.
   */
  doubt(gatewayId: string): void {
    const link = this.#links.get(gatewayId);
    if (link === undefined) return;
    link.retryAtMs = this.deps.clock.monotonicMs() + DOUBT_MS;
    if (link.mux?.streamCount === 0) link.mux.destroy();
  }

  /** An open link, at once where there is one; null: it can not be had now. Never rejects. */
  to(place: LinkPlace): MuxSession | Promise<MuxSession | null> | null {
    const link = this.#of(place.gatewayId);
    if (this.#closed || this.isResting(place.gatewayId)) return null;
    if (link.mux !== null) return link.mux;
    link.connecting ??= this.#connect(place, link);
    return link.connecting;
  }

  /** The version of what may be asked on its link; 0: there was none yet. */
  versionOf(gatewayId: string): number {
    return this.#links.get(gatewayId)?.version ?? 0;
  }

  /** Forgets gateways that are gone, their open links excepted. */
  keepOnly(isThere: (gatewayId: string) => boolean): void {
    for (const [gatewayId, { mux, connecting }] of this.#links)
      if (mux === null && connecting === null && !isThere(gatewayId)) this.#links.delete(gatewayId);
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    for (const { mux } of [...this.#links.values()])
      mux?.close({ code: 'shutting_down', reason: 'this gateway stopped' });
  }

  #of(gatewayId: string): Link {
    let link = this.#links.get(gatewayId);
    if (link === undefined) {
      link = { mux: null, version: 0, connecting: null, failures: 0, retryAtMs: 0, idleSinceMs: 0 };
      this.#links.set(gatewayId, link);
    }
    return link;
  }

  async #connect(place: LinkPlace, link: Link): Promise<MuxSession | null> {
    const { clock, log } = this.deps;
    const { gatewayId } = place;
    let mux: MuxSession | null = null;
    try {
      mux = await this.#greeted(place, link);
      link.failures = link.retryAtMs = 0;
      link.idleSinceMs = clock.monotonicMs();
      log.info({ gatewayId }, 'link_to_gateway_opened');
    } catch (error) {
      this.failures++;
      this.#rest(link);
      log.warn({ gatewayId, reason: (error as Error).message }, 'link_to_gateway_failed');
    }
    link.connecting = null;
    if (mux?.state !== 'open') return null;
    if (this.#closed) {
      mux.close({ code: 'shutting_down', reason: 'this gateway stopped' });
      return null;
    }
    link.mux = mux;
    return mux;
  }

  /** The pause before the next attempt, so that gateways do not come all at once. */
  #rest(link: Link): void {
    const pauseMs = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** link.failures++);
    link.retryAtMs = this.deps.clock.monotonicMs() + pauseMs * (0.5 + Math.random() / 2);
  }

  /** Connects and shakes hands; rejects when that fails or takes too long. */
  async #greeted({ gatewayId, host, port }: LinkPlace, link: Link): Promise<MuxSession> {
    const { identity, clock, log } = this.deps;
    const { connectTimeoutMs } = this.options;
    const { cert, key } = identity.certificate.current;
    const sinceMs = clock.monotonicMs();
    let onGreeted: (error: Error | null) => void = () => {};
    const greeted = new Promise<void>((resolve, reject) => {
      onGreeted = (error) => (error === null ? resolve() : reject(error));
    });
    greeted.catch(() => {});
    const mux = await connectTunnel(
      {
        url: `wss://${host.includes(':') ? `[${host}]` : host}:${port}${LINK_PATH}`,
        headers: { [LINK_GATEWAY_HEADER]: this.options.gatewayId },
        timeoutMs: connectTimeoutMs,
        // It has the buyers: its part is that of a gateway.
        role: 'gateway',
        datagramBytesMax: this.options.datagramBytesMax,
        tls: {
          ca: identity.ca,
          own: { cert, key },
          checkServerIdentity: (_host, certificate) =>
            vouchesFor(certificate, gatewayId)
              ? undefined
              : new Error(`the certificate is not of ${gatewayId}`),
        },
      },
      {
        onHello: (mux, hello) => {
          const { versions } = this.options;
          const version = newestCommon(hello.link_versions ?? [], versions);
          if (version === null) {
            const goaway = noCommonVersion('link', hello.link_versions ?? [], versions);
            onGreeted(new Error(`${goaway.code}: ${goaway.reason}`));
            mux.close(goaway);
            return;
          }
          link.version = version;
          this.#welcome(mux, version);
          onGreeted(null);
        },
        onClose: (mux, { code, reason, byPeer }) => {
          onGreeted(new Error(`closed: ${code} ${reason}`));
          if (link.mux !== mux) return;
          link.mux = null;
          log.info({ gatewayId, code, byPeer }, 'link_to_gateway_closed');
        },
      },
    );
    const timer = setTimeout(
      () => {
        onGreeted(new Error('no HELLO in time'));
        mux.destroy();
      },
      Math.max(1, connectTimeoutMs - (clock.monotonicMs() - sinceMs)),
    );
    try {
      await greeted;
    } finally {
      clearTimeout(timer);
    }
    return mux;
  }

  #welcome(mux: MuxSession, linkVersion: number): void {
    mux.welcome({
      link_version: linkVersion,
      session_id: randomUUID(),
      gateway_id: this.options.gatewayId,
      limits: limitsMessage(this.options.limits),
      policy_version: '',
      terms_version: '',
      ping_live_ms: this.options.pingMs,
      ping_idle_ms: defaultTimings.pingIdleMs,
    });
  }

  #closeIdle(): void {
    const nowMs = this.deps.clock.monotonicMs();
    for (const link of this.#links.values()) {
      const { mux } = link;
      if (mux === null || mux.streamCount > 0) link.idleSinceMs = nowMs;
      else if (nowMs - link.idleSinceMs > this.options.idleMs)
        mux.close({ code: 'idle', reason: 'it carried nothing for long' });
    }
  }
}
