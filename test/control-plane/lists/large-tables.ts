import type pg from 'pg';

/** Rows of the tables that grow with users; tables that grow with traffic get several times as many. */
const ROWS = 20_000;

/** The tables that grow with use, which no list may read as a whole. */
export const GROWING: readonly string[] = [
  'users',
  'telegram_accounts',
  'logins',
  'devices',
  'buyers',
  'buyer_tokens',
  'sub_users',
  'traffic_sessions',
  'packages',
  'allocations',
  'meters',
  'wallet_holds',
  'ledger_accounts',
  'ledger_transactions',
  'ledger_entries',
  'payouts',
  'topups',
  'usage_daily_buyer',
  'usage_daily_provider',
  'destination_usage',
  'reconciliation_flags',
  'audit_log',
  'job_runs',
  'notifications',
  'news',
  'promo_codes',
  'support_threads',
  'support_messages',
  'broadcasts',
  'broadcast_recipients',
  'backups',
  'abuse_findings',
  'abuse_reports',
  'legal_holds',
];

/** `id('user', 'n')`: SQL of an id that every table derives in the same way. */
const id = (kind: string, n: string) => `md5('${kind}' || (${n}))::uuid`;
const user = (n = 'n') => id('user', n);
const session = (n = 'n') => id('session', n);
const buyer = (n = 'n') => id('buyer', n);
const minutesAgo = (n = 'n') => `now() - (${n}) * interval '1 minute'`;
/** Traffic of so many days, today's included: each is filled, and so is each month's partition. */
const DAYS = 28;
const dayOf = (n = 'n') => `(now() AT TIME ZONE 'UTC')::date - ((${n}) % ${DAYS})::int`;

