import { Composer } from 'grammy';
import type pg from 'pg';
import type { LiveRedis } from '../../../gateway/live/connection.js';
import { readProviderBalance } from '../../balance/balance.js';
import { type Device, readDevices } from '../../devices/device-list.js';
import { readReferrals } from '../../people/referrals.js';
import type { BusinessSettings } from '../../settings/settings.js';
import { dollars, megabytes, moment } from '../../texts/words.js';
import { listSessions } from '../../traffic/session-view.js';
import type { BotContext, BotPart } from '../context.js';
import { forUsers } from './who.js';

export interface AccountPartDeps {
  /** Reads of several things at once go beside the update's transaction. */
  pool: pg.Pool;
  redis: LiveRedis;
  rules: () => Promise<Pick<BusinessSettings, 'termsVersion' | 'minClientVersion' | 'referralPercent'>>;
  /** Name without @; null: there is no link to invite with. */
  botUsername: string | null;
}

/** Sessions and devices that are told; the console has all. */
const SESSIONS = 5;
const DEVICES = 15;

const SESSION_STATES = {
  active: 'session-active',
  stopping: 'session-stopping',
  completed: 'session-completed',
  failed: 'session-failed',
} as const;

/** What a provider has: `/balance`, `/devices`, `/sessions`, `/referral`. */
export function accountPart(deps: AccountPartDeps): BotPart {
  const { pool, redis, rules, botUsername } = deps;
  const part = new Composer<BotContext>();
  const chat = part.chatType('private');

  chat.command(
    'balance',
    forUsers(async (ctx, user) => {
      const balance = await readProviderBalance(ctx.db, user.id);
      ctx.say(
        ctx.t('balance', {
          available: dollars(balance.availableMicros),
          pending: dollars(balance.pendingMicros),
          withdrawn: dollars(balance.withdrawnMicros),
          lifetime: dollars(balance.lifetimeMicros),
        }),
      );
    }),
  );

  chat.command(
    'devices',
    forUsers(async (ctx, user) => {
      const devices = await readDevices({ pool, redis }, user, await rules());
      if (devices.length === 0) return ctx.say(ctx.t('devices-none'));
      const earning = devices.filter(({ state }) => state.earns).length;
      const lines = devices.slice(0, DEVICES).map((device) => deviceLine(ctx, device));
      ctx.say([ctx.t('devices-head', { count: devices.length, earning }), ...lines].join('\n\n'));
    }),
  );

  chat.command(
    'sessions',
    forUsers(async (ctx, user) => {
      const { items } = await listSessions(ctx.db, { userId: user.id }, { limit: SESSIONS });
      if (items.length === 0) return ctx.say(ctx.t('sessions-none'));
      const lines = items.map((session) =>
        ctx.t('session-line', {
          started: moment(session.started_at),
          megabytes: megabytes(session.bytes),
          earned: dollars(session.earned),
          state: ctx.t(SESSION_STATES[session.status]),
        }),
      );
      ctx.say([ctx.t('sessions-head'), ...lines].join('\n'));
    }),
  );

  chat.command(
    'referral',
    forUsers(async (ctx, user) => {
      const [referrals, { referralPercent: percent }] = [await readReferrals(ctx.db, user.id), await rules()];
      if (referrals === null) throw new Error(`no user ${user.id}`);
      const { code, invited, earning, earnedMicros } = referrals;
      const text = ctx.t('referral', { code, invited, earning, earned: dollars(earnedMicros), percent });
      const link = botUsername === null ? null : `https://t.me/${botUsername}?start=${code}`;
      ctx.say(link === null ? text : `${text}\n${ctx.t('referral-link', { link })}`);
    }),
  );
  return part;
}

function deviceLine(
  ctx: BotContext,
  { state, model, device_id, os, client_version, online }: Device,
): string {
  return ctx.t('device-line', {
    mark: state.earns ? '🟢' : online ? '🟡' : '⚪',
    name: model ?? device_id,
    os,
    version: client_version,
    what: state.detail === null ? state.what : `${state.what} (${state.detail})`,
    todo: state.todo,
  });
}
