import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { type Static, Type } from 'typebox';
import { auditContext, recordAudit } from '../audit/audit.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { actorOf } from '../http/roles.js';
import { Nullable, pageOf, pageQuery, problemResponses, Timestamp, Uuid } from '../http/schemas.js';
import {
  askForHold,
  confirmHold,
  HOLD_STATES,
  type HoldStep,
  type LegalHold,
  liftHold,
  listHolds,
} from './legal-holds.js';

export interface LegalHoldsDeps {
  pool: pg.Pool;
  /** Days a hold of one admin keeps records while it waits for the second. */
  confirmDays: number;
}

const Params = Type.Object({ id: Uuid }, { additionalProperties: false });
const Reason = Type.String({
  minLength: 1,
  maxLength: 1_000,
  description: 'the authority and its case number, say',
  examples: ['Police Berlin, 123 Js 456/26'],
});

const HoldSchema = Type.Object({
  id: Uuid,
  buyer_id: Nullable(Uuid),
  user_id: Nullable(Type.String({ format: 'uuid', description: 'the provider' })),
  state: Type.Enum([...HOLD_STATES], {
    description:
      'asked, in_force and lift_asked keep records; asked waits for a second admin until `lapses_at`, lift_asked for one to ' +
      'lift it',
  }),
  reason: Reason,
  asked_at: Timestamp,
  asked_by: Uuid,
  lapses_at: Timestamp,
  confirmed_at: Nullable(Timestamp),
  confirmed_by: Nullable(Uuid),
  lift_reason: Nullable(Type.String({ examples: ['the case is closed'] })),
  lift_asked_at: Nullable(Timestamp),
  lift_asked_by: Nullable(Uuid),
  lifted_at: Nullable(Timestamp),
  lifted_by: Nullable(Uuid),
});

const holdJson = (h: LegalHold): Static<typeof HoldSchema> => ({
  id: h.id,
  buyer_id: h.buyer_id,
  user_id: h.user_id,
  state: h.state,
  reason: h.reason,
  asked_at: h.asked_at.toISOString(),
  asked_by: h.asked_by,
  lapses_at: h.lapses_at.toISOString(),
  confirmed_at: h.confirmed_at?.toISOString() ?? null,
  confirmed_by: h.confirmed_by,
  lift_reason: h.lift_reason,
  lift_asked_at: h.lift_asked_at?.toISOString() ?? null,
  lift_asked_by: h.lift_asked_by,
  lifted_at: h.lifted_at?.toISOString() ?? null,
  lifted_by: h.lifted_by,
});

/** The hold after a step; throws what the step was refused for. */
function holdOf(step: HoldStep): LegalHold {
  if (step.ok) return step.hold;
  throw new Problem(step.code, step.code === 'legal_hold_state' ? `It is ${step.state}.` : undefined);
}

/** Legal holds of buyers and providers: `/api/admin/legal_holds`. */
export const legalHoldsPlugin: FastifyPluginAsyncTypebox<LegalHoldsDeps> = async (
  app,
  { pool, confirmDays },
) => {
  app.get(
    '/api/admin/legal_holds',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Legal holds',
        description:
          'Whose connection records are kept although their days are over; those asked for last first.',
        querystring: Type.Object(
          {
            open: Type.Optional(Type.Boolean({ description: 'not lifted, or lifted' })),
            buyer_id: Type.Optional(Uuid),
            user_id: Type.Optional(Uuid),
            ...pageQuery,
          },
          { additionalProperties: false },
        ),
        response: { 200: pageOf(HoldSchema), ...problemResponses(401, 403) },
      },
    },
    async ({ query }) => {
      const filter = { open: query.open, buyerId: query.buyer_id, userId: query.user_id };
      const page = await listHolds(pool, filter, query);
      return { items: page.rows.map(holdJson), next_cursor: page.nextCursor };
    },
  );

  app.post(
    '/api/admin/legal_holds',
    {
      config: { roles: ['admin'], idempotency: {} },
      schema: {
        tags: ['Admin'],
        summary: 'Hold the records of a buyer or provider',
        description:
          'In force at once: nothing of theirs in the connection records is deleted from now on. Another admin has to confirm ' +
          'it before `lapses_at`; otherwise it lapses.',
        body: Type.Union(
          [
            Type.Object({ buyer_id: Uuid, reason: Reason }, { additionalProperties: false }),
            Type.Object({ user_id: Uuid, reason: Reason }, { additionalProperties: false }),
          ],
          {
            examples: [
              { buyer_id: '7b0c2f4e-3c58-4a39-9d0f-0f6a5a0d4a11', reason: 'Police Berlin, 123 Js 456/26' },
            ],
          },
        ),
        response: { 201: HoldSchema, ...problemResponses(401, 403, 404, 409) },
      },
    },
    async (request, reply) => {
      const { userId: adminId } = actorOf(request, 'admin');
      const { body } = request;
      const buyerId = 'buyer_id' in body ? body.buyer_id : null;
      const userId = 'user_id' in body ? body.user_id : null;
      const hold = await withTransaction(pool, async (client) => {
        const asked = await askForHold(client, {
          buyerId,
          userId,
          reason: body.reason,
          adminId,
          confirmDays,
        });
        if (asked === null) throw new Problem('not_found');
        await recordAudit(client, {
          ...auditContext(request),
          action: 'legal_hold_asked',
          objectType: 'legal_hold',
          objectId: asked.id,
          after: { buyer_id: buyerId, user_id: userId, reason: body.reason },
        });
        return asked;
      });
      return reply.code(201).send(holdJson(hold));
    },
  );

  app.post(
    '/api/admin/legal_holds/:id/confirm',
    {
      config: { roles: ['admin'], idempotency: {} },
      schema: {
        tags: ['Admin'],
        summary: 'Confirm a legal hold',
        description:
          'By another admin than the one who asked for it; it then keeps records until it is lifted.',
        params: Params,
        response: { 200: HoldSchema, ...problemResponses(401, 403, 404, 409) },
      },
    },
    async (request) => {
      const { userId } = actorOf(request, 'admin');
      const { id } = request.params;
      return withTransaction(pool, async (client) => {
        const hold = holdOf(await confirmHold(client, id, userId));
        await recordAudit(client, {
          ...auditContext(request),
          action: 'legal_hold_confirmed',
          objectType: 'legal_hold',
          objectId: id,
          after: { asked_by: hold.asked_by, reason: hold.reason },
        });
        return holdJson(hold);
      });
    },
  );

  app.post(
    '/api/admin/legal_holds/:id/lift',
    {
      config: { roles: ['admin'], idempotency: {} },
      schema: {
        tags: ['Admin'],
        summary: 'Lift a legal hold',
        description:
          'Takes two admins: after the first call it is `lift_asked` and goes on keeping records, the same call by another ' +
          'admin lifts it. Records whose days are over are deleted soon after.',
        params: Params,
        body: Type.Object({ reason: Reason }, { additionalProperties: false }),
        response: { 200: HoldSchema, ...problemResponses(401, 403, 404, 409) },
      },
    },
    async (request) => {
      const { userId } = actorOf(request, 'admin');
      const { id } = request.params;
      const { reason } = request.body;
      return withTransaction(pool, async (client) => {
        const hold = holdOf(await liftHold(client, id, userId, reason));
        await recordAudit(client, {
          ...auditContext(request),
          action: hold.state === 'lifted' ? 'legal_hold_lifted' : 'legal_hold_lift_asked',
          objectType: 'legal_hold',
          objectId: id,
          after: { reason },
        });
        return holdJson(hold);
      });
    },
  );
};
