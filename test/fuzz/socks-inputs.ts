import type { Random } from '../sim/random.js';
import { randomBytes } from './mutate.js';
import type { Login } from './people.js';

const COMMAND_CONNECT = 1;
const COMMAND_ASSOCIATE = 3;

/** The messages of a SOCKS client, in order: greeting, login (RFC 1929), request (RFC 1928), payload. */
export function socksMessages(random: Random, login: Login | null, host: string): Buffer[] {
  const messages = [greeting(random, login !== null)];
  if (login !== null) messages.push(loginMessage(random, login));
  messages.push(request(random, host));
  if (random.chance(0.4)) messages.push(randomBytes(random, random.below(300)));
  return messages;
}

function greeting(random: Random, withLogin: boolean): Buffer {
  if (random.chance(0.9)) return withLogin ? Buffer.of(5, 1, 2) : Buffer.of(5, 1, 0);
  const methods = randomBytes(random, random.pick([0, 1, 2, 3, 254, 255]));
  if (methods.length > 0) methods[random.below(methods.length)] = withLogin ? 2 : 0;
  return Buffer.concat([Buffer.of(5, methods.length), methods]);
}

export function loginMessage(random: Random, { username, password }: Login): Buffer {
  const name = Buffer.from(username).subarray(0, 255);
  const secret = Buffer.from(password).subarray(0, 255);
  const version = random.chance(0.98) ? 1 : random.below(256);
  return Buffer.concat([Buffer.of(version, name.length), name, Buffer.of(secret.length), secret]);
}

/** CONNECT, ASSOCIATE, BIND or a command that does not exist, to any form of address. */
export function request(random: Random, host: string): Buffer {
  const draw = random.below(20);
  const command = draw < 15 ? COMMAND_CONNECT : draw < 18 ? COMMAND_ASSOCIATE : random.below(256);
  const port = random.chance(0.85) ? random.pick([80, 443]) : random.below(65_536);
  return Buffer.concat([Buffer.of(5, command, 0), address(random, host), Buffer.of(port >> 8, port & 255)]);
}

const ODD_HOSTS = [
  'localhost',
  '127.0.0.1',
  '0x7f.1',
  '[::1]',
  '2130706433',
  'exa mple.org',
  'echo.traffic-share.internal',
  'é.example',
  '..',
  '%31%32',
  'metadata.internal',
];

/** Address type and address, as SOCKS5 and the datagrams of an association write it. */
export function address(random: Random, host: string): Buffer {
  const draw = random.below(20);
  if (draw < 13) return named(Buffer.from(host));
  if (draw < 14) return named(Buffer.from(random.pick(ODD_HOSTS)));
  if (draw < 15) return named(randomBytes(random, random.pick([0, 1, 254, 255])));
  if (draw < 17) {
    const ipv4 = random.pick([
      [1, 1, 1, 1],
      [127, 0, 0, 1],
      [10, 0, 0, 1],
      [169, 254, 169, 254],
    ]);
    return Buffer.of(1, ...ipv4);
  }
  if (draw < 19) {
    const ipv6 = randomBytes(random, 16);
    if (random.chance(0.5)) ipv6.fill(0, 0, 10).fill(0xff, 10, 12);
    return Buffer.concat([Buffer.of(4), ipv6]);
  }
  return Buffer.concat([Buffer.of(random.below(256)), randomBytes(random, random.below(20))]);
}

function named(name: Buffer): Buffer {
  return Buffer.concat([Buffer.of(3, name.length), name]);
}

/** SOCKS4 and 4a: nobody can log in with it. */
export function socks4Message(random: Random, userId: string, host: string): Buffer {
  const ipv4 = random.chance(0.5) ? [0, 0, 0, 1 + random.below(255)] : [1, 1, 1, 1];
  const end = random.chance(0.1) ? '' : '\0';
  return Buffer.concat([
    Buffer.of(4, random.pick([1, 2, 0, 255]), 0, random.pick([80, 443 & 255]), ...ipv4),
    Buffer.from(`${userId}${end}${host}${end}`),
  ]);
}
