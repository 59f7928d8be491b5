/** Walks every call of API.md: who may make it, what it refuses, what it answers, and that a refusal changes nothing. */
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { startBotWorld } from '../../helpers/bot-world.js';
import { CALLERS, type Caller, Cast, newAddress, UNHURRIED_ENV } from '../../helpers/cast.js';
import { answerProblem, type Operation, operationsOf, type Schema } from '../../helpers/openapi.js';
import type { PaymentsWorld } from '../../helpers/payments-world.js';
import { changesBetween, stateDigest } from '../../helpers/state-digest.js';
import type { Ask, Row } from './row.js';
import { ROWS } from './rows.js';
import { badBodies, badTexts, edgeBodies, edgeTexts, objectsOf } from './spoil.js';

t.setTimeout(600_000);

/** Bodies of which not every field is known beforehand: other services may add some; rows are judged one by one. */
const OPEN_BODIES = [
  'POST /api/admin/packages/bulk_create',
  'POST /api/webhook/cryptomus',
  'POST /api/webhook/telegram',
];
/** Room for one full list of the policy. */
const POLICY_LIST_BYTES = 300 * 10_000;
/** Bodies that may be larger than others, bytes. */
const LARGER: Record<string, number> = {
  'POST /api/admin/packages/bulk_create': 4 * 1024 * 1024,
  'PUT /api/admin/policy/destinations': 2 * POLICY_LIST_BYTES,
  'PUT /api/admin/policy/ports': 3 * POLICY_LIST_BYTES,
  'PUT /api/admin/policy/origins': 3 * POLICY_LIST_BYTES,
};
/** Calls that answer something else than 2xx to a good request in this world. */
const ELSE: Record<string, number> = {
  'POST /api/admin/create_superadmin': 409,
  'POST /api/admin/payments/{id}/refund': 404, // nothing was paid in Stars: topups/stars.test.ts
};

/** Writes of admins that change nothing anybody would ask about: a ticket to listen once. */
const NOT_AUDITED: readonly string[] = ['POST /api/live/ticket'];

/** Calls that a ticket opens as well: live-feed.test.ts. */
const TICKET_CALLS: readonly string[] = ['GET /api/live'];

const SCHEME: Record<Caller, string | null> = {
  none: null,
  user: 'user_token',
  init: 'telegram_init_data',
  device: 'device_key',
  buyer: 'buyer_token',
  admin: 'admin_token',
  bot: 'bot_secret',
  internal: 'internal_secret',
};

interface Said {
  status: number;
  type: string | null;
  body: Schema;
  /** The answer to an earlier request with the same Idempotency-Key. */
  replayed: boolean;
}

t.test('every call of API.md', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'traffic-share-walk-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const world = await startBotWorld(t, {
    ...UNHURRIED_ENV,
    TS_BACKUP_DIR: folder,
    TS_PG_DUMP: process.execPath, // answers to --version; no dump is made
  });
  const operations = new Map(
    operationsOf((await world.call('GET', '/openapi.json')).body).map((o) => [o.call, o]),
  );

  t.test('the rows are those of OpenAPI', async (t) => {
    const known = ROWS.map((row) => row.call);
    t.same([...new Set(known)], known, 'each once');
    t.same(
      [...operations.keys()].filter((call) => !known.includes(call)),
      [],
      'add these to rows.ts',
    );
    t.same(
      known.filter((call) => !operations.has(call)),
      [],
      'these are not in OpenAPI',
    );
    t.same(
      [...operations.values()]
        .filter(
          ({ body }) =>
            (body !== null &&
              !objectsOf(body).every((o) => o.additionalProperties === false && o.properties)) ||
            (body !== null && objectsOf(body).length === 0),
        )
        .map(({ call }) => call)
        .sort(),
      OPEN_BODIES,
      'bodies take no field that is not known',
    );
  });

  for (const row of ROWS) {
    const operation = operations.get(row.call);
    if (operation === undefined) continue;
    await t.test(row.call, async (t) => t.same(await new Walk(world, row, operation).problems(), []));
  }
});

/** One call, made in every way there is. */
class Walk {
  readonly #problems: string[] = [];
  constructor(
    readonly world: PaymentsWorld,
    readonly row: Row,
    readonly operation: Operation,
  ) {}

  async problems(): Promise<string[]> {
    this.#checkSchemes();
    const cast = new Cast(this.world);
    await this.#refusals(cast);
    await this.#edges(cast);
    for (const caller of this.row.callers) await this.#good(caller);
    // The next row finds the settings as they were.
    await this.world.pool.query('DELETE FROM settings');
    await this.world.services.settings.read();
    return this.#problems;
  }

