import { Api, GrammyError, HttpError, InputFile, InputMediaBuilder } from 'grammy';
import type { InlineKeyboardButton } from 'grammy/types';
import type { Clock } from '../../gateway/runtime/clock.js';
import type { Log } from '../../gateway/runtime/logging.js';
import { pause } from './pause.js';

export interface TelegramQueueSettings {
  botToken: string;
  /** Root of the Bot API. */
  apiUrl: string;
  /** Messages waiting; above it new ones are dropped and logged. */
  queueMax: number;
  /** Time one call may take; then it counts as failed and is tried again. Default 10 s. */
  callTimeoutMs?: number;
  /** Tries of one message against a broken line or a 5xx. Default 5. */
  triesMax?: number;
  /** Pause before the first new try; doubles each time. Default 500 ms. */
  retryBaseMs?: number;
  /** Messages a second over all chats; Telegram allows about 30. Default 25. */
  messagesPerSecondMax?: number;
  /**
   * Calls at once, each to another chat; above it messages wait. Default 10: 25 a second while a call takes
   * 400 ms.
   */
  callsMax?: number;
  /**
   * Messages to one chat at once before they are spread to one a second, which is what Telegram asks for; above
   * it they wait. Default 5.
   */
  chatBurstMax?: number;
}

/** Rows of buttons under a message. */
export type Keyboard = readonly (readonly InlineKeyboardButton[])[];

export interface TelegramMessage {
  chatId: number;
  /** Plain text, 4096 characters at most; of a photo its caption, 1024 at most. */
  text: string;
  /** Buttons under it; left out of an edit: none are there any more. */
  keyboard?: Keyboard | undefined;
  /** PNG above the text. */
  photo?: Uint8Array | undefined;
  /** Not a new message: this earlier one of the chat becomes it. One that says so already counts as sent. */
  editId?: number | undefined;
  /** Arrives without a sound. */
  silent?: boolean;
  /** For the log. */
  kind: string;
  /** Not sent any more after so many ms of waiting. */
  dropAfterMs: number;
  /**
   * Never send it twice: a call whose outcome is not known (broken line, time-out, 5xx) is not made again and
   * ends as `unknown`. Told to wait (429) or without a connection it was not sent, and waits; when there is none after
   * all tries it ends as `expired`.
   */
  once?: boolean;
  /**
   * Called right before each call, which waits for it: who sends it writes down that it begins. False, or an error: the
   * call is not made, and the message ends as `stopped`.
   */
  onBegin?: () => Promise<boolean>;
  /** A call that had begun has sent nothing for certain (429, no connection), and is made again later. */
  onHeld?: () => Promise<void>;
  /** Called once, with what became of it; of one that was sent with its id in the chat. */
  onDelivery?: (delivery: Delivery, messageId?: number) => void;
}

/** What became of one message. */
export type Delivery =
  | 'sent'
  /** The person blocked the bot, never started it, or the chat is gone. */
  | 'unreachable'
  /** Not sent: it waited for too long. */
  | 'expired'
  | 'failed'
  /** Of a message to be sent `once`: it may have arrived or not. */
  | 'unknown'
  | 'queue_full'
  | 'stopped';

/** Nothing has been sent. */
export function noDeliveries(): Record<Delivery, number> {
  return { sent: 0, unreachable: 0, expired: 0, failed: 0, unknown: 0, queue_full: 0, stopped: 0 };
}

/**
 * Descriptions of a 400 that mean the chat, not the message (the Bot API has no codes of its own for them).
 */
const NOBODY_THERE = /chat not found|user not found|user is deactivated|peer_id_invalid/i;

/** Of a 400 to an edit that changes nothing. */
const NOT_MODIFIED = /message is not modified/i;

/** Errors of a call that got no connection: nothing of it was written. Any other one may have been heard. */
const NO_CONNECTION = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN']);

/** Pause between messages to one chat beyond the burst. */
const CHAT_INTERVAL_MS = 1_000;
/** Chats remembered before those that may be written to again are forgotten. */
const CHATS_REMEMBERED = 1_000;

interface Waiting {
  message: TelegramMessage;
  dropAtMs: number;
  tries: number;
  /** A further try comes no earlier. */
  notBeforeMs: number;
}

