/**
 * A process to be killed. `hold`: opens the journal and waits. `<port>`: counts, then forwards, in chunks of 64 KiB
 * over a socket, as fast as it can. A third argument `calls`: the journal is not mapped.
 */
import { connect } from 'node:net';
import { Journal } from '../../../gateway/metering/journal.js';
import { meteringSettings } from '../../../gateway/metering/limits.js';
import { drawEpoch, MeterRegistry } from '../../../gateway/metering/registry.js';
import { systemClock } from '../../../gateway/runtime/clock.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { GATEWAY, mustOpen } from './harness.js';

const CHUNK_BYTES = 65_536;
const [path, what, how] = process.argv.slice(2) as [string, string, string | undefined];
const epoch = drawEpoch();
const settings = meteringSettings({ journalSlots: 64, journalExtentSlots: 64, journalReserveSlots: 0 });
const journal = await Journal.open({
  path,
  gatewayId: GATEWAY,
  epoch,
  clock: systemClock,
  log: silentLog,
  settings,
  mapped: how !== 'calls',
});
if (what !== 'hold') {
  const binding = mustOpen(new MeterRegistry(journal, epoch, systemClock, settings));
  const chunk = Buffer.alloc(CHUNK_BYTES, 1);
  const socket = connect(Number(what), '127.0.0.1');
  let n = 0;
  const forward = () => {
    const counted = n++ % 3 === 0 ? binding.countUp(CHUNK_BYTES) : binding.countDown(CHUNK_BYTES);
    if (!counted) process.exit(3);
    // The next chunk only when this one is with the operating system: then one chunk is what a kill can lose.
    socket.write(chunk, forward);
  };
  socket.on('connect', forward);
  socket.on('error', () => process.exit(4));
} else {
  setInterval(() => {}, 1_000);
}
process.send?.({ epoch });
process.on('disconnect', () => process.exit(0));
