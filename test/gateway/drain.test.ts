import t from 'tap';
import { parseCommand } from '../../gateway/live/commands.js';
import { obey } from '../../gateway/obey.js';

t.test('a drain is for one run of one gateway', async (t) => {
  let drains = 0;
  const targets = { self: { gatewayId: 'west', run: 'a'.repeat(24) }, onDrain: () => drains++ };
  const tell = async (gatewayId: string, run: string) => {
    const command = parseCommand(JSON.stringify({ kind: 'drain', gatewayId, run }));
    t.ok(command, 'it can be read');
    if (command) await obey(command, targets as never);
  };
  await tell('east', 'a'.repeat(24));
  await tell('west', 'b'.repeat(24));
  t.equal(drains, 0, 'another gateway, and the run before this one');
  await tell('west', 'a'.repeat(24));
  t.equal(drains, 1);
  t.equal(parseCommand('{"kind":"drain","gatewayId":"west"}'), undefined);
});
