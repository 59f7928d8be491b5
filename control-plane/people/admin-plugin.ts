import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyRequest } from 'fastify';
import type pg from 'pg';
import { type Static, Type } from 'typebox';
import type { LiveRedis } from '../../gateway/live/connection.js';
import { auditContext, recordAudit } from '../audit/audit.js';
import { sendPersonalCsv } from '../audit/personal-csv.js';
import { readProviderBalance } from '../balance/balance.js';
import { balanceJson } from '../balance/schemas.js';
import { type Queryable, withTransaction } from '../db/pool.js';
import { readDevices } from '../devices/device-list.js';
import { Problem } from '../errors.js';
import { columnsOf, csvResponse } from '../http/csv-export.js';
import { sortParameter } from '../http/list-order.js';
import { Ok, optionalBody, pageOf, pageQuery, problemResponses } from '../http/schemas.js';
import { formatMicros } from '../ledger/money.js';
import { listPayouts } from '../payouts/payouts.js';
import type { SettingsStore } from '../settings/settings.js';
import { listSessions } from '../traffic/session-view.js';
import { announceStops, type StopChannel } from '../traffic/stop.js';
import { findConsent } from '../users/consent.js';
import type { ProviderSettings } from '../users/provider-settings.js';
import { findOrCreateUser, findReferrer } from '../users/users.js';
import { anonymiseUser, banUser, type EndingResult, unbanUser } from './endings.js';
import { changePerson, listPeople, PEOPLE_SORTS, type Person, readPerson } from './people.js';
import { NewUserBody, UserDetailSchema, UserParams, UserPatch, UserSchema, UserStatus } from './schemas.js';
import { readTelegrams, type TelegramAccount } from './telegrams.js';

export interface PeopleAdminDeps {
  pool: pg.Pool;
  redis: LiveRedis;
  live: StopChannel;
  settings: Pick<SettingsStore, 'read'>;
}

/** Sessions and payments told with one user. */
const LATEST = 20;

/** What the list and its export can be narrowed to and sorted by. */
const userFilters = {
  query: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 100,
      description:
        'a Telegram id, a user id or a referral code, or the beginning of a username, an email or a phone number',
    }),
  ),
  status: Type.Optional(UserStatus),
  country: Type.Optional(Type.String({ pattern: '^[A-Z]{2}$', description: 'a device was seen last there' })),
  sort: sortParameter(PEOPLE_SORTS, '-created_at'),
};

const Reason = Type.String({ minLength: 1, maxLength: 500 });

/** Users, for admins: `/api/admin/users`, ban and unban. */
export const peopleAdminPlugin: FastifyPluginAsyncTypebox<PeopleAdminDeps> = async (app, deps) => {
  const { pool } = deps;

  app.get(
    '/api/admin/users',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Users',
        description: 'Deleted ones included.',
        querystring: Type.Object({ ...userFilters, ...pageQuery }, { additionalProperties: false }),
        response: { 200: pageOf(UserSchema), ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const page = await listPeople(pool, request.query, request.query);
      return { items: page.rows.map(userJson), next_cursor: page.nextCursor };
    },
  );

  app.get(
    '/api/admin/export/users',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Users as CSV',
        description: 'All that the list would page through. Who took it is in the audit log.',
        querystring: Type.Object(userFilters, { additionalProperties: false }),
        response: csvResponse,
      },
    },
    ({ query }, reply) =>
      sendPersonalCsv(pool, reply, 'users', columnsOf(UserSchema), async (page) => {
        const { rows, nextCursor } = await listPeople(pool, query, { ...page, sort: query.sort });
        return { items: rows.map(userJson), next_cursor: nextCursor };
      }),
  );

  app.post(
    '/api/admin/users',
    {
      config: { roles: ['admin'], idempotency: {} },
      schema: {
        tags: ['Admin'],
        summary: 'Create a user',
        description: 'They sign in with this Telegram account. 409 when it belongs to somebody.',
        body: NewUserBody,
        response: { 201: UserSchema, ...problemResponses(401, 403, 409, 422) },
      },
    },
    async (request, reply) => {
      const { body } = request;
      const id = await withTransaction(pool, async (client) => {
        const referredBy =
          body.referral_code === undefined ? null : await findReferrer(client, body.referral_code);
        if (body.referral_code !== undefined && referredBy === null)
          throw new Problem('unknown_referral_code');
        const { user, created } = await findOrCreateUser(client, {
          telegramId: body.telegram_id,
          username: body.username ?? null,
          phone: body.phone ?? null,
          language: body.language ?? null,
          isVerified: body.is_verified ?? false,
          referredBy,
        });
        if (!created) throw new Problem('telegram_taken');
        if (body.email !== undefined) await changePerson(client, user.id, { email: body.email });
        await recordAudit(client, {
          ...auditContext(request),
          action: 'user_created',
          objectType: 'user',
          objectId: user.id,
          after: body,
        });
        return user.id;
      });
      return reply.code(201).send(userJson(await existing(pool, id)));
    },
  );

  app.get(
    '/api/admin/users/:id',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'One user',
        description:
          'With balance, Telegram accounts, devices and their states, latest sessions and payments.',
        params: UserParams,
        response: { 200: UserDetailSchema, ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => detail(deps, request.params.id),
  );

  app.patch(
    '/api/admin/users/:id',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Change a user',
        description:
          'Only what is given changes; of `settings`, only the fields given. null clears. `is_admin` opens the ' +
          'console to their main Telegram account; the last admin can not be made none. Status: ban, unban, delete.',
        params: UserParams,
        body: UserPatch,
        response: { 200: UserDetailSchema, ...problemResponses(401, 403, 404, 409) },
      },
    },
    async (request) => {
      const { id } = request.params;
      await withTransaction(pool, async (client) => {
        const changed = await changePerson(client, id, request.body);
        if (!changed.ok) throw new Problem(changed.code);
        await recordAudit(client, {
          ...auditContext(request),
          action: 'user_changed',
          objectType: 'user',
          objectId: id,
          before: changed.before,
          after: request.body,
        });
      });
      return detail(deps, id);
    },
  );

  /** Does it in one transaction with its audit line, then tells the gateways. */
  async function end(
    request: FastifyRequest,
    userId: string,
    action: string,
    how: { stop: 'banned' | 'stopped'; after?: object },
    act: (client: Queryable) => Promise<EndingResult>,
  ): Promise<void> {
    const sessionIds = await withTransaction(pool, async (client) => {
      const result = await act(client);
      if (!result.ok) throw new Problem(result.code);
      if (result.changed)
        await recordAudit(client, {
          ...auditContext(request),
          action,
          objectType: 'user',
          objectId: userId,
          after: { ...how.after, sessions_stopped: result.sessionIds },
        });
      return result.sessionIds;
    });
    await announceStops(deps.live, sessionIds, how.stop);
  }

  app.delete(
    '/api/admin/users/:id',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Delete a user',
        description:
          'Makes them nobody: name, Telegram accounts, phone, email, settings, logins, device keys, inbox and ' +
          'support threads are gone, tunnels are stopped. Money records, sessions and the audit log stay. 409 while ' +
          'a payout is under way, and for admins. Repeating it is harmless.',
        params: UserParams,
        response: { 200: Ok, ...problemResponses(401, 403, 404, 409) },
      },
    },
    async (request) => {
      const { id } = request.params;
      await end(request, id, 'user_deleted', { stop: 'stopped' }, (client) => anonymiseUser(client, id));
      return { ok: true as const };
    },
  );

  app.post(
    '/api/admin/user/:id/ban',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Ban a user',
        description:
          'Stops their tunnels on every gateway within a second; none can be started. They may still sign in, see ' +
          'their money and write to support. Admins can not be banned.',
        params: UserParams,
        body: optionalBody(Type.Object({ reason: Type.Optional(Reason) }, { additionalProperties: false })),
        response: { 200: Ok, ...problemResponses(401, 403, 404, 409) },
      },
    },
    async (request) => {
      const { id } = request.params;
      const reason = request.body?.reason ?? null;
      await end(request, id, 'user_banned', { stop: 'banned', after: { reason } }, (client) =>
        banUser(client, id, reason),
      );
      return { ok: true as const };
    },
  );

  app.post(
    '/api/admin/user/:id/unban',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Lift a ban',
        description: 'They may share again; devices start anew. Repeating it is harmless.',
        params: UserParams,
        response: { 200: Ok, ...problemResponses(401, 403, 404, 409) },
      },
    },
    async (request) => {
      const { id } = request.params;
      await end(request, id, 'user_unbanned', { stop: 'stopped' }, (client) => unbanUser(client, id));
      return { ok: true as const };
    },
  );
};

