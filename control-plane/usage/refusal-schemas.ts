import { Type } from 'typebox';
import { Nullable, Timestamp } from '../http/schemas.js';
import { REFUSALS_KEPT_HOURS, type Refusals } from './refusals.js';

export const RefusalsQuery = Type.Object(
  {
    hours: Type.Integer({
      minimum: 1,
      maximum: REFUSALS_KEPT_HOURS,
      default: 24,
      description: 'this UTC hour and those before it',
    }),
  },
  { additionalProperties: false },
);

const count = Type.Integer({ examples: [3] });

export const RefusalsSchema = Type.Object(
  {
    from: Timestamp,
    total: count,
    by_code: Type.Array(
      Type.Object({
        code: Type.String({ description: "of the proxy's errors" }),
        count,
        last_at: Timestamp,
        last_detail: Nullable(Type.String({ description: 'of the latest: the key of BAD_PARAM, say' })),
      }),
      { description: 'the most frequent first' },
    ),
    by_hour: Type.Array(Type.Object({ hour: Timestamp, count }), { description: 'hours with any' }),
  },
  {
    examples: [
      {
        from: '2026-11-26T12:00:00.000Z',
        total: 3,
        by_code: [
          { code: 'BAD_PARAM', count: 3, last_at: '2026-11-26T12:10:00.000Z', last_detail: 'country' },
        ],
        by_hour: [{ hour: '2026-11-26T12:00:00.000Z', count: 3 }],
      },
    ],
  },
);

export function refusalsJson({ from, byCode, byHour }: Refusals) {
  return {
    from: from.toISOString(),
    total: byCode.reduce((sum, { refusals }) => sum + Number(refusals), 0),
    by_code: byCode.map((r) => ({
      code: r.code,
      count: Number(r.refusals),
      last_at: r.lastAt.toISOString(),
      last_detail: r.lastDetail,
    })),
    by_hour: byHour.map((r) => ({ hour: r.hour.toISOString(), count: Number(r.refusals) })),
  };
}
