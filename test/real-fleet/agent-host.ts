/** A process with many device agents, each as `traffic-share agent` runs one; the fleet test starts some of these. */
import { type Agent, startAgent } from '../../agent-protocol/agent/agent.js';
import { agentConfig } from '../../agent-protocol/agent/config.js';
import { jsonLog } from '../../agent-protocol/agent/log.js';

/** What it is told first. */
export interface HostOrder {
  apiUrl: string;
  /** `host:port` that they may dial though it is loopback. */
  devAllow: string;
  devices: ReadonlyArray<{ deviceId: string; deviceKey: string }>;
}

/** What it tells whenever it is asked. */
export interface HostStatus {
  asked: number;
  online: number;
  /** Ids of devices whose agent ended, with the code that it ended with. */
  ended: Record<string, string>;
  streamsOpen: number;
  tunnelsTotal: number;
}

/** Between the starts of two agents, ms: a fleet that is there comes back at once, one that is set up does not. */
const START_INTERVAL_MS = 10;

/** A fleet that loses a gateway would fill the log with it. */
const log = jsonLog((line) => process.stderr.write(line), 'error');
const agents: Agent[] = [];
const ended: Record<string, string> = {};

function begin({ apiUrl, devAllow, devices }: HostOrder): void {
  for (const [n, { deviceId, deviceKey }] of devices.entries())
    setTimeout(() => {
      const agent = startAgent(
        agentConfig(
          { kind: 'api', apiUrl, deviceId, deviceKey },
          { devAllow: [devAllow], keepSession: true },
        ),
        log,
      );
      agents.push(agent);
      void agent.ended.then(({ code }) => {
        ended[deviceId] = code;
      });
    }, n * START_INTERVAL_MS);
}

const sum = (of: (agent: Agent) => number) => agents.reduce((total, agent) => total + of(agent), 0);

process.on('message', (message: HostOrder | { ask: number }) => {
  if (!('ask' in message)) return begin(message);
  const status: HostStatus = {
    asked: message.ask,
    online: agents.filter(({ state }) => state === 'online').length,
    ended,
    streamsOpen: sum(({ counters }) => counters.streamsOpen),
    tunnelsTotal: sum(({ counters }) => counters.tunnelsTotal),
  };
  process.send?.(status);
});
process.on('disconnect', () => process.exit(0));
process.send?.({ ready: true });
