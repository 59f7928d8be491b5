import type { LiveRedis } from '../live/connection.js';
import type { WalletRecord } from '../live/records.js';
import { askWallets, readAllWallets, readWallets, ringWalletBell } from '../live/wallets.js';

/** What a gateway says about one wallet. Amounts are units (micro-dollars or bytes) below 2^53 and never fall. */
export interface WalletAsking {
  /** `walletField(run, owner)`. */
  field: string;
  wantGranted: number;
  renounced: number;
  /** Asks up to this `wantGranted` are withdrawn. */
  withdrawn: number;
  finished: boolean;
  /** Whether an answer is wanted now. */
  ring: boolean;
}

/** What is shown to a gateway of one wallet. */
export interface WalletAnswer {
  granted: number;
  /** The `wantGranted` it answers. */
  answered: number;
  state: WalletRecord['state'];
  /** What nobody had set aside then; left out: not known. */
  beyond?: number | undefined;
}

/**
 * How wallets and the control plane talk: Redis, or a simulated one. Every message may be lost, late, repeated or
 * overtaken. Methods reject when the other side is away.
 */
export interface WalletChannel {
  ask(asks: readonly WalletAsking[]): Promise<void>;
  /** In the order of the fields; null: nothing is shown. */
  read(fields: readonly string[]): Promise<Array<WalletAnswer | null>>;
  /** Every wallet of this gateway, of earlier runs, too. */
  readAll(): Promise<Map<string, WalletAnswer>>;
}

/** The wallets of a gateway in Redis. */
export function redisWalletChannel(redis: LiveRedis, gatewayId: string): WalletChannel {
  return {
    async ask(asks) {
      await askWallets(
        redis,
        gatewayId,
        asks.map(({ field, wantGranted, renounced, withdrawn, finished }) => ({
          field,
          wantGranted: String(wantGranted),
          renounced: String(renounced),
          withdrawn: String(withdrawn),
          finished,
        })),
      );
      await ringWalletBell(
        redis,
        gatewayId,
        asks.filter((ask) => ask.ring).map((ask) => ask.field),
      );
    },
    async read(fields) {
      return (await readWallets(redis, gatewayId, fields)).map((record) => record && answerOf(record));
    },
    async readAll() {
      const all = await readAllWallets(redis, gatewayId);
      return new Map(Array.from(all, ([field, record]) => [field, answerOf(record)]));
    },
  };
}

function answerOf({ granted, answered, state, beyond }: WalletRecord): WalletAnswer {
  return {
    granted: Number(granted),
    answered: Number(answered),
    state,
    beyond: beyond === undefined ? undefined : Number(beyond),
  };
}