  #checkSchemes(): void {
    const { call, callers } = this.row;
    const wanted = callers.includes('none')
      ? null
      : [
          ...callers.map((caller) => SCHEME[caller]),
          ...(TICKET_CALLS.includes(call) ? ['stream_ticket'] : []),
        ].sort();
    const given = this.operation.schemes === null ? null : [...this.operation.schemes].sort();
    if (JSON.stringify(wanted) !== JSON.stringify(given))
      this.#problems.push(`OpenAPI says ${given}, not ${wanted}`);
  }

  /** A good call by everyone who may: a documented success. */
  async #good(caller: Caller): Promise<void> {
    const cast = new Cast(this.world);
    const asked = await this.row.ask(cast, caller);
    const key: Record<string, string> = this.operation.idempotent ? { 'idempotency-key': randomUUID() } : {};
    const ask = { ...asked, headers: { ...key, ...asked.headers } };
    const auditedBefore = await this.#countAudited();
    const said = await this.#send(cast, caller, ask, `good, by ${caller}`);
    const wanted = ELSE[this.row.call];
    if (wanted === undefined ? said.status >= 300 : said.status !== wanted)
      this.#problems.push(`good, by ${caller}: ${said.status} ${JSON.stringify(said.body)}`);
    const isWrite = this.operation.method !== 'GET' && said.status < 300;
    if (caller === 'admin' && isWrite && !NOT_AUDITED.includes(this.row.call))
      if ((await this.#countAudited()) === auditedBefore) this.#problems.push('an admin wrote, unaudited');
    if (!this.operation.idempotent || said.status === 429) return;
    const again = await this.#send(cast, caller, ask, `again with its key, by ${caller}`);
    if (again.status !== said.status || !again.replayed)
      this.#problems.push(`again with its key, by ${caller}: ${again.status}, not a replay`);
  }

  async #countAudited(): Promise<number> {
    const { rows } = await this.world.pool.query<{ n: number }>('SELECT count(*)::int AS n FROM audit_log');
    return rows[0]?.n ?? 0;
  }

  /** Whatever must be refused is, as it is documented, and has changed nothing. */
  async #refusals(cast: Cast): Promise<void> {
    const { row, operation, world } = this;
    const namesUser =
      operation.parameters.some(({ name }) => name === 'user_id') && row.callers.includes('user');
    const other = row.owner !== null || namesUser ? new Cast(world) : null;
    const first = row.callers.find((caller) => caller !== 'none') ?? 'none';
    const ask = await row.ask(cast, first);
    const wrongAsks = await Promise.all(row.wrong.map((make) => make(cast, first)));
    for (const c of [cast, other]) {
      if (c === null) continue;
      for (const caller of CALLERS) await c.credentials(caller);
      // Marks the buyer's token as used, which later calls within the minute do not do again.
      await world.call('GET', '/api/buyer/me', { token: (await c.buyer()).token });
    }

    const before = await stateDigest(world);
    const refused = async (
      who: Cast,
      caller: Caller,
      sent: Ask,
      what: string,
      statuses: readonly number[],
    ) => {
      const said = await this.#send(who, caller, sent, what);
      if (!statuses.includes(said.status))
        this.#problems.push(
          `${what}: ${said.status} ${JSON.stringify(said.body)}, not ${statuses.join(' or ')}`,
        );
    };

    if (!row.callers.includes('none')) {
      await refused(cast, 'none', ask, 'nobody', [401]);
      const bearer = { authorization: 'Bearer x.y.z' };
      await refused(cast, 'none', { ...ask, headers: { ...ask.headers, ...bearer } }, 'a bad token', [401]);
      for (const caller of CALLERS)
        if (caller !== 'none' && !row.callers.includes(caller))
          await refused(cast, caller, ask, `a ${caller}`, [403]);
    }
    for (const [i, sent] of wrongAsks.entries()) await refused(cast, first, sent, `wrong secret ${i}`, [401]);
    if (other !== null && row.owner !== null)
      for (const caller of row.callers)
        if (['user', 'init', 'device', 'buyer'].includes(caller))
          await refused(other, caller, ask, `another ${row.owner} by ${caller}`, [403, 404]);
    if (other !== null && namesUser)
      await refused(
        other,
        'user',
        { ...ask, query: { ...ask.query, user_id: await cast.userId() } },
        'another user_id',
        [403],
      );

    await this.#spoiltParameters(cast, first, ask, refused);
    await this.#spoiltBodies(cast, first, ask, refused);

    const changed = changesBetween(before, await stateDigest(world)).filter(
      (name) => !row.writes.includes(name),
    );
    if (changed.length > 0) this.#problems.push(`refused calls changed ${changed.join(', ')}`);
  }

  async #spoiltParameters(cast: Cast, caller: Caller, ask: Ask, refused: Refused): Promise<void> {
    for (const { name, in: where, schema, required } of this.operation.parameters) {
      if (where === 'header') continue;
      for (const text of badTexts(schema)) {
        if (where === 'path' && (text.includes('\0') || /^\.{1,2}$/.test(text))) continue;
        const part = where === 'path' ? 'path' : 'query';
        const sent = { ...ask, [part]: { ...ask[part], [name]: text } };
        await refused(cast, caller, sent, `${name}=${text.slice(0, 40)}`, [400]);
      }
      if (where === 'path' && schema.format === 'uuid')
        await refused(
          cast,
          caller,
          { ...ask, path: { ...ask.path, [name]: randomUUID() } },
          `no such ${name}`,
          [403, 404],
        );
      if (where === 'query' && required && schema.default === undefined && ask.query?.[name] !== undefined) {
        const { [name]: _, ...query } = ask.query;
        await refused(cast, caller, { ...ask, query }, `without ${name}`, [400]);
      }
    }
    if (this.operation.parameters.some((p) => p.in === 'query'))
      await refused(
        cast,
        caller,
        { ...ask, query: { ...ask.query, surprise: 1 } },
        'an unknown parameter',
        [400],
      );
    if (this.operation.parameters.some((p) => p.name === 'cursor'))
      for (const parts of [[], [''], ['2026-02-31T00:00:00Z', randomUUID()], ['0', '1', '2', '3', '4']])
        await refused(
          cast,
          caller,
          {
            ...ask,
            query: { ...ask.query, cursor: Buffer.from(JSON.stringify(parts)).toString('base64url') },
          },
          `cursor ${JSON.stringify(parts)}`,
          [400],
        );
  }

  async #spoiltBodies(cast: Cast, caller: Caller, ask: Ask, refused: Refused): Promise<void> {
    const { operation, row } = this;
    if (operation.method === 'GET') return;
    const limit = LARGER[row.call] ?? this.world.config.bodyBytesMax;
    const json = { ...ask.headers, 'content-type': 'application/json' };
    await refused(cast, caller, { ...ask, body: '{"a":', headers: json }, 'cut JSON', [400]);
    const xml = { ...ask.headers, 'content-type': 'application/xml' };
    await refused(cast, caller, { ...ask, body: '<a/>', headers: xml }, 'XML', [415]);
    const large = `{"a":"${'x'.repeat(limit)}"}`;
    await refused(cast, caller, { ...ask, body: large, headers: json }, 'a large body', [413]);
    if (operation.body === null)
      await refused(
        cast,
        caller,
        { ...ask, body: { surprise_field: 1 } },
        'a body where there is none',
        [400],
      );
    else if (!OPEN_BODIES.includes(row.call)) {
      for (const [what, body] of badBodies(operation.body, ask.body))
        await refused(cast, caller, { ...ask, body }, `body: ${what}`, [400]);
      if (operation.bodyRequired) await refused(cast, caller, { ...ask, body: undefined }, 'no body', [400]);
    }
  }

  /** What is just allowed by the schema gets a documented answer, whatever the rules say to it. */
  async #edges(cast: Cast): Promise<void> {
    const caller = this.row.callers.at(-1) ?? 'none';
    const ask = await this.row.ask(cast, caller);
    for (const { name, in: where, schema } of this.operation.parameters)
      if (where === 'query')
        for (const text of edgeTexts(schema))
          await this.#send(
            cast,
            caller,
            { ...ask, query: { ...ask.query, [name]: text } },
            `edge ${name}=${text}`,
          );
    if (this.operation.body === null) return;
    for (const [what, body] of edgeBodies(this.operation.body, ask.body))
      await this.#send(cast, caller, { ...ask, body }, `edge ${what}`);
  }

  async #send(cast: Cast, caller: Caller, ask: Ask, what: string): Promise<Said> {
    const { method, path } = this.operation;
    const filled = path.replace(/\{(\w+)\}/g, (_, name) =>
      encodeURIComponent(String(ask.path?.[name] ?? '')),
    );
    const query = new URLSearchParams(
      Object.entries(ask.query ?? {}).map(([name, value]): [string, string] => [name, String(value)]),
    );
    const answer = await this.world.call(method, query.size > 0 ? `${filled}?${query}` : filled, {
      body: ask.body,
      headers: {
        connection: 'keep-alive',
        'x-forwarded-for': newAddress(), // limits of single calls count by address
        ...(await cast.credentials(caller)),
        ...ask.headers,
      },
    });
    const said = {
      status: answer.status,
      type: answer.headers.get('content-type'),
      body: answer.body,
      replayed: answer.headers.get('idempotency-replayed') === 'true',
    };
    const problem = answerProblem(this.operation, said);
    if (problem !== null) this.#problems.push(`${what}, by ${caller}: ${problem}`);
    return said;
  }
}

type Refused = (
  who: Cast,
  caller: Caller,
  sent: Ask,
  what: string,
  statuses: readonly number[],
) => Promise<void>;
