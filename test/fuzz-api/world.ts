import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { migrateJobQueue } from '../../control-plane/db/job-queue.js';
import { invariants } from '../../control-plane/settlement/invariants.js';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { Program } from '../faults/program.js';
import { startBotApi } from '../helpers/bot-api.js';
import { CALLERS, type Caller, Cast, UNHURRIED_ENV } from '../helpers/cast.js';
import { TEST_ENV } from '../helpers/control-plane.js';
import { type Operation, operationsOf } from '../helpers/openapi.js';
import { type PaymentsWorld, startPaymentsWorld } from '../helpers/payments-world.js';
import type { Known } from './draw.js';

/** What is undone when the world stops, last first. */
class Undo {
  readonly #steps: Array<() => unknown> = [];
  teardown(step: () => unknown): void {
    this.#steps.push(step);
  }
  async all(): Promise<void> {
    for (const step of this.#steps.splice(0).reverse()) await step();
  }
}

/**
 * A control plane in a process of its own, with real Postgres and Redis, and Telegram and Cryptomus played by servers of
 * ours. Beside it, on the same record, one in this process makes the people of each batch.
 */
export class FuzzWorld {
  private constructor(
    readonly operations: readonly Operation[],
    readonly port: number,
    readonly program: Program,
    readonly world: PaymentsWorld,
    readonly stop: () => Promise<void>,
    /** The end of what the process has logged. */
    readonly log: () => string,
  ) {}

  /** `preload`: a module that breaks the server. Throws when a part does not start; nothing is left behind then. */
  static async start(preload: string | null = null): Promise<FuzzWorld> {
    const undo = new Undo();
    try {
      const folder = mkdtempSync(join(tmpdir(), 'ts-fuzz-api-'));
      undo.teardown(() => rmSync(folder, { recursive: true, force: true }));
      const telegram = await startBotApi(undo, []);
      const world = await startPaymentsWorld(undo, { env: UNHURRIED_ENV });
      await migrateJobQueue(world.databaseUrl);
      const logFile = join(folder, 'api.log');
      const logFd = openSync(logFile, 'a');
      undo.teardown(() => closeSync(logFd));
      const program = new Program({
        name: 'api',
        entry: projectPath('dist/control-plane/main.js'),
        logFd,
        preload,
        env: {
          ...TEST_ENV,
          ...UNHURRIED_ENV,
          ...world.cryptomus.env,
          TS_LOG_LEVEL: 'warn',
          TS_DATABASE_URL: world.databaseUrl,
          TS_REDIS_URL: world.redisUrl,
          TS_API_HOST: '127.0.0.1',
          TS_API_PORT: '0',
          TS_CONTROL_METRICS_PORT: '0',
          TS_BOT_API_URL: telegram.url,
          TS_BOT_UPDATES: 'off',
          TS_BOT_QUEUE_MAX: '10000000',
          TS_BACKUP_DIR: join(folder, 'backups'),
          TS_PG_DUMP: process.execPath, // answers to --version; no dump is made of what is thrown away anyway
        },
      });
      undo.teardown(() => program.stop());
      await program.start();
      const operations = operationsOf((await world.call('GET', '/openapi.json')).body);
      return new FuzzWorld(
        operations,
        program.port ?? 0,
        program,
        world,
        () => undo.all(),
        () => readFileSync(logFile, 'utf8').slice(-8_000),
      );
    } catch (error) {
      await undo.all();
      throw error;
    }
  }

  /** People for a batch, with everything that can be theirs; settings are the first ones again. */
  async people(): Promise<Known> {
    await this.world.pool.query('DELETE FROM settings');
    const [cast, other] = [new Cast(this.world), new Cast(this.world)];
    const credentials = {} as Record<Caller, Record<string, string>>;
    for (const caller of CALLERS) credentials[caller] = await cast.credentials(caller);
    const buyers = [await cast.buyer(), await other.buyer()];
    const users = [await cast.user(), await other.user(), await cast.stranger()];
    const sessions = [await cast.chargedSessionId(), await other.sessionId()];
    const payouts = [await cast.payoutId(), await other.releasedId()];
    const promo = await cast.promo();
    const [news, thread, broadcast] = [await cast.newsId(), await cast.threadId(), await cast.broadcastId()];
    const [subUser, login] = [await cast.subUserId(), await cast.loginId()];
    const packages = [await cast.packageId(), await other.pulledId()];
    const userIds = users.map((u) => u.userId);
    const buyerIds = buyers.map((b) => b.id);
    const [finding, report, hold] = [
      await cast.findingId(),
      await cast.abuseReport(),
      await cast.legalHoldId(),
    ];
    const gateway = await cast.gatewayId();
    const deviceId = await cast.deviceId();
    const ids = [...userIds, ...buyerIds, ...sessions, ...payouts, ...packages];
    return {
      credentials,
      values: {
        id: [...ids, promo.id, news, thread, broadcast, subUser, login, finding, report.id, hold],
        user_id: userIds,
        buyer_id: buyerIds,
        session_id: sessions,
        payment_id: payouts,
        uuid: packages,
        token_id: buyers.map((b) => b.tokenId),
        thread_id: [thread],
        telegram_id: users.map((u) => u.telegramId),
        index: [0, await cast.telegramIndex()],
        device_id: [deviceId],
        gateway_id: [gateway],
        finding_id: [finding],
        reference: [report.reference],
        refresh_token: [await other.refreshToken()],
        code: [await other.loginCode(), promo.code],
        terms_version: [this.world.config.termsVersion],
        token: [await other.linkToken()],
        secret: [TEST_ENV.TS_BOOTSTRAP_SECRET, report.secret],
        network: ['TRON', '203.0.113.0/24'],
        target: ['TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t', 'all', 'region:DE'],
        method: ['cryptomus'],
        name: ['cleanup', 'stats', 'A name'],
        // What a path means by its id
        logins: [login],
        devices: [deviceId],
        sessions,
        buyers: buyerIds,
        sub_users: [subUser],
        packages,
        packets: packages,
        gateways: [gateway],
        payments: payouts,
        withdraw: payouts,
        users: userIds,
        user: userIds,
        telegrams: [0, await cast.telegramIndex(), await cast.buyerTelegramId()],
        news: [news],
        promo_codes: [promo.id],
        support: [thread],
        broadcasts: [broadcast],
        findings: [finding],
        reports: [report.id],
        legal_holds: [hold],
      },
    };
  }

  /** What does not add up in the books; empty when all does. */
  books(): Promise<string[]> {
    return invariants(this.world.pool);
  }
}
