/** What an input is: the same seed and kinds give the same one, on every machine. */

/** Played through real sockets at a gateway in a process of its own. */
export const SOCKET_KINDS = ['socks', 'http', 'tls', 'proxy-header', 'tunnel', 'udp'] as const;
/** Given to the gateway's parsers in this process. */
export const PARSER_KINDS = [
  'parse-socks',
  'parse-http',
  'parse-proxy-header',
  'parse-username',
  'parse-host',
  'parse-websocket',
  'parse-frames',
  'parse-control',
  'parse-datagram',
] as const;

export type SocketKind = (typeof SOCKET_KINDS)[number];
export type ParserKind = (typeof PARSER_KINDS)[number];
export type Kind = SocketKind | ParserKind;

/** Of so many inputs, how many are of the kind. Measured so that a million of all kinds take about ten minutes. */
export const WEIGHTS: Readonly<Record<Kind, number>> = {
  socks: 110,
  http: 110,
  tls: 25,
  'proxy-header': 40,
  tunnel: 55,
  udp: 60,
  'parse-socks': 80,
  'parse-http': 80,
  'parse-proxy-header': 60,
  'parse-username': 80,
  'parse-host': 80,
  'parse-websocket': 60,
  'parse-frames': 60,
  'parse-control': 60,
  'parse-datagram': 40,
};

/** Where a client connects from, which decides what the gateway takes it for. */
export type Source =
  /** Nobody in particular. */
  | 'stranger'
  /** One of TS_PROXY_PROTOCOL_FROM. */
  | 'balancer'
  /** An address that an account lets in without a password. */
  | 'walk-in';

export type Port = 'any' | 'socks5' | 'http' | 'tls' | 'tunnel';

/** How a client leaves once it has said everything and waited for an answer. */
export type Ending = 'fin' | 'reset' | 'close';

/** A frame of the tunnel to send once the gateway has opened a stream; `stream` null: on that stream. */
export interface LaterFrame {
  type: number;
  stream: number | null;
  payload: Buffer;
}

/** One TCP connection. */
export interface TcpClient {
  transport: 'tcp';
  port: Port;
  source: Source;
  /** The pieces go through a TLS handshake of a client that does it right. */
  insideTls: boolean;
  /** Written one after the other, each in a write of its own. */
  pieces: Buffer[];
  ending: Ending;
  /** Does not wait for an answer before it leaves. */
  hasty: boolean;
  /** Accepted by the gateway once when it is sent; null: none was issued for this input. */
  ticket: string | null;
  /** Of a tunnel: what it does with the first stream it is asked for. Empty: nobody asks it for one. */
  later: LaterFrame[];
}

/** One datagram to the UDP port of an association. */
export interface UdpClient {
  transport: 'udp';
  /** false: from an address that is not the association's client. */
  fromClient: boolean;
  /** Which of the associations that are open; any number. */
  association: number;
  message: Buffer;
}

export interface SocketInput {
  seed: number;
  kind: SocketKind;
  /**
   * It carries what may open something: a good login, an allowlisted address, a ticket. Others must be granted nothing
   * whatever becomes of their bytes.
   */
  valid: boolean;
  client: TcpClient | UdpClient;
}

export interface ParserInput {
  seed: number;
  kind: ParserKind;
}

/** The name that an input asks to be connected to: tells whose it was when it arrives at the device. */
export function labelOf(seed: number): string {
  return `x${seed.toString(36)}.fuzz.example`;
}

/** The seed in a name; null: it is none of ours, or was spoilt. */
export function seedOfLabel(host: string): number | null {
  const digits = /^x([0-9a-z]{1,11})\.fuzz\.example$/.exec(host)?.[1];
  return digits === undefined ? null : Number.parseInt(digits, 36);
}
