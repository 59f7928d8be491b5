import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import { auditContext, recordAudit } from '../audit/audit.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { actorOf } from '../http/roles.js';
import { Money, problemResponses, Timestamp, Uuid } from '../http/schemas.js';
import { MONEY_PATTERN, PRICE_MICROS_PER_GB_MAX } from '../ledger/money.js';
import { PAYOUT_NETWORKS } from '../payouts/addresses.js';
import { type BusinessSettings, type SettingsStore, settingsFromJson, settingsJson } from './settings.js';
import { lockSettings, readProposals, sortChanges } from './two-admins.js';

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
  stale_packages_become: Type.Enum(['available', 'revoked'], {
    description: 'packages that were pulled and not used in time',
  }),
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
  star_price: Type.String({ pattern: '^[01](\\.[0-9]{1,6})?$', description: 'US dollars; 0: no Stars' }),
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
  star_price: Money,
  proposals: Type.Array(
    Type.Object({ setting: Type.String(), value: Type.Unknown(), proposed_by: Uuid, proposed_at: Timestamp }),
    { description: 'values that wait for a second admin' },
  ),
});

/** What of the settings does not fit, beyond what the schema says of each. */
function misfits(settings: BusinessSettings): { path: string; message: string }[] {
  const { buyerPriceMicrosPerGb: price, topupMicrosMin, topupMicrosMax } = settings;
  const rules: [fits: boolean, setting: string, message: string][] = [
    [price >= 0n && price <= PRICE_MICROS_PER_GB_MAX, 'buyer_price_per_gb', 'must be from 0 to 1000'],
    [topupMicrosMin <= topupMicrosMax, 'topup_min', 'must not be above topup_max'],
  ];
  return rules.flatMap(([fits, setting, message]) => (fits ? [] : [{ path: `/body/${setting}`, message }]));
}

/** Business settings: `/api/admin/settings`. */
export const settingsPlugin: FastifyPluginAsyncTypebox<SettingsDeps> = async (
  app,
  { pool, store, onChange },
) => {
  const answer = async () => {
    const proposals = (await readProposals(pool)).map(({ setting, value, proposedBy, proposedAt }) => ({
      setting,
      value,
      proposed_by: proposedBy,
      proposed_at: proposedAt.toISOString(),
    }));
    return { ...settingsJson(await store.read()), proposals } as never;
  };

  app.get(
    '/api/admin/settings',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Business settings',
        description:
          'The settings in force: what an admin set, else the configuration; `proposals` are not in force.',
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
        description:
          'In force at once, without a restart. A new terms version asks every provider again. Raising ' +
          '`payout_two_admin_min` or `payout_auto_approve_max` takes two admins: the first one’s value becomes one of the ' +
          '`proposals` and the setting stays as it is, until another admin sends the same value. Sending the value in ' +
          'force, or a lower one, makes the proposal void.',
        body: Type.Object(
          Object.fromEntries(
            Object.entries(fields).map(([name, schema]) => [name, Type.Optional(schema)]),
          ) as { [K in keyof typeof fields]: ReturnType<typeof Type.Optional<(typeof fields)[K]>> },
          {
            additionalProperties: false,
            minProperties: 1,
            examples: [{ withdraw_min: '5.00', hold_time_s: 86_400 }],
          },
        ),
        response: { 200: SettingsSchema, ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const { userId } = actorOf(request, 'admin');
      const changes = settingsFromJson(request.body);
      await withTransaction(pool, async (client) => {
        await lockSettings(client);
        const before = await store.read(client);
        const errors = misfits({ ...before, ...changes });
        if (errors.length > 0) throw new Problem('validation_failed', undefined, { errors });
        const sorted = await sortChanges(client, before, changes, userId);
        await store.write(client, sorted.changes, userId);
        const audit = (action: string, told: { before?: object; after?: object }) =>
          recordAudit(client, {
            ...auditContext(request),
            action,
            objectType: 'settings',
            objectId: null,
            ...told,
          });
        const { agreed, proposed, withdrawn } = sorted;
        if (Object.keys(withdrawn).length > 0) await audit('settings_proposal_void', { before: withdrawn });
        if (Object.keys(proposed).length > 0)
          await audit('settings_proposed', { before: settingsJson(before), after: proposed });
        if (Object.keys(agreed).length > 0) await audit('settings_proposal_agreed', { before: agreed });
        if (Object.keys(sorted.changes).length > 0)
          await audit('settings_changed', {
            before: settingsJson(before),
            after: settingsJson(sorted.changes),
          });
      });
      const settings = await answer();
      await onChange({
        termsVersion: changes.termsVersion !== undefined,
        buyerPrice: changes.buyerPriceMicrosPerGb !== undefined,
      });
      return settings;
    },
  );
};
