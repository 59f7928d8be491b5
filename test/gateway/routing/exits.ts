import { connect, type Socket } from 'node:net';
import { type FleetDevice, joinFleet } from '../../helpers/fleet.js';
import type { GatewayRig } from '../../helpers/gateway.js';
import type { PlainOpen } from '../../helpers/plain-device.js';
import { askRaw, basic } from '../../helpers/raw-http.js';

/** What a buyer is told of where a connection went out. */
export interface Exit {
  /** `200`, or `503 NO_PEER` and the like. */
  outcome: string;
  id: string | undefined;
  country: string | undefined;
  session: string | undefined;
}

const HOST = 'example.org:443';

const connectHead = (rig: GatewayRig, username: string, authority: string) =>
  `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n` +
  `Proxy-Authorization: ${basic(username, rig.password)}\r\n\r\n`;

/** One connection that is closed at once: which exit did it get. */
export async function exitOf(rig: GatewayRig, username: string, authority = HOST): Promise<Exit> {
  const { status, headers, line } = await askRaw(
    rig.gateway.proxyPort,
    connectHead(rig, username, authority),
  );
  return {
    outcome: status === 200 ? '200' : line.replace('HTTP/1.1 ', ''),
    id: headers.get('x-ts-exit-id'),
    country: headers.get('x-ts-exit-country'),
    session: headers.get('x-ts-session'),
  };
}

/** A tunnel held open, past its head. */
export async function openTunnel(rig: GatewayRig, username: string, authority = HOST): Promise<Socket> {
  const socket = connect({ port: rig.gateway.proxyPort, host: '127.0.0.1', noDelay: true });
  socket.on('error', () => {});
  socket.write(connectHead(rig, username, authority));
  let text = '';
  while (!text.includes('\r\n\r\n')) {
    const chunk = await nextChunk(socket);
    if (chunk === null) throw new Error(`no tunnel: ${text}`);
    text += chunk.toString('latin1');
  }
  if (!text.startsWith('HTTP/1.1 200 ')) throw new Error(`no tunnel: ${text}`);
  return socket;
}

/** What comes next; null: the connection ended. */
export function nextChunk(socket: Socket): Promise<Buffer | null> {
  return new Promise((resolve) => {
    const done = (chunk: Buffer | null) => {
      socket.off('data', onData).off('close', onClose);
      resolve(chunk);
    };
    const onData = (chunk: Buffer) => done(chunk);
    const onClose = () => done(null);
    socket.once('data', onData).once('close', onClose);
    if (socket.destroyed) onClose();
  });
}

/** A device that carries streams; `dialCode` as in `PlainDevice.echo`. */
export async function carrier(
  rig: GatewayRig,
  exitIp: string,
  dialCode?: (destination: PlainOpen) => number | null,
  fields: Parameters<typeof joinFleet>[2] = {},
): Promise<FleetDevice> {
  const device = await joinFleet(rig, exitIp, fields);
  device.plain.echo(undefined, dialCode);
  return device;
}

/** Ends the device's tunnel and waits until the gateway has noticed. */
export async function leave(rig: GatewayRig, device: FleetDevice): Promise<void> {
  const { tunnels } = await rig.status();
  device.plain.socket.terminate();
  await until(async () => (await rig.status()).tunnels < tunnels, 'the tunnel is gone');
}

/** Waits for what no event tells here. */
export async function until(probe: () => Promise<boolean>, what: string): Promise<void> {
  const giveUpAt = performance.now() + 10_000;
  while (!(await probe())) {
    if (performance.now() > giveUpAt) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
