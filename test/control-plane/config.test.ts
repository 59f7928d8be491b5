import t from 'tap';
import { readControlPlaneConfig } from '../../control-plane/config.js';
import { TEST_ENV } from '../helpers/control-plane.js';

const read = (env: Record<string, string>) =>
  readControlPlaneConfig({ ...TEST_ENV, TS_DATABASE_URL: 'postgres://x', ...env });

t.test('settings of the bot and of backups that do not fit together', async (t) => {
  const secret = 'a-secret-of-sixteen-at-least';
  const refused: [Record<string, string>, RegExp][] = [
    [
      { TS_BOT_UPDATES: 'webhook' },
      /TS_BOT_UPDATES=webhook needs TS_BOT_WEBHOOK_SECRET and TS_PUBLIC_API_URL/,
    ],
    [{ TS_BOT_UPDATES: 'webhook', TS_BOT_WEBHOOK_SECRET: secret }, /TS_BOT_UPDATES=webhook needs/],
    [{ TS_BOT_WEBHOOK_SECRET: 'short' }, /TS_BOT_WEBHOOK_SECRET must be 16 to 256/],
    [{ TS_BOT_WEBHOOK_SECRET: `${secret} with spaces` }, /TS_BOT_WEBHOOK_SECRET must be/],
    [{ TS_BOT_UPDATES: 'pigeon' }, /TS_BOT_UPDATES/],
    [{ TS_BACKUP_DIR: '/backups', TS_BACKUP_S3_BUCKET: 'b' }, /exclude each other/],
    [{ TS_BACKUP_S3_BUCKET: 'b', TS_BACKUP_S3_ACCESS_KEY_ID: 'k' }, /go together/],
    [
      { TS_BACKUP_S3_BUCKET: 'b', TS_BACKUP_S3_ENDPOINT: 's3.example' },
      /TS_BACKUP_S3_ENDPOINT must be https/,
    ],
  ];
  for (const [env, message] of refused) t.throws(() => read(env), { code: 'BAD_ENVIRONMENT', message });
  const webhook = { TS_BOT_UPDATES: 'webhook', TS_BOT_WEBHOOK_SECRET: secret };
  t.match(read({ ...webhook, TS_PUBLIC_API_URL: 'https://api.example' }), { botUpdates: 'webhook' });
  t.match(read({}), { botUpdates: 'polling', backupDir: null, backupS3Bucket: null });
});
