import { Api, GrammyError, HttpError } from 'grammy';
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
}

export interface TelegramMessage {
  chatId: number;
  text: string;
  /** For the log. */
  kind: string;
  /** Not sent any more after so many ms of waiting. */
  dropAfterMs: number;
  /**
   * Never send it twice: a call whose outcome is not known (broken line, time-out, 5xx) is not made again and
   * ends as `unknown`. Told to wait (429) it was not sent, and waits.
   */
  once?: boolean;
  /** Called once, with what became of it. */
  onDelivery?: (delivery: Delivery) => void;
}

/** What became of one message. */
export type Delivery =
  | 'sent'
  /** The person blocked the bot, never started it, or the chat is gone. */
  | 'unreachable'
  | 'expired'
  | 'failed'
  /** Of a message to be sent `once`: it may have arrived or not. */
  | 'unknown'
  | 'queue_full'
  | 'stopped';

/**
 * Descriptions of a 400 that mean the chat, not the message (the Bot API has no codes of its own for them).
 */
const NOBODY_THERE = /chat not found|user not found|user is deactivated|peer_id_invalid/i;

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
  readonly #calls = new Set<Promise<void>>();
  /** Chats of calls in progress. */
  readonly #busy = new Set<number>();
  readonly #stop = new AbortController();
  /** Whether `#run` looks at what waits. */
  #looking = false;
  #running: Promise<void> = Promise.resolve();
  /** Ends the pause for the next message that may go: something changed. */
  #wake = new AbortController();
  /** The next call begins no earlier: the rate, and what Telegram said. */
  #nextAtMs = Number.NEGATIVE_INFINITY;

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
    const intervalMs = 1000 / this.#settings.messagesPerSecondMax;
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
    return this.#waiting.findIndex(({ message: { chatId }, notBeforeMs }) => {
      if (!passedOver.has(chatId) && notBeforeMs <= nowMs) return true;
      passedOver.add(chatId);
      return false;
    });
  }

  /** How long nothing can go, unless something changes. */
  #idleMs(item: Waiting | undefined, nowMs: number): number {
    const first = this.#waiting[0]?.dropAtMs ?? nowMs;
    const retry = Math.min(...this.#waiting.map((w) => (w.notBeforeMs > nowMs ? w.notBeforeMs : first)));
    const untilMs = item === undefined ? Math.min(first, retry) : Math.min(first, this.#nextAtMs);
    return Math.max(0, untilMs - nowMs);
  }

  #begin(item: Waiting): void {
    const { chatId } = item.message;
    this.#busy.add(chatId);
    const call: Promise<void> = this.#attempt(item, this.#stop.signal).then((outcome) => {
      this.#busy.delete(chatId);
      this.#calls.delete(call);
      if (typeof outcome === 'object') {
        item.notBeforeMs = this.#clock.monotonicMs() + outcome.retryInMs;
        this.#waiting.unshift(item);
      } else this.#ended(item.message, outcome);
      this.#look();
    });
    this.#calls.add(call);
  }

  async #attempt(item: Waiting, signal: AbortSignal): Promise<Delivery | { retryInMs: number }> {
    const { chatId, text } = item.message;
    item.tries++;
    try {
      // grammY's own AbortSignal type is a shim's; the platform's fits at run time.
      await this.#api.sendMessage(chatId, text, undefined, signal as never);
      return 'sent';
    } catch (error) {
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
      if (item.tries >= this.#settings.triesMax) return 'failed';
      return { retryInMs: this.#settings.retryBaseMs * 2 ** (item.tries - 1) };
    }
  }

  #ended(message: TelegramMessage, delivery: Delivery): void {
    const fields = { telegram_id: message.chatId, kind: message.kind, delivery };
    if (delivery === 'sent') this.#log.debug(fields, 'telegram_message');
    else this.#log.warn(fields, 'telegram_message');
    this.#onDelivery(message, delivery);
    message.onDelivery?.(delivery);
  }
}
