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
  'bot_token',
  'botToken',
  'init_data',
  'x-telegram-init-data',
  'x-bot-secret',
  'x-internal-secret',
];

/**
 * Secrets that can be told by their looks, wherever in a line they are (the message of an error that names an address, say):
 * the bot's token in an address of the Bot API, buyer tokens, refresh tokens, device keys and tickets, JWTs, and the
 * password in a URL.
 */
const SECRET_TEXTS =
  /\bbot\d{5,}:[\w-]{20,}|\btsb[0-9A-Za-z]{40}\b|\bts[rdl]_[\w-]{20,}|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}|(?<=:\/\/[^\s/:@"]{0,200}:)[^\s/@"]+(?=@)/g;

/** The line without them. */
const scrub = (line: string) => line.replace(SECRET_TEXTS, '[Redacted]');

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
  // What was to be sent, in the errors of the Bot API's client: it may be a login code.
  const paths = ['err.payload', ...SECRET_FIELDS.flatMap((field) => [`["${field}"]`, `*["${field}"]`])];
  return pino(
    {
      name,
      level,
      base: { name, pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: paths,
    },
    {
      write(line: string) {
        const clean = scrub(line);
        destination.write(clean);
        onLine?.(clean);
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
