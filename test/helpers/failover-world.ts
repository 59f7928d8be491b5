/** A system on a given Redis whose buyer sends bytes all the time, each of which must be paid for once. */
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import type { Gateway } from '../../gateway/gateway.js';
import { signedIn, startWorld, type TestWorld } from './control-plane.js';
import { assertLedger } from './ledger.js';
import { PlainDevice } from './plain-device.js';
import { startMigratedPostgres } from './services.js';
import { socksConnect } from './socks-client.js';
import { sharingProvider, worldGateway } from './world-gateway.js';

const BYTES = 20_000;
/** Between two of a buyer's connections, ms. */
const PAUSE_MS = 20;

export interface FailoverWorld {
  world: TestWorld;
  gateway: Gateway;
  account: string;
  /** Sends and counts until `stop`, one connection after the other; `refused` holds what did not come back whole. */
  traffic(): { done: number; refused: string[]; stop(): Promise<void> };
  /** One more provider shares a device, through the API; rejects while that can not be. */
  share(): Promise<void>;
  /** Waits until so much is booked as was sent, and compares. */
  assertBooked(t: Test): Promise<void>;
}

export async function startFailoverWorld(
  t: Test,
  redisUrl: string,
  gatewayId: string,
): Promise<FailoverWorld> {
  const postgres = await startMigratedPostgres();
  t.teardown(() => postgres.stop());
  const world = await startWorld(t, {
    background: true,
    share: { databaseUrl: postgres.url, redisUrl },
    env: { TS_OFFER_BYTES: '1000000000' },
  });
  const { gateway } = await worldGateway(t, world, gatewayId, { TS_LOOP_LAG_MS_MAX: '0' });
  const admin = await signedIn(world, 'admin');
  const asAdmin = async (path: string, body: unknown) =>
    (await world.call('POST', path, { token: admin.token, body })).body;
  const buyer = await asAdmin('/api/admin/buyers', { name: 'B', kyc_status: 'approved' });
  const { token } = await asAdmin(`/api/admin/buyers/${buyer.id}/tokens`, {});
  await asAdmin('/api/admin/credits', { buyer_id: buyer.id, amount: '100', reason: 'a test' });
  await world.call('POST', '/api/buyer/accept_policy', { token });

  const share = async () => {
    const { start } = await sharingProvider(world);
    const { ticket } = await start();
    const device = await PlainDevice.connect(gateway.tunnelPort, ticket);
    t.teardown(() => device.socket.terminate());
    await device.greet();
    device.echo();
  };
  await share();

  const relayed = { up: 0, down: 0 };
  const sent = Buffer.alloc(BYTES, 'abcdefg');
  /** Sends, half-closes and reads it all again; what went wrong, or null. */
  const transfer = async (): Promise<string | null> => {
    const { socket, auth, reply } = await socksConnect({
      proxyPort: gateway.proxyPort,
      username: buyer.account,
      password: token,
      host: 'example.org',
      port: 443,
    });
    if (reply !== 0) {
      socket.destroy();
      return `auth ${auth}, reply ${reply}`;
    }
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.end(sent);
    if (!socket.closed) await once(socket, 'close');
    if (!Buffer.concat(chunks).equals(sent)) return 'cut';
    relayed.up += BYTES;
    relayed.down += BYTES;
    return null;
  };

  const booked = async () => {
    const { rows } = await world.pool.query<{ up: string; down: string }>(
      'SELECT coalesce(sum(bytes_up), 0)::text AS up, coalesce(sum(bytes_down), 0)::text AS down FROM traffic_sessions',
    );
    return { up: Number(rows[0]?.up), down: Number(rows[0]?.down) };
  };

  return {
    world,
    gateway,
    account: buyer.account,
    share,
    traffic() {
      let stopped = false;
      const counts = { done: 0, refused: [] as string[], stop: () => Promise.resolve() };
      const loop = (async () => {
        while (!stopped) {
          const wrong = await transfer();
          if (wrong === null) counts.done++;
          else counts.refused.push(wrong);
          await delay(PAUSE_MS);
        }
      })();
      counts.stop = () => {
        stopped = true;
        return loop;
      };
      return counts;
    },
    async assertBooked(t) {
      for (let tries = 0; tries < 800; tries++) {
        const { up, down } = await booked();
        if (up >= relayed.up && down >= relayed.down) break;
        await delay(25);
      }
      t.same(await booked(), relayed, 'every byte is booked, and none twice');
      await assertLedger(t, world.pool);
    },
  };
}
