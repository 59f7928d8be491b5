import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import { auditContext, recordAudit } from '../audit/audit.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { actorOf } from '../http/roles.js';
import { Money, problemResponses } from '../http/schemas.js';
import { MONEY_PATTERN, PRICE_MICROS_PER_GB_MAX } from '../ledger/money.js';
import { PAYOUT_NETWORKS } from '../payouts/addresses.js';
import { type SettingsStore, settingsFromJson, settingsJson } from './settings.js';

export interface SettingsDeps {
  pool: pg.Pool;
  store: SettingsStore;
  /** Called after a change is committed: tells gateways and rewrites what depends on it. */
  onChange: (changed: { termsVersion: boolean; buyerPrice: boolean }) => Promise<void>;
}

const Version = Type.String({ pattern: '^\\d{1,5}\\.\\d{1,5}\\.\\d{1,5}$' });
const Amount = Type.String({ pattern: '^(0|[1-9][0-9]{0,6})(\\.[0-9]{1,6})?$' });
const fields = {
  terms_version: Type.String({ minLength: 1, maxLength: 40 }),
  min_client_version: Version,
  app_latest: Version,
  offer_bytes: Type.Integer({ minimum: 1_000_000, maximum: 1_000_000_000_000_000 }),
  buyer_price_per_gb: Type.String({ pattern: MONEY_PATTERN }),
  hold_time_s: Type.Integer({ minimum: 0, maximum: 90 * 86_400 }),
  referral_percent: Type.Integer({ minimum: 0, maximum: 50 }),
  withdraw_min: Amount,
  withdraw_daily_max: Amount,
  withdraw_networks: Type.Array(Type.Enum([...PAYOUT_NETWORKS]), {
    maxItems: PAYOUT_NETWORKS.length,
    uniqueItems: true,
  }),
  payout_auto_approve_max: Amount,
  payout_two_admin_min: Amount,
  topup_min: Amount,
  topup_max: Amount,
  trial_bytes: Type.Integer({ minimum: 0, maximum: 1_000_000_000_000 }),
  sub_users_max: Type.Integer({ minimum: 0, maximum: 100_000 }),
  reconciliation_percent: Type.Integer({ minimum: 0, maximum: 100 }),
  reconciliation_bytes_min: Type.Integer({ minimum: 0, maximum: 1_000_000_000_000 }),
  destination_retention_days: Type.Integer({ minimum: 1, maximum: 3_650 }),
};
const SettingsSchema = Type.Object({
  ...fields,
  buyer_price_per_gb: Money,
  withdraw_min: Money,
  withdraw_daily_max: Money,
  payout_auto_approve_max: Money,
  payout_two_admin_min: Money,
  topup_min: Money,
  topup_max: Money,
});

/** Business settings: `/api/admin/settings`. */
export const settingsPlugin: FastifyPluginAsyncTypebox<SettingsDeps> = async (
  app,
  { pool, store, onChange },
) => {
  const answer = async () => settingsJson(await store.read()) as never;

  app.get(
    '/api/admin/settings',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Business settings',
        description: 'The settings in force: what an admin set, else the configuration.',
        response: { 200: SettingsSchema, ...problemResponses(401, 403) },
      },
    },
    answer,
  );

  app.patch(
    '/api/admin/settings',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Change business settings',
        description: 'In force at once, without a restart. A new terms version asks every provider again.',
        body: Type.Object(
          Object.fromEntries(
            Object.entries(fields).map(([name, schema]) => [name, Type.Optional(schema)]),
          ) as { [K in keyof typeof fields]: ReturnType<typeof Type.Optional<(typeof fields)[K]>> },
          { additionalProperties: false, minProperties: 1 },
        ),
        response: { 200: SettingsSchema, ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const { userId } = actorOf(request, 'admin');
      const changes = settingsFromJson(request.body);
      const price = changes.buyerPriceMicrosPerGb;
      if (price !== undefined && (price < 0n || price > PRICE_MICROS_PER_GB_MAX))
        throw new Problem('validation_failed', undefined, {
          errors: [{ path: '/body/buyer_price_per_gb', message: 'must be from 0 to 1000' }],
        });
      await withTransaction(pool, async (client) => {
        const before = await store.read(client);
        const after = { ...before, ...changes };
        if (after.topupMicrosMin > after.topupMicrosMax)
          throw new Problem('validation_failed', undefined, {
            errors: [{ path: '/body/topup_min', message: 'must not be above topup_max' }],
          });
        await store.write(client, changes, userId);
        await recordAudit(client, {
          ...auditContext(request),
          action: 'settings_changed',
          objectType: 'settings',
          objectId: null,
          before: settingsJson(before),
          after: settingsJson(changes),
        });
      });
      const settings = await answer();
      await onChange({ termsVersion: changes.termsVersion !== undefined, buyerPrice: price !== undefined });
      return settings;
    },
  );
};
