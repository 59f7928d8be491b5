import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { Nullable, problemResponses, Timestamp } from '../http/schemas.js';
import { readHost } from './host.js';
import type { RecentLog } from './recent-log.js';
import type { RequestCounts } from './request-counts.js';

/** What the control plane counts of itself, by name. */
export type OwnFigures = () => Readonly<Record<string, number>>;

export interface SystemAdminDeps {
  recentLog: RecentLog;
  requests: RequestCounts;
  figures: OwnFigures;
}

const Count = Type.Integer();
const RequestCountSchema = Type.Object({
  requests: Count,
  refused: Type.Integer({ description: 'answered 4xx' }),
  failed: Type.Integer({ description: 'answered 5xx' }),
  mean_ms: Type.Number({ description: 'time to the answer' }),
});

const HostSchema = Type.Object({
  cpu: Type.Object({
    cores: Count,
    load_1: Type.Number(),
    load_5: Type.Number(),
    load_15: Type.Number(),
    process_percent: Type.Number({ description: 'of one core, since this process started' }),
  }),
  memory: Type.Object({
    total_bytes: Count,
    free_bytes: Count,
    process_bytes: Count,
    heap_bytes: Count,
  }),
  disk: Nullable(Type.Object({ total_bytes: Count, free_bytes: Count })),
  network: Nullable(
    Type.Object(
      { received_bytes: Count, sent_bytes: Count },
      { description: 'since the machine started, loopback left out; null where the system does not say' },
    ),
  ),
  uptime_seconds: Count,
  process_uptime_seconds: Count,
});

const OF_THIS_PROCESS = 'Of the control plane that answers; others have figures of their own.';

/** What admins see of the process: requests, log, host, counters. */
export const systemAdminPlugin: FastifyPluginAsyncTypebox<SystemAdminDeps> = async (
  app,
  { recentLog, requests, figures },
) => {
  const count = (minutes: number) => {
    const { meanMs, ...counts } = requests.last(minutes);
    return { ...counts, mean_ms: meanMs };
  };
  const counts = () => ({ last_1_minute: count(1), last_5_minutes: count(5), last_15_minutes: count(15) });
  const CountsSchema = Type.Object({
    last_1_minute: RequestCountSchema,
    last_5_minutes: RequestCountSchema,
    last_15_minutes: RequestCountSchema,
  });

  app.get(
    '/api/system/requests',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['System'],
        summary: 'Requests answered lately',
        description: OF_THIS_PROCESS,
        response: { 200: CountsSchema, ...problemResponses(401, 403) },
      },
    },
    async () => counts(),
  );

  app.get(
    '/api/system/stats',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['System'],
        summary: 'The machine: CPU, memory, disk, network',
        description: OF_THIS_PROCESS,
        response: { 200: HostSchema, ...problemResponses(401, 403) },
      },
    },
    async () => readHost(),
  );

  app.get(
    '/api/admin/metrics',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Process and host figures',
        description: `${OF_THIS_PROCESS} Prometheus reads the same and more at the private port.`,
        response: {
          200: Type.Object({
            host: HostSchema,
            requests: CountsSchema,
            counters: Type.Record(Type.String(), Type.Number(), {
              description: 'since the process started',
            }),
          }),
          ...problemResponses(401, 403),
        },
      },
    },
    async () => ({ host: await readHost(), requests: counts(), counters: { ...figures() } }),
  );

  app.get(
    '/api/system/logs',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['System'],
        summary: 'Recent log',
        description:
          `${OF_THIS_PROCESS} Latest first; secrets are left out as in the log itself. ` +
          '`TS_RECENT_LOG_LINES` are kept in memory.',
        querystring: Type.Object(
          {
            level: Type.Enum(['debug', 'info', 'warn', 'error'], {
              default: 'info',
              description: 'at least',
            }),
            q: Type.String({
              maxLength: 200,
              default: '',
              description: 'words that a line has, all of them, in any case',
              examples: ['job_failed backup'],
            }),
            limit: Type.Integer({ minimum: 1, maximum: 200, default: 50 }),
          },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({
            items: Type.Array(
              Type.Object({
                time: Timestamp,
                level: Type.String(),
                event: Type.String(),
                fields: Type.Unsafe<Record<string, unknown>>({ type: 'object', additionalProperties: true }),
              }),
            ),
            next_cursor: Type.Null(),
          }),
          ...problemResponses(401, 403),
        },
      },
    },
    async (request) => {
      const { level, q, limit } = request.query;
      return { items: recentLog.search({ level, query: q, limit }), next_cursor: null };
    },
  );
};
