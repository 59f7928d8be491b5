/** Calls about abuse: see `rows.ts`. */
import { REPORT } from '../../helpers/cast.js';
import { body, on, type Row, row } from './row.js';

export const ABUSE_ROWS: readonly Row[] = [
  row('GET /api/admin/abuse/findings', 'admin', () => ({ query: { state: 'open', rule: 'fan_out' } })),
  row(
    'GET /api/admin/abuse/findings/{id}',
    'admin',
    on('id', (c) => c.findingId()),
  ),
  row(
    'POST /api/admin/abuse/findings/{id}/decide',
    'admin',
    on(
      'id',
      (c) => c.findingId(),
      () => ({ decision: 'keep_open', reason: 'a test' }),
    ),
  ),
  row('GET /api/buyer/me/warnings', 'buyer'),
  row('POST /api/abuse_reports', 'none', () => ({ body: REPORT })),
  row('POST /api/abuse_reports/status', 'none', async (c) => {
    const { reference, secret } = await c.abuseReport();
    return { body: { reference, secret } };
  }),
  row('GET /api/admin/abuse/reports', 'admin', () => ({ query: { state: 'open', exit_ip: REPORT.exit_ip } })),
  row(
    'GET /api/admin/abuse/reports/{id}',
    'admin',
    on('id', async (c) => (await c.abuseReport()).id),
  ),
  row('GET /api/admin/abuse/reports/{id}/streams', 'admin', async (c) => ({
    path: { id: (await c.abuseReport()).id },
    query: { minutes: 30, destination: true },
  })),
  row(
    'POST /api/admin/abuse/reports/{id}/link',
    'admin',
    on(
      'id',
      async (c) => (await c.abuseReport()).id,
      async (c) => ({ buyer_id: await c.buyerId() }),
    ),
  ),
  row(
    'POST /api/admin/abuse/reports/{id}/answer',
    'admin',
    on(
      'id',
      async (c) => (await c.abuseReport()).id,
      () => ({ answer: 'Done.', outcome: 'acted' }),
    ),
  ),
  row('GET /api/admin/transparency', 'admin', () => ({ query: { quarters: 2 } })),
  row('GET /api/admin/export/transparency', 'admin', () => ({ query: { quarters: 2 } })),
  row('GET /api/admin/legal_holds', 'admin', () => ({ query: { open: true } })),
  row(
    'POST /api/admin/legal_holds',
    'admin',
    body(async (c) => ({ user_id: await c.userId(), reason: 'a test' })),
  ),
  row(
    'POST /api/admin/legal_holds/{id}/confirm',
    'admin',
    on('id', (c) => c.legalHoldId()),
  ),
  row(
    'POST /api/admin/legal_holds/{id}/lift',
    'admin',
    on(
      'id',
      (c) => c.legalHoldId(),
      () => ({ reason: 'a test' }),
    ),
  ),
];
