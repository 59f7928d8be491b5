import { Composer } from 'grammy';
import type { LiveRedis } from '../../../../gateway/live/connection.js';
import { readGatewayPresences } from '../../../../gateway/live/presence.js';
import { readAlerts } from '../../../alerts/alerts.js';
import { computeDay, readTotals } from '../../../figures/figures.js';
import { listPeople, type Person } from '../../../people/people.js';
import { readHost } from '../../../system/host.js';
import { dollars, gigabytes } from '../../../texts/words.js';
import type { UserRow } from '../../../users/users.js';
import type { BotContext, BotPart } from '../../context.js';
import { forAdmins } from '../who.js';

export interface OverviewDeps {
  redis: LiveRedis;
  /** The version that runs. */
  version: string;
  /** The person's list of commands may be another one now: somebody has become an admin. */
  onSeen: (ctx: BotContext, user: UserRow | null) => Promise<void>;
}

/** Users told at once. */
const USERS = 5;
/** Longest a search is. */
const QUERY_MAX = 100;

/** What admins look at: `/admin`, `/users`, `/system`. */
export function adminOverviewPart({ redis, version, onSeen }: OverviewDeps): BotPart {
  const part = new Composer<BotContext>();
  const chat = part.chatType('private');

  chat.command(
    'admin',
    forAdmins(async (ctx, admin) => {
      await onSeen(ctx, admin);
      const totals = await readTotals(ctx.db);
      const day = await computeDay(ctx.db, totals.today);
      const overview = ctx.t('admin-overview', {
        users: Number(totals.users),
        banned: Number(totals.users_banned),
        devices: Number(totals.devices),
        buyers: Number(totals.buyers),
        active: Number(totals.buyers_active),
        sessions: Number(totals.sessions_active),
        payouts: Number(totals.payouts_pending),
        amount: dollars(totals.payouts_pending_micros),
        flags: Number(totals.flags_open),
      });
      const today = ctx.t('admin-today', {
        gigabytes: gigabytes(day.bytes_up + day.bytes_down),
        charged: dollars(day.charged_micros),
        earned: dollars(day.earned_micros),
        revenue: dollars(day.revenue_micros),
      });
      ctx.say(`${overview}\n${today}`);
    }),
  );

  chat.command(
    'users',
    forAdmins(async (ctx) => {
      const query = ctx.match.trim().slice(0, QUERY_MAX);
      if (query === '') return ctx.say(ctx.t('users-usage'));
      const { rows, nextCursor } = await listPeople(ctx.db, { query }, { limit: USERS, sort: '-created_at' });
      if (rows.length === 0) return ctx.say(ctx.t('users-none'));
      const lines = rows.map((person) => userLine(ctx, person));
      if (nextCursor !== null) lines.push(ctx.t('users-more'));
      ctx.say(lines.join('\n\n'));
    }),
  );

  chat.command(
    'system',
    forAdmins(async (ctx) => {
      const [host, gateways, alerts] = await Promise.all([
        readHost(),
        readGatewayPresences(redis).catch(() => null),
        readAlerts(ctx.db),
      ]);
      const lines = [
        ctx.t('system-head', {
          version,
          hours: Math.floor(host.process_uptime_seconds / 3_600),
          load: String(host.cpu.load_1),
          memory: Math.round(host.memory.process_bytes / 1e6),
        }),
        ...(gateways === null ? [ctx.t('system-no-redis')] : []),
        ...(gateways?.length === 0 ? [ctx.t('system-no-gateway')] : []),
        ...(gateways ?? []).map(({ gatewayId: id, tunnels, streams, draining }) =>
          ctx.t('system-gateway', {
            id,
            tunnels,
            streams,
            draining: draining ? ctx.t('system-draining') : '',
          }),
        ),
        ...(alerts.length === 0 ? [ctx.t('system-well')] : []),
        ...alerts.map(({ detail }) => ctx.t('system-alert', { detail })),
      ];
      ctx.say(lines.join('\n'));
    }),
  );
  return part;
}

function userLine(ctx: BotContext, person: Person): string {
  return ctx.t('user-line', {
    name: person.username === null ? person.referral_code : `@${person.username}`,
    status: person.is_admin ? `${person.status}, admin` : person.status,
    language: person.language,
    id: person.id,
    telegram: person.telegram_id?.toString() ?? '-',
    devices: person.devices,
    available: dollars(person.available_micros),
    pending: dollars(person.pending_micros),
  });
}
