import { type Static, type TSchema, Type } from 'typebox';
import { problems } from '../errors.js';

/** An RFC 9457 problem document. Some codes add members of their own. */
export const ProblemSchema = Type.Object(
  {
    type: Type.String({ description: 'about:blank, or a URI of the kind of problem' }),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.Optional(Type.String({ description: 'for people; may change' })),
    code: Type.String({ description: 'stable; match this one' }),
    request_id: Type.String(),
    errors: Type.Optional(
      Type.Array(Type.Object({ path: Type.String(), message: Type.String() }), {
        description: 'with validation_failed: every field that does not fit',
      }),
    ),
  },
  { additionalProperties: true, description: 'RFC 9457 problem document' },
);

type Status = (typeof problems)[keyof typeof problems]['status'];

/** What every route may answer: bad request, too many, broken, a dependency away. */
const EVERYWHERE = [400, 429, 500, 503] as const;

/**
 * The problem responses of a route, for its `response` schema: `{200: …, ...problemResponses(401, 404)}`.
 * The ones that every route has come along.
 */
export function problemResponses(...statuses: Status[]) {
  return Object.fromEntries(
    [...new Set([...statuses, ...EVERYWHERE])].map((status) => [
      status,
      {
        description: Object.entries(problems)
          .filter(([, p]) => p.status === status)
          .map(([code]) => `\`${code}\``)
          .join(', '),
        content: { 'application/problem+json': { schema: ProblemSchema } },
      },
    ]),
  );
}

export const Uuid = Type.String({ format: 'uuid' });
/** UTC, ISO 8601. */
export const Timestamp = Type.String({ format: 'date-time' });
/** Decimal string with six places, US dollars. */
export const Money = Type.String({ pattern: '^-?[0-9]+\\.[0-9]{6}$', examples: ['12.345678'] });
/** Bytes: an integer, or a decimal string above 2^53. */
export const Bytes = Type.Union([Type.Integer(), Type.String({ pattern: '^[0-9]+$' })]);
export const Nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()]);
/** A body that may be left out: the handler then sees null. */
export const optionalBody = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()]);
export const Ok = Type.Object({ ok: Type.Literal(true) });
export const IpAddress = Type.Union([Type.String({ format: 'ipv4' }), Type.String({ format: 'ipv6' })]);
/** A Telegram user id. */
export const TelegramId = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER });

/** A byte count in JSON: exact at any size. */
export function jsonBytes(bytes: bigint): number | string {
  return bytes <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(bytes) : bytes.toString();
}

/** `{ limit, cursor }` of every list. Spread into a route's own query object. */
export const pageQuery = {
  limit: Type.Integer({ minimum: 1, maximum: 200, default: 50 }),
  cursor: Type.Optional(Type.String({ maxLength: 400, description: 'next_cursor of the page before' })),
};

/** `{ items, next_cursor, total? }` */
export function pageOf<T extends TSchema>(item: T) {
  return Type.Object({
    items: Type.Array(item),
    next_cursor: Nullable(Type.String()),
    total: Type.Optional(Type.Integer()),
  });
}

export type PageQuery = { limit: number; cursor?: string | undefined };
export type ProblemDocument = Static<typeof ProblemSchema>;
