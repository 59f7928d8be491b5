import { PlainDevice, type PlainFrame } from './plain-device.js';

const OPEN = 4;
const OPENED = 5;
const DATA = 6;
const FIN = 7;
const RESET = 8;
const CREDIT = 9;
const PIECE = Buffer.alloc(16 * 1024, 7);

/** A device that is its own destination: each stream sends without end, as fast as its window allows. */
export async function floodDevice(tunnelPort: number, ticket: string): Promise<PlainDevice> {
  const device = await PlainDevice.connect(tunnelPort, ticket);
  const welcome = (await device.greet()) as { limits: { stream_window_bytes: number } };
  const windows = new Map<number, number>();
  const pump = (streamId: number) => {
    let windowBytes = windows.get(streamId) ?? 0;
    while (windowBytes > 0) {
      const piece = PIECE.subarray(0, windowBytes);
      windowBytes -= piece.length;
      device.send(DATA, streamId, piece);
    }
    windows.set(streamId, windowBytes);
  };
  device.onFrame = ({ type, streamId, payload }: PlainFrame) => {
    device.frames.length = 0; // they would be kept for ever
    if (type === OPEN) {
      windows.set(streamId, welcome.limits.stream_window_bytes);
      device.send(OPENED, streamId, Buffer.from([0]));
      pump(streamId);
    } else if (type === RESET || type === FIN) windows.delete(streamId);
    else if (type === CREDIT && windows.has(streamId)) {
      windows.set(streamId, (windows.get(streamId) ?? 0) + payload.readUInt32BE());
      pump(streamId);
    }
  };
  return device;
}