/** `table (columns): values for the row n`; so many rows of each. */
const TABLES: ReadonlyArray<[table: string, rows: number, columns: Record<string, string>]> = [
  [
    'users',
    ROWS,
    {
      id: user(),
      telegram_id: '900000000000 + n',
      username: "'name' || n",
      email: "'mail' || n || '@example.org'",
      phone: "'+4930' || n",
      status: "CASE WHEN n % 50 = 0 THEN 'banned' ELSE 'active' END",
      referral_code: "'code' || n",
      referred_by: `CASE WHEN n % 5 = 0 THEN ${user('n / 5')} END`,
      created_at: minutesAgo(),
    },
  ],
  ['telegram_accounts', ROWS, { telegram_id: '900000000000 + n', user_id: user(), username: "'name' || n" }],
  ['logins', ROWS, { id: id('login', 'n'), user_id: user('n % 5000') }],
  [
    'devices',
    ROWS,
    {
      id: "'device-' || n",
      user_id: user(),
      key_hash: "decode(md5('d' || n), 'hex')",
      os: "'linux'",
      client_version: "'1.0.0'",
      last_country: "(ARRAY['DE','US','FR','UZ'])[1 + n % 4]",
    },
  ],
  [
    'buyers',
    ROWS,
    {
      id: buyer(),
      account: "'b' || lpad(n::text, 8, '0')",
      name: "'Buyer ' || n",
      contact: "'c' || n || '@example.org'",
      region: "(ARRAY['EU','US','AS'])[1 + n % 3]",
      status: "CASE WHEN n % 9 = 0 THEN 'suspended' ELSE 'active' END",
      kyc_status: "CASE WHEN n % 7 = 0 THEN 'pending' ELSE 'approved' END",
      created_at: minutesAgo(),
    },
  ],
  [
    'buyer_tokens',
    ROWS,
    {
      id: id('token', 'n'),
      buyer_id: buyer('n % 5000'),
      token_hash: "decode(md5('t' || n), 'hex')",
      prefix: "'tsb'",
    },
  ],
  [
    'sub_users',
    ROWS,
    {
      id: id('sub', 'n'),
      buyer_id: buyer('n % 500'),
      account: "'s' || lpad(n::text, 8, '0')",
      name: "'Sub ' || n",
      password_hash: "'\\x00'",
      created_at: minutesAgo(),
    },
  ],
  [
    'traffic_sessions',
    3 * ROWS,
    {
      id: session(),
      user_id: user('n % 10000'),
      device_id: "'device-' || (n % 10000)",
      status: "CASE WHEN n % 100 = 0 THEN 'stopping' ELSE 'completed' END",
      exit_ip: "'84.128.0.0'::inet + (n % 30000)",
      country: "(ARRAY['DE','US','FR'])[1 + n % 3]",
      client_version: "'1.0.0'",
      started_at: minutesAgo(),
      stopped_at: minutesAgo(),
      completed_at: `CASE WHEN n % 100 <> 0 THEN ${minutesAgo()} END`,
    },
  ],
  [
    'packages',
    3 * ROWS,
    {
      id: id('package', 'n'),
      user_id: user('n % 10000'),
      exit_ip: "'84.128.0.0'::inet + n",
      country: "'DE'",
      size_bytes: '1000000',
      status: "(ARRAY['available','completed','failed','revoked','allocated','in_progress'])[1 + n % 6]",
      origin: "'ingest'",
      session_id: session(),
      created_at: minutesAgo(),
    },
  ],
  [
    'allocations',
    3 * ROWS,
    {
      id: id('allocation', 'n'),
      package_id: id('package', 'n'),
      buyer_id: buyer('n % 2000'),
      session_id: session(),
      via: "'pull'",
      status: "(ARRAY['allocated','completed','failed','revoked','in_progress'])[1 + n % 5]",
      size_bytes: '1000000',
      assigned_at: minutesAgo(),
    },
  ],
  [
    'meters',
    3 * ROWS,
    {
      session_id: session(),
      allocation_id: id('allocation', 'n'),
      gateway_id: "'gw-' || (n % 20)",
      epoch: "md5('e' || n)",
      provider_price_micros_per_gb: '500000',
      buyer_price_micros_per_gb: '2000000',
      final: 'n % 50 <> 0',
      opened_at: minutesAgo(),
    },
  ],
  [
    'wallet_holds',
    ROWS,
    {
      kind: "'buyer'",
      owner_id: buyer(),
      gateway_id: "'gw-1'",
      run: "left(md5('r' || n), 24)",
      closed_at: 'CASE WHEN n % 10 <> 0 THEN now() END',
    },
  ],
  ['ledger_accounts', ROWS, { kind: "'provider_available'", owner_id: user() }],
  [
    'ledger_transactions',
    5 * ROWS,
    {
      id: id('transaction', 'n'),
      kind: "'traffic'",
      source_id: "'meter:' || n",
      content_hash: "'\\x00'",
      created_at: minutesAgo(),
    },
  ],
  [
    'ledger_entries',
    5 * ROWS,
    {
      transaction_id: id('transaction', 'n'),
      account_id: '1 + n % 5000',
      kind: "(ARRAY['traffic_earning','traffic_charge','referral_bonus','payout','refund'])[1 + n % 5]",
      amount_micros: '1',
      account_version: '1 + n / 5000',
      balance_after_micros: '1',
      created_at: minutesAgo(),
    },
  ],
  [
    'payouts',
    ROWS,
    {
      id: id('payout', 'n'),
      user_id: user('n % 3000'),
      amount_micros: '6000000',
      method: "'cryptomus'",
      network: "'TRON'",
      currency: "'USDT'",
      target: "'T'",
      status: "(ARRAY['completed','failed','cancelled','completed'])[1 + n % 4]",
      created_at: minutesAgo(),
      ended_at: minutesAgo(),
    },
  ],
  [
    'topups',
    ROWS,
    {
      id: id('topup', 'n'),
      buyer_id: buyer('n % 2000'),
      amount_micros: '6000000',
      credited_micros: 'CASE WHEN n % 2 = 0 THEN 6000000 END',
      status: "CASE WHEN n % 2 = 0 THEN 'completed' ELSE 'failed' END",
      created_at: minutesAgo(),
      ended_at: minutesAgo(),
    },
  ],
  ['usage_daily_buyer', 3 * ROWS, { buyer_id: buyer(`n / ${DAYS}`), day: dayOf(), country: "'DE'" }],
  ['usage_daily_provider', 3 * ROWS, { user_id: user(`n / ${DAYS}`), day: dayOf() }],
  [
    'destination_usage',
    3 * ROWS,
    {
      day: dayOf(),
      session_id: session(),
      allocation_id: id('allocation', 'n'),
      buyer_id: buyer('n % 2000'),
      user_id: user('n % 10000'),
      exit_ip: "'84.128.0.0'::inet + (n % 30000)",
      country: "'DE'",
      host: "'host' || (n % 3000) || '.example'",
      port: '443',
      bytes_up: '1',
      bytes_down: '1',
      streams: '1',
      first_at: minutesAgo(),
      last_at: minutesAgo(),
    },
  ],
  [
    'reconciliation_flags',
    ROWS,
    {
      session_id: session(),
      kind: "'device_report'",
      metered_bytes: '1',
      difference_bytes: '1',
      detail: "'x'",
      resolved_at: 'CASE WHEN n % 20 <> 0 THEN now() END',
    },
  ],
  [
    'audit_log',
    5 * ROWS,
    {
      at: minutesAgo(),
      actor_role: "(ARRAY['user','admin','system'])[1 + n % 3]",
      actor_id: `(${user('n % 2000')})::text`,
      action: "(ARRAY['login','settings_changed','user_banned','logout'])[1 + n % 4]",
      object_type: "(ARRAY['user','login','settings'])[1 + n % 3]",
      object_id: "'o' || (n % 5000)",
    },
  ],
  [
    'job_runs',
    ROWS,
    {
      job: "(ARRAY['cleanup','stats','notifications'])[1 + n % 3]",
      attempt: '1',
      started_at: minutesAgo(),
      ended_at: minutesAgo(),
      outcome: "'succeeded'",
    },
  ],
  [
    'notifications',
    3 * ROWS,
    {
      user_id: user('n % 3000'),
      kind: "'x'",
      title: "'t'",
      body: "'b'",
      created_at: minutesAgo(),
      read_at: 'CASE WHEN n % 3 = 0 THEN now() END',
    },
  ],
  [
    'news',
    ROWS,
    {
      id: id('news', 'n'),
      texts: `'{"en":{"title":"t","body":"b"},"ru":{"title":"t","body":"b"},"uz":{"title":"t","body":"b"}}'`,
      publish_at: minutesAgo(),
      created_at: minutesAgo(),
    },
  ],
  [
    'promo_codes',
    ROWS,
    {
      id: id('promo', 'n'),
      code: "'PROMO' || n",
      bonus_micros: '1',
      uses_max: '5',
      created_at: minutesAgo(),
    },
  ],
  [
    'support_threads',
    ROWS,
    {
      id: id('thread', 'n'),
      user_id: user('n % 3000'),
      subject: "'s'",
      status: "(ARRAY['open','answered','closed'])[1 + n % 3]",
      updated_at: minutesAgo(),
    },
  ],
  ['support_messages', 2 * ROWS, { thread_id: id('thread', 'n / 2'), author: "'user'", body: "'b'" }],
  [
    'broadcasts',
    ROWS,
    { id: id('broadcast', 'n'), target: "'all'", message: "'m'", created_at: minutesAgo() },
  ],
  [
    'broadcast_recipients',
    3 * ROWS,
    {
      broadcast_id: id('broadcast', 'n % 40'),
      user_id: user('n / 40'),
      state: "(ARRAY['sent','failed','pending'])[1 + n % 3]",
    },
  ],
  ['backups', ROWS, { id: id('backup', 'n'), state: "'removed'", created_at: minutesAgo() }],
  [
    'abuse_findings',
    ROWS,
    {
      id: id('finding', 'n'),
      rule: "(ARRAY['fan_out','failed_dials','blocked_targets','target_by_devices','target_by_buyers','reported'])[1 + n % 6]",
      subject: "'subject' || n",
      buyer_id: buyer('n % 5000'),
      state: "(ARRAY['open','dismissed','warned','suspended'])[1 + n % 4]",
      measured: '9',
      measured_max: '9',
      threshold: '5',
      evidence: "'{}'",
      opened_at: minutesAgo(),
      decided_at: `CASE WHEN n % 4 <> 0 THEN ${minutesAgo()} END`,
    },
  ],
  [
    'abuse_reports',
    ROWS,
    {
      id: id('report', 'n'),
      reference: "'AR' || n",
      secret_hash: "sha256('x')",
      state: "(ARRAY['open','answered','closed'])[1 + n % 3]",
      outcome: "CASE WHEN n % 3 = 2 THEN 'acted' END",
      closed_at: `CASE WHEN n % 3 = 2 THEN ${minutesAgo()} END`,
      exit_ip: "'84.128.0.0'::inet + (n % 30000)",
      happened_at: minutesAgo(),
      description: "'d'",
      finding_id: `CASE WHEN n % 9 = 0 THEN ${id('finding', 'n')} END`,
      received_at: minutesAgo(),
    },
  ],
  [
    'legal_holds',
    ROWS,
    {
      id: id('hold', 'n'),
      buyer_id: `CASE WHEN n % 2 = 0 THEN ${buyer('n % 5000')} END`,
      user_id: `CASE WHEN n % 2 = 1 THEN ${user('n % 5000')} END`,
      reason: "'r'",
      asked_at: minutesAgo(),
      asked_by: user('1'),
      lapses_at: minutesAgo(),
      lifted_at: `CASE WHEN n % 50 <> 0 THEN ${minutesAgo()} END`,
      lifted_by: `CASE WHEN n % 50 <> 0 THEN ${user('2')} END`,
    },
  ],
];

/** Fills the tables so far that the planner cares, and lets it know. Guards are off: the rows need not add up. */
export async function fillTables(pool: pg.Pool): Promise<void> {
  const client = await pool.connect();
  try {
    await client.query('SET statement_timeout = 0');
    await client.query('SET session_replication_role = replica');
    // None without rows: what is empty is rightly read as a whole.
    for (const day of [0, DAYS - 1])
      await client.query(`SELECT make_destination_usage_partition(${dayOf(`${day}`)})`);
    for (const [table, rows, columns] of TABLES)
      await client.query(
        `INSERT INTO ${table} (${Object.keys(columns).join(', ')})
         SELECT ${Object.values(columns).join(', ')} FROM generate_series(1, ${rows}) AS n
         ON CONFLICT DO NOTHING`,
      );
    await client.query('SET session_replication_role = DEFAULT');
    await client.query('VACUUM ANALYZE');
  } finally {
    await client.query('RESET ALL');
    client.release();
  }
}

/** The tables that got rows, which must be those that grow. */
export const FILLED: readonly string[] = TABLES.map(([table]) => table);
