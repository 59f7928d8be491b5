import { once } from 'node:events';
import { connect, isIPv4, isIPv6, type Socket } from 'node:net';

/** What ASSOCIATE was answered with. */
export interface AssociateAnswer {
  /** The association lives as long as this. */
  control: Socket;
  /** null: it did not come to that. */
  reply: number | null;
  /** BND.ADDR and BND.PORT. */
  address: string;
  port: number;
}

/** UDP ASSOCIATE written from RFC 1928, with none of the project's code. `dst`: DST.ADDR (IPv4) and DST.PORT. */
export async function socksAssociate(options: {
  proxyPort: number;
  proxyHost?: string;
  username: string;
  password: string;
  dst?: { address: string; port: number };
}): Promise<AssociateAnswer> {
  const control = connect({ port: options.proxyPort, host: options.proxyHost ?? '127.0.0.1', noDelay: true });
  control.on('error', () => {});
  await once(control, 'connect');
  const user = Buffer.from(options.username);
  const pass = Buffer.from(options.password);
  const { address, port } = options.dst ?? { address: '0.0.0.0', port: 0 };
  control.write(
    Buffer.concat([
      Buffer.of(5, 1, 2),
      Buffer.concat([Buffer.of(1, user.length), user, Buffer.of(pass.length), pass]),
      Buffer.of(5, 3, 0, 1, ...address.split('.').map(Number), port >> 8, port & 255),
    ]),
  );
  let answer = Buffer.alloc(0);
  const closed = new Promise<null>((resolve) => control.once('close', () => resolve(null)));
  const answered = new Promise<Buffer>((resolve) => {
    control.on('data', (bytes: Buffer) => {
      answer = Buffer.concat([answer, bytes]);
      if (answer.length >= 8 && answer.length >= 4 + 4 + (answer[7] === 4 ? 16 : 4) + 2) resolve(answer);
    });
  });
  const whole = await Promise.race([answered, closed]);
  if (whole === null) return { control, reply: null, address: '', port: 0 };
  const end = whole[7] === 4 ? 24 : 12;
  return {
    control,
    reply: whole[5] as number,
    address: addressText(whole.subarray(8, end)),
    port: whole.readUInt16BE(end),
  };
}

/** A datagram as a client sends it: RSV, FRAG, ATYP, DST.ADDR, DST.PORT, DATA. */
export function udpRequest(host: string, port: number, data: Buffer | string, frag = 0): Buffer {
  let address: number[];
  if (isIPv4(host)) address = [1, ...host.split('.').map(Number)];
  else if (isIPv6(host)) address = [4, ...ipv6(host)];
  else address = [3, Buffer.byteLength(host), ...Buffer.from(host)];
  return Buffer.concat([Buffer.of(0, 0, frag, ...address, port >> 8, port & 255), Buffer.from(data)]);
}

/** A datagram as a client gets it. */
export function udpReply(message: Buffer): { host: string; port: number; data: Buffer } {
  if (message.readUInt16BE(0) !== 0 || message[2] !== 0) throw new Error('RSV or FRAG is not 0');
  const end = message[3] === 4 ? 20 : 8;
  if (message[3] !== 4 && message[3] !== 1) throw new Error(`address type ${message[3]}`);
  return {
    host: addressText(message.subarray(4, end)),
    port: message.readUInt16BE(end),
    data: message.subarray(end + 2),
  };
}

function addressText(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join('.');
  const groups = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(i * 2).toString(16)).join(':');
  return new URL(`http://[${groups}]`).hostname.slice(1, -1);
}

function ipv6(text: string): number[] {
  const plain = new URL(`http://[${text}]`).hostname.slice(1, -1);
  const [head = '', tail] = plain.split('::');
  const before = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = Array<string>(8 - before.length - after.length).fill('0');
  return [...before, ...zeros, ...after].flatMap((group) => {
    const word = Number.parseInt(group, 16);
    return [word >> 8, word & 255];
  });
}
