import { integer, oneOf, secret, text } from '../../gateway/runtime/environment.js';

/** Part of the control plane's settings: the bot and signing in with Telegram. */
export const telegramSettings = {
  botToken: secret('TS_BOT_TOKEN', 'token of the Telegram bot; required in production', null),
  botUsername: text('TS_BOT_USERNAME', 'name of the Telegram bot without @, for links', null),
  botApiUrl: text('TS_BOT_API_URL', 'root of the Telegram Bot API', 'https://api.telegram.org'),
  telegramOauthUrl: text(
    'TS_TELEGRAM_OAUTH_URL',
    'root of Telegram Login, where the console sends people to sign in',
    'https://oauth.telegram.org',
  ),
  botQueueMax: integer(
    'TS_BOT_QUEUE_MAX',
    'messages waiting for Telegram; above it new ones are dropped and logged',
    { default: 10_000, min: 1 },
  ),
  botMessagesPerSecond: integer(
    'TS_BOT_MESSAGES_PER_SECOND',
    'messages to Telegram over all chats; above it they wait. Telegram takes about 30, more from bots that pay for it',
    { default: 25, min: 1, max: 1_000 },
  ),
  botUpdates: oneOf(
    'TS_BOT_UPDATES',
    'how the bot hears of messages: polling, webhook (needs TS_PUBLIC_API_URL) or off (it only sends)',
    ['polling', 'webhook', 'off'],
    'polling',
  ),
  botWebhookSecret: secret(
    'TS_BOT_WEBHOOK_SECRET',
    'what Telegram proves itself with at the webhook, 16 to 256 of A-Z a-z 0-9 _ -',
    null,
  ),
  adminChatId: text(
    'TS_ADMIN_CHAT_ID',
    'Telegram chat that notices for admins go to, such as -1001234567890; unset: to each admin',
    null,
  ),
  adminChatLanguage: oneOf(
    'TS_ADMIN_CHAT_LANGUAGE',
    'language of those notices: en, ru or uz',
    ['en', 'ru', 'uz'],
    'en',
  ),
};