/**
 * Sends messages through the bot: those to one chat one after another, in order, over all chats several at
 * once below Telegram's overall rate; told to wait (`retry_after`), nothing is sent so long; a broken line is
 * tried again. Nobody waits for it: `push` returns at once.
 */
export class TelegramQueue {
  readonly #api: Api;
  readonly #settings: Required<TelegramQueueSettings>;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #onDelivery: (message: TelegramMessage, delivery: Delivery) => void;
  /** Oldest first; those of calls in progress are not among them. */
  readonly #waiting: Waiting[] = [];
  /** Messages that have ended since the start, by what became of them. */
  readonly counts = noDeliveries();
  readonly #calls = new Set<Promise<void>>();
  /** Chats of calls in progress. */
  readonly #busy = new Set<number>();
  /** When what was sent to a chat would have been sent at one a second. */
  readonly #paidUntilMs = new Map<number, number>();
  readonly #stop = new AbortController();
  /** Whether `#run` looks at what waits. */
  #looking = false;
  #running: Promise<void> = Promise.resolve();
  /** Ends the pause for the next message that may go: something changed. */
  #wake = new AbortController();
  /** The next call begins no earlier: the rate, and what Telegram said. */
  #nextAtMs = Number.NEGATIVE_INFINITY;
  /** The turn of the latest call. */
  #calledAtMs = Number.NEGATIVE_INFINITY;

