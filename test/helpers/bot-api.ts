import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

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
  atMs: number;
}

/**
 * A server that speaks the Bot API's sendMessage and answers as told, in this order or by what was sent, then with OK.
 */
export async function startBotApi(
  t: { teardown(fn: () => unknown): unknown },
  replies: Reply[] | ((sent: Sent) => Reply | undefined),
) {
  const sent: Sent[] = [];
  const server = createServer(async (request, response) => {
    let text = '';
    for await (const chunk of request) text += chunk;
    const body = JSON.parse(text) as { chat_id: number; text: string };
    const one = {
      path: request.url ?? '',
      chatId: body.chat_id,
      text: body.text,
      atMs: performance.now(),
    };
    const reply = (typeof replies === 'function' ? replies(one) : replies.shift()) ?? OK;
    sent.push(one);
    if (reply === 'hang') return;
    if (reply === 'cut') return void request.socket.destroy();
    response.writeHead(reply.status, { 'content-type': 'application/json', connection: 'close' });
    response.end(JSON.stringify(reply.body));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, sent };
}
