import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import type { LiveRedis } from '../../gateway/live/connection.js';
import { readPresences } from '../../gateway/live/presence.js';
import type { Clock } from '../../gateway/runtime/clock.js';
import { Problem } from '../errors.js';
import { Bytes, jsonBytes, Money, Nullable, problemResponses, Timestamp } from '../http/schemas.js';
import { formatMicros } from '../ledger/money.js';
import {
  DailyReportSchema,
  DaySchema,
  dayJson,
  readDailyReport,
  reportCsv,
  reportJson,
} from './daily-report.js';
import { computeDay, DAYS_MAX, readCountryDays, readDays, readTotals, Today } from './figures.js';

export interface FiguresPluginDeps {
  pool: pg.Pool;
  redis: LiveRedis;
  clock: Clock;
}

const Day = Type.String({ format: 'date', examples: ['2026-11-25'] });
const DaysQuery = Type.Object(
  { days: Type.Integer({ minimum: 1, maximum: DAYS_MAX, default: 30, description: 'up to today, UTC' }) },
  { additionalProperties: false },
);
const AsOf = Nullable(Type.String({ format: 'date-time', description: 'when today was last added up' }));

/** What each chart shows of a day. */
const CHARTS = {
  users: ['new_users', 'active_providers', 'sessions_completed'],
  traffic: ['bytes_up', 'bytes_down', 'sessions_completed'],
  revenue: ['charged', 'earned', 'referrals', 'revenue', 'top_ups'],
  payouts: ['payouts_completed', 'paid_out'],
  buyers: ['new_buyers', 'active_buyers', 'charged'],
} as const;

/** Figures and series for the console: dashboard, statistics, charts, daily report. */
export const figuresPlugin: FastifyPluginAsyncTypebox<FiguresPluginDeps> = async (
  app,
  { pool, redis, clock },
) => {
  const today = new Today(pool);
  app.get(
    '/api/admin/dashboard/summary',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Everything at a glance',
        description:
          'Counts as they are now, and today (UTC) so far. `devices_online` is null while the live state is away.',
        response: {
          200: Type.Object({
            users: Type.Integer(),
            users_banned: Type.Integer(),
            buyers: Type.Integer(),
            buyers_active: Type.Integer(),
            devices: Type.Integer(),
            devices_online: Nullable(Type.Integer()),
            sessions_active: Type.Integer(),
            payouts_pending: Type.Integer({ description: 'not ended: pending and processing' }),
            payouts_pending_amount: Money,
            flags_open: Type.Integer({ description: 'sessions whose counts differ' }),
            currency: Type.Literal('USD'),
            today: DaySchema,
          }),
          ...problemResponses(401, 403),
        },
      },
    },
    async () => {
      const [totals, online] = await Promise.all([
        readTotals(pool),
        readPresences(redis, clock.nowMs()).then(
          (presences) => presences.length,
          () => null,
        ),
      ]);
      return {
        users: Number(totals.users),
        users_banned: Number(totals.users_banned),
        buyers: Number(totals.buyers),
        buyers_active: Number(totals.buyers_active),
        devices: Number(totals.devices),
        devices_online: online,
        sessions_active: Number(totals.sessions_active),
        payouts_pending: Number(totals.payouts_pending),
        payouts_pending_amount: formatMicros(totals.payouts_pending_micros),
        flags_open: Number(totals.flags_open),
        currency: 'USD' as const,
        today: dayJson(await computeDay(pool, totals.today)),
      };
    },
  );

  app.get(
    '/api/admin/stats',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Figures by day',
        description:
          'Every figure of the last days, oldest first. Added up every hour by the job `stats`; today once more when it is ' +
          'looked at a minute later.',
        querystring: DaysQuery,
        response: {
          200: Type.Object({ as_of: AsOf, currency: Type.Literal('USD'), days: Type.Array(DaySchema) }),
          ...problemResponses(401, 403),
        },
      },
    },
    async (request) => {
      await today.bringUpToDate();
      const days = await readDays(pool, request.query.days);
      return {
        as_of: days.at(-1)?.computed_at?.toISOString() ?? null,
        currency: 'USD' as const,
        days: days.map(dayJson),
      };
    },
  );

  for (const [name, shown] of Object.entries(CHARTS)) {
    const fields = shown as readonly (keyof typeof DaySchema.properties)[];
    const Point = Type.Object({
      day: Day,
      ...Object.fromEntries(fields.map((field) => [field, DaySchema.properties[field]])),
    });
    app.get(
      `/api/admin/charts/${name}-daily`,
      {
        config: { roles: ['admin'] },
        schema: {
          tags: ['Admin'],
          summary: `Chart: ${name} by day`,
          description: `${fields.join(', ')} of the last days, oldest first; as \`GET /api/admin/stats\`.`,
          querystring: DaysQuery,
          response: {
            200: Type.Object({ as_of: AsOf, series: Type.Array(Point) }),
            ...problemResponses(401, 403),
          },
        },
      },
      async (request) => {
        await today.bringUpToDate();
        const days = await readDays(pool, request.query.days);
        const series = days.map((figures) => {
          const json = dayJson(figures);
          return { day: json.day, ...Object.fromEntries(fields.map((field) => [field, json[field]])) };
        });
        return { as_of: days.at(-1)?.computed_at?.toISOString() ?? null, series };
      },
    );
  }

  app.get(
    '/api/admin/charts/countries-daily',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Chart: exit countries by day',
        description: 'Traffic and charges of each day and exit country, oldest first, busiest country first.',
        querystring: DaysQuery,
        response: {
          200: Type.Object({
            as_of: Timestamp,
            series: Type.Array(
              Type.Object({
                day: Day,
                country: Type.String(),
                bytes_up: Bytes,
                bytes_down: Bytes,
                charged: Money,
              }),
            ),
          }),
          ...problemResponses(401, 403),
        },
      },
    },
    async (request) => ({
      as_of: new Date(clock.nowMs()).toISOString(),
      series: (await readCountryDays(pool, request.query.days)).map((row) => ({
        day: row.day,
        country: row.country,
        bytes_up: jsonBytes(row.bytes_up),
        bytes_down: jsonBytes(row.bytes_down),
        charged: formatMicros(row.charged_micros),
      })),
    }),
  );

  app.get(
    '/api/admin/reports/daily',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Report on one day',
        description:
          'Traffic, payouts, active users, and the traffic by buyer, of one UTC day (default: yesterday). ' +
          '`format=csv` is a line for the whole day and one for each buyer; no field is run as a formula.',
        querystring: Type.Object(
          {
            day: Type.Optional(Day),
            format: Type.Enum(['json', 'csv'], { default: 'json' }),
          },
          { additionalProperties: false },
        ),
        response: {
          200: {
            description: 'The report',
            content: {
              'application/json': { schema: DailyReportSchema },
              'text/csv': { schema: Type.String() },
            },
          },
          ...problemResponses(401, 403),
        },
      },
    },
    async (request, reply) => {
      const { format } = request.query;
      const day = request.query.day ?? new Date(clock.nowMs() - 86_400_000).toISOString().slice(0, 10);
      if (day < '2000-01-01' || day > '2999-12-31')
        throw new Problem('validation_failed', undefined, {
          errors: [{ path: '/querystring/day', message: 'must be between 2000-01-01 and 2999-12-31' }],
        });
      const report = await readDailyReport(pool, day);
      if (format === 'json') return reportJson(report);
      return reply
        .type('text/csv; charset=utf-8')
        .header('content-disposition', `attachment; filename="report-${day}.csv"`)
        .send(reportCsv(report) as never);
    },
  );
};
