import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { type Static, Type } from 'typebox';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { pageOfAll } from '../http/pagination.js';
import { actorOf } from '../http/roles.js';
import { Nullable, pageOf, pageQuery, problemResponses, Timestamp, Uuid } from '../http/schemas.js';
import { LANGUAGES } from '../users/users.js';
import { readBuyerNotices } from './buyer-notices.js';
import { decide } from './decisions.js';
import { FINDING_RULES, FINDING_STATES, type Finding, listFindings, readFinding } from './findings.js';
import { buyerAbuseText } from './notice-text.js';

export interface FindingsDeps {
  pool: pg.Pool;
  /** Tells the gateways of changed buyers. */
  live: { accountsChanged(buyerIds: string[]): Promise<void> };
  /** How buyers reach us; their notices say it. */
  contact: string | null;
}

const Params = Type.Object({ id: Uuid }, { additionalProperties: false });
const State = Type.Enum([...FINDING_STATES]);
const Rule = Type.Enum([...FINDING_RULES]);
const text = (maxLength: number, description: string) =>
  Type.String({ minLength: 1, maxLength, description });

const FindingSchema = Type.Object({
  id: Uuid,
  rule: Rule,
  state: State,
  buyer_id: Nullable(
    Type.String({ format: 'uuid', description: 'null: of many buyers, or of nobody in particular' }),
  ),
  buyer_account: Nullable(Type.String()),
  host: Nullable(Type.String()),
  measured: Type.Integer({ description: 'what the rule compares, when it was last seen', examples: [7_200] }),
  measured_max: Type.Integer({ examples: [9_100] }),
  threshold: Type.Integer({ description: 'from where the rule finds', examples: [5_000] }),
  seen: Type.Integer({ description: 'how many looks found it', examples: [4] }),
  evidence: Type.Unsafe<Record<string, unknown>>({
    type: 'object',
    additionalProperties: true,
    description: 'what was seen at the latest look: counts, a few destinations',
    examples: [
      { connections: 800, hosts: 40, failed: 7_200, failed_targets: 3_100, samples: ['192.0.2.1:443'] },
    ],
  }),
  opened_at: Timestamp,
  seen_at: Timestamp,
  automatic: Nullable(
    Type.Enum(['throttled', 'suspended'], { description: 'what was done to the buyer without an admin' }),
  ),
  automatic_at: Nullable(Timestamp),
  decided_at: Nullable(Timestamp),
  decided_by: Nullable(Uuid),
  reason: Nullable(Type.String({ examples: ['a scan of 203.0.113.0/24'] })),
  message: Nullable(Type.String({ description: 'what the buyer was told', examples: ['Stop scanning.'] })),
});

const findingJson = (f: Finding): Static<typeof FindingSchema> => ({
  id: f.id,
  rule: f.rule,
  state: f.state,
  buyer_id: f.buyer_id,
  buyer_account: f.buyer_account,
  host: f.host,
  measured: Number(f.measured),
  measured_max: Number(f.measured_max),
  threshold: Number(f.threshold),
  seen: Number(f.seen),
  evidence: f.evidence,
  opened_at: f.opened_at.toISOString(),
  seen_at: f.seen_at.toISOString(),
  automatic: f.automatic,
  automatic_at: f.automatic_at?.toISOString() ?? null,
  decided_at: f.decided_at?.toISOString() ?? null,
  decided_by: f.decided_by,
  reason: f.reason,
  message: f.message,
});

