import { randomUUID } from 'node:crypto';
import { Composer } from 'grammy';
import { recordAudit } from '../../audit/audit.js';
import { readProviderBalance } from '../../balance/balance.js';
import { formatMicros, parseMicros } from '../../ledger/money.js';
import { isAddressOf, PAYOUT_NETWORKS } from '../../payouts/addresses.js';
import { type PayoutRefusal, type PayoutRules, requestPayout } from '../../payouts/payouts.js';
import type { Keyboard } from '../../telegram/telegram-queue.js';
import { amountIn, dollars } from '../../texts/words.js';
import type { UserRow } from '../../users/users.js';
import type { BotContext, BotPart } from '../context.js';
import { endConversation, keepConversation, readConversation } from '../conversations.js';
import { orNothing } from '../savepoint.js';
import { actingUser, type FromSomebody, forUsers } from './who.js';

const KIND = 'withdraw';

/**
 * What was said so far. `step` is what is asked for now. The amount is text: JSON has no bigint. `confirm` is drawn anew
 * with each question, so that a button below an earlier one confirms nothing.
 */
interface Draft {
  step: 'amount' | 'network' | 'address' | 'confirm';
  amount?: string;
  network?: string;
  address?: string;
  confirm?: string;
}

/**
 * `/withdraw`: amount, network, address, then a button that confirms. The draft lies in Postgres and goes in the very
 * transaction that makes the payout, so pressing twice, or an update delivered twice, pays once.
 */
export function withdrawPart({ rules }: { rules: () => Promise<PayoutRules> }): BotPart {
  const part = new Composer<BotContext>();
  const chat = part.chatType('private');

  const keep = (ctx: FromSomebody, draft: Draft) =>
    keepConversation(ctx.db, ctx.from.id, { kind: KIND, state: { ...draft } });

  /** The draft, when it waits for this; else null, and the person is told that the button is too old. */
  async function draftAt(ctx: FromSomebody, step: Draft['step']): Promise<Draft | null> {
    const talk = await readConversation(ctx.db, ctx.from.id);
    const draft = talk?.kind === KIND ? (talk.state as unknown as Draft) : null;
    if (draft?.step === step) return draft;
    if (ctx.callbackQuery !== undefined) ctx.answer(ctx.t('button-old'), true);
    return null;
  }

  async function takeAmount(ctx: FromSomebody, user: UserRow, amount: string | null): Promise<void> {
    const micros = amount === null ? null : parseMicros(amount);
    const { amountMicrosMin: minimum, networks } = await rules();
    const { availableMicros: available, pendingMicros: pending } = await readProviderBalance(ctx.db, user.id);
    if (amount === null || micros === null || micros <= 0n) return ctx.say(ctx.t('withdraw-not-an-amount'));
    if (micros < minimum)
      return ctx.say(
        ctx.t('withdraw-too-little', {
          minimum: dollars(minimum),
          available: dollars(available),
          pending: dollars(pending),
        }),
      );
    if (micros > available)
      return ctx.say(ctx.t('withdraw-over-available', { available: dollars(available) }));
    await keep(ctx, { step: 'network', amount: formatMicros(micros) });
    askNetwork(ctx, formatMicros(micros), networks);
  }

  chat.command(
    'withdraw',
    forUsers(async (ctx, user) => {
      const { amountMicrosMin: minimum } = await rules();
      const balance = await readProviderBalance(ctx.db, user.id);
      const available = dollars(balance.availableMicros);
      if (balance.availableMicros < minimum)
        return ctx.say(
          ctx.t('withdraw-too-little', {
            minimum: dollars(minimum),
            available,
            pending: dollars(balance.pendingMicros),
          }),
        );
      await keep(ctx, { step: 'amount' });
      ctx.say(ctx.t('withdraw-amount', { available, minimum: dollars(minimum) }), {
        keyboard: [[{ text: ctx.t('withdraw-all', { available }), callback_data: 'withdraw:all' }]],
      });
    }),
  );

  chat.callbackQuery(
    'withdraw:all',
    forUsers(async (ctx, user) => {
      if ((await draftAt(ctx, 'amount')) === null) return;
      const { availableMicros } = await readProviderBalance(ctx.db, user.id);
      await takeAmount(ctx, user, formatMicros(availableMicros));
    }),
  );

  chat.callbackQuery(
    /^withdraw:net:([A-Z]{2,20})$/,
    forUsers(async (ctx) => {
      const draft = await draftAt(ctx, 'network');
      if (draft === null) return;
      const network = PAYOUT_NETWORKS.find((name) => name === ctx.match[1]);
      const { networks } = await rules();
      if (network === undefined || !networks.includes(network)) {
        ctx.answer(ctx.t('withdraw-network-closed'), true);
        return askNetwork(ctx, draft.amount ?? '', networks);
      }
      await keep(ctx, { ...draft, step: 'address', network });
      ctx.edit(ctx.t('withdraw-address', { network }));
    }),
  );

  chat.callbackQuery('withdraw:no', async (ctx) => {
    const talk = await readConversation(ctx.db, ctx.from.id);
    if (talk?.kind !== KIND) return ctx.answer(ctx.t('button-old'), true);
    await endConversation(ctx.db, ctx.from.id);
    ctx.edit(ctx.t('cancelled'));
  });

  chat.callbackQuery(
    /^withdraw:yes:([0-9a-f-]{36})$/,
    forUsers(async (ctx, user) => {
      const draft = await draftAt(ctx, 'confirm');
      if (draft === null) return;
      if (draft.confirm !== ctx.match[1]) return ctx.answer(ctx.t('button-old'), true);
      await endConversation(ctx.db, ctx.from.id);
      await confirm(ctx, user, draft, await rules());
    }),
  );

  chat.on('message:text', async (ctx, next) => {
    const talk = await readConversation(ctx.db, ctx.from.id);
    if (talk?.kind !== KIND || ctx.user === null) return next();
    const draft = talk.state as unknown as Draft;
    const text = ctx.message.text.trim();
    if (draft.step === 'amount') return takeAmount(ctx, ctx.user, amountIn(text));
    if (draft.step === 'network') return askNetwork(ctx, draft.amount ?? '', (await rules()).networks);
    const network = PAYOUT_NETWORKS.find((name) => name === draft.network);
    if (network === undefined) throw new Error(`a draft without a network: ${draft.step}`);
    if (draft.step === 'address' && !isAddressOf(network, text))
      return ctx.say(ctx.t('withdraw-bad-address', { network }));
    // Written to while it waits for the button: the question comes again, with a button of its own.
    const address = draft.step === 'address' ? text : (draft.address ?? '');
    const asked = { ...draft, step: 'confirm' as const, address, confirm: randomUUID() };
    await keep(ctx, asked);
    ctx.say(ctx.t('withdraw-confirm', { amount: dollars(draft.amount ?? ''), network, address }), {
      keyboard: [
        [
          { text: ctx.t('withdraw-yes'), callback_data: `withdraw:yes:${asked.confirm}` },
          { text: ctx.t('withdraw-no'), callback_data: 'withdraw:no' },
        ],
      ],
    });
  });
  return part;
}

