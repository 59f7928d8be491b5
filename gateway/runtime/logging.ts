import { pino } from 'pino';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent';

/** Structured log: one JSON line an event. The first argument holds the fields, the second names the event. */
export interface Log {
  debug(fields: object, event: string): void;
  info(fields: object, event: string): void;
  warn(fields: object, event: string): void;
  error(fields: object, event: string): void;
  child(fields: object): Log;
}

/** Field names whose values never reach the log, at the top or one level down. */
const SECRET_FIELDS = [
  'password',
  'token',
  'ticket',
  'secret',
  'login_code',
  'device_key',
  'deviceKey',
  'authorization',
  'proxy-authorization',
  'cookie',
  'access_token',
  'refresh_token',
];

/**
 * A log that writes JSON lines to the file descriptor (default 2: standard output stays free for people).
 * `name` is the process: `gateway`, `control-plane`, …. `onLine` is handed each line as it is written, without secrets;
 * it must be quick and not throw.
 */
export function createLog(
  name: string,
  level: LogLevel,
  fileDescriptor = 2,
  onLine?: (line: string) => void,
): Log {
  const destination = pino.destination({ fd: fileDescriptor, sync: false });
  const paths = SECRET_FIELDS.flatMap((field) => [`["${field}"]`, `*["${field}"]`]);
  return pino(
    {
      name,
      level,
      base: { name, pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: paths,
    },
    onLine === undefined
      ? destination
      : {
          write(line: string) {
            destination.write(line);
            onLine(line);
          },
        },
  );
}

export const silentLog: Log = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  child: () => silentLog,
};
