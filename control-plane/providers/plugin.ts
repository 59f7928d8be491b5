import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import { auditContext, recordAudit } from '../audit/audit.js';
import { listLogins, revokeLogins } from '../auth/logins.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { clientAddress } from '../http/client-address.js';
import { actorOf } from '../http/roles.js';
import { Ok, pageOf, pageQuery, problemResponses, Uuid } from '../http/schemas.js';
import { formatMicros } from '../ledger/money.js';
import type { SettingsStore } from '../settings/settings.js';
import { announceStops, type StopChannel, stopSessions } from '../traffic/stop.js';
import { acceptTerms, findConsent, withdrawConsent } from '../users/consent.js';
import type { ProviderSettings } from '../users/provider-settings.js';
import { changeProfile, findUser } from '../users/users.js';
import { Consent, LoginSchema, ProfileSchema, UpdateBody } from './schemas.js';

/** What a provider has, from the ledger. */
export type BalanceOf = (userId: string) => Promise<{ availableMicros: bigint; pendingMicros: bigint }>;

export interface ProvidersDeps {
  pool: pg.Pool;
  settings: SettingsStore;
  balanceOf: BalanceOf;
  live: StopChannel;
}

/** The provider themself: profile, consent, logins. */
export const providersPlugin: FastifyPluginAsyncTypebox<ProvidersDeps> = async (app, deps) => {
  const { pool } = deps;

  async function profile(userId: string) {
    const [user, consent, balance, settings] = await Promise.all([
      findUser(pool, userId),
      findConsent(pool, userId),
      deps.balanceOf(userId),
      deps.settings.read(),
    ]);
    if (user === null || user.status === 'deleted') throw new Problem('invalid_token'); // deleted a moment ago
    return {
      id: user.id,
      telegram_id: user.telegram_id === null ? null : Number(user.telegram_id),
      username: user.username,
      phone: user.phone,
      email: user.email,
      language: user.language,
      balance: {
        available: formatMicros(balance.availableMicros),
        pending: formatMicros(balance.pendingMicros),
        currency: 'USD' as const,
      },
      is_verified: user.is_verified,
      status: user.status,
      referral_code: user.referral_code,
      settings: user.settings as ProviderSettings,
      consent:
        consent === null
          ? null
          : {
              terms_version: consent.terms_version,
              accepted_at: consent.accepted_at.toISOString(),
              current: consent.terms_version === settings.termsVersion,
            },
      terms_version: settings.termsVersion,
      created_at: user.created_at.toISOString(),
    };
  }

  for (const url of ['/api/user/me', '/api/profile'])
    app.get(
      url,
      {
        config: { roles: ['user'] },
        schema: {
          tags: ['User'],
          summary: 'My profile',
          description: 'Who I am, what I have, what I accepted and set.',
          response: { 200: ProfileSchema, ...problemResponses(401, 403) },
        },
      },
      async (request) => profile(actorOf(request, 'user').userId),
    );

  for (const [method, url] of [
    ['POST', '/api/user/update'],
    ['PATCH', '/api/profile'],
  ] as const)
    app.route({
      method,
      url,
      config: { roles: ['user'] },
      schema: {
        tags: ['User'],
        summary: 'Change my profile',
        description: 'Only what is given changes; of `settings`, only the fields given. null clears.',
        body: UpdateBody,
        response: { 200: ProfileSchema, ...problemResponses(401, 403) },
      },
      handler: async (request) => {
        const { userId } = actorOf(request, 'user');
        await changeProfile(pool, userId, request.body);
        return profile(userId);
      },
    });

  app.post(
    '/api/user/consent',
    {
      config: { roles: ['user'] },
      schema: {
        tags: ['User'],
        summary: 'Accept the terms',
        description:
          'They must be the terms in force (409 otherwise, with `terms_version`). Needed before sharing.',
        body: Type.Object(
          { terms_version: Type.String({ minLength: 1, maxLength: 40 }) },
          { additionalProperties: false },
        ),
        response: { 200: Consent, ...problemResponses(401, 403, 409) },
      },
    },
    async (request) => {
      const { userId } = actorOf(request, 'user');
      const consent = { userId, termsVersion: request.body.terms_version, ip: clientAddress(request) };
      const { termsVersion } = await deps.settings.read();
      const row = await withTransaction(pool, async (client) => {
        const accepted = await acceptTerms(client, consent, termsVersion);
        await recordAudit(client, {
          ...auditContext(request),
          action: 'consent_given',
          objectType: 'user',
          objectId: userId,
          after: { terms_version: termsVersion },
        });
        return accepted;
      });
      return { terms_version: row.terms_version, accepted_at: row.accepted_at.toISOString(), current: true };
    },
  );

  app.delete(
    '/api/user/consent',
    {
      config: { roles: ['user'] },
      schema: {
        tags: ['User'],
        summary: 'Withdraw my consent',
        description: 'Stops every tunnel of mine at once. Repeating it is harmless.',
        response: {
          200: Type.Object({ ok: Type.Literal(true), sessions_stopped: Type.Integer() }),
          ...problemResponses(401, 403),
        },
      },
    },
    async (request) => {
      const { userId } = actorOf(request, 'user');
      const stopped = await withTransaction(pool, async (client) => {
        const had = await withdrawConsent(client, userId);
        const ids = await stopSessions(client, { userId }, 'consent_withdrawn');
        if (had)
          await recordAudit(client, {
            ...auditContext(request),
            action: 'consent_withdrawn',
            objectType: 'user',
            objectId: userId,
            after: { sessions_stopped: ids },
          });
        return ids;
      });
      await announceStops(deps.live, stopped, 'consent_withdrawn');
      return { ok: true as const, sessions_stopped: stopped.length };
    },
  );

  app.get(
    '/api/user/logins',
    {
      config: { roles: ['user'] },
      schema: {
        tags: ['User'],
        summary: 'Where I am signed in',
        description: 'Logins that are not revoked, latest first.',
        querystring: Type.Object(pageQuery, { additionalProperties: false }),
        response: { 200: pageOf(LoginSchema), ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const { userId, loginId } = actorOf(request, 'user');
      const { rows, nextCursor } = await listLogins(pool, userId, request.query);
      return {
        items: rows.map((row) => ({
          id: row.id,
          ip: row.ip,
          user_agent: row.user_agent,
          created_at: row.created_at.toISOString(),
          last_used_at: row.last_used_at.toISOString(),
          current: row.id === loginId,
        })),
        next_cursor: nextCursor,
      };
    },
  );

  app.delete(
    '/api/user/logins/:id',
    {
      config: { roles: ['user'] },
      schema: {
        tags: ['User'],
        summary: 'Sign out somewhere',
        description: 'Revokes one login of mine; its tokens are dead at once.',
        params: Type.Object({ id: Uuid }),
        response: { 200: Ok, ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => {
      const { userId } = actorOf(request, 'user');
      const { id } = request.params;
      await withTransaction(pool, async (client) => {
        if ((await revokeLogins(client, userId, id)) === 0) throw new Problem('not_found');
        await recordAudit(client, {
          ...auditContext(request),
          action: 'login_revoked',
          objectType: 'login',
          objectId: id,
        });
      });
      return { ok: true as const };
    },
  );
};
