import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyRequest } from 'fastify';
import type pg from 'pg';
import { type TProperties, Type } from 'typebox';
import { NEVER_ALLOWED_PORTS } from '../../gateway/runtime/ports.js';
import { auditContext, recordAudit } from '../audit/audit.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { actorOf } from '../http/roles.js';
import { problemResponses } from '../http/schemas.js';
import { type WrongEntry, wrongAsnRules, wrongNetworks, wrongPorts } from './entries.js';
import {
  type PolicyName,
  readPolicyList,
  replacePolicyList,
  summarizeChange,
  type Versioned,
} from './lists.js';

export interface PolicyListsDeps {
  pool: pg.Pool;
  /** After the commit: the data path is told, and told again until it knows. */
  live: { settingsChanged(): Promise<void> };
  /** Of one field of a list; above it 400. */
  entriesMax: number;
}

/** Room for one entry in a body; what is longer together gets 413. */
const ENTRY_BYTES = 300;

/** A name, or `.suffix` for a domain and everything below it. Lower case, without the root's dot. */
const Domain = Type.String({
  pattern: '^\\.?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$',
  maxLength: 254,
  examples: ['tracker.example', '.example.org'],
});
const Network = Type.String({ pattern: '^[0-9a-fA-F:.]{2,45}(/[0-9]{1,3})?$', examples: ['203.0.113.0/24'] });
const Port = Type.Integer({ minimum: 1, maximum: 65_535 });
const Asn = Type.Integer({ minimum: 1, maximum: 4_294_967_295 });
const AsnRule = Type.Object(
  {
    match: Type.String({
      minLength: 3,
      maxLength: 200,
      description: '`AS<number>`, or `org <pattern>`: the organisation in any case, `*` for any text',
      examples: ['AS64500', 'org *vpn*'],
    }),
    name: Type.Optional(Type.String({ minLength: 1, maxLength: 80, description: 'what a refusal calls it' })),
  },
  { additionalProperties: false },
);
/** Of the list in force; of a change: the one that it was made from. */
const Version = Type.Integer({ minimum: 0, maximum: 2_147_483_647 });

/** One list: its fields, and what of them no schema can judge. */
interface ListRoute<N extends PolicyName> {
  name: N;
  fields: TProperties;
  /** Members of the answer that can not be set. */
  constants?: Readonly<Record<string, unknown>>;
  read: { summary: string; description: string };
  replace: { summary: string; description: string };
  example: Versioned<N>;
  wrong: (list: Versioned<N>) => WrongEntry[];
}

