/**
 * Why a datagram came to nothing at this gateway.
 * `malformed`: not as RFC 1928 section 7 says. `fragment`: FRAG is not 0. `stranger`: not from the association's client,
 * or for a client that has not sent yet. `policy`: its destination is not allowed. `rate`: more a second than allowed.
 * `backlog`: too much waits for the operating system, of a link too. `balance`: the wallet is being filled.
 */
export const DROP_REASONS = [
  'malformed',
  'fragment',
  'stranger',
  'policy',
  'rate',
  'backlog',
  'balance',
] as const;
export type DropReason = (typeof DROP_REASONS)[number];

/** What became of datagrams since this process started. */
export class DatagramTotals {
  /** Open now, through devices here. */
  associations = 0;
  /** Passed on from buyers to devices. */
  up = 0;
  /** Passed on from devices to buyers. */
  down = 0;
  readonly dropped: Record<DropReason, number> = {
    malformed: 0,
    fragment: 0,
    stranger: 0,
    policy: 0,
    rate: 0,
    backlog: 0,
    balance: 0,
  };

  drop(reason: DropReason): void {
    this.dropped[reason]++;
  }
}
