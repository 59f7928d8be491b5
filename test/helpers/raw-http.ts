import { once } from 'node:events';
import { connect } from 'node:net';

/** An HTTP answer as it came, read to the end of its `Content-Length`. */
export interface RawAnswer {
  /** The status line. */
  line: string;
  status: number;
  /** Names in lower case; of repeated ones the last. */
  headers: Map<string, string>;
  body: string;
}

/** Sends the bytes to a loopback port and reads the one answer. Rejects when the connection ends before it is whole. */
export async function askRaw(port: number, request: string): Promise<RawAnswer> {
  const socket = connect({ port, host: '127.0.0.1' });
  socket.on('error', () => {});
  await once(socket, 'connect');
  socket.write(request, 'latin1');
  let text = '';
  for await (const chunk of socket) {
    text += (chunk as Buffer).toString('latin1');
    const answer = readAnswer(text);
    if (answer) return answer;
  }
  throw new Error(`no whole answer: ${JSON.stringify(text)}`);
}

/** The answer that the text begins with, or null while some of it is missing. */
export function readAnswer(text: string): RawAnswer | null {
  const end = text.indexOf('\r\n\r\n');
  if (end < 0) return null;
  const [line = '', ...rest] = text.slice(0, end).split('\r\n');
  const headers = new Map(
    rest.map((header): [string, string] => {
      const colon = header.indexOf(':');
      return [header.slice(0, colon).toLowerCase(), header.slice(colon + 1).trim()];
    }),
  );
  const length = Number(headers.get('content-length') ?? 0);
  const body = text.slice(end + 4, end + 4 + length);
  return body.length < length ? null : { line, status: Number(line.split(' ')[1]), headers, body };
}

/** `Proxy-Authorization` value. */
export function basic(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}
