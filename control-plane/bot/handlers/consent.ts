import { Composer } from 'grammy';
import { recordAudit } from '../../audit/audit.js';
import { moment } from '../../texts/words.js';
import { announceStops, type StopChannel, stopSessions } from '../../traffic/stop.js';
import { acceptTerms, findConsent, withdrawConsent } from '../../users/consent.js';
import type { Language } from '../../users/users.js';
import type { BotContext, BotPart } from '../context.js';
import { termsPage, versionMark } from '../terms-pages.js';
import { actingUser, forUsers } from './who.js';

export interface ConsentPartDeps {
  /** The terms in force. */
  rules: () => Promise<{ termsVersion: string }>;
  /** Gateways are told of sessions that a withdrawal stops. */
  live: StopChannel;
  /** The Mini App; null: there is none. */
  appUrl: string | null;
}

/** Says the terms in force below `greeting`, from their first page, with what accepts them below the last. */
export async function sayTerms(
  ctx: BotContext,
  language: Language,
  { version, appUrl, greeting = '' }: { version: string; appUrl: string | null; greeting?: string },
): Promise<void> {
  const { text, keyboard } = await termsPage(ctx.db, { version, language, page: 1 }, appUrl);
  ctx.say(greeting === '' ? text : `${greeting}\n\n${text}`, { keyboard });
}

/** `/consent`: the terms, accepting them and taking that back. */
export function consentPart({ rules, live, appUrl }: ConsentPartDeps): BotPart {
  const part = new Composer<BotContext>();

  part.chatType('private').command(
    'consent',
    forUsers(async (ctx, user) => {
      const { termsVersion: version } = await rules();
      const consent = await findConsent(ctx.db, user.id);
      if (consent?.terms_version !== version) return sayTerms(ctx, ctx.language, { version, appUrl });
      ctx.say(ctx.t('consent-given', { version, date: moment(consent.accepted_at.toISOString()) }), {
        keyboard: [[{ text: ctx.t('consent-withdraw'), callback_data: 'consent:ask' }]],
      });
    }),
  );

  part.chatType('private').callbackQuery(
    /^consent:page:([\w.-]+):(\d{1,3})$/,
    forUsers(async (ctx) => {
      const { termsVersion: version } = await rules();
      if (ctx.match[1] !== versionMark(version)) return ctx.edit(ctx.t('consent-outdated'));
      const wanted = { version, language: ctx.language, page: Number(ctx.match[2]) };
      const { text, keyboard } = await termsPage(ctx.db, wanted, appUrl);
      ctx.edit(text, { keyboard });
    }),
  );

  part.chatType('private').callbackQuery(
    /^consent:yes:(.+)$/,
    forUsers(async (ctx, user) => {
      const { termsVersion: version } = await rules();
      if (ctx.match[1] !== versionMark(version)) return ctx.edit(ctx.t('consent-outdated'));
      const before = await findConsent(ctx.db, user.id);
      await acceptTerms(ctx.db, { userId: user.id, termsVersion: version, ip: null }, version);
      if (before?.terms_version !== version)
        await recordAudit(ctx.db, {
          actor: actingUser(user),
          action: 'consent_given',
          objectType: 'user',
          objectId: user.id,
          after: { terms_version: version, language: ctx.language },
        });
      ctx.edit(ctx.t('consent-accepted', { version }));
    }),
  );

  part.chatType('private').callbackQuery('consent:ask', (ctx) =>
    ctx.edit(ctx.t('consent-withdraw-sure'), {
      keyboard: [
        [
          { text: ctx.t('consent-withdraw'), callback_data: 'consent:no' },
          { text: ctx.t('withdraw-no'), callback_data: 'consent:stay' },
        ],
      ],
    }),
  );
  part.chatType('private').callbackQuery('consent:stay', (ctx) => ctx.edit(ctx.t('cancelled')));

  part.chatType('private').callbackQuery(
    'consent:no',
    forUsers(async (ctx, user) => {
      const had = await withdrawConsent(ctx.db, user.id);
      const stopped = await stopSessions(ctx.db, { userId: user.id }, 'consent_withdrawn');
      if (had)
        await recordAudit(ctx.db, {
          actor: actingUser(user),
          action: 'consent_withdrawn',
          objectType: 'user',
          objectId: user.id,
          after: { sessions_stopped: stopped },
        });
      ctx.after(() => announceStops(live, stopped, 'consent_withdrawn'));
      ctx.edit(ctx.t('consent-withdrawn', { sessions: stopped.length }));
    }),
  );
  return part;
}
