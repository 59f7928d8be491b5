import type pg from 'pg';
import { SETTLEMENT_DEFAULTS, type SettlementSettings } from '../../../control-plane/settlement/settings.js';
import { createSettlement } from '../../../control-plane/settlement/settlement.js';
import type { LiveRedis } from '../../../gateway/live/connection.js';
import { liveKeys } from '../../../gateway/live/keys.js';
import { reportMeters } from '../../../gateway/live/meters.js';
import { runOf } from '../../../gateway/live/records.js';
import { systemClock } from '../../../gateway/runtime/clock.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { addBuyer, addSession, addUser, TestMeter, type TestSession } from '../../helpers/money-world.js';
import { fund } from './world.js';

export interface Load {
  meters: number;
  sessions: number;
  buyers: number;
  /** Rounds in which every meter grew, after the one that inserts them. */
  rounds: number;
}

export interface Measured {
  meters: TestMeter[];
  /** Meters a second when all of them are new. */
  insertedPerS: number;
  /** Meters a second in each round where all of them grew. */
  grownPerS: number[];
}

const GATEWAYS = ['gw-a', 'gw-b'];

/**
 * Books rounds of dirty meters, as two gateways deliver them; what is timed is settlement alone, from the first look
 * into Redis to the last acknowledgement. Each buyer has a wallet at each gateway's run; a tenth of the providers
 * was invited.
 */
export async function measureSettlement(
  pool: pg.Pool,
  redis: LiveRedis,
  load: Load,
  settings: Partial<SettlementSettings> = {},
  onRound: (round: number) => void = () => {},
): Promise<Measured> {
  const inviter = await addUser(pool);
  const sessions: TestSession[] = [];
  for (let i = 0; i < load.sessions; i++)
    sessions.push(await addSession(pool, await addUser(pool, i % 10 === 0 ? inviter : null)));
  const buyers: string[] = [];
  for (let i = 0; i < load.buyers; i++) buyers.push(await addBuyer(pool));
  const epochs = GATEWAYS.map((_, i) => String(i + 1).repeat(32));
  const meters = Array.from(
    { length: load.meters },
    (_, i) =>
      new TestMeter(
        GATEWAYS[i % 2] as string,
        sessions[i % load.sessions]?.sessionId as string,
        buyers[(i * 7 + Math.floor(i / load.sessions)) % load.buyers] as string,
        undefined,
        undefined,
        null,
        null,
        epochs[i % 2],
      ),
  );
  await fund(pool, buyers);
  await pool.query(
    `INSERT INTO wallet_holds (kind, owner_id, gateway_id, run, granted)
     SELECT 'buyer', b, g.id, g.run, 1000000000000
       FROM unnest($1::uuid[]) AS b, unnest($2::text[], $3::text[]) AS g (id, run)`,
    [buyers, GATEWAYS, epochs.map(runOf)],
  );
  const worker = createSettlement({
    pool,
    redis,
    clock: systemClock,
    log: silentLog,
    settings: () => ({ ...SETTLEMENT_DEFAULTS, ...settings }),
  });
  await worker.settleNow(); // past its first sweep

  const perS: number[] = [];
  for (let round = 0; round <= load.rounds; round++) {
    for (const gateway of GATEWAYS)
      await reportMeters(
        redis,
        gateway,
        meters.filter((m) => m.gatewayId === gateway).map((m) => m.count(40_000, 1_200_000).report()),
      );
    onRound(round);
    const startMs = performance.now();
    await worker.settleNow();
    perS.push((1000 * load.meters) / (performance.now() - startMs));
    for (const gateway of GATEWAYS)
      if ((await redis.scard(liveKeys.dirtyMeters(gateway))) > 0) throw new Error('something is still dirty');
  }
  onRound(load.rounds + 1);
  const [insertedPerS = 0, ...grownPerS] = perS;
  return { meters, insertedPerS, grownPerS };
}