  constructor(
    settings: TelegramQueueSettings,
    deps: { clock: Clock; log: Log; onDelivery?: (message: TelegramMessage, delivery: Delivery) => void },
  ) {
    this.#settings = {
      callTimeoutMs: 10_000,
      triesMax: 5,
      retryBaseMs: 500,
      messagesPerSecondMax: 25,
      callsMax: 10,
      chatBurstMax: 5,
      ...settings,
    };
    this.#clock = deps.clock;
    this.#log = deps.log;
    this.#onDelivery = deps.onDelivery ?? (() => {});
    this.#api = new Api(settings.botToken, {
      apiRoot: settings.apiUrl.replace(/\/$/, ''),
      timeoutSeconds: this.#settings.callTimeoutMs / 1000,
    });
  }

  /** Messages not sent yet. */
  get length(): number {
    return this.#waiting.length + this.#calls.size;
  }

  /** Between two calls. */
  get #intervalMs(): number {
    return 1000 / this.#settings.messagesPerSecondMax;
  }

  push(message: TelegramMessage): void {
    if (this.#stop.signal.aborted) this.#ended(message, 'stopped');
    else if (this.length >= this.#settings.queueMax) this.#ended(message, 'queue_full');
    else {
      const nowMs = this.#clock.monotonicMs();
      this.#waiting.push({ message, dropAtMs: nowMs + message.dropAfterMs, tries: 0, notBeforeMs: nowMs });
      this.#look();
    }
  }

  /**
   * Takes a message back that waits, also for a `retry_after`; it ends as `stopped`. False: it is being sent
   * now, or is not here any more.
   */
  withdraw(message: TelegramMessage): boolean {
    const index = this.#waiting.findIndex((waiting) => waiting.message === message);
    if (index < 0) return false;
    this.#waiting.splice(index, 1);
    this.#ended(message, 'stopped');
    return true;
  }

  /** Ends the calls in progress; what waits is dropped. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#wake.abort();
    await this.#running;
    await Promise.all(this.#calls);
    for (const { message } of this.#waiting.splice(0)) this.#ended(message, 'stopped');
  }

  /** Something changed: what waits is looked at now. */
  #look(): void {
    this.#wake.abort();
    if (this.#looking) return;
    this.#looking = true;
    this.#running = this.#run();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const intervalMs = this.#intervalMs;
    while (this.#waiting.length > 0 && !signal.aborted) {
      this.#wake = new AbortController();
      const nowMs = this.#clock.monotonicMs();
      const index = this.#expire(nowMs) ? -1 : this.#next(nowMs);
      const item = this.#waiting[index];
      if (item !== undefined && nowMs >= this.#nextAtMs) {
        this.#waiting.splice(index, 1);
        this.#nextAtMs = nowMs + intervalMs; // every call counts at Telegram, whatever comes of it
        this.#begin(item);
      } else if (this.#waiting.length > 0) await pause(this.#idleMs(item, nowMs), this.#wake.signal);
    }
    this.#looking = false; // with the last look: what is pushed later begins anew
  }

  /** Ends messages at the head that have waited too long; whether there was one. */
  #expire(nowMs: number): boolean {
    const first = this.#waiting[0];
    if (first === undefined || nowMs < first.dropAtMs) return false;
    this.#waiting.shift();
    this.#ended(first.message, 'expired');
    return true;
  }

  /** The oldest message that may go now; -1: none. A chat's later message does not pass an earlier one. */
  #next(nowMs: number): number {
    if (this.#calls.size >= this.#settings.callsMax) return -1;
    const passedOver = new Set(this.#busy);
    return this.#waiting.findIndex((waiting) => {
      const { chatId } = waiting.message;
      if (!passedOver.has(chatId) && this.#notBeforeMs(waiting) <= nowMs) return true;
      passedOver.add(chatId);
      return false;
    });
  }

  /** When it may go at the earliest: its next try, and its chat's pace. */
  #notBeforeMs({ message: { chatId }, notBeforeMs }: Waiting): number {
    const paidUntilMs = this.#paidUntilMs.get(chatId) ?? Number.NEGATIVE_INFINITY;
    return Math.max(notBeforeMs, paidUntilMs - (this.#settings.chatBurstMax - 1) * CHAT_INTERVAL_MS);
  }

  #pay(chatId: number): void {
    const nowMs = this.#clock.monotonicMs();
    if (this.#paidUntilMs.size >= CHATS_REMEMBERED)
      for (const [chat, untilMs] of this.#paidUntilMs) if (untilMs <= nowMs) this.#paidUntilMs.delete(chat);
    this.#paidUntilMs.set(chatId, Math.max(nowMs, this.#paidUntilMs.get(chatId) ?? nowMs) + CHAT_INTERVAL_MS);
  }

  /** How long nothing can go, unless something changes. */
  #idleMs(item: Waiting | undefined, nowMs: number): number {
    const first = this.#waiting[0]?.dropAtMs ?? nowMs;
    let retry = first;
    for (const waiting of this.#waiting) {
      const notBeforeMs = this.#notBeforeMs(waiting);
      if (notBeforeMs > nowMs && notBeforeMs < retry) retry = notBeforeMs;
    }
    const untilMs = item === undefined ? Math.min(first, retry) : Math.min(first, this.#nextAtMs);
    return Math.max(0, untilMs - nowMs);
  }

  #begin(item: Waiting): void {
    const { chatId } = item.message;
    this.#busy.add(chatId);
    this.#pay(chatId);
    const call: Promise<void> = this.#attempt(item, this.#stop.signal).then((outcome) => {
      this.#busy.delete(chatId);
      this.#calls.delete(call);
      if (typeof outcome === 'string') this.#ended(item.message, outcome);
      else if ('sentAs' in outcome) this.#ended(item.message, 'sent', outcome.sentAs);
      else {
        item.notBeforeMs = this.#clock.monotonicMs() + outcome.retryInMs;
        this.#waiting.unshift(item);
      }
      this.#look();
    });
    this.#calls.add(call);
  }

  /** Calls the method that fits the message; resolves to its id in the chat. */
  async #call(message: TelegramMessage, signal: AbortSignal): Promise<number> {
    const { chatId, text, keyboard, photo, editId, silent } = message;
    const buttons = keyboard && {
      reply_markup: { inline_keyboard: keyboard.map((row) => [...row]) },
    };
    const options = { ...buttons, ...(silent && { disable_notification: true }) };
    // grammY's own AbortSignal type is a shim's; the platform's fits at run time.
    const until = signal as never;
    if (editId !== undefined) {
      if (photo === undefined) await this.#api.editMessageText(chatId, editId, text, buttons, until);
      else {
        const media = InputMediaBuilder.photo(new InputFile(photo, 'chart.png'), { caption: text });
        await this.#api.editMessageMedia(chatId, editId, media, buttons, until);
      }
      return editId;
    }
    const sent =
      photo === undefined
        ? await this.#api.sendMessage(chatId, text, options, until)
        : await this.#api.sendPhoto(
            chatId,
            new InputFile(photo, 'chart.png'),
            { caption: text, ...options },
            until,
          );
    return sent.message_id;
  }

  async #attempt(
    item: Waiting,
    signal: AbortSignal,
  ): Promise<Delivery | { sentAs: number } | { retryInMs: number }> {
    const { message } = item;
    if (message.onBegin !== undefined && !(await this.#mayBegin(message.onBegin))) return 'stopped';
    await this.#turn(signal);
    if (signal.aborted) return 'stopped'; // nothing of it was written
    item.tries++;
    const outcome = await this.#make(item, signal);
    // Nothing was sent: the sender's note that it may have been is taken back while it waits.
    if (typeof outcome === 'object' && 'retryInMs' in outcome && message.once) await this.#held(message);
    return outcome;
  }

  async #mayBegin(onBegin: () => Promise<boolean>): Promise<boolean> {
    try {
      return await onBegin();
    } catch (error) {
      this.#log.warn({ err: error }, 'telegram_call_not_begun');
      return false;
    }
  }

  /** Until the call may go without coming too close to the one before: `onBegin` takes some longer than others. */
  async #turn(signal: AbortSignal): Promise<void> {
    const nowMs = this.#clock.monotonicMs();
    const waitMs = this.#calledAtMs + this.#intervalMs - nowMs;
    this.#calledAtMs = Math.max(nowMs, nowMs + waitMs);
    if (waitMs >= 1) await pause(waitMs, signal);
  }

  async #held({ onHeld }: TelegramMessage): Promise<void> {
    try {
      await onHeld?.();
    } catch (error) {
      this.#log.warn({ err: error }, 'telegram_call_not_taken_back');
    }
  }

  async #make(
    item: Waiting,
    signal: AbortSignal,
  ): Promise<Delivery | { sentAs: number } | { retryInMs: number }> {
    try {
      return { sentAs: await this.#call(item.message, signal) };
    } catch (error) {
      const retry = { retryInMs: this.#settings.retryBaseMs * 2 ** (item.tries - 1) };
      if (isNoConnection(error)) {
        if (signal.aborted) return 'stopped';
        if (item.tries < this.#settings.triesMax) return retry;
        return item.message.once ? 'expired' : 'failed';
      }
      if (signal.aborted) return item.message.once ? 'unknown' : 'stopped';
      // Only method and code: grammY's errors carry the whole payload, and with it the login code.
      if (error instanceof GrammyError) {
        const retryAfterS = error.parameters.retry_after;
        if (retryAfterS !== undefined) {
          this.#log.warn({ method: error.method, retry_after_s: retryAfterS }, 'telegram_rate_limited');
          item.tries--; // Telegram told us to wait; that is not a failure of the message
          this.#nextAtMs = Math.max(this.#nextAtMs, this.#clock.monotonicMs() + retryAfterS * 1000);
          return { retryInMs: retryAfterS * 1000 };
        }
        if (error.error_code === 403) return 'unreachable';
        if (item.message.editId !== undefined && NOT_MODIFIED.test(error.description))
          return { sentAs: item.message.editId };
        if (error.error_code === 400 && NOBODY_THERE.test(error.description)) return 'unreachable';
        if (error.error_code < 500) {
          this.#log.error({ method: error.method, error_code: error.error_code }, 'telegram_refused');
          return 'failed';
        }
      } else if (!(error instanceof HttpError)) {
        // Nothing grammY documents. A message is not worth the process.
        this.#log.error({ error: (error as Error).name }, 'telegram_call_broken');
        return 'failed';
      }
      if (item.message.once) return 'unknown';
      return item.tries < this.#settings.triesMax ? retry : 'failed';
    }
  }

  #ended(message: TelegramMessage, delivery: Delivery, messageId?: number): void {
    this.counts[delivery]++;
    const fields = { telegram_id: message.chatId, kind: message.kind, delivery };
    if (delivery === 'sent') this.#log.debug(fields, 'telegram_message');
    else this.#log.warn(fields, 'telegram_message');
    this.#onDelivery(message, delivery);
    message.onDelivery?.(delivery, messageId);
  }
}

function isNoConnection(error: unknown): boolean {
  if (!(error instanceof HttpError)) return false;
  return NO_CONNECTION.has(String((error.error as { code?: unknown }).code));
}
