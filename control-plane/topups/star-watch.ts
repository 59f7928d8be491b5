import type pg from 'pg';
import type { Log } from '../../gateway/runtime/logging.js';
import { type Queryable, withTransaction } from '../db/pool.js';
import type { Job } from '../jobs/job.js';
import type { LiveState } from '../live-state/live-state.js';
import { reportStarRefund } from './star-refunds.js';
import { creditStars, isStarOrder, STARS_CURRENCY } from './stars.js';
import type { StarsApi, StarTransfer } from './stars-api.js';

export interface StarWatchDeps {
  pool: pg.Pool;
  log: Log;
  stars: StarsApi;
  live: Pick<LiveState, 'accountsChanged'>;
}

/** Transfers read in one call; what Telegram gives at most. */
const TRANSFERS_MAX = 100;

/**
 * The job `stars`: books payments and refunds that no update told of. Telegram drops an update that nobody
 * takes for a day, but its list of the bot's Stars stays: it is read on from where it was, and what was
 * booked before stays as it is. Only orders of ours are looked at, since a bot may have sold other things
 * before.
 */
export function starWatchJob({ pool, log, stars, live }: StarWatchDeps): Job {
  return {
    name: 'stars',
    description: 'Books payments and refunds in Telegram Stars that no update told of.',
    schedule: '17 * * * *',
    async run({ signal }) {
      const counts = { seen: 0, credited: 0, refunded: 0 };
      for (;;) {
        signal.throwIfAborted();
        const from = await readSeen(pool);
        const read = await stars.transfers(from, TRANSFERS_MAX);
        if (read.outcome !== 'done') throw new Error(`Stars can not be read: ${read.message}`);
        for (const [index, transfer] of read.result.entries()) {
          const booked = await withTransaction(pool, async (client) => {
            const result = await book(client, transfer);
            await client.query('UPDATE star_watch SET seen = greatest(seen, $1)', [from + index + 1]);
            return result;
          });
          counts.seen++;
          if (booked === null) continue;
          counts[booked.what]++;
          log.warn({ charge_id: transfer.chargeId, what: booked.what }, 'stars_booked_late');
          await live.accountsChanged([booked.buyerId]);
        }
        if (read.result.length < TRANSFERS_MAX) return counts;
      }
    },
  };
}

async function book(
  client: Queryable,
  transfer: StarTransfer,
): Promise<{ what: 'credited' | 'refunded'; buyerId: string } | null> {
  const { chargeId, telegramId, stars: totalAmount, payload } = transfer;
  if (transfer.incoming) {
    if (payload === null || !(await isStarOrder(client, payload))) return null;
    const credit = await creditStars(client, {
      chargeId,
      telegramId,
      totalAmount,
      payload,
      currency: STARS_CURRENCY,
    });
    return credit.outcome === 'credited' ? { what: 'credited', buyerId: credit.buyerId } : null;
  }
  const refund = await reportStarRefund(client, chargeId);
  return refund.outcome === 'booked' ? { what: 'refunded', buyerId: refund.buyerId } : null;
}

async function readSeen(pool: pg.Pool): Promise<number> {
  const { rows } = await pool.query<{ seen: number }>('SELECT seen FROM star_watch');
  return rows[0]?.seen ?? 0;
}