/** The lists of the policy: `/api/admin/policy/{destinations,ports,origins}`. */
export const policyListsPlugin: FastifyPluginAsyncTypebox<PolicyListsDeps> = async (
  app,
  { pool, live, entriesMax },
) => {
  const few = { maxItems: 1_000, uniqueItems: true };
  const many = { maxItems: entriesMax, uniqueItems: true };

  addList({
    name: 'destinations',
    fields: { denied_domains: Type.Array(Domain, many), denied_ips: Type.Array(Network, many) },
    read: {
      summary: 'Denied destinations',
      description: 'Domains and networks that no buyer may reach, beside what is never allowed.',
    },
    replace: {
      summary: 'Replace the denied destinations',
      description:
        'Every gateway has the new lists within a second, and cuts live streams to what is on them.',
    },
    example: { denied_domains: ['.example.org'], denied_ips: ['203.0.113.0/24'], version: 7 },
    wrong: ({ denied_ips: networks }) => wrongNetworks('denied_ips', networks),
  });

  const neverAllowed = [...NEVER_ALLOWED_PORTS].filter((port) => port > 0).sort((a, b) => a - b);
  addList({
    name: 'ports',
    fields: {
      open_tcp: Type.Array(Port, few),
      open_udp: Type.Array(Port, few),
      never_allowed: Type.Array(Port, few),
    },
    constants: { never_allowed_built_in: neverAllowed },
    read: {
      summary: 'Destination ports',
      description:
        'Ports open to every buyer (`open_udp`: who may use UDP), and those open only to buyers who were granted that ' +
        'very port: `never_allowed_built_in` for good, `never_allowed` as set here. Buyers can have further ports of ' +
        'their own (`limits.extra_ports`).',
    },
    replace: {
      summary: 'Replace the destination ports',
      description:
        'Every gateway has them within a second, and cuts live streams to ports that are closed now. A port that takes ' +
        'a grant can not be open to everybody.',
    },
    example: { open_tcp: [80, 443, 8443], open_udp: [53, 443], never_allowed: [8080], version: 2 },
    wrong: wrongPorts,
  });

  addList({
    name: 'origins',
    fields: {
      asn_rules: Type.Array(AsnRule, many),
      denied_ips: Type.Array(Network, many),
      allowed_asns: Type.Array(Asn, many),
    },
    read: {
      summary: 'Networks that may not share',
      description:
        "Beside the operator's files: who announces the address (`asn_rules`: hosting, VPN; `vpn_detected`), and " +
        'addresses (`denied_ips`: `denylisted`). `allowed_asns` are never refused by a rule of either kind, but are by ' +
        'address. A refusal names its rule.',
    },
    replace: {
      summary: 'Replace the networks that may not share',
      description:
        'In force for the next start at once, and within a second at every gateway, which ends tunnels from networks ' +
        'that are refused now.',
    },
    example: {
      asn_rules: [{ match: 'AS64500', name: 'Example Hosting' }, { match: 'org *vpn*' }],
      denied_ips: ['198.51.100.0/24'],
      allowed_asns: [64501],
      version: 3,
    },
    wrong: (list) => [...wrongAsnRules(list.asn_rules), ...wrongNetworks('denied_ips', list.denied_ips)],
  });

  function addList<N extends PolicyName>(route: ListRoute<N>): void {
    const { name, fields, constants = {}, example } = route;
    const path = `/api/admin/policy/${name}`;
    const answer = (list: Versioned<N>) => ({ ...list, ...constants });
    // As they were written: entries of an older version need not fit the rules for new ones.
    const Answer = Type.Object(
      {
        ...Object.fromEntries(
          Object.entries(fields).map(([field, schema]) => {
            const { items } = schema as { items?: { type?: string } };
            const isInteger = items?.type === 'integer';
            const item = items?.type === 'object' ? AsnRule : isInteger ? Type.Integer() : Type.String();
            return [field, Type.Array(item)];
          }),
        ),
        ...Object.fromEntries(Object.keys(constants).map((field) => [field, Type.Array(Type.Integer())])),
        version: Version,
      },
      { examples: [answer(example)] },
    );
    const config = { roles: ['admin'] as const };
    const tags = ['Admin'];

    app.get(
      path,
      { config, schema: { tags, ...route.read, response: { 200: Answer, ...problemResponses(401, 403) } } },
      async () => answer(await readPolicyList(pool, name)) as never,
    );

    app.put(
      path,
      {
        config,
        bodyLimit: ENTRY_BYTES * entriesMax * Object.keys(fields).length,
        schema: {
          tags,
          summary: route.replace.summary,
          description:
            `${route.replace.description} \`version\` is the one that was read: when another is in force by now, ` +
            'nothing is changed (409 `policy_changed`, with the version in force).',
          body: Type.Object(
            { ...fields, version: Version },
            { additionalProperties: false, examples: [example] },
          ),
          response: { 200: Answer, ...problemResponses(401, 403, 409, 413) },
        },
      },
      async (request) => answer(await replace(request, route, request.body as Versioned<N>)) as never,
    );
  }

  async function replace<N extends PolicyName>(
    request: FastifyRequest,
    { name, wrong }: ListRoute<N>,
    list: Versioned<N>,
  ): Promise<Versioned<N>> {
    const { userId } = actorOf(request, 'admin');
    const errors = wrong(list);
    if (errors.length > 0) throw new Problem('validation_failed', undefined, { errors });
    const changed = await withTransaction(pool, async (client) => {
      const { before, after } = await replacePolicyList(client, name, list, userId);
      await recordAudit(client, {
        ...auditContext(request),
        action: 'policy_changed',
        objectType: 'policy',
        objectId: name,
        before: { version: before.version, lists: summarizeChange(after, before) },
        after: { version: after.version, lists: summarizeChange(before, after) },
      });
      return after;
    });
    await live.settingsChanged();
    return changed;
  }
};
