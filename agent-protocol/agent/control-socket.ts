import { createHash } from 'node:crypto';
import { lstatSync } from 'node:fs';
import { chmod, mkdir, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import { tmpdir, userInfo } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { CommandFailure } from './command-failure.js';
import { isPauseMs, type LocalAgent, PAUSE_MS_TEXT } from './local-agent.js';
import { parseLocalSettings } from './local-settings.js';
import { withLock } from './private-file.js';

/** Longest path of a Unix socket on every system; Linux would take four more. */
const SOCKET_PATH_BYTES_MAX = 103;
const BODY_BYTES_MAX = 65_536;
/** Time the running agent may take for an answer, ms. */
const ANSWER_TIMEOUT_MS = 10_000;
/** What the server said may be as old for a `status`, ms. */
const STATUS_AGE_MS = 2_000;

const NOT_RUNNING =
  'No agent runs here. Start it: traffic-share agent (with the same --state-dir, if it has one)';

/**
 * Where the agent of a state folder listens for its owner: in the folder, which only they may enter. Of a folder whose
 * path is too long for a socket, in a folder of theirs for temporary files; on Windows a named pipe.
 */
export function controlPath(stateDir: string): string {
  const folder = resolve(stateDir);
  const name = createHash('sha256').update(folder).digest('hex').slice(0, 24);
  if (process.platform === 'win32') return `\\\\.\\pipe\\traffic-share-${name}`;
  const path = join(folder, 'agent.sock');
  if (Buffer.byteLength(path) <= SOCKET_PATH_BYTES_MAX) return path;
  return join(tmpdir(), `traffic-share-${userInfo().uid}`, name);
}

/**
 * Listens for the owner's commands to the agent that `local` gives; null: it is about to be there. Throws a CommandFailure (`already_running`) when another agent does so in this
 * folder.
 */
export async function startControl(
  stateDir: string,
  local: () => LocalAgent | null,
): Promise<{ stop(): Promise<void> }> {
  const path = controlPath(stateDir);
  // Of two that start together one is first
  return withLock(stateDir, 'start', () => takePath(path, local));
}

async function takePath(path: string, local: () => LocalAgent | null): Promise<{ stop(): Promise<void> }> {
  if (await answers(path))
    throw new CommandFailure(
      'already_running',
      'Another agent runs here: traffic-share agent status. For a second one, use another --state-dir.',
    );
  const server = createServer((incoming, response) => void handle(incoming, response, local()));
  if (process.platform !== 'win32') {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const { uid, mode } = lstatSync(dirname(path));
    if (uid !== userInfo().uid || (mode & 0o022) !== 0)
      throw new CommandFailure(
        'failed',
        `${dirname(path)} must belong to you, and others may not write there.`,
      );
    await rm(path, { force: true }); // of an agent that was killed
  }
  await listen(server, path);
  if (process.platform !== 'win32') await chmod(path, 0o600);
  return {
    stop: async () => {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((done, fail) => {
    server.once('error', fail);
    server.listen(path, () => {
      server.off('error', fail);
      server.unref();
      done();
    });
  });
}

async function answers(path: string): Promise<boolean> {
  try {
    await callPath(path, 'GET', '/');
    return true;
  } catch {
    return false;
  }
}

async function handle(
  incoming: IncomingMessage,
  response: ServerResponse,
  local: LocalAgent | null,
): Promise<void> {
  const answer = (status: number, body: unknown) => {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(body));
  };
  try {
    const body = await readBody(incoming);
    const call = `${incoming.method} ${incoming.url}`;
    if (call === 'GET /') return answer(200, { ok: true });
    if (local === null) return answer(503, { text: 'The agent is just starting. Try again in a moment.' });
    switch (call) {
      case 'GET /status':
        return answer(200, await local.status(STATUS_AGE_MS));
      case 'POST /pause': {
        const { for_ms: forMs = null } = (body ?? {}) as { for_ms?: unknown };
        if (forMs !== null && !isPauseMs(forMs)) return answer(400, { text: PAUSE_MS_TEXT });
        await local.pause(forMs);
        return answer(200, await local.status(Number.POSITIVE_INFINITY));
      }
      case 'POST /resume':
        await local.resume();
        return answer(200, await local.status(Number.POSITIVE_INFINITY));
      case 'GET /limits':
        return answer(200, local.limits());
      case 'POST /limits': {
        const settings = parseLocalSettings(body);
        if (settings === null || settings.paused !== undefined)
          return answer(400, { text: 'The agent does not know these settings.' });
        const outcome = await local.change(settings);
        return outcome.ok ? answer(200, local.limits()) : answer(409, { text: outcome.text });
      }
      default:
        return answer(404, {
          text: 'The running agent does not know this command; it may be an older version.',
        });
    }
  } catch (error) {
    answer(500, { text: `The running agent could not do that: ${(error as Error).message}` });
  }
}

/** The JSON of a request, null when it has none. Throws when it is too long, or no JSON. */
export async function readBody(incoming: IncomingMessage): Promise<unknown> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of incoming as AsyncIterable<Buffer>) {
    bytes += piece.length;
    if (bytes > BODY_BYTES_MAX) throw new Error('the request is too long');
    pieces.push(piece);
  }
  return bytes === 0 ? null : JSON.parse(Buffer.concat(pieces).toString('utf8'));
}

/**
 * Asks the agent that runs with this state folder. Throws a CommandFailure: `not_running`, or `failed` with the reason
 * it gave.
 */
export async function callRunning<T>(
  stateDir: string,
  method: 'GET' | 'POST',
  path: string,
  body?: object,
): Promise<T> {
  let answer: { status: number; body: unknown };
  try {
    answer = await callPath(controlPath(stateDir), method, path, body);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ECONNREFUSED') throw new CommandFailure('not_running', NOT_RUNNING);
    throw new CommandFailure(
      'failed',
      `The running agent does not answer (${code ?? (error as Error).message}).`,
    );
  }
  if (answer.status === 200) return answer.body as T;
  throw new CommandFailure('failed', (answer.body as { text?: string }).text ?? `HTTP ${answer.status}`);
}

function callPath(
  socketPath: string,
  method: string,
  path: string,
  body?: object,
): Promise<{ status: number; body: unknown }> {
  return new Promise((done, fail) => {
    const outgoing = request(
      { socketPath, method, path, agent: false, timeout: ANSWER_TIMEOUT_MS },
      (response) => {
        readBody(response).then((parsed) => done({ status: response.statusCode ?? 0, body: parsed }), fail);
      },
    );
    outgoing.on('timeout', () => outgoing.destroy(new Error('no answer in time')));
    outgoing.on('error', fail);
    outgoing.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
