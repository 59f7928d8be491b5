import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import { csvResponse, sendCsv } from '../http/csv-export.js';
import { Nullable, problemResponses } from '../http/schemas.js';
import { readTransparency, TRANSPARENCY_COLUMNS, TRANSPARENCY_COUNTS } from './transparency.js';

const Quarters = Type.Object(
  {
    quarters: Type.Integer({
      minimum: 1,
      maximum: 40,
      default: 4,
      description: 'this one and those before it',
    }),
  },
  { additionalProperties: false },
);

const Day = Type.String({ format: 'date' });
const QuarterSchema = Type.Object({
  quarter: Type.String({ examples: ['2026-Q4'] }),
  from: Day,
  to: Type.String({ format: 'date', description: 'not included' }),
  ...(Object.fromEntries(
    TRANSPARENCY_COUNTS.map((name) => [
      name,
      name === 'answer_hours_median'
        ? Nullable(Type.Number({ description: 'from receipt to the first answer, in the middle' }))
        : Type.Integer({ examples: [3] }),
    ]),
  ) as Record<(typeof TRANSPARENCY_COUNTS)[number], ReturnType<typeof Type.Integer>>),
});

/** Figures for the public: `/api/admin/transparency`, and as CSV. */
export const transparencyPlugin: FastifyPluginAsyncTypebox<{ pool: pg.Pool }> = async (app, { pool }) => {
  app.get(
    '/api/admin/transparency',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Transparency figures',
        description:
          'Reports of abuse, findings, suspensions and legal holds by UTC quarter, oldest first: numbers that name nobody, to be ' +
          'published. `traffic-share transparency` gives the same.',
        querystring: Quarters,
        response: {
          200: Type.Object({ quarters: Type.Array(QuarterSchema) }),
          ...problemResponses(401, 403),
        },
      },
    },
    async ({ query }) => ({ quarters: (await readTransparency(pool, query.quarters)) as never }),
  );

  app.get(
    '/api/admin/export/transparency',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Transparency figures as CSV',
        description: 'One line a quarter.',
        querystring: Quarters,
        response: csvResponse,
      },
    },
    ({ query }, reply) =>
      sendCsv(reply, 'transparency', TRANSPARENCY_COLUMNS, async () => ({
        items: (await readTransparency(pool, query.quarters)) as never,
        next_cursor: null,
      })),
  );
};
