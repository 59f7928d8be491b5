import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import type { GatewayCommand } from '../../gateway/live/records.js';
import { isCidr } from '../../gateway/runtime/addresses.js';
import { auditContext, recordAudit } from '../audit/audit.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { actorOf } from '../http/roles.js';
import { Ok, problemResponses } from '../http/schemas.js';
import { readDestinationPolicy, writeDestinationPolicy } from '../settings/settings.js';

/** How the data path learns of a change. Both are tried again until Redis has them (`live-state/`). */
export interface PolicyChannel {
  settingsChanged(): Promise<void>;
  command(command: GatewayCommand): Promise<void>;
}

export interface PolicyDeps {
  pool: pg.Pool;
  live: PolicyChannel;
}

/** Entries of one list; more belong into a feed of their own. */
const ENTRIES_MAX = 10_000;
/** A name, or `.suffix` for a domain and everything below it. Lower case, without the root's dot. */
const Domain = Type.String({
  pattern: '^\\.?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$',
  maxLength: 254,
  examples: ['tracker.example', '.example.org'],
});
const Network = Type.String({ pattern: '^[0-9a-fA-F:.]{2,45}(/[0-9]{1,3})?$', examples: ['203.0.113.0/24'] });

const Reason = Type.String({ minLength: 1, maxLength: 500, description: 'for the audit log' });

const PolicySchema = Type.Object({
  denied_domains: Type.Array(Type.String()),
  denied_ips: Type.Array(Type.String()),
  version: Type.Integer(),
});

/** What buyers may not reach, and the brake: `/api/admin/policy/*`, `/api/admin/kill`. */
export const policyPlugin: FastifyPluginAsyncTypebox<PolicyDeps> = async (app, { pool, live }) => {
  app.get(
    '/api/admin/policy/destinations',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Denied destinations',
        description: 'Domains and networks that no buyer may reach, beside what is never allowed.',
        response: { 200: PolicySchema, ...problemResponses(401, 403) },
      },
    },
    async () => policyJson(await readDestinationPolicy(pool)),
  );

  app.put(
    '/api/admin/policy/destinations',
    {
      config: { roles: ['admin'] },
      bodyLimit: 4 * 1024 * 1024,
      schema: {
        tags: ['Admin'],
        summary: 'Replace the denied destinations',
        description:
          'Every gateway has the new lists within a second, and cuts live streams to what is on them.',
        body: Type.Object(
          {
            denied_domains: Type.Array(Domain, { maxItems: ENTRIES_MAX, uniqueItems: true }),
            denied_ips: Type.Array(Network, { maxItems: ENTRIES_MAX, uniqueItems: true }),
          },
          { additionalProperties: false },
        ),
        response: { 200: PolicySchema, ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const { userId } = actorOf(request, 'admin');
      const { denied_domains: deniedDomains, denied_ips: deniedIps } = request.body;
      const wrong = deniedIps.flatMap((text, i) =>
        isCidr(text) ? [] : [{ path: `/body/denied_ips/${i}`, message: 'must be an address or a CIDR' }],
      );
      if (wrong.length > 0) throw new Problem('validation_failed', undefined, { errors: wrong });
      const policy = await withTransaction(pool, async (client) => {
        const before = await readDestinationPolicy(client, true);
        const after = { deniedDomains, deniedIps, version: before.version + 1 };
        await writeDestinationPolicy(client, after, userId);
        await recordAudit(client, {
          ...auditContext(request),
          action: 'policy_changed',
          objectType: 'policy',
          objectId: 'destinations',
          before,
          after,
        });
        return after;
      });
      await live.settingsChanged();
      return policyJson(policy);
    },
  );

  app.post(
    '/api/admin/kill',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Cut streams now',
        description:
          'Ends the live streams of a buyer, provider, device or destination, or all of them, on every gateway ' +
          'within a second. It does not keep them from coming back: suspend, ban or deny for that.',
        body: Type.Union([
          Type.Object({ scope: Type.Literal('all'), reason: Reason }, { additionalProperties: false }),
          Type.Object(
            {
              scope: Type.Enum(['buyer', 'provider', 'device', 'destination']),
              id: Type.String({ minLength: 1, maxLength: 254 }),
              reason: Reason,
            },
            { additionalProperties: false },
          ),
        ]),
        response: { 200: Ok, ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const { body } = request;
      const id = body.scope === 'all' ? null : body.id;
      await recordAudit(pool, {
        ...auditContext(request),
        action: 'kill',
        objectType: body.scope,
        objectId: id,
        after: { reason: body.reason },
      });
      await live.command({ kind: 'kill', scope: body.scope, id });
      return { ok: true as const };
    },
  );
};

function policyJson(policy: { deniedDomains: string[]; deniedIps: string[]; version: number }) {
  return { denied_domains: policy.deniedDomains, denied_ips: policy.deniedIps, version: policy.version };
}
