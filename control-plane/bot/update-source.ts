import { type Api, GrammyError } from 'grammy';
import type pg from 'pg';
import type { Log } from '../../gateway/runtime/logging.js';
import { withLock } from '../db/pool.js';
import { pause } from '../telegram/pause.js';
import { ALLOWED_UPDATES, takeInUpdates } from './updates.js';

export interface UpdateSourceDeps {
  pool: pg.Pool;
  log: Log;
  /** Its calls may take longer than a long poll lasts. */
  api: Api;
  /** How updates come. `off`: the bot hears nothing, and only sends. */
  mode: 'polling' | 'webhook' | 'off';
  /** Of the webhook. */
  webhook: { url: string; secret: string } | null;
  /** Updates were written down. */
  onUpdate: () => void;
  /** How long Telegram holds a poll open, seconds; default 25. */
  pollTimeoutS?: number;
}

/** Updates of one poll; what Telegram gives at most. */
const POLL_UPDATES_MAX = 100;
const POLL_TIMEOUT_S = 25;
/** Pauses after a failure: doubling, so that a wrong token or a broken line costs little. */
const PAUSE_MS = { first: 500, longest: 30_000 };
/** A control plane that does not poll looks so often whether the one that does is gone. */
const TAKE_OVER_MS = 3_000;

/**
 * Brings updates in. By webhook: tells Telegram where to send them, and the API takes them. By polling: one
 * control plane of all asks for them (a lock in Postgres that goes with its connection) and confirms to
 * Telegram only what is committed here.
 */
export class UpdateSource {
  readonly #deps: UpdateSourceDeps;
  readonly #stop = new AbortController();
  #loop: Promise<void> | null = null;

  constructor(deps: UpdateSourceDeps) {
    this.#deps = deps;
  }

  start(): void {
    if (this.#deps.mode !== 'off') this.#loop ??= this.#keepOn();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  async #keepOn(): Promise<void> {
    const { log, mode } = this.#deps;
    const { signal } = this.#stop;
    let pauseMs = PAUSE_MS.first;
    while (!signal.aborted) {
      try {
        if (mode === 'webhook') return await this.#setWebhook();
        if (
          await this.#pollWithLock(() => {
            pauseMs = PAUSE_MS.first;
          })
        )
          continue;
        await pause(TAKE_OVER_MS, signal);
      } catch (error) {
        if (signal.aborted) return;
        // Only method and code: an error of grammY carries the token in its address.
        const { method, error_code, parameters } =
          error instanceof GrammyError ? error : ({} as Partial<GrammyError>);
        log.warn({ method, error_code, error: (error as Error).name }, 'telegram_updates_not_coming');
        await pause(Math.max(pauseMs, (parameters?.retry_after ?? 0) * 1000), signal);
        pauseMs = Math.min(PAUSE_MS.longest, pauseMs * 2);
      }
    }
  }

  async #setWebhook(): Promise<void> {
    const { api, webhook, log } = this.#deps;
    if (webhook === null) throw new Error('webhook mode without a webhook');
    const options = { secret_token: webhook.secret, allowed_updates: [...ALLOWED_UPDATES] };
    await api.setWebhook(webhook.url, options, this.#stop.signal as never);
    log.info({ url: webhook.url }, 'telegram_webhook_set');
  }

  /** False: another process polls. Otherwise polls until stopped; throws what a poll throws. */
  async #pollWithLock(onGood: () => void): Promise<boolean> {
    const { pool, api } = this.#deps;
    const polled = await withLock(pool, 'telegram_polling', async (lost) => {
      await api.deleteWebhook({}, this.#stop.signal as never); // else Telegram answers 409
      await this.#poll(lost, onGood);
    });
    return polled !== null;
  }

  async #poll(lockLost: () => boolean, onGood: () => void): Promise<void> {
    const { pool, api, onUpdate, pollTimeoutS: timeout = POLL_TIMEOUT_S } = this.#deps;
    const { signal } = this.#stop;
    let offset: number | undefined;
    while (!signal.aborted && !lockLost()) {
      const updates = await api.getUpdates(
        {
          ...(offset !== undefined && { offset }),
          limit: POLL_UPDATES_MAX,
          timeout,
          allowed_updates: [...ALLOWED_UPDATES],
        },
        signal as never,
      );
      onGood();
      if ((await takeInUpdates(pool, updates)) > 0) onUpdate();
      // The next poll confirms them.
      const last = updates.at(-1);
      if (last !== undefined) offset = last.update_id + 1;
    }
  }
}