async function existing(db: Queryable, userId: string): Promise<Person> {
  const person = await readPerson(db, userId);
  if (person === null) throw new Problem('not_found');
  return person;
}

function userJson(p: Person): Static<typeof UserSchema> {
  return {
    id: p.id,
    telegram_id: p.telegram_id === null ? null : Number(p.telegram_id),
    username: p.username,
    phone: p.phone,
    email: p.email,
    language: p.language,
    status: p.status,
    is_verified: p.is_verified,
    is_admin: p.is_admin,
    ban_reason: p.ban_reason,
    banned_at: p.banned_at?.toISOString() ?? null,
    deleted_at: p.deleted_at?.toISOString() ?? null,
    country: p.country,
    devices: p.devices,
    available: formatMicros(p.available_micros),
    pending: formatMicros(p.pending_micros),
    referral_code: p.referral_code,
    created_at: p.created_at.toISOString(),
  };
}

/** A Telegram account as the API tells it. */
export const telegramJson = (account: TelegramAccount) => ({
  index: account.index,
  telegram_id: account.telegramId,
  username: account.username,
  main: account.main,
  linked_at: account.linkedAt.toISOString(),
});

async function detail(deps: PeopleAdminDeps, userId: string): Promise<Static<typeof UserDetailSchema>> {
  const { pool } = deps;
  const person = await existing(pool, userId);
  const settings = await deps.settings.read();
  const [consent, balance, telegrams, devices, sessions, payouts] = await Promise.all([
    findConsent(pool, userId),
    readProviderBalance(pool, userId),
    readTelegrams(pool, userId),
    readDevices(deps, person, settings),
    listSessions(pool, { userId }, { limit: LATEST }),
    listPayouts(pool, { userId }, { limit: LATEST }),
  ]);
  return {
    ...userJson(person),
    settings: person.settings as ProviderSettings,
    consent:
      consent === null
        ? null
        : { terms_version: consent.terms_version, accepted_at: consent.accepted_at.toISOString() },
    balance: balanceJson(balance),
    referred_by: person.referred_by,
    telegrams: telegrams.map(telegramJson),
    device_list: devices,
    sessions: sessions.items,
    payments: payouts.rows.map((p) => ({
      payment_id: p.id,
      status: p.status,
      amount: formatMicros(p.amountMicros),
      network: p.network,
      target: p.target,
      tx_reference: p.txReference,
      created_at: p.createdAt.toISOString(),
      ended_at: p.endedAt?.toISOString() ?? null,
    })),
  };
}
