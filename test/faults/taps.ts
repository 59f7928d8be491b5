import { connect, type Socket } from 'node:net';
import type { Link, Tap } from './link.js';
import type { Random } from './random.js';

/** Which message, and whether the trouble comes before it is passed on (it is lost then) or right after. */
interface Moment<What extends string> {
  what: What;
  moment: 'before' | 'after';
  /** The how manyth of its kind, from 1. */
  nth: number;
}

/** Listens on the link until the message comes, then calls `hit` once. Returns what ends the listening. */
function tapFor(
  link: Link,
  at: Moment<string>,
  matches: (chunk: Buffer, connection: number) => number,
  hit: () => void,
): () => void {
  let seen = 0;
  let over = false;
  const passes = (chunk: Buffer, connection: number) => {
    if (over) return false;
    const before = seen;
    seen += matches(chunk, connection);
    over = before < at.nth && seen >= at.nth;
    return over;
  };
  let pending = false;
  const tap: Tap = {
    before(chunk, connection) {
      pending = passes(chunk, connection);
      if (!pending || at.moment !== 'before') return true;
      hit();
      return false;
    },
    after() {
      if (pending && at.moment === 'after') hit();
      pending = false;
    },
  };
  link.tap = tap;
  return () => {
    if (link.tap === tap) link.tap = null;
  };
}

/**
 * `report`: a delivery of meters; `final`: one with a FINAL meter; `forget`: the gateway has freed slots.
 */
export function redisTap(link: Link, at: Moment<'report' | 'final' | 'forget'>, hit: () => void): () => void {
  const text = { report: '"bytesUp":', final: '"final":true', forget: 'ts:meters-settled:' }[at.what];
  return tapFor(
    link,
    at,
    (chunk) =>
      chunk.includes(text) && (at.what !== 'forget' || /hdel/i.test(chunk.toString('latin1'))) ? 1 : 0,
    hit,
  );
}

/** Statements inside transactions, or their COMMIT (PostgreSQL's message flow: one query in flight a connection). */
export function postgresTap(link: Link, at: Moment<'statement' | 'commit'>, hit: () => void): () => void {
  const inTransaction = new Set<number>();
  const matches = (chunk: Buffer, connection: number) => {
    const text = chunk.toString('latin1', 0, 64);
    if (text.startsWith('Q') && text.includes('BEGIN')) {
      inTransaction.add(connection);
      return 0;
    }
    if (!inTransaction.has(connection)) return 0;
    const commits = text.startsWith('Q') && text.includes('COMMIT');
    if (commits || text.includes('ROLLBACK')) inTransaction.delete(connection);
    if (at.what === 'commit') return commits ? 1 : 0;
    return /^[QPB]/.test(text) ? 1 : 0;
  };
  return tapFor(link, at, matches, hit);
}

/** Commands that carry meters, marks, wallets and asks. */
const REPLAYED = /^(evalsha|eval|hset|hdel|xadd)$/i;
const ABOUT = /ts:(meters|wallet)/;
/** A repeated message comes at the latest so long after the first. */
const LATE_MS_MAX = 3_000;

/** Sends every message about money that passes the link a second time at once, and a third time late, out of order. */
export class Replayer {
  readonly #link: Link;
  readonly #socket: Socket;
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #rest = new Map<number, Buffer>();
  replayed = 0;

  constructor(link: Link, redisPort: number, random: Random) {
    this.#link = link;
    this.#socket = connect(redisPort, '127.0.0.1');
    this.#socket.on('error', () => {});
    this.#socket.resume();
    link.tap = {
      before: () => true,
      after: (chunk, connection) => {
        for (const command of this.#commands(chunk, connection)) {
          this.#send(command);
          const timer = setTimeout(
            () => {
              this.#timers.delete(timer);
              this.#send(command);
            },
            random.integer(0, LATE_MS_MAX),
          );
          this.#timers.add(timer);
        }
      },
    };
  }

  /** Waits for the late ones. */
  async stop(): Promise<void> {
    this.#link.tap = null;
    while (this.#timers.size > 0) await new Promise((resolve) => setTimeout(resolve, 50));
    this.#socket.end();
  }

  #send(command: Buffer): void {
    this.replayed++;
    this.#socket.write(command);
  }

  /** The whole commands in what came on the connection (RESP arrays of bulk strings), those worth repeating. */
  #commands(chunk: Buffer, connection: number): Buffer[] {
    const bytes = Buffer.concat([this.#rest.get(connection) ?? Buffer.alloc(0), chunk]);
    const found: Buffer[] = [];
    let at = 0;
    for (;;) {
      const command = readCommand(bytes, at);
      if (command === null) break;
      const [name = ''] = command.words;
      const raw = bytes.subarray(at, command.end);
      if (REPLAYED.test(name) && ABOUT.test(raw.toString('latin1'))) found.push(Buffer.from(raw));
      at = command.end;
    }
    this.#rest.set(connection, Buffer.from(bytes.subarray(at)));
    return found;
  }
}

/** One RESP command from `start`; null: not whole yet. Only the first word is kept. */
function readCommand(bytes: Buffer, start: number): { words: string[]; end: number } | null {
  let at = start;
  const line = () => {
    const end = bytes.indexOf('\r\n', at);
    if (end < 0) return null;
    const text = bytes.toString('latin1', at, end);
    at = end + 2;
    return text;
  };
  const head = line();
  if (head === null || head[0] !== '*') return null;
  const words: string[] = [];
  for (let i = 0; i < Number(head.slice(1)); i++) {
    const size = line();
    if (size === null) return null;
    const length = Number(size.slice(1));
    if (at + length + 2 > bytes.length) return null;
    if (i === 0) words.push(bytes.toString('latin1', at, at + length));
    at += length + 2;
  }
  return { words, end: at };
}
