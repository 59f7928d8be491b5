import { once } from 'node:events';
import { createServer } from 'node:http';
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
  /** Each sendMessage is answered so much later. */
  delayMs?: number;
}

/**
 * A server that speaks the Bot API: sendMessage is answered as told, in this order or by what was sent, then with OK;
 * other methods as `telegram` does. `failing` answers any other method instead while it gives a reply.
 */
export async function startBotApi(
  t: { teardown(fn: () => unknown): unknown },
  replies: Reply[] | ((sent: Sent) => Reply | undefined) = [],
  { delayMs = 0 }: BotApiOptions = {},
) {
  const sent: Sent[] = [];
  const telegram = new TelegramModel();
  const server = createServer(async (request, response) => {
    let text = '';
    for await (const chunk of request) text += chunk;
    const path = request.url ?? '';
    const method = path.slice(path.lastIndexOf('/') + 1);
    const body = JSON.parse(text || '{}') as Record<string, unknown>;
    let reply: Reply;
    if (method === 'sendMessage') {
      const one = {
        path,
        chatId: body.chat_id as number,
        text: body.text as string,
        atMs: performance.now(),
      };
      reply = (typeof replies === 'function' ? replies(one) : replies.shift()) ?? OK;
      sent.push(one);
      if (delayMs > 0) await new Promise((resolve) => setTimeout(resolve, delayMs));
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
