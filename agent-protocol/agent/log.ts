/** `debug` is silent unless asked for. */
export type AgentLogLevel = 'debug' | 'info' | 'warn' | 'error';

/** One event: what happened, and its fields. Never a secret, never payload. */
export type AgentLog = (
  level: AgentLogLevel,
  event: string,
  fields?: Readonly<Record<string, unknown>>,
) => void;

const ORDER: readonly AgentLogLevel[] = ['debug', 'info', 'warn', 'error'];

/** One JSON line an event: `{"time":…,"level":…,"event":…,…fields}`. */
export function jsonLog(write: (line: string) => void, lowest: AgentLogLevel): AgentLog {
  return (level, event, fields) => {
    if (ORDER.indexOf(level) < ORDER.indexOf(lowest)) return;
    write(`${JSON.stringify({ time: new Date().toISOString(), level, event, ...fields })}\n`);
  };
}

/** The same for somebody who watches: `12:03:04 warn  tunnel lost (code=1006)`. */
export function readableLog(write: (line: string) => void, lowest: AgentLogLevel): AgentLog {
  return (level, event, fields = {}) => {
    if (ORDER.indexOf(level) < ORDER.indexOf(lowest)) return;
    const details = Object.entries(fields).map(([name, value]) =>
      typeof value === 'object' ? `${name}=${JSON.stringify(value)}` : `${name}=${String(value)}`,
    );
    const time = new Date().toTimeString().slice(0, 8);
    write(`${time} ${level.padEnd(5)} ${event}${details.length > 0 ? ` (${details.join(', ')})` : ''}\n`);
  };
}

export const silentAgentLog: AgentLog = () => {};
