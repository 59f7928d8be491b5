import type { DeviceApi } from './api.js';
import type { AgentStatus } from './local-agent.js';
import { AGENT_VERSION } from './version.js';

/** What the control plane says of this device and its owner's money. */
export interface ServerSays {
  readonly device: AgentStatus['device'];
  readonly earnings: AgentStatus['earnings'];
  /** Newer than this one; null: none. */
  readonly latestVersion: string | null;
}

/** Time all answers together may take, ms; then the status goes without. */
const ASK_TIMEOUT_MS = 3_000;

type Fields = Record<string, unknown>;

/** Asks the control plane with the device's key, not more often than its readers need. */
export class ServerView {
  #said: ServerSays | null = null;
  #askedAtMs = Number.NEGATIVE_INFINITY;
  #asking: Promise<ServerSays | null> | null = null;

  constructor(
    private readonly api: DeviceApi,
    private readonly deviceId: string,
  ) {}

  /** At most so old; null: it could not be asked. */
  read(ageMsMax: number): Promise<ServerSays | null> {
    if (performance.now() - this.#askedAtMs < ageMsMax) return this.#asking ?? Promise.resolve(this.#said);
    this.#askedAtMs = performance.now();
    this.#asking = this.#ask().then((said) => {
      this.#said = said;
      this.#asking = null;
      return said;
    });
    return this.#asking;
  }

  async #ask(): Promise<ServerSays | null> {
    const signal = AbortSignal.timeout(ASK_TIMEOUT_MS);
    const [devices, summary, balance, version] = await Promise.all(
      ['/api/user/devices', '/api/traffic/summary', '/api/balance', '/api/system/version'].map(
        async (path) => {
          const answer = await this.api.get(path, signal);
          return answer.ok ? (answer.body as Fields) : null;
        },
      ),
    );
    if (!devices && !summary && !balance) return null;
    const items = Array.isArray(devices?.items) ? (devices.items as Fields[]) : [];
    const device = items.find((item) => item.device_id === this.deviceId)?.state;
    const latest = version?.app_latest;
    return {
      device: (device as ServerSays['device']) ?? null,
      earnings: earningsOf(summary ?? null, balance ?? null),
      latestVersion: typeof latest === 'string' && isNewer(latest, AGENT_VERSION) ? latest : null,
    };
  }
}

function earningsOf(summary: Fields | null, balance: Fields | null): ServerSays['earnings'] {
  const earned = (period: string) => (summary?.[period] as { earned?: unknown } | undefined)?.earned;
  const today = earned('day');
  const month = earned('month');
  const { available, pending, currency } = balance ?? {};
  if ([today, month, available, pending, currency].some((value) => typeof value !== 'string')) return null;
  return { today, month, available, pending, currency } as ServerSays['earnings'];
}

/** Whether version `a` (x.y.z) comes after `b`. */
export function isNewer(a: string, b: string): boolean {
  const numbers = (version: string) => (version.split(/[-+]/, 1)[0] ?? '').split('.').map(Number);
  const [left, right] = [numbers(a), numbers(b)];
  for (let i = 0; i < 3; i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return false;
}
