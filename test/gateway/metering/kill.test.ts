import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { forkCompiled } from '../../helpers/compiled.js';
import { folder, startMetering } from './harness.js';

const CHUNK_BYTES = 65_536;
/** Odd ones with the mapped journal, even ones with calls to the system. */
const SEEDS = 20;

t.test('kill -9 loses no counted byte and counts at most one chunk too much', async (t) => {
  let relayed = 0;
  for (let seed = 1; seed <= SEEDS; seed++) {
    const path = join(folder(t), 'journal');
    let received = 0;
    const server = createServer();
    t.teardown(() => server.close());
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const child = forkCompiled('test/gateway/metering/counting-child', [
      path,
      String((server.address() as AddressInfo).port),
      ...(seed % 2 === 0 ? ['calls'] : []),
    ]);
    t.teardown(() => child.kill('SIGKILL'));
    const exited = once(child, 'exit');
    const [[{ epoch }], [socket]] = (await Promise.all([
      once(child, 'message'),
      once(server, 'connection'),
    ])) as [[{ epoch: string }], [Socket]];
    socket.on('data', (bytes) => {
      received += bytes.length;
    });
    const closed = once(socket, 'close');
    socket.on('error', () => {});
    await once(socket, 'data');
    await delay((seed * 7_919) % 97);
    child.kill('SIGKILL');
    t.strictSame(await exited, [null, 'SIGKILL']);
    await closed;

    const { registry } = await startMetering(t, path, { limits: { journalExtentSlots: 64 } });
    const reports = registry.snapshot();
    t.equal(reports.length, 1);
    const report = reports[0];
    const counted = (report?.bytesUp ?? 0) + (report?.bytesDown ?? 0);
    t.match(report, { epoch, final: true, allocationEnded: true });
    t.ok(counted >= received, `seed ${seed}: nothing of ${received} bytes uncounted`);
    t.ok(counted - received <= CHUNK_BYTES, `seed ${seed}: ${counted - received} bytes over`);
    relayed += received;
  }
  t.comment(`${Math.round(relayed / 1e6)} MB relayed in ${SEEDS} kills`);
});
