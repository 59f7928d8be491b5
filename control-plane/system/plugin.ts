import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import type { LiveRedis } from '../../gateway/live/connection.js';
import { schemaState } from '../db/migrate.js';
import { problemResponses } from '../http/schemas.js';
import type { SettingsStore } from '../settings/settings.js';
import { CLIENT_VERSION_PATTERN, isOlder } from './version.js';

export interface SystemDeps {
  pool: pg.Pool;
  redis: LiveRedis;
  apiVersion: string;
  settings: SettingsStore;
}

const State = Type.Enum(['up', 'down']);

/** Liveness, readiness, versions: `/api/system/*`. */
export const systemPlugin: FastifyPluginAsyncTypebox<SystemDeps> = async (app, deps) => {
  const { pool, redis } = deps;
  const unlimited = { roles: ['none'], rateLimit: false } as const;

  app.get(
    '/api/system/health',
    {
      config: unlimited,
      schema: {
        tags: ['System'],
        summary: 'Liveness',
        description: 'The process answers. Says nothing of what it depends on.',
        response: {
          200: Type.Object({ status: Type.Literal('ok'), uptime_seconds: Type.Integer() }),
          ...problemResponses(),
        },
      },
    },
    async () => ({ status: 'ok' as const, uptime_seconds: Math.floor(process.uptime()) }),
  );

  const Readiness = Type.Object({
    status: Type.Enum(['ready', 'degraded', 'not_ready']),
    dependencies: Type.Object({
      postgres: State,
      redis: State,
      schema: Type.Enum(['current', 'behind', 'ahead', 'unknown']),
    }),
  });
  app.get(
    '/api/system/ready',
    {
      config: unlimited,
      schema: {
        tags: ['System'],
        summary: 'Readiness',
        description:
          '200 while requests can be answered, with the state of each dependency; `degraded` when only the live ' +
          'state is away (no new tunnels, everything else works). 503 when the record is away or its schema is not ' +
          'the one of this program.',
        response: {
          200: Readiness,
          503: Type.Object(Readiness.properties, {
            examples: [
              {
                status: 'not_ready',
                dependencies: { postgres: 'down', redis: 'up', schema: 'unknown' },
              },
            ],
          }),
        },
      },
    },
    async (_request, reply) => {
      const [schema, redisUp] = await Promise.all([
        schemaState(pool).catch(() => 'unknown' as const),
        redis.ping().then(
          () => true,
          () => false,
        ),
      ]);
      // A schema ahead of us is one a newer program migrated while this one still runs: forward-only migrations
      // keep the running version working, so it may finish its life.
      const ready = schema === 'current' || schema === 'ahead';
      return reply.code(ready ? 200 : 503).send({
        status: ready ? (redisUp ? 'ready' : 'degraded') : 'not_ready',
        dependencies: {
          postgres: schema === 'unknown' ? 'down' : 'up',
          redis: redisUp ? 'up' : 'down',
          schema,
        },
      });
    },
  );

  app.get(
    '/api/system/version',
    {
      config: { roles: ['none'] },
      schema: {
        tags: ['System'],
        summary: 'Versions',
        description: '`force_update`: apps older than `min_client_version` may not share and must update.',
        querystring: Type.Object(
          { client_version: Type.Optional(Type.String({ pattern: CLIENT_VERSION_PATTERN })) },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({
            api_version: Type.String(),
            app_latest: Type.String(),
            force_update: Type.Boolean({ description: 'with `client_version`: whether that one is too old' }),
            min_client_version: Type.String(),
            terms_version: Type.String({ description: 'of the terms in force' }),
          }),
          ...problemResponses(),
        },
      },
    },
    async (request) => {
      const settings = await deps.settings.read();
      const { client_version: clientVersion } = request.query;
      return {
        api_version: deps.apiVersion,
        app_latest: settings.appLatest,
        force_update: clientVersion !== undefined && isOlder(clientVersion, settings.minClientVersion),
        min_client_version: settings.minClientVersion,
        terms_version: settings.termsVersion,
      };
    },
  );
};
