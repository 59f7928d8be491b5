/** What the owner's programs meet at the edges: an agent that is not there yet, pages that come and go. */
import { once } from 'node:events';
import { get } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { callRunning, startControl } from '../../../agent-protocol/agent/control-socket.js';
import type { AgentStatus, LocalAgent } from '../../../agent-protocol/agent/local-agent.js';
import { startStatusPage } from '../../../agent-protocol/agent/status-page.js';

t.test('a command that comes before the agent is there is told so', async (t) => {
  const stateDir = join(t.testdir({}), 'state');
  const control = await startControl(stateDir, () => null);
  t.teardown(() => control.stop());
  t.same(await callRunning(stateDir, 'GET', '/'), { ok: true }, 'the folder is taken');
  await t.rejects(callRunning(stateDir, 'GET', '/status'), { exit: 'failed', message: /just starting/ });
});

t.test('pages that are left before their first event take no place', async (t) => {
  const waiting: ((status: AgentStatus) => void)[] = [];
  const local = {
    status: () => new Promise<AgentStatus>((resolve) => waiting.push(resolve)),
  } as unknown as LocalAgent;
  const page = await startStatusPage(local, t.testdir({}), 0);
  t.teardown(() => page.stop());
  const { origin, hash } = new URL(page.url);
  const open = () =>
    get(`${origin}/events`, { agent: false, headers: { authorization: `Bearer ${hash.slice(1)}` } });
  const answerAll = () => {
    for (const resolve of waiting.splice(0)) resolve({ state: 'online' } as AgentStatus);
  };
  /** A page whose status is being asked for; the ends of earlier ones may be on their way. */
  const asking = async () => {
    for (;;) {
      const count = waiting.length;
      let refused = false;
      const request = open().on('error', () => {});
      request.once('response', (response) => {
        refused = response.statusCode === 429;
        response.destroy();
      });
      while (waiting.length === count && !refused) await new Promise((resolve) => setImmediate(resolve));
      if (!refused) return request;
    }
  };
  // More than there may be: reloads, while the server takes its time to answer
  for (let n = 1; n <= 12; n++) (await asking()).destroy();
  answerAll();
  const timer = setInterval(answerAll, 10);
  t.teardown(() => clearInterval(timer));
  let status: number | undefined;
  // The ends of the others may be on their way
  for (let tries = 0; status !== 200 && tries < 50; tries++) {
    const [response] = await once(open(), 'response');
    status = response.statusCode;
    response.destroy();
  }
  t.equal(status, 200);
});

t.test('whoever else is on the machine can not open connections without end', async (t) => {
  const page = await startStatusPage({} as LocalAgent, t.testdir({}), 0);
  t.teardown(() => page.stop());
  const sockets = await Promise.all(
    Array.from({ length: 64 }, async () => {
      const socket = connect(Number(new URL(page.url).port), '127.0.0.1');
      t.teardown(() => socket.destroy());
      await once(socket, 'connect');
      return socket;
    }),
  );
  const oneMore = connect(Number(new URL(page.url).port), '127.0.0.1').on('error', () => {});
  await once(oneMore, 'close');
  t.ok(sockets.every((socket) => !socket.destroyed));
});