function askNetwork(ctx: BotContext, amount: string, networks: readonly string[]): void {
  const open = PAYOUT_NETWORKS.filter((name) => networks.includes(name));
  const keyboard: Keyboard = [
    open.map((name) => ({ text: name, callback_data: `withdraw:net:${name}` })),
    [{ text: ctx.t('withdraw-no'), callback_data: 'withdraw:no' }],
  ];
  ctx.say(ctx.t('withdraw-network', { amount: dollars(amount) }), { keyboard });
}

/** Makes the payout, or says why not; the conversation is over either way. */
async function confirm(ctx: BotContext, user: UserRow, draft: Draft, rules: PayoutRules): Promise<void> {
  const { amount = '', network = '', address: target = '' } = draft;
  const amountMicros = parseMicros(amount);
  if (amountMicros === null) throw new Error(`a draft of no amount: ${amount}`);
  const request = { userId: user.id, amountMicros, network, target, inChat: true };
  const made = await orNothing(ctx.db, () => requestPayout(ctx.db, request, rules));
  if (!made.ok) return ctx.edit(refusal(ctx, made, { amount: dollars(amount), network }));
  await recordAudit(ctx.db, {
    actor: actingUser(user),
    action: 'payout_requested',
    objectType: 'payout',
    objectId: made.payout.id,
    after: { amount: formatMicros(amountMicros), network, target, by: 'bot' },
  });
  ctx.edit(ctx.t('withdraw-made', { amount: dollars(amount), payment: made.payout.id }));
}

function refusal(
  ctx: BotContext,
  refused: PayoutRefusal,
  { amount, network }: { amount: string; network: string },
): string {
  switch (refused.code) {
    case 'over_daily_limit':
      return ctx.t('withdraw-over-daily', { left: dollars(refused.leftMicros) });
    case 'network_not_allowed':
      return ctx.t('withdraw-network-closed');
    case 'bad_address':
      return ctx.t('withdraw-bad-address', { network });
    default: // the balance or the smallest amount changed meanwhile
      return ctx.t('withdraw-over-now', { amount });
  }
}
