import { Api, GrammyError, HttpError } from 'grammy';
import type { Clock } from '../../gateway/runtime/clock.js';
import type { Log } from '../../gateway/runtime/logging.js';

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
}

export interface TelegramMessage {
  chatId: number;
  text: string;
  /** For the log. */
  kind: string;
  /** Not sent any more after so many ms of waiting. */
  dropAfterMs: number;
  /**
   * Never send it twice: a call whose outcome is not known (broken line, time-out, 5xx) is not made again and ends as
   * `unknown`. Told to wait (429) it was not sent, and waits.
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

/** Descriptions of a 400 that mean the chat, not the message (the Bot API has no codes of its own for them). */
const NOBODY_THERE = /chat not found|user not found|user is deactivated|peer_id_invalid/i;

interface Waiting {
  message: TelegramMessage;
  dropAtMs: number;
  tries: number;
}

/**
 * Sends messages through the bot one after another, in order, below Telegram's overall rate; waits as long as
 * `retry_after` says; tries a broken line again. Nobody waits for it: `push` returns at once.
 */
export class TelegramQueue {
  readonly #api: Api;
  readonly #settings: Required<TelegramQueueSettings>;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #onDelivery: (message: TelegramMessage, delivery: Delivery) => void;
  readonly #waiting: Waiting[] = [];
  readonly #stop = new AbortController();
  #running: Promise<void> | null = null;
  /** The message of the call in progress. */
  #calling: Waiting | null = null;

  constructor(
    settings: TelegramQueueSettings,
    deps: { clock: Clock; log: Log; onDelivery?: (message: TelegramMessage, delivery: Delivery) => void },
  ) {
    this.#settings = {
      callTimeoutMs: 10_000,
      triesMax: 5,
      retryBaseMs: 500,
      messagesPerSecondMax: 25,
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
    return this.#waiting.length;
  }

  push(message: TelegramMessage): void {
    if (this.#stop.signal.aborted) this.#ended(message, 'stopped');
    else if (this.#waiting.length >= this.#settings.queueMax) this.#ended(message, 'queue_full');
    else {
      this.#waiting.push({ message, dropAtMs: this.#clock.monotonicMs() + message.dropAfterMs, tries: 0 });
      this.#running ??= this.#run();
    }
  }

  /**
   * Takes a message back that waits, also for a `retry_after`; it ends as `stopped`. False: it is being sent now, or
   * is not here any more.
   */
  withdraw(message: TelegramMessage): boolean {
    const index = this.#waiting.findIndex((waiting) => waiting.message === message);
    if (index < 0 || this.#waiting[index] === this.#calling) return false;
    this.#waiting.splice(index, 1);
    this.#ended(message, 'stopped');
    return true;
  }

  /** Ends the call in progress; what waits is dropped. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
    for (const { message } of this.#waiting.splice(0)) this.#ended(message, 'stopped');
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const intervalMs = 1000 / this.#settings.messagesPerSecondMax;
    for (let next = this.#waiting[0]; next !== undefined && !signal.aborted; next = this.#waiting[0]) {
      const beganMs = this.#clock.monotonicMs();
      this.#calling = next;
      const outcome = beganMs >= next.dropAtMs ? ('expired' as const) : await this.#attempt(next, signal);
      this.#calling = null;
      if (typeof outcome === 'object') {
        await pause(outcome.retryInMs, signal);
        continue;
      }
      this.#waiting.shift();
      this.#ended(next.message, outcome);
      // Every call counts at Telegram, whatever came of it. What it took is part of the pause.
      if (outcome !== 'expired')
        await pause(Math.max(0, beganMs + intervalMs - this.#clock.monotonicMs()), signal);
    }
    this.#running = null;
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

/** Waits, or until the signal. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener('abort', end);
  });
}
