/** Where a request goes among workers, decided without any. */
import t from 'tap';
import type { ProxyFailure } from '../../../gateway/errors.js';
import type { Attempts } from '../../../gateway/listeners/connect-pipeline.js';
import { type Handed, type Login, place, type Siblings } from '../../../gateway/listeners/hand-over.js';

const login = (handed: Handed | null) => ({ handed }) as Login;

/** Worker 1 of three, unless told otherwise. */
function siblings(home: number | null = null, self = 1): Siblings {
  return {
    self,
    homeOf: () => home,
    next: () => null,
    nextWithDevices: (tried) =>
      [2, 3, 1].find((worker) => worker !== self && !tried.includes(worker)) ?? null,
    pass: () => {},
    pairs: null as never,
  };
}

const noDevice = (devicesLeft: number, worker: number | null = null): ProxyFailure => ({
  ok: false,
  code: 'NO_PEER',
  elsewhere: { devicesLeft, worker },
});

t.test('alone: served here, and a failure is told', async (t) => {
  t.same(await place(login(null), null, async () => ({ ok: true as const })), { ok: true });
  t.equal((await place(login(null), null, async () => noDevice(3))).ok, false);
});

t.test('a request goes home first, without a look at what is here', async (t) => {
  const placed = await place(login(null), siblings(3), async () => {
    throw new Error('asked');
  });
  t.same(placed, { ok: 'elsewhere', worker: 3, tried: [] });
});

t.test('one that was handed over does not go home again', async (t) => {
  const placed = await place(login({ tried: [] }), siblings(3), async () => ({ ok: true as const }));
  t.same(placed, { ok: true });
});

t.test(
  'without a device here the others are asked in turn, each once, then the failure is told',
  async (t) => {
    const asked: Array<Attempts | undefined> = [];
    const serve = async (attempts?: Attempts) => {
      asked.push(attempts);
      return noDevice(2);
    };
    const first = await place(login(null), siblings(), serve);
    t.match(first, { ok: 'elsewhere', worker: 2, tried: [1], devicesLeft: 2 });
    const second = await place(login({ tried: [1], devicesLeft: 2 }), siblings(null, 2), serve);
    t.match(second, { ok: 'elsewhere', worker: 3, tried: [1, 2], devicesLeft: 2 });
    const third = await place(login({ tried: [1, 2], devicesLeft: 2 }), siblings(null, 3), serve);
    t.match(third, { ok: false, code: 'NO_PEER' });
    t.same(
      asked.map((attempts) => [attempts?.devicesMax, attempts?.goesOn]),
      [
        [undefined, true],
        [2, true],
        [2, false],
      ],
      'the last one knows that nobody goes on, and none dials more devices than one process would',
    );
  },
);

t.test('a session goes to the worker that has its device, once, and may come back', async (t) => {
  const gone = await place(login(null), siblings(), async () => noDevice(3, 2));
  t.match(gone, { ok: 'elsewhere', worker: 2, tried: [], stays: true });
  const back = await place(login({ tried: [], stays: true }), siblings(null, 2), async () => noDevice(3));
  t.match(back, { ok: 'elsewhere', worker: 3, tried: [2], stays: true });
  let stays: boolean | undefined;
  await place(login({ tried: [2, 3], stays: true }), siblings(), async (attempts) => {
    stays = attempts?.stays;
    return { ok: true as const };
  });
  t.equal(stays, true, 'its device is not looked for again: another one will do');
});

t.test('any other failure is the answer', async (t) => {
  const refused: ProxyFailure = { ok: false, code: 'REFUSED' };
  t.same(await place(login(null), siblings(), async () => refused), refused);
});
