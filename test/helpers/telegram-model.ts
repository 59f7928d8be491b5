import { randomUUID } from 'node:crypto';
import type { Update } from 'grammy/types';
import { type Answer, bad, type ChatMessage, good, TelegramChats } from './telegram-chats.js';

type Body = Record<string, unknown>;

export interface Person {
  id: number;
  language_code?: string;
  username?: string;
}

interface Invoice {
  payload: string;
  stars: number;
}

export interface Charge {
  id: string;
  userId: number;
  stars: number;
  payload: string;
  refunded: boolean;
}

/** Time a bot has to answer a checkout; then Telegram ends the payment. */
const CHECKOUT_MS = 10_000;

/**
 * Telegram as a bot sees it, as core.telegram.org/bots/api and /bots/payments-stars describe it: updates by
 * webhook or by polling, invoices in Stars, checkouts, payments and refunds, with their refusals.
 */
export class TelegramModel {
  /** Every call beside those that send and change messages, in order. */
  readonly calls: { method: string; body: Body }[] = [];
  /** What was sent, as it is now. */
  readonly chats = new TelegramChats();
  /** What people were told who pressed a button, in order. */
  readonly answers: { queryId: string; text: string; alert: boolean }[] = [];
  readonly charges: Charge[] = [];
  /** Instead of the address that setWebhook named: tests listen elsewhere than on https. */
  webhookTarget: string | null = null;
  webhook: { url: string; secret: string } | null = null;
  /** The bot's Stars, oldest first. */
  readonly #transactions: object[] = [];
  readonly #links = new Map<string, Invoice>();
  /** Buttons that were pressed and not answered yet. */
  readonly #pressed = new Set<string>();
  readonly #checkouts = new Map<string, (answer: { ok: boolean; error: string | null }) => void>();
  /** Updates that getUpdates has not been told to forget. */
  #waiting: Update[] = [];
  #updateId = 1_000;
  #poll: ((answer: Answer) => void) | null = null;
  #wakePoll: (() => void) | null = null;

