import t from 'tap';
import { readCommands } from '../../../gateway/live/commands.js';
import { readProviderPrice } from '../../../gateway/live/store.js';
import { ManualClock } from '../../../gateway/runtime/clock.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';

const DAY_MS = 86_400_000;

t.test('daily price', async (t) => {
  const clock = new ManualClock(Date.now());
  const world = await startWorld(t, { clock, background: true });
  const { call, redis } = world;
  const admin = await signedIn(world, 'admin');
  const day = (offset: number) => new Date(clock.nowMs() + offset * DAY_MS).toISOString().slice(0, 10);
  const set = (body: object) => call('POST', '/api/admin/daily_price', { token: admin.token, body });
  const get = async () => (await call('GET', '/api/daily_price?days=3')).body;

  t.match(await get(), { price_per_gb: '0.500000', set_at: null, history: [{}, {}, {}] });
  t.equal((await call('POST', '/api/admin/daily_price', { body: { price_per_gb: '1' } })).status, 401);
  t.match(await set({ price_per_gb: '0.6' }), {
    status: 200,
    body: { price_per_gb: '0.600000', before: null },
  });
  t.equal((await readProviderPrice(redis))?.microsPerGb, '600000', 'at the gateways when the answer comes');
  t.ok((await readCommands(redis, '0-0', 100, 0)).some((c) => c.command?.kind === 'price_changed'));
  t.match(await set({ price_per_gb: '0.65' }), { body: { before: '0.600000' } });
  t.match((await get()).history, [
    { day: day(0), price_per_gb: '0.650000' },
    { day: day(-1), price_per_gb: '0.500000' },
    { day: day(-2), price_per_gb: '0.500000' },
  ]);
  t.equal((await set({ price_per_gb: '1', day: day(-1) })).status, 400, 'not for bytes that were paid');
  for (const price_per_gb of ['-1', '1000.1', '1,5', '']) t.equal((await set({ price_per_gb })).status, 400);

  await set({ price_per_gb: '0.7', day: day(1) });
  t.equal((await get()).price_per_gb, '0.650000');
  clock.advance(DAY_MS);
  while ((await readProviderPrice(redis))?.microsPerGb !== '700000')
    await new Promise((resolve) => setTimeout(resolve, 20));
  t.match(await get(), { price_per_gb: '0.700000' }, 'comes into force by itself at midnight');
  clock.advance(5 * DAY_MS);
  t.match(await get(), { price_per_gb: '0.700000' }, 'and stays until another one');
});
