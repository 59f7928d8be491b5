import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { TelegramModel } from './telegram-model.js';

/** What the server does with one call. */
export type Reply = { status: number; body: object } | 'hang' | 'cut';
export const OK: Reply = { status: 200, body: { ok: true, result: { message_id: 1 } } };
export const refusal = (status: number, description: string, parameters?: object): Reply => ({
  status,
  body: { ok: false, error_code: status, description, ...(parameters ? { parameters } : {}) },
});

export interface Sent {
  path: string;
  chatId: number;
  text: string;
  /** When the call came. */
  atMs: number;
}

export interface BotApiOptions {
  /** Each sendMessage is answered so much later; a function is asked for each. */
  delayMs?: number | (() => number);
}

/**
 * A server that speaks the Bot API: sendMessage is answered as told, in this order or by what was sent; else, as all
 * other methods, as `telegram` does. `failing` answers any other method instead while it gives a reply.
 */
export async function startBotApi(
  t: { teardown(fn: () => unknown): unknown },
  replies: Reply[] | ((sent: Sent) => Reply | undefined) = [],
  { delayMs = 0 }: BotApiOptions = {},
) {
  const sent: Sent[] = [];
  const telegram = new TelegramModel();
  const server = createServer(async (request, response) => {
    const path = request.url ?? '';
    const method = path.slice(path.lastIndexOf('/') + 1);
    const body = await readFields(request);
    let reply: Reply;
    if (method === 'sendMessage') {
      const one = {
        path,
        chatId: body.chat_id as number,
        text: body.text as string,
        atMs: performance.now(),
      };
      const told = typeof replies === 'function' ? replies(one) : replies.shift();
      reply = told ?? (await telegram.call(method, body));
      sent.push(one);
      const answeredInMs = typeof delayMs === 'number' ? delayMs : delayMs();
      if (answeredInMs > 0) await new Promise((resolve) => setTimeout(resolve, answeredInMs));
    } else reply = api.failing(method) ?? (await telegram.call(method, body));
    if (reply === 'hang') return;
    if (reply === 'cut') return void request.socket.destroy();
    response.writeHead(reply.status, { 'content-type': 'application/json', connection: 'close' });
    response.end(JSON.stringify(reply.body));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    telegram.close();
    server.closeAllConnections();
    server.close();
  });
  const api = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    sent,
    telegram,
    failing: (_method: string): Reply | null => null,
  };
  return api;
}

/** The fields of a call, which comes as JSON or, with a file, as multipart; files are bytes. */
async function readFields(request: IncomingMessage): Promise<Record<string, unknown>> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const body = Buffer.concat(chunks);
  const type = request.headers['content-type'] ?? '';
  if (!type.startsWith('multipart/form-data')) return JSON.parse(body.toString() || '{}');
  const fields: Record<string, unknown> = {};
  const boundary = `--${/boundary=(.+)$/.exec(type)?.[1]}`;
  // Bytes as they are, one a character.
  for (const part of body.toString('latin1').split(boundary).slice(1, -1)) {
    const headEnd = part.indexOf('\r\n\r\n');
    const head = part.slice(0, headEnd);
    const content = Buffer.from(part.slice(headEnd + 4, -2), 'latin1');
    const name = /[; ]name="([^"]+)"/.exec(head)?.[1] ?? '';
    fields[name] = /filename=/.test(head) ? new Uint8Array(content) : content.toString();
  }
  return fields;
}