  /** What a method of the Bot API answers. */
  call(method: string, body: Body): Answer | Promise<Answer> {
    const sent = this.chats.call(method, body);
    if (sent !== null) return sent;
    this.calls.push({ method, body });
    switch (method) {
      case 'setMyCommands':
        return this.#setMyCommands(body);
      case 'setChatMenuButton': {
        const { menu_button: button } = body as { menu_button?: { web_app?: { url: string } } };
        if (button?.web_app !== undefined && !button.web_app.url.startsWith('https://'))
          return bad(400, 'Bad Request: BUTTON_URL_INVALID');
        return good(true);
      }
      case 'answerCallbackQuery': {
        const queryId = String(body.callback_query_id);
        if (!this.#pressed.delete(queryId))
          return bad(
            400,
            'Bad Request: query is too old and response timeout expired or query ID is invalid',
          );
        if (String(body.text ?? '').length > 200) return bad(400, 'Bad Request: MESSAGE_TOO_LONG');
        this.answers.push({ queryId, text: String(body.text ?? ''), alert: body.show_alert === true });
        return good(true);
      }
      case 'setWebhook':
        this.webhook = { url: String(body.url), secret: String(body.secret_token ?? '') };
        this.#endPoll();
        return good(true);
      case 'deleteWebhook':
        this.webhook = null;
        return good(true);
      case 'getUpdates':
        return this.#getUpdates(body);
      case 'createInvoiceLink': {
        const invoice = this.#invoice(body);
        if ('status' in invoice) return invoice;
        const link = `https://t.me/$${randomUUID()}`;
        this.#links.set(link, invoice);
        return good(link);
      }
      case 'sendInvoice': {
        const invoice = this.#invoice(body);
        if ('status' in invoice) return invoice;
        this.#links.set(`message:${invoice.payload}`, invoice);
        return good({
          message_id: this.chats.newId(),
          date: now(),
          chat: { id: body.chat_id, type: 'private' },
        });
      }
      case 'answerPreCheckoutQuery': {
        const answer = this.#checkouts.get(String(body.pre_checkout_query_id));
        if (answer === undefined)
          return bad(
            400,
            'Bad Request: query is too old and response timeout expired or query ID is invalid',
          );
        this.#checkouts.delete(String(body.pre_checkout_query_id));
        answer({ ok: body.ok === true, error: (body.error_message as string | undefined) ?? null });
        return good(true);
      }
      case 'getStarTransactions': {
        const { offset = 0, limit = 100 } = body as { offset?: number; limit?: number };
        return good({ transactions: this.#transactions.slice(offset, offset + limit) });
      }
      case 'refundStarPayment':
        return this.#refund(Number(body.user_id), String(body.telegram_payment_charge_id));
      default:
        return bad(404, 'Not Found: method not found');
    }
  }

  /** A person writes to the bot. Resolves when the update was delivered (webhook) or waits (polling). */
  say(from: Person, text: string): Promise<Update> {
    const command = /^\/\w+/.exec(text)?.[0];
    return this.#message(from, {
      text,
      ...(command && { entities: [{ type: 'bot_command', offset: 0, length: command.length }] }),
    });
  }

  /** A person answers a message; Telegram gives it along with its buttons. */
  reply(from: Person, to: ChatMessage, text: string): Promise<Update> {
    return this.#message(from, {
      text,
      reply_to_message: {
        message_id: to.id,
        date: now(),
        chat: { id: to.chatId, type: 'private', first_name: 'Ann' },
        text: to.text,
        ...(to.buttons.length > 0 && { reply_markup: { inline_keyboard: to.buttons.map((one) => [one]) } }),
      },
    });
  }

  /** A person presses a button of a message. Telegram waits some time for an answer: `answers` has it. */
  async press(
    from: Person,
    message: ChatMessage,
    data: string,
  ): Promise<{ queryId: string; update: Update }> {
    const queryId = randomUUID();
    this.#pressed.add(queryId);
    const { chatId, text } = message;
    const chat =
      chatId < 0
        ? { id: chatId, type: 'channel', title: 'Admins' }
        : { id: chatId, type: 'private', first_name: 'Ann' };
    const update = {
      update_id: this.#updateId++,
      callback_query: {
        id: queryId,
        from: person(from),
        chat_instance: String(chatId),
        data,
        message: { message_id: message.id, date: now(), chat, text },
      },
    } as Update;
    return { queryId, update: await this.deliver(update) };
  }

  /** A person blocks the bot, or comes back. */
  block(from: Person, blocked = true): Promise<Update> {
    if (blocked) this.chats.blockedBy.add(from.id);
    else this.chats.blockedBy.delete(from.id);
    const member = (status: string) => ({ user: { id: 1, is_bot: true, first_name: 'Bot' }, status });
    return this.deliver({
      update_id: this.#updateId++,
      my_chat_member: {
        chat: { id: from.id, type: 'private', first_name: 'Ann' },
        from: person(from),
        date: now(),
        old_chat_member: member(blocked ? 'member' : 'kicked'),
        new_chat_member: member(blocked ? 'kicked' : 'member'),
      },
    } as unknown as Update);
  }

  /**
   * A person pays an invoice (its link, or `message:<payload>` of one that was sent): Telegram asks the bot,
   * takes the Stars when it agrees, and says so. `tamper` changes what the bot is told.
   */
  async pay(
    from: Person,
    link: string,
    tamper: { stars?: number; payload?: string; currency?: string } = {},
  ): Promise<
    { ok: true; charge: Charge; update: Update } | { ok: false; error: string | null; afterMs: number }
  > {
    const invoice = this.#links.get(link);
    if (invoice === undefined) throw new Error(`no invoice ${link}`);
    const { stars = invoice.stars, payload = invoice.payload, currency = 'XTR' } = tamper;
    const id = randomUUID();
    const startedAtMs = performance.now();
    const answered = new Promise<{ ok: boolean; error: string | null }>((resolve) => {
      const timer = setTimeout(() => {
        this.#checkouts.delete(id);
        resolve({ ok: false, error: 'timed out' });
      }, CHECKOUT_MS);
      this.#checkouts.set(id, (answer) => {
        clearTimeout(timer);
        resolve(answer);
      });
    });
    await this.deliver({
      update_id: this.#updateId++,
      pre_checkout_query: {
        id,
        from: person(from),
        currency: currency as 'XTR',
        total_amount: stars,
        invoice_payload: payload,
      },
    });
    const answer = await answered;
    if (!answer.ok) return { ok: false, error: answer.error, afterMs: performance.now() - startedAtMs };
    const charge = this.charge(from, { stars, payload });
    return { ok: true, charge, update: await this.reportPayment(from, charge, currency) };
  }

  /**
   * Takes Stars without asking the bot: what a checkout that was answered by a bot since replaced comes to.
   */
  charge(from: Person, { stars, payload }: Invoice): Charge {
    const charge: Charge = { id: `charge-${randomUUID()}`, userId: from.id, stars, payload, refunded: false };
    this.charges.push(charge);
    this.#transfer(charge, 'source');
    return charge;
  }

  reportPayment(from: Person, charge: Charge, currency = 'XTR'): Promise<Update> {
    return this.#message(from, { successful_payment: { ...this.#paid(charge), currency } });
  }

  /**
   * Somebody gives Stars back past this bot (another program with its token, say), or Telegram reports what
   * it did.
   */
  reportRefund(from: Person, charge: Charge): Promise<Update> {
    this.#giveBack(charge);
    return this.#message(from, { refunded_payment: this.#paid(charge) });
  }

  /** Delivers an update, again where it was delivered before. */
  async deliver(update: Update): Promise<Update> {
    if (this.webhook === null && this.webhookTarget === null) {
      this.#waiting.push(update);
      this.#wakePoll?.();
      return update;
    }
    // As Telegram does: again and again until the answer is 2xx.
    for (let tries = 1; ; tries++) {
      const status = await this.post(update, this.webhook?.secret ?? '');
      if (status >= 200 && status < 300) return update;
      if (tries === 5) throw new Error(`the webhook answered ${status}`);
    }
  }

  /** One call of the webhook; resolves to its status. */
  async post(update: unknown, secret: string | null): Promise<number> {
    const response = await fetch(this.webhookTarget ?? (this.webhook as { url: string }).url, {
      method: 'POST',
      headers: {
        connection: 'close',
        'content-type': 'application/json',
        ...(secret === null ? {} : { 'x-telegram-bot-api-secret-token': secret }),
      },
      body: JSON.stringify(update),
    });
    await response.arrayBuffer();
    return response.status;
  }

  /** An update that is not delivered yet, to be delivered by hand. */
  messageUpdate(from: Person, fields: object): Update {
    return {
      update_id: this.#updateId++,
      message: {
        message_id: this.chats.newId(),
        date: now(),
        from: person(from),
        chat: { id: from.id, type: 'private', first_name: 'Ann' },
        ...fields,
      },
    } as Update;
  }

  /** Ends a poll that is held open. */
  close(): void {
    this.#endPoll();
    for (const answer of this.#checkouts.values()) answer({ ok: false, error: 'closed' });
  }

  #message(from: Person, fields: object): Promise<Update> {
    return this.deliver(this.messageUpdate(from, fields));
  }

  #giveBack(charge: Charge): void {
    if (!charge.refunded) this.#transfer(charge, 'receiver');
    charge.refunded = true;
  }

  #transfer({ id, userId, stars, payload }: Charge, side: 'source' | 'receiver'): void {
    const partner = { type: 'user', transaction_type: 'invoice_payment', user: person({ id: userId }) };
    this.#transactions.push({
      id,
      amount: stars,
      date: now(),
      [side]: { ...partner, invoice_payload: payload },
    });
  }

  /** Stars of something else than our invoices. */
  otherTransfer(): void {
    this.#transactions.push({ id: randomUUID(), amount: 3, date: now(), source: { type: 'telegram_ads' } });
  }

  #paid(charge: Charge) {
    return {
      currency: 'XTR',
      total_amount: charge.stars,
      invoice_payload: charge.payload,
      telegram_payment_charge_id: charge.id,
      provider_payment_charge_id: '',
    };
  }

  #invoice(body: Body): Invoice | Answer {
    const { title, description, payload, currency, provider_token: provider, prices } = body;
    const size = (value: unknown) => Buffer.byteLength(String(value ?? ''));
    if (size(title) < 1 || String(title).length > 32) return bad(400, 'Bad Request: invalid title');
    if (size(description) < 1 || String(description).length > 255)
      return bad(400, 'Bad Request: invalid description');
    if (size(payload) < 1 || size(payload) > 128) return bad(400, 'Bad Request: INVOICE_PAYLOAD_INVALID');
    if (currency !== 'XTR' || (provider !== undefined && provider !== ''))
      return bad(400, 'Bad Request: PAYMENT_PROVIDER_INVALID');
    const list = prices as { amount: number }[];
    if (!Array.isArray(list) || list.length !== 1) return bad(400, 'Bad Request: STARS_INVOICE_INVALID');
    const stars = list[0]?.amount ?? 0;
    if (!Number.isInteger(stars) || stars < 1 || stars > 10_000)
      return bad(400, 'Bad Request: STARS_INVOICE_INVALID');
    return { payload: String(payload), stars };
  }

  /** At most 100 commands of lower-case names, each with a description of 1 to 256 characters. */
  #setMyCommands(body: Body): Answer {
    const commands = body.commands as { command: string; description: string }[];
    for (const { command, description } of commands) {
      if (!/^[a-z0-9_]{1,32}$/.test(command)) return bad(400, 'Bad Request: BOT_COMMAND_INVALID');
      if (description.length < 1 || description.length > 256)
        return bad(400, 'Bad Request: BOT_COMMAND_DESCRIPTION_INVALID');
    }
    return commands.length > 100 ? bad(400, 'Bad Request: BOT_COMMANDS_TOO_MUCH') : good(true);
  }

  #refund(userId: number, chargeId: string): Answer {
    const charge = this.charges.find((c) => c.id === chargeId);
    if (charge === undefined || charge.userId !== userId) return bad(400, 'Bad Request: CHARGE_NOT_FOUND');
    if (charge.refunded) return bad(400, 'Bad Request: CHARGE_ALREADY_REFUNDED');
    this.#giveBack(charge);
    return good(true);
  }

  /** Holds the call open until there is something, as told by `timeout`; an earlier call is ended. */
  #getUpdates(body: Body): Answer | Promise<Answer> {
    if (this.webhook !== null)
      return bad(
        409,
        "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first",
      );
    this.#endPoll();
    const offset = Number(body.offset ?? 0);
    if (offset > 0) this.#waiting = this.#waiting.filter((update) => update.update_id >= offset);
    const some = () => good(this.#waiting.slice(0, Number(body.limit ?? 100)));
    if (this.#waiting.length > 0 || !body.timeout) return some();
    return new Promise((resolve) => {
      const timer = setTimeout(() => end(some()), Number(body.timeout) * 1000);
      const end = (answer: Answer) => {
        clearTimeout(timer);
        this.#poll = null;
        this.#wakePoll = null;
        resolve(answer);
      };
      this.#poll = end;
      this.#wakePoll = () => end(some());
    });
  }

  #endPoll(): void {
    this.#poll?.(
      bad(
        409,
        'Conflict: terminated by other getUpdates request; make sure that only one bot instance is running',
      ),
    );
  }
}

const now = () => Math.floor(Date.now() / 1000);

function person({ id, ...rest }: Person) {
  return { id, is_bot: false, first_name: 'Ann', ...rest };
}
