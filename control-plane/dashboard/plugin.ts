import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { type Static, Type } from 'typebox';
import type { LiveRedis } from '../../gateway/live/connection.js';
import type { Clock } from '../../gateway/runtime/clock.js';
import { readProviderBalance } from '../balance/balance.js';
import { BalanceSchema, balanceJson } from '../balance/schemas.js';
import { DeviceSchema, readDevices } from '../devices/device-list.js';
import { Problem } from '../errors.js';
import { actorOf, subjectUserId } from '../http/roles.js';
import { Money, Nullable, problemResponses, TelegramId, Uuid } from '../http/schemas.js';
import { countUnread } from '../inbox/inbox.js';
import { formatMicros } from '../ledger/money.js';
import { listNews } from '../news/news.js';
import { NewsItemSchema, newsItemJson } from '../news/plugin.js';
import { providerPrice } from '../pricing/prices.js';
import type { SettingsStore } from '../settings/settings.js';
import { listSessions, SessionSchema } from '../traffic/session-view.js';
import { FiguresSchema, summary } from '../traffic/statistics.js';
import { findConsent } from '../users/consent.js';
import { findUser, findUserByTelegramId, type UserRow } from '../users/users.js';

export interface DashboardDeps {
  pool: pg.Pool;
  redis: LiveRedis;
  clock: Clock;
  settings: Pick<SettingsStore, 'read'>;
  /** Provider price while none was ever set, micro-dollars per GB. */
  defaultProviderPrice: bigint;
}

/** Announcements told; more at /api/news. */
const NEWS = 5;
/** Sessions told as live: one a device. */
const LIVE_SESSIONS = 50;

const DashboardSchema = Type.Object({
  user_id: Uuid,
  status: Type.Enum(['active', 'banned']),
  balance: BalanceSchema,
  traffic: Type.Object(
    { today: FiguresSchema, week: FiguresSchema, month: FiguresSchema },
    { description: 'UTC; booked by settlement, which is seconds behind' },
  ),
  earning: Type.Boolean({ description: 'whether any device earns now; `devices[].state` says why not' }),
  live_session: Nullable(SessionSchema),
  live_sessions: Type.Array(SessionSchema, { description: 'one for each device that shares' }),
  price: Type.Object({ price_per_gb: Money, currency: Type.Literal('USD') }),
  devices: Type.Array(DeviceSchema),
  consent: Type.Object({
    accepted: Type.Boolean({ description: 'the terms in force' }),
    terms_version: Type.String({ description: 'in force' }),
  }),
  app: Type.Object({ latest: Type.String(), min_client_version: Type.String() }),
  news: Type.Array(NewsItemSchema),
  unread: Type.Integer({ description: 'in the inbox' }),
});

/** Everything the home screen needs in one call. */
export const dashboardPlugin: FastifyPluginAsyncTypebox<DashboardDeps> = async (app, deps) => {
  app.get(
    '/api/dashboard',
    {
      config: { roles: ['user', 'admin'] },
      schema: {
        tags: ['User'],
        summary: 'The home screen',
        description:
          'Balance, figures, live sessions, price, devices with their states, news and unread in one call. Mine; for ' +
          'an admin that of `user_id`.',
        querystring: Type.Object({ user_id: Type.Optional(Uuid) }, { additionalProperties: false }),
        response: { 200: DashboardSchema, ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => {
      const user = await findUser(deps.pool, subjectUserId(request, request.query.user_id));
      if (user === null) throw new Problem('not_found');
      return dashboard(deps, user);
    },
  );

  app.get(
    '/api/dashboard/:telegram_id',
    {
      config: { roles: ['user', 'admin'] },
      schema: {
        tags: ['User'],
        summary: 'The home screen by Telegram id',
        description: 'The own one; admins any.',
        params: Type.Object({ telegram_id: TelegramId }, { additionalProperties: false }),
        response: { 200: DashboardSchema, ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => {
      const actor = actorOf(request, 'user', 'admin');
      const user = await findUserByTelegramId(deps.pool, request.params.telegram_id);
      if (actor.role === 'user' && user?.id !== actor.userId) throw new Problem('forbidden');
      if (user === null) throw new Problem('not_found');
      return dashboard(deps, user);
    },
  );
};

async function dashboard(deps: DashboardDeps, user: UserRow): Promise<Static<typeof DashboardSchema>> {
  const { pool, clock } = deps;
  if (user.status === 'deleted') throw new Problem('not_found');
  const nowMs = clock.nowMs();
  const settings = await deps.settings.read();
  const [balance, figures, live, price, devices, consent, news, unread] = await Promise.all([
    readProviderBalance(pool, user.id),
    summary(pool, user.id, nowMs),
    listSessions(pool, { userId: user.id, status: 'active' }, { limit: LIVE_SESSIONS }),
    providerPrice(pool, nowMs, deps.defaultProviderPrice),
    readDevices(deps, user, settings),
    findConsent(pool, user.id),
    listNews(pool, true, { limit: NEWS }),
    countUnread(pool, user.id),
  ]);
  return {
    user_id: user.id,
    status: user.status,
    balance: balanceJson(balance),
    traffic: { today: figures.day, week: figures.week, month: figures.month },
    earning: devices.some((device) => device.state.earns),
    live_session: live.items[0] ?? null,
    live_sessions: live.items,
    price: { price_per_gb: formatMicros(price.microsPerGb), currency: 'USD' },
    devices,
    consent: {
      accepted: consent?.terms_version === settings.termsVersion,
      terms_version: settings.termsVersion,
    },
    app: { latest: settings.appLatest, min_client_version: settings.minClientVersion },
    news: news.rows.map((row) => newsItemJson(row, user.language)),
    unread,
  };
}
