import { DialCode } from '../frame.js';

/** Codes of troubles that are counted by themselves; further ones as `other`: others choose them. */
const TROUBLES_MAX = 50;
const TROUBLE_CODE = /^[A-Za-z0-9_]{1,40}$/;

/** What of a tunnel is followed. */
interface FollowedTunnel {
  readonly stalls: { readonly send: number; readonly receive: number };
  readonly closed: Promise<void>;
}

/** Counts of an agent's process by what they are about, for metrics. */
export class AgentFigures {
  readonly #dials = new Map(Object.keys(DialCode).map((code) => [code.toLowerCase(), 0]));
  readonly #troubles = new Map<string, number>();
  /** Tunnels whose stalls are not in the sums below. */
  readonly #tunnels = new Set<FollowedTunnel>();
  readonly #stallsOver = { up: 0, down: 0 };

  /** What gateways were answered to OPEN, by dial code in lower case; `ok`: connected. */
  get dials(): ReadonlyMap<string, number> {
    return this.#dials;
  }

  /** Refused starts and lost tunnels, by their code (`AgentTrouble`). */
  get troubles(): ReadonlyMap<string, number> {
    return this.#troubles;
  }

  /** Times a stream stood for want of window: the gateway's (down), or the destination's reading (up). */
  get stalls(): { readonly up: number; readonly down: number } {
    const stalls = { ...this.#stallsOver };
    for (const tunnel of this.#tunnels) add(stalls, tunnel);
    return stalls;
  }

  countAnswer(code: string): void {
    this.#dials.set(code, (this.#dials.get(code) ?? 0) + 1);
  }

  countTrouble(code: string): void {
    const known = this.#troubles.has(code) || (this.#troubles.size < TROUBLES_MAX && TROUBLE_CODE.test(code));
    const counted = known ? code : 'other';
    this.#troubles.set(counted, (this.#troubles.get(counted) ?? 0) + 1);
  }

  /** Counts the tunnel's stalls, until and after it is closed. */
  follow(tunnel: FollowedTunnel): void {
    this.#tunnels.add(tunnel);
    void tunnel.closed.then(() => {
      this.#tunnels.delete(tunnel);
      add(this.#stallsOver, tunnel);
    });
  }
}

function add(sum: { up: number; down: number }, { stalls }: FollowedTunnel): void {
  sum.up += stalls.receive;
  sum.down += stalls.send;
}
