/** What of the Telegram bot works in the background: part of the composition root, made by `services.ts`. */

import { packageVersion } from '../gateway/runtime/package-version.js';
import { createBot } from './bot/bot.js';
import type { BotContext, BotPart } from './bot/context.js';
import { accountPart } from './bot/handlers/account.js';
import { broadcastPart } from './bot/handlers/admin/broadcast.js';
import { adminOverviewPart } from './bot/handlers/admin/overview.js';
import { adminPayoutsPart } from './bot/handlers/admin/payouts.js';
import { consentPart } from './bot/handlers/consent.js';
import { gatePart } from './bot/handlers/gate.js';
import { helpPart } from './bot/handlers/help.js';
import { languagePart } from './bot/handlers/language.js';
import { loginPart } from './bot/handlers/login.js';
import { promoPart } from './bot/handlers/promo.js';
import { starsPart } from './bot/handlers/stars.js';
import { startPart } from './bot/handlers/start.js';
import { statsPart } from './bot/handlers/stats.js';
import { supportPart } from './bot/handlers/support.js';
import { withdrawPart } from './bot/handlers/withdraw.js';
import { LiveStatus } from './bot/live-status.js';
import { NoticeSender } from './bot/notice-sender.js';
import { PayoutRequests } from './bot/payout-requests.js';
import { BotProfile, keepChatCommands } from './bot/profile.js';
import { UpdateSource } from './bot/update-source.js';
import { UpdateWorker } from './bot/update-worker.js';
import { TELEGRAM_WEBHOOK_PATH } from './bot/webhook-plugin.js';
import type { Collaborators } from './collaborators.js';
import type { LiveState } from './live-state/live-state.js';
import type { SettingsStore } from './settings/settings.js';
import type { AdminChannel } from './telegram/admin-channel.js';
import type { UserRow } from './users/users.js';

/** What the bot's services share with the others. */
export interface BotServicesDeps {
  settings: SettingsStore;
  live: LiveState;
  admins: AdminChannel;
  /** Whether anything can be paid out. */
  payoutsConfigured: boolean;
}

export interface BotServices {
  worker: UpdateWorker;
  source: UpdateSource;
  /** Null: the bot only sends, and has no commands. */
  profile: BotProfile | null;
  notices: NoticeSender;
  liveStatus: LiveStatus;
  payoutRequests: PayoutRequests;
}

/** Null: there is no bot. */
export function createBotServices(collaborators: Collaborators, deps: BotServicesDeps): BotServices | null {
  const { config, log, pool, redis, telegram, botApi: api } = collaborators;
  const { botToken, botUsername, botUpdates: mode, botWebhookSecret: secret, publicApiUrl } = config;
  if (api === null || botToken === null) return null;
  const handle = createBot({ api, telegram, botToken, botUsername }, partsOf(collaborators, deps));
  const worker = new UpdateWorker({ pool, log, api, handle });
  const webhook =
    publicApiUrl === null || secret === null
      ? null
      : { url: publicApiUrl.replace(/\/$/, '') + TELEGRAM_WEBHOOK_PATH, secret };
  const source = new UpdateSource({ pool, log, api, mode, webhook, onUpdate: () => worker.wake() });
  const language = config.adminChatLanguage;
  return {
    worker,
    source,
    profile: mode === 'off' ? null : new BotProfile({ api, log, consoleUrl: config.consoleUrl }),
    notices: new NoticeSender({ pool, log, telegram }),
    liveStatus: new LiveStatus({ pool, redis, log, telegram, rules: () => deps.settings.read() }),
    payoutRequests: new PayoutRequests({ pool, log, admins: deps.admins, language }),
  };
}

/** In the order updates are offered to them: conversations take texts, help takes what is left. */
function partsOf(
  collaborators: Collaborators,
  { settings, live, payoutsConfigured }: BotServicesDeps,
): BotPart[] {
  const { config, pool, redis, clock, telegram, codeSender } = collaborators;
  const rules = () => settings.read();
  const appUrl = config.consoleUrl;
  const onSeen = (ctx: BotContext, user: UserRow | null) => keepChatCommands(ctx, user, config.consoleUrl);
  return [
    gatePart(),
    startPart({ rules, onSeen, appUrl }),
    languagePart({ onSeen }),
    consentPart({ rules, live, appUrl }),
    accountPart({ pool, redis, rules, botUsername: config.botUsername }),
    statsPart({ clock }),
    supportPart(), // a reply to an answer of support goes there, whatever is asked for at the time
    withdrawPart({
      rules: async () => {
        const s = await settings.read();
        return {
          amountMicrosMin: s.withdrawMicrosMin,
          dayMicrosMax: s.withdrawDayMicrosMax,
          networks: s.withdrawNetworks,
        };
      },
    }),
    promoPart(),
    loginPart({ pool, clock, codeSender, telegram, settings: config }),
    starsPart({ live, rules, invoiceLifetimeS: config.invoiceLifetimeS }),
    adminOverviewPart({ redis, version: packageVersion(), onSeen }),
    adminPayoutsPart({
      configured: payoutsConfigured,
      rules: async () => {
        const s = await settings.read();
        return {
          autoApproveMicrosMax: s.payoutAutoApproveMicrosMax,
          twoAdminMicrosMin: s.payoutTwoAdminMicrosMin,
        };
      },
    }),
    broadcastPart(),
    helpPart(),
  ];
}
