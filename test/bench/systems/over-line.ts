/** Systems whose tunnel leads over a line with a rate and a delay: for the phase `delay` alone. */
import { LINE_DELAY_MS } from '../delay.js';
import type { Endpoint, LineCalls } from '../protocol.js';
import { type Role, startRole } from '../role.js';
import { startWithOwnAgent } from './own-agent.js';
import { startOpenssh } from './peers.js';
import type { RunningSystem, SystemUnderTest } from './system.js';

type Started = RunningSystem | { absent: string };

/** A system that `start` brings up; `dialled` puts the line in front of a port of 127.0.0.1 and says the line's own. */
function overLine(
  id: string,
  start: (origin: Endpoint, dialled: (port: number) => Promise<number>) => Promise<Started>,
): SystemUnderTest {
  return {
    id,
    async start(origin) {
      const line: Role<LineCalls> = startRole('line');
      try {
        const dialled = async (port: number) =>
          (await line.call.listen({ host: '127.0.0.1', port }, LINE_DELAY_MS)).port;
        const system = await start(origin, dialled);
        if ('absent' in system) {
          await line.stop();
          return system;
        }
        const stop = async () => {
          await system.stop();
          await line.stop();
        };
        return { ...system, line, stop };
      } catch (error) {
        await line.stop();
        throw error;
      }
    },
  };
}

/** The line in front of the origin and nothing else: what it can carry. */
const lineAlone = overLine('line', async (origin, dialled) => ({
  label: 'the line alone, no relay',
  route: { kind: 'direct', host: '127.0.0.1', port: await dialled(origin.port), username: '', password: '' },
  gatewayPids: () => [],
  agentPids: () => [],
  stop: async () => {},
}));

export const overLines: readonly SystemUnderTest[] = [
  overLine('traffic-share', (origin, dialled) =>
    startWithOwnAgent(origin, {
      label: 'Traffic Share (SOCKS with password, tunnel, counting and billing on)',
      tls: false,
      dialled,
    }),
  ),
  lineAlone,
  overLine('openssh', (_origin, dialled) => startOpenssh(dialled)),
];
