import { Random } from '../sim/random.js';
import { httpMessages } from './http-inputs.js';
import {
  type Kind,
  labelOf,
  PARSER_KINDS,
  type ParserInput,
  type Port,
  type SocketInput,
  type SocketKind,
  type Source,
  type TcpClient,
  type UdpClient,
  WEIGHTS,
} from './input.js';
import { mutate, perhapsSpoilt, piecesOf, randomBytes, someLength } from './mutate.js';
import { badLogin, goodLogin, type Login, WALK_IN_ADDRESSES } from './people.js';
import { announcedAddress, proxyHeader } from './proxy-header-inputs.js';
import { address, socks4Message, socksMessages } from './socks-inputs.js';
import { clientHello, tlsRecord } from './tls-inputs.js';
import { framesOfStream, tunnelMessages, upgradeRequest } from './tunnel-inputs.js';

const PARSERS: ReadonlySet<Kind> = new Set(PARSER_KINDS);
/** Of the inputs of a kind, how many carry what may open something. */
const VALID_SHARE = 0.3;

/** The input of the seed. Which kinds it is drawn from changes it. */
export function generate(seed: number, kinds: readonly Kind[]): SocketInput | ParserInput {
  const random = new Random(seed);
  const kind = drawKind(random, kinds);
  if (isParser(kind)) return { seed, kind };
  const valid = random.chance(VALID_SHARE);
  return { seed, kind, valid, client: clientOf(random, kind, labelOf(seed), valid) };
}

export function isParser(kind: Kind): kind is ParserInput['kind'] {
  return PARSERS.has(kind);
}

function drawKind(random: Random, kinds: readonly Kind[]): Kind {
  let left = random.below(kinds.reduce((sum, kind) => sum + WEIGHTS[kind], 0));
  for (const kind of kinds) {
    left -= WEIGHTS[kind];
    if (left < 0) return kind;
  }
  throw new Error('no kinds');
}

function clientOf(random: Random, kind: SocketKind, host: string, valid: boolean): TcpClient | UdpClient {
  switch (kind) {
    case 'socks':
      return socksClient(random, host, valid);
    case 'http':
      return tcp(random, { port: random.chance(0.75) ? 'any' : portBesides(random, 'http') }, (r) =>
        Buffer.concat(httpMessages(r, loginOf(r, valid), host)),
      );
    case 'tls':
      return tlsClient(random, host, valid);
    case 'proxy-header':
      return announcedClient(random, host, valid);
    case 'tunnel':
      return tunnelClient(random, host, valid);
    case 'udp':
      return udpClient(random, host, valid);
  }
}

function loginOf(random: Random, valid: boolean): Login | null {
  if (valid) return goodLogin(random);
  return random.chance(0.9) ? badLogin(random) : null;
}

function portBesides(random: Random, likely: Port): Port {
  return random.chance(0.8) ? likely : random.pick<Port>(['socks5', 'http', 'tls']);
}

/** A TCP client that says what `make` makes, perhaps spoilt. */
function tcp(random: Random, fields: Partial<TcpClient>, make: (random: Random) => Buffer): TcpClient {
  const bytes = perhapsSpoilt(random, make(random), () => make(random));
  return {
    transport: 'tcp',
    port: 'any',
    source: 'stranger',
    insideTls: false,
    pieces: piecesOf(random, bytes),
    ending: random.pick(['fin', 'fin', 'close', 'close', 'reset']),
    hasty: random.chance(0.08),
    ticket: null,
    later: [],
    ...fields,
  };
}

function socksClient(random: Random, host: string, valid: boolean): TcpClient {
  if (!valid && random.chance(0.08))
    return tcp(random, {}, (r) => socks4Message(r, badLogin(r).username, host));
  // A few that the address alone lets in.
  const source: Source = valid && random.chance(0.1) ? 'walk-in' : 'stranger';
  const port = random.chance(0.75) ? 'any' : portBesides(random, 'socks5');
  return tcp(random, { port, source }, (r) =>
    Buffer.concat(socksMessages(r, source === 'walk-in' ? null : loginOf(r, valid), host)),
  );
}

function tlsClient(random: Random, host: string, valid: boolean): TcpClient {
  const port = portBesides(random, random.pick(['any', 'tls']));
  if (valid || random.chance(0.1)) {
    const inside = random.chance(0.5)
      ? (r: Random) => Buffer.concat(httpMessages(r, loginOf(r, valid), host))
      : (r: Random) => Buffer.concat(socksMessages(r, loginOf(r, valid), host));
    return tcp(random, { port, insideTls: true }, inside);
  }
  return tcp(random, { port }, (r) =>
    Buffer.concat([
      r.chance(0.9) ? clientHello(r, host) : tlsRecord(r),
      ...(r.chance(0.3) ? [tlsRecord(r)] : []),
    ]),
  );
}

/**
 * Headers that a balancer sends, and such that a stranger sends: what a stranger announces, be it an address that is
 * let in, must not be believed.
 */
function announcedClient(random: Random, host: string, valid: boolean): TcpClient {
  const source: Source = valid || random.chance(0.7) ? 'balancer' : 'stranger';
  const walksIn = source === 'stranger' ? random.chance(0.7) : valid && random.chance(0.5);
  return tcp(random, { source }, (r) => {
    const login = walksIn ? null : loginOf(r, valid);
    const inside = r.chance(0.6) ? socksMessages(r, login, host) : httpMessages(r, login, host);
    const address = walksIn ? WALK_IN_ADDRESSES.announced : announcedAddress(r);
    return Buffer.concat([proxyHeader(r, address), ...inside]);
  });
}

function tunnelClient(random: Random, host: string, valid: boolean): TcpClient {
  if (!valid)
    return tcp(random, { port: 'tunnel' }, (r) =>
      Buffer.concat([upgradeRequest(r, null, false), ...(r.chance(0.5) ? tunnelMessages(r) : [])]),
    );
  const ticket = `ticket-${host}`;
  const sound = random.chance(0.9);
  const handshake = upgradeRequest(random, ticket, sound);
  const messages = Buffer.concat(tunnelMessages(random));
  const frames = random.chance(0.6) ? messages : mutate(random, messages);
  return {
    ...tcp(random, { port: 'tunnel', ticket }, () => Buffer.alloc(0)),
    pieces: [...piecesOf(random, handshake), ...piecesOf(random, frames)],
    later: random.chance(0.3) ? framesOfStream(random) : [],
  };
}

function udpClient(random: Random, host: string, fromClient: boolean): UdpClient {
  const make = () => {
    const port = random.chance(0.8) ? random.pick([53, 443]) : random.below(65_536);
    const frag = random.chance(0.95) ? 0 : random.below(256);
    const data = randomBytes(random, someLength(random, 1_400));
    return Buffer.concat([
      Buffer.of(0, 0, frag),
      address(random, host),
      Buffer.of(port >> 8, port & 255),
      data,
    ]);
  };
  return {
    transport: 'udp',
    fromClient,
    association: random.below(1_000),
    message: perhapsSpoilt(random, make(), make).subarray(0, 60_000),
  };
}
