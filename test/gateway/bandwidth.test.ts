/** Bandwidth limits through real sockets: how exact they are, who shares them, and who does not notice. */
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { publishCommand } from '../../gateway/live/commands.js';
import type { AccountSnapshot, SubUserLimits } from '../../gateway/live/records.js';
import { writeAccount } from '../../gateway/live/store.js';
import { floodDevice } from '../helpers/flood-device.js';
import { type GatewayRig, startGatewayRig } from '../helpers/gateway.js';
import { PlainDevice } from '../helpers/plain-device.js';
import { socksConnect } from '../helpers/socks-client.js';

const MB = 1_000_000;
let rig: GatewayRig;
t.before(async () => {
  rig = await startGatewayRig();
});
t.teardown(() => rig?.stop());

let lastId = 0;
/** Another buyer with the rig's password, or a sub-user of the one given. */
async function account(
  bytesPerSecond: number | null,
  of?: AccountSnapshot,
  own?: SubUserLimits,
): Promise<AccountSnapshot> {
  lastId++;
  const id = `b0000000-0000-4000-8000-${String(lastId).padStart(12, '0')}`;
  const made: AccountSnapshot = {
    ...rig.account,
    account: `acc${lastId}x`,
    buyerId: of?.buyerId ?? id,
    subUser: of ? { id, limited: false, limits: own } : null,
    limits: { ...rig.account.limits, bandwidthBytesPerSecondMax: bytesPerSecond },
  };
  await writeAccount(rig.redis, made);
  return made;
}

async function change(snapshot: AccountSnapshot, bytesPerSecond: number | null): Promise<void> {
  const limits = { ...snapshot.limits, bandwidthBytesPerSecondMax: bytesPerSecond };
  await writeAccount(rig.redis, { ...snapshot, limits });
  await publishCommand(rig.redis, { kind: 'account_changed', account: snapshot.account });
}

/** Devices that send without end: one serves one account at a time. */
async function floodDevices(t: Test, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const { text } = await rig.ticket();
    const device = await floodDevice(rig.gateway.tunnelPort, text);
    t.teardown(() => device.socket.terminate());
  }
}

/** A stream of the account; what comes is counted and dropped. */
class Download {
  bytes = 0;
  private constructor(readonly socket: Socket) {
    socket.on('data', (chunk: Buffer) => {
      this.bytes += chunk.length;
    });
  }
  static async start({ account }: AccountSnapshot): Promise<Download> {
    const { socket, reply } = await socksConnect({
      proxyPort: rig.gateway.proxyPort,
      username: `${account}-session-one`, // all on one device
      password: rig.password,
      host: 'example.org',
      port: 443,
    });
    if (reply !== 0) throw new Error(`refused: ${reply}`);
    return new Download(socket);
  }
}

/** The first one claims the device. */
async function starts(who: AccountSnapshot, streams: number): Promise<Download[]> {
  const first = await Download.start(who);
  return [first, ...(await Promise.all(Array.from({ length: streams - 1 }, () => Download.start(who))))];
}
const total = (downloads: readonly Download[]) => downloads.reduce((sum, { bytes }) => sum + bytes, 0);

/** Bytes a second of each group over so many ms, counted from now. */
async function measure(ms: number, ...groups: Download[][]): Promise<number[]> {
  const before = groups.map(total);
  const startMs = performance.now();
  await delay(ms);
  const tookS = (performance.now() - startMs) / 1_000;
  return groups.map((group, i) => (total(group) - (before[i] as number)) / tookS);
}