/** Findings of abuse detection: `/api/admin/abuse/findings`; what buyers were told: `/api/buyer/me/warnings`. */
export const findingsPlugin: FastifyPluginAsyncTypebox<FindingsDeps> = async (
  app,
  { pool, live, contact },
) => {
  async function answer(id: string) {
    const finding = await readFinding(pool, id);
    if (finding === null) throw new Problem('not_found');
    return findingJson(finding);
  }

  app.get(
    '/api/admin/abuse/findings',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Findings of abuse',
        description:
          'What detection found, or somebody reported, latest first. One is open for each rule and buyer or host, and kept ' +
          'up to date while it goes on.',
        querystring: Type.Object(
          {
            state: Type.Optional(State),
            rule: Type.Optional(Rule),
            buyer_id: Type.Optional(Uuid),
            ...pageQuery,
          },
          { additionalProperties: false },
        ),
        response: { 200: pageOf(FindingSchema), ...problemResponses(401, 403) },
      },
    },
    async ({ query }) => {
      const filter = { state: query.state, rule: query.rule, buyerId: query.buyer_id };
      const page = await listFindings(pool, filter, query);
      return { items: page.rows.map(findingJson), next_cursor: page.nextCursor };
    },
  );

  app.get(
    '/api/admin/abuse/findings/:id',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'One finding of abuse',
        description: 'With its evidence.',
        params: Params,
        response: { 200: FindingSchema, ...problemResponses(401, 403, 404) },
      },
    },
    ({ params }) => answer(params.id),
  );

  app.post(
    '/api/admin/abuse/findings/:id/decide',
    {
      config: { roles: ['admin'], idempotency: {} },
      schema: {
        tags: ['Admin'],
        summary: 'Decide on a finding of abuse',
        description:
          '`dismiss`: it is none; what was done without an admin is taken back, unless an admin has changed it since. `warn`: ' +
          'the same, and the buyer is told `message`. `suspend`: the buyer is suspended, on every gateway within a second. ' +
          '`keep_open`: only the reason is written down. The rule is quiet for this buyer or host afterwards, for ' +
          'TS_ABUSE_QUIET_HOURS.',
        params: Params,
        body: Type.Object(
          {
            decision: Type.Enum(['dismiss', 'warn', 'suspend', 'keep_open']),
            reason: text(1_000, 'for the audit log'),
            message: Type.Optional(text(2_000, 'to the buyer; required to warn, not taken otherwise')),
          },
          { additionalProperties: false, examples: [{ decision: 'dismiss', reason: 'their own hosts' }] },
        ),
        response: { 200: FindingSchema, ...problemResponses(401, 403, 404, 409, 422) },
      },
    },
    async (request) => {
      const { userId } = actorOf(request, 'admin');
      const { decision, reason, message = null } = request.body;
      if ((decision === 'warn') !== (message !== null))
        throw new Problem('validation_failed', undefined, {
          errors: [{ path: '/body/message', message: 'is required to warn, and not taken otherwise' }],
        });
      const { id } = request.params;
      const changed = await withTransaction(pool, (client) =>
        decide(client, request, id, userId, { decision, reason, message, contact }),
      );
      if (changed.length > 0) await live.accountsChanged(changed);
      return answer(id);
    },
  );

  app.get(
    '/api/buyer/me/warnings',
    {
      config: { roles: ['buyer'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Warnings for my account',
        description:
          'What I was told about how I use the network, latest first; at most 100. The bot says the same on the Telegram ' +
          'accounts I have linked. `text` says what was seen, what happens and what to do; `message` is what an admin wrote.',
        querystring: Type.Object(
          { language: Type.Optional(Type.Enum([...LANGUAGES])), ...pageQuery },
          { additionalProperties: false },
        ),
        response: {
          200: pageOf(
            Type.Object({
              id: Uuid,
              kind: Type.Enum(['warned', 'throttled', 'suspended', 'lifted'], {
                description: '`lifted`: what was limited is so no more',
              }),
              text: Type.String({
                examples: [
                  'About the buyer account acme at Traffic Share\nWhat was seen: many attempts to reach destinations or ports that are not allowed.',
                ],
              }),
              message: Nullable(Type.String({ examples: ['No mail ports, please.'] })),
              at: Timestamp,
            }),
          ),
          ...problemResponses(401, 403),
        },
      },
    },
    async (request) => {
      const { language = 'en', ...page } = request.query;
      const rows = await readBuyerNotices(pool, actorOf(request, 'buyer').buyerId);
      const items = rows.map(({ id, kind, rule, message, account, created_at: at }) => ({
        id,
        kind,
        text: buyerAbuseText(language, { what: kind, rule, message, account, contact }),
        message,
        at: at.toISOString(),
      }));
      return pageOfAll(items, page);
    },
  );
};
