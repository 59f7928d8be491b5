/** Devices that hold a tunnel and do nothing, many in one process. */
import type { MuxSession } from '../../../agent-protocol/session.js';
import { connectTunnel } from '../../../agent-protocol/websocket.js';
import type { TunnelsCalls } from '../systems/traffic-share.js';
import { serveCalls } from './serve-calls.js';

/** Handshakes under way at once. */
const AT_ONCE = 16;

const sessions = new Set<MuxSession>();

function openOne(url: string, ticket: string): Promise<void> {
  return new Promise((resolve, reject) => {
    connectTunnel(
      { url, ticket },
      {
        onWelcome: () => resolve(),
        onClose: (session, { code, reason }) => {
          sessions.delete(session);
          reject(new Error(`a tunnel closed: ${code} ${reason}`));
        },
      },
    ).then((session) => {
      sessions.add(session);
      session.hello({
        agent: 'bench',
        agent_version: '0.1.0',
        os: 'linux',
        terms_version: '1',
        versions: [1],
      });
    }, reject);
  });
}

const calls: TunnelsCalls = {
  async open(url, tickets) {
    let next = 0;
    const worker = async () => {
      for (let ticket = tickets[next++]; ticket !== undefined; ticket = tickets[next++])
        await openOne(url, ticket);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
  },
  async close() {
    for (const session of sessions) session.destroy();
  },
};
serveCalls({ ...calls });
