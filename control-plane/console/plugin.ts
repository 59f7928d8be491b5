import { existsSync } from 'node:fs';
import { join } from 'node:path';
import fastifyStatic from '@fastify/static';
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyReply } from 'fastify';
import { Type } from 'typebox';
import type { Log } from '../../gateway/runtime/logging.js';
import { Problem } from '../errors.js';
import { clientAddress } from '../http/client-address.js';
import { csp, reportsOf, VIOLATION_ENDPOINT } from './content-policy.js';

export interface ConsoleDeps {
  log: Log;
  /** Folder of the built pages (`npm run build`). */
  publicDir: string;
  /** What the sign-in pages need to know; public. */
  signIn: {
    /** The part of the bot's token before the colon; null: no bot, so no signing in with Telegram. */
    botId: string | null;
    botUsername: string | null;
    /** Where Telegram Login is, without a path. */
    oauthUrl: string;
  };
}

/** Paths that are the console's: each answers with the page, whose script then shows what belongs there. */
const PAGES = [
  '/',
  '/signin',
  '/signin/*',
  '/provider',
  '/provider/*',
  '/buyer',
  '/buyer/*',
  '/admin',
  '/admin/*',
];
/** The page as Telegram opens it, in a frame of its web client. */
const MINI_APP_PAGES = ['/app', '/app/*'];

/** A file's own name; their folder has no folders. */
const ASSET_NAME = /^[\w-][\w.-]*$/;
const YEAR_S = 31_536_000;
/** Size of a browser's reports, bytes; above it 413. */
const REPORT_BYTES_MAX = 16_384;

/** The web console: its built pages, what they are configured with, and an ear for what their policy refused. */
export const consolePlugin: FastifyPluginAsyncTypebox<ConsoleDeps> = async (app, deps) => {
  const { log, publicDir, signIn } = deps;
  const built = existsSync(join(publicDir, 'index.html'));
  await app.register(fastifyStatic, {
    root: publicDir,
    serve: false,
    preCompressed: true,
    // With the folder missing the API still serves; the pages say what to do.
    suppressWarning: !built,
  } as Parameters<typeof fastifyStatic>[1] & object);

  const page = (frames: 'none' | 'telegram') => (_request: unknown, reply: FastifyReply) => {
    if (!built) throw new Problem('not_found', 'The console has not been built: npm run build');
    reply
      .header('content-security-policy', csp(frames))
      .header('reporting-endpoints', `console="${VIOLATION_ENDPOINT}"`)
      .header('cache-control', 'no-cache')
      .header('permissions-policy', 'camera=(), geolocation=(), microphone=(), payment=(), usb=()');
    return reply.sendFile('index.html', { cacheControl: false });
  };
  for (const [paths, frames] of [
    [PAGES, 'none'],
    [MINI_APP_PAGES, 'telegram'],
  ] as const)
    for (const path of paths)
      app.get(path, { config: { roles: ['none'] }, schema: { hide: true } }, page(frames));

  app.get<{ Params: { '*': string } }>(
    '/assets/*',
    // Named by their content and kept by browsers for good: a visit asks for each once.
    { config: { roles: ['none'], rateLimit: false }, schema: { hide: true } },
    (request, reply) => {
      const name = request.params['*'];
      if (!ASSET_NAME.test(name)) throw new Problem('not_found');
      return reply.sendFile(`assets/${name}`, { maxAge: YEAR_S * 1_000, immutable: true });
    },
  );
  app.get(
    '/favicon.svg',
    { config: { roles: ['none'], rateLimit: false }, schema: { hide: true } },
    (_, reply) => reply.sendFile('favicon.svg', { maxAge: 86_400_000 }),
  );

  app.get('/console.json', { config: { roles: ['none'] }, schema: { hide: true } }, (_, reply) =>
    reply.header('cache-control', 'no-cache').send({
      bot_id: signIn.botId,
      bot_username: signIn.botUsername,
      telegram_oauth_url: signIn.oauthUrl,
    }),
  );

  await app.register(async (reports) => {
    reports.addContentTypeParser(
      ['application/csp-report', 'application/reports+json'],
      { parseAs: 'string', bodyLimit: REPORT_BYTES_MAX },
      reports.getDefaultJsonParser('error', 'error'),
    );
    reports.post(
      VIOLATION_ENDPOINT,
      {
        bodyLimit: REPORT_BYTES_MAX,
        config: { roles: ['none'], rateLimit: { max: 60, timeWindow: 60_000 } },
        schema: { hide: true, body: Type.Unknown() },
      },
      (request, reply) => {
        for (const report of reportsOf(request.body))
          log.warn({ ...report, ip: clientAddress(request) }, 'content_policy_violation');
        return reply.code(204).send();
      },
    );
  });
};
