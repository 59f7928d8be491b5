import { Composer } from 'grammy';
import { recordAudit } from '../../../audit/audit.js';
import { listPayouts, type Payout, readPayout } from '../../../payouts/payouts.js';
import {
  approvePayout,
  type DecisionRefusal,
  type ReleaseRules,
  rejectPayout,
} from '../../../payouts/release.js';
import { refusalReason, refusalText } from '../../../payouts/step-text.js';
import type { UserRow } from '../../../users/users.js';
import type { BotContext, BotPart } from '../../context.js';
import { decisionKeyboard, PAYOUT_STATUSES, payoutRequestText, reasonKeyboard } from '../../payout-words.js';
import { actingAdmin, forAdmins } from '../who.js';

export interface AdminPayoutsDeps {
  rules: () => Promise<ReleaseRules>;
  /** Whether anything can be paid out. */
  configured: boolean;
}

/** Payouts told at once. */
const PAYOUTS = 5;

const nameOf = (admin: UserRow) => (admin.username === null ? admin.id : `@${admin.username}`);

/**
 * `/payouts`, and the buttons under payouts that wait, in the admins' channel and in private. A button decides nothing
 * by itself: who presses must be an admin now, and the payout in a state that can be decided on.
 */
export function adminPayoutsPart({ rules, configured }: AdminPayoutsDeps): BotPart {
  const part = new Composer<BotContext>();

  part.chatType('private').command(
    'payouts',
    forAdmins(async (ctx) => {
      const { rows, nextCursor } = await listPayouts(ctx.db, { status: 'pending' }, { limit: PAYOUTS });
      if (rows.length === 0) return ctx.say(ctx.t('payouts-none'));
      for (const payout of rows)
        ctx.say(payoutRequestText(ctx.t, payout), { keyboard: decisionKeyboard(ctx.t, payout.id) });
      if (nextCursor === null) return;
      const { rows: counted } = await ctx.db.query<{ n: number }>(
        "SELECT count(*)::int AS n FROM payouts WHERE status = 'pending'",
      );
      ctx.say(ctx.t('payouts-more', { count: (counted[0]?.n ?? 0) - rows.length }));
    }),
  );

  part.callbackQuery(
    /^payout:yes:([0-9a-f-]{36})$/,
    forAdmins(async (ctx, admin) => {
      const id = ctx.match[1] as string;
      if (!configured) return ctx.answer(ctx.t('payout-unavailable'), true);
      const decided = await approvePayout(ctx.db, id, admin.id, await rules());
      if (!decided.ok) return refuse(ctx, id, decided);
      const { payout, approvals, approvalsNeeded: needed } = decided;
      await recordAudit(ctx.db, {
        actor: actingAdmin(admin),
        action: 'payout_approved',
        objectType: 'payout',
        objectId: id,
        before: { status: decided.before },
        after: { status: payout.status, approvals, approvals_needed: needed, by: 'bot' },
      });
      const text = payoutRequestText(ctx.t, payout);
      if (payout.status !== 'pending')
        return ctx.edit(`${text}\n\n${ctx.t('payout-approved-by', { admin: nameOf(admin) })}`);
      ctx.answer(ctx.t('payout-approved-short', { approvals, needed }));
      ctx.edit(`${text}\n\n${ctx.t('payout-approved-partly', { admin: nameOf(admin), approvals, needed })}`, {
        keyboard: decisionKeyboard(ctx.t, id),
      });
    }),
  );

  /** Shows the payout with other buttons while it can be decided on. */
  const show = (buttons: typeof decisionKeyboard) =>
    forAdmins(async (ctx: BotContext & { from: { id: number } } & { match: RegExpMatchArray | string }) => {
      const id = (ctx.match as RegExpMatchArray)[1] as string;
      const payout = await readPayout(ctx.db, id);
      if (payout === null) return ctx.answer(ctx.t('payout-unknown'), true);
      if (payout.status !== 'pending' && payout.status !== 'processing') return moved(ctx, payout);
      ctx.edit(payoutRequestText(ctx.t, payout), { keyboard: buttons(ctx.t, id) });
    });
  part.callbackQuery(/^payout:no:([0-9a-f-]{36})$/, show(reasonKeyboard) as never);
  part.callbackQuery(/^payout:back:([0-9a-f-]{36})$/, show(decisionKeyboard) as never);

  part.callbackQuery(
    /^payout:why:([0-9a-f-]{36}):(\d)$/,
    forAdmins(async (ctx, admin) => {
      const id = ctx.match[1] as string;
      const reason = refusalText(Number(ctx.match[2]));
      if (reason === null) return ctx.answer(ctx.t('button-old'), true);
      const rejected = await rejectPayout(ctx.db, id, reason);
      if (!rejected.ok) return refuse(ctx, id, rejected);
      await recordAudit(ctx.db, {
        actor: actingAdmin(admin),
        action: 'payout_rejected',
        objectType: 'payout',
        objectId: id,
        before: { status: rejected.before },
        after: { status: rejected.payout.status, reason, by: 'bot' },
      });
      const done = ctx.t('payout-refused-by', {
        admin: nameOf(admin),
        reason: refusalReason(ctx.t, reason),
      });
      ctx.edit(`${payoutRequestText(ctx.t, rejected.payout)}\n\n${done}`);
    }),
  );
  return part;
}

/** Says why nothing was decided; a message about a payout that has moved on shows that. */
async function refuse(ctx: BotContext, id: string, refusal: DecisionRefusal): Promise<void> {
  if (refusal.code === 'own_payout') return ctx.answer(ctx.t('payout-own'), true);
  const payout = await readPayout(ctx.db, id);
  if (payout === null) return ctx.answer(ctx.t('payout-unknown'), true);
  moved(ctx, payout);
}

function moved(ctx: BotContext, payout: Payout): void {
  const text = ctx.t('payout-moved', { status: ctx.t(PAYOUT_STATUSES[payout.status]) });
  ctx.answer(text, true);
  ctx.edit(`${payoutRequestText(ctx.t, payout)}\n\n${text}`);
}
