import { connect, type Socket } from 'node:net';

/** One request to be sent again and again, as it goes over the wire. */
export type Wire = Buffer;

/** What a window of load measured. */
export interface LoadResult {
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
  /** Answers by status. */
  statuses: Record<number, number>;
}

/** An HTTP/1.1 request with JSON, or without a body, on a connection that stays. */
export function wireRequest(
  method: string,
  path: string,
  headers: Readonly<Record<string, string>>,
  body: unknown = null,
): Wire {
  const text = body === null ? '' : JSON.stringify(body);
  const lines = [`${method} ${path} HTTP/1.1`, 'host: 127.0.0.1'];
  for (const [name, value] of Object.entries(headers)) lines.push(`${name}: ${value}`);
  if (body !== null)
    lines.push('content-type: application/json', `content-length: ${Buffer.byteLength(text)}`);
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n${text}`);
}

const HEAD_END = '\r\n\r\n';

/**
 * Sends requests over so many connections, one at a time on each, for a while; `next` gives the following one. A client
 * that costs little, for it shares the machine with the server. Rejects when a connection breaks.
 */
export async function load(options: {
  port: number;
  connections: number;
  windowMs: number;
  next: () => Wire;
}): Promise<LoadResult> {
  const statuses: Record<number, number> = {};
  const timesMs: number[] = [];
  const beganMs = performance.now();
  const endMs = beganMs + options.windowMs;
  await Promise.all(
    Array.from({ length: options.connections }, () =>
      talk(options.port, endMs, options.next, (status, ms) => {
        statuses[status] = (statuses[status] ?? 0) + 1;
        timesMs.push(ms);
      }),
    ),
  );
  const seconds = (performance.now() - beganMs) / 1_000;
  const sorted = Float64Array.from(timesMs).sort();
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  return { perSecond: timesMs.length / seconds, p50Ms: at(0.5), p99Ms: at(0.99), statuses };
}

function talk(
  port: number,
  endMs: number,
  next: () => Wire,
  onAnswer: (status: number, ms: number) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket: Socket = connect({ port, host: '127.0.0.1', noDelay: true });
    let sentMs = 0;
    let received = '';
    let over = false;
    const send = () => {
      sentMs = performance.now();
      if (sentMs >= endMs) {
        over = true;
        socket.end();
        return;
      }
      socket.write(next());
    };
    socket.setEncoding('latin1');
    socket.once('connect', send);
    socket.on('data', (part: string) => {
      received = received === '' ? part : received + part;
      const head = received.indexOf(HEAD_END);
      if (head < 0) return;
      const length = Number(/\r\ncontent-length: (\d+)/i.exec(received.slice(0, head))?.[1] ?? 0);
      if (received.length < head + HEAD_END.length + length) return;
      const status = Number(received.slice(9, 12));
      received = '';
      onAnswer(status, performance.now() - sentMs);
      send();
    });
    socket.once('error', reject);
    socket.once('close', () => (over ? resolve() : reject(new Error('the server closed a connection'))));
  });
}