t.test('downloads of 1, 8 and 64 streams keep to the rate within 5 % over 5 s', async (t) => {
  await floodDevices(t, 3);
  const RATE = 3 * MB;
  const groups: Download[][] = [];
  for (const streams of [1, 8, 64]) groups.push(await starts(await account(RATE), streams));
  t.teardown(() => groups.flat().forEach(({ socket }) => void socket.destroy()));
  const before = groups.map((group) => group.map(({ bytes }) => bytes));
  const measured = await measure(5_000, ...groups);
  for (const [i, bytesPerSecond] of measured.entries()) {
    const group = groups[i] as Download[];
    t.ok(Math.abs(bytesPerSecond / RATE - 1) < 0.05, `${group.length} streams: ${bytesPerSecond}`);
    const share = (bytesPerSecond * 5) / group.length;
    const least = Math.min(...group.map(({ bytes }, n) => bytes - (before[i]?.[n] ?? 0)));
    t.ok(least > share / 2, `the slowest of ${group.length} streams got ${least} of ${share}`);
  }
});

t.test('both directions together', async (t) => {
  const { text } = await rig.ticket();
  const device = await PlainDevice.connect(rig.gateway.tunnelPort, text);
  await device.greet();
  device.echo();
  t.teardown(() => device.socket.terminate());
  const RATE = 2 * MB;
  const echoes = await starts(await account(RATE), 3);
  for (const { socket } of echoes) {
    t.teardown(() => socket.destroy());
    const piece = Buffer.alloc(100_000, 'up');
    const write = () => {
      while (socket.writable && socket.write(piece));
    };
    socket.on('drain', write);
    write();
  }
  await delay(500);
  const counted = async () => {
    const { bytesUp, bytesDown } = await rig.status();
    return bytesUp + bytesDown;
  };
  const [before, startMs] = [await counted(), performance.now()];
  await delay(3_000);
  const bytesPerSecond = ((await counted()) - before) / ((performance.now() - startMs) / 1_000);
  t.ok(Math.abs(bytesPerSecond / RATE - 1) < 0.08, `${bytesPerSecond}`);
  t.ok(
    echoes.every(({ bytes }) => bytes > MB / 2),
    'what goes up does not keep what comes down from coming',
  );
});

t.test('sub-users share the buyer’s rate and keep to their own', async (t) => {
  await floodDevices(t, 3);
  const buyer = await account(4 * MB);
  const slow = await account(4 * MB, buyer, { bandwidthBytesPerSecondMax: MB });
  const fast = await account(4 * MB, buyer);
  const groups = [await starts(slow, 2), await starts(fast, 2), await starts(buyer, 2)];
  t.teardown(() => groups.flat().forEach(({ socket }) => void socket.destroy()));
  const [ofSlow = 0, ofFast = 0, ofBuyer = 0] = await measure(3_000, ...groups);
  t.ok(Math.abs(ofSlow / MB - 1) < 0.1, `${ofSlow}`);
  t.ok(Math.abs((ofSlow + ofFast + ofBuyer) / (4 * MB) - 1) < 0.05, `${ofSlow} ${ofFast} ${ofBuyer}`);
  t.ok(Math.abs(ofFast / ofBuyer - 1) < 0.2, 'in equal parts');
});

t.test('another account does not notice; a change holds for open streams', async (t) => {
  await floodDevices(t, 2);
  const limited = await account(200_000);
  const slow = await starts(limited, 16);
  t.teardown(() => slow.forEach(({ socket }) => void socket.destroy()));
  const free = await starts(await account(null), 1);
  const [ofSlow = 0, ofFree = 0] = await measure(1_500, slow, free);
  t.ok(ofSlow < 400_000, `${ofSlow}`);
  t.ok(ofFree > 5 * MB, `a stream beside 16 that are held back: ${ofFree}`);
  for (const { socket } of free) socket.destroy();

  await change(limited, 5 * MB);
  const [faster = 0] = await measure(2_000, slow);
  t.ok(faster > 4 * MB && faster < 6 * MB, `${faster}`);
  await change(limited, null);
  await delay(200);
  const [unlimited = 0] = await measure(1_000, slow);
  t.ok(unlimited > 10 * MB, `${unlimited}`);
  await change(limited, MB);
  await delay(1_000); // what is on its way in sockets arrives
  const [again = 0] = await measure(2_000, slow);
  t.ok(again < 2 * MB, `${again}`);
});
