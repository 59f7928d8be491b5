import { randomUUID } from 'node:crypto';
import t from 'tap';
import {
  countRecipients,
  listBroadcasts,
  listRecipients,
} from '../../../control-plane/broadcasts/broadcasts.js';
import type { Queryable } from '../../../control-plane/db/pool.js';
import { readDevices } from '../../../control-plane/devices/device-list.js';
import { encodeCursor } from '../../../control-plane/http/pagination.js';
import { countUnread, readInbox } from '../../../control-plane/inbox/inbox.js';
import { listNews } from '../../../control-plane/news/news.js';
import { listPeople } from '../../../control-plane/people/people.js';
import { readReferrals } from '../../../control-plane/people/referrals.js';
import { readTelegrams } from '../../../control-plane/people/telegrams.js';
import { listPromoCodes } from '../../../control-plane/promo/promo-codes.js';
import { listThreads } from '../../../control-plane/support/threads.js';
import { connectLive } from '../../../gateway/live/connection.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { addUser, startMoneyDatabase, startMoneyRedis } from '../../helpers/money-world.js';

t.test('every list goes by an index', async (t) => {
  const pool = await startMoneyDatabase(t);
  const { url } = await startMoneyRedis(t);
  const redis = connectLive({ url, log: silentLog });
  t.teardown(() => redis.disconnect());
  const id = await addUser(pool);
  const client = await pool.connect();
  t.teardown(() => client.release());
  // A sequential scan is then planned only where there is no other way.
  await client.query('SET enable_seqscan = off');
  const scans: string[] = [];
  const explaining = {
    async query(sql: string, values?: unknown[]) {
      const { rows } = await client.query(`EXPLAIN (FORMAT JSON) ${sql}`, values);
      const plan = JSON.stringify(rows);
      for (const [, table] of plan.matchAll(/"Node Type":"Seq Scan".*?"Relation Name":"(\w+)"/g))
        scans.push(`${table}: ${sql.trim().slice(0, 100)}`);
      return client.query(sql, values);
    },
  } as unknown as Queryable;

  const byTime = { limit: 50, cursor: encodeCursor([new Date(), randomUUID()]) };
  const byId = { limit: 50, cursor: encodeCursor([randomUUID()]) };
  for (const filter of [
    {},
    { status: 'banned' },
    { country: 'DE' },
    { query: 'ann' },
    { query: '123456' },
    { query: randomUUID() },
    { query: 'ann', status: 'active', country: 'DE' },
  ])
    await listPeople(explaining, filter, {
      limit: 50,
      cursor: encodeCursor(['-created_at', new Date(), randomUUID()]),
      sort: '-created_at',
    });
  await listNews(explaining, true, byTime);
  await listPromoCodes(explaining, byTime);
  await listThreads(explaining, {}, byTime);
  await listThreads(explaining, { userId: id }, byTime);
  await listThreads(explaining, { status: 'open' }, byTime);
  await readInbox(explaining, id, { unread: true, limit: 50, cursor: encodeCursor([5]) });
  await countUnread(explaining, id);
  await listBroadcasts(explaining, byTime);
  await listRecipients(explaining, randomUUID(), { state: 'sent' }, byId);
  await countRecipients(explaining, [randomUUID()]);
  await readReferrals(explaining, id);
  await readTelegrams(explaining, id);
  await readDevices(
    { pool: explaining, redis },
    { id, status: 'active', language: 'en', settings: { cap_bytes_per_day: 1 } },
    { termsVersion: '1', minClientVersion: '0.1.0' },
  );
  t.same(scans, []);
});
