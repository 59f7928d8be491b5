import type { LiveRedis } from '../../gateway/live/connection.js';
import type { WalletOwner, WalletRecord } from '../../gateway/live/records.js';
import {
  parseWalletField,
  readAllWalletAsks,
  readAllWallets,
  showWallets,
} from '../../gateway/live/wallets.js';

/** What a control plane would answer about wallets, for a gateway that runs without one. */
export interface WalletBank {
  /** Units each owner has in all; unlimited when left out. Raise it and call `answer`. */
  readonly funds: Map<string, number>;
  /** Units granted to the owner so far. */
  granted: (owner: WalletOwner) => number;
  /** Answers everything now. */
  answer: () => Promise<void>;
  stop: () => Promise<void>;
}

/** Every owner's key in `funds`. */
export const fundsKey = (owner: WalletOwner) => `${owner.kind} ${owner.ownerId}`;

/** Answers a gateway's asks every few ms: all that is wanted while there is some. Nothing ever comes back to it. */
export function startWalletBank(redis: LiveRedis, gatewayId: string): WalletBank {
  const funds = new Map<string, number>();
  const granted = new Map<string, number>();
  let stopped = false;
  const answer = async () => {
    const shown = await readAllWallets(redis, gatewayId);
    const answers: Array<{ field: string } & WalletRecord> = [];
    for (const [field, ask] of await readAllWalletAsks(redis, gatewayId)) {
      const parsed = parseWalletField(field);
      const before = shown.get(field);
      const had = Number(before?.granted ?? 0);
      const want = Number(ask.wantGranted);
      const settled = before && Number(before.answered) >= want && (before.state === 'open' || had >= want);
      const withdrawn = Number(ask.withdrawn ?? 0) >= want;
      if (parsed === null || ask.finished || settled || withdrawn) continue;
      const key = fundsKey(parsed.owner);
      const total = granted.get(key) ?? 0;
      const free = Math.max(0, (funds.get(key) ?? Number.POSITIVE_INFINITY) - total);
      const given = Math.min(free, Math.max(0, want - had));
      if (before && given === 0 && Number(before.answered) >= want) continue;
      granted.set(key, total + given);
      answers.push({
        field,
        granted: String(had + given),
        answered: ask.wantGranted,
        state: had + given >= want ? 'open' : 'exhausted',
        beyond: Number.isFinite(free) ? String(free - given) : undefined,
      });
    }
    await showWallets(redis, gatewayId, answers);
  };
  const loop = (async () => {
    while (!stopped) {
      await answer().catch(() => {}); // Redis is away: a test takes it away
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  })();
  return {
    funds,
    granted: (owner) => granted.get(fundsKey(owner)) ?? 0,
    answer,
    stop: () => {
      stopped = true;
      return loop;
    },
  };
}
