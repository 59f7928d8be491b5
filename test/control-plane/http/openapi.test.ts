import { SerializerSelector } from '@fastify/fast-json-stringify-compiler';
import t from 'tap';
import { Compile } from 'typebox/compile';
import { Value } from 'typebox/value';
import { exampleOf, NO_EXAMPLE } from '../../../control-plane/http/examples.js';
import { startWorld } from '../../helpers/control-plane.js';
import { operationsOf, resolve, type Schema } from '../../helpers/openapi.js';

/** Rows of API.md that these domains answer. */
const ROWS = `
POST /api/auth/register
POST /api/auth/request_login_code
POST /api/auth/verify_code
POST /api/auth/refresh
POST /api/auth/logout
POST /api/auth/telegram
POST /api/admin/auth/login
GET /api/admin/auth/me
POST /api/admin/create_superadmin
GET /api/user/me
POST /api/user/update
GET /api/profile
PATCH /api/profile
POST /api/user/consent
DELETE /api/user/consent
POST /api/user/device/register
GET /api/user/devices
DELETE /api/user/devices/{id}
GET /api/user/logins
DELETE /api/user/logins/{id}
POST /api/traffic/start
POST /api/traffic/update
POST /api/traffic/report
POST /api/traffic/stop
GET /api/traffic/history
GET /api/traffic/destinations
GET /api/buyer/me/usage
GET /api/buyer/locations
GET /api/admin/buyers/{id}/usage
GET /api/admin/destinations
GET /api/traffic/summary
GET /api/stats/{period}
GET /api/sessions
GET /api/sessions/{id}
GET /api/live
POST /api/live/ticket
GET /api/admin/settings
PATCH /api/admin/settings
GET /api/admin/policy/destinations
PUT /api/admin/policy/destinations
GET /api/admin/policy/ports
PUT /api/admin/policy/ports
GET /api/admin/policy/origins
PUT /api/admin/policy/origins
POST /api/admin/kill
POST /api/withdraw
POST /api/withdraw/request
GET /api/withdraw
GET /api/withdraw/status/{payment_id}
POST /api/withdraw/{payment_id}/cancel
POST /api/payments/cryptomus/create_payout
POST /api/webhook/cryptomus
GET /api/admin/payments
GET /api/admin/payments/daily
POST /api/admin/payments/{id}/approve
POST /api/admin/payments/{id}/reject
POST /api/buyer/topups
GET /api/buyer/topups
POST /api/admin/payments/{id}/refund
GET /api/buyer/telegrams
POST /api/buyer/telegrams/link
DELETE /api/buyer/telegrams/{telegram_id}
POST /api/webhook/telegram
POST /api/buyer/trial
POST /api/admin/sessions/{id}/refund
POST /api/buyer/sub_users
GET /api/buyer/sub_users
PATCH /api/buyer/sub_users/{id}
DELETE /api/buyer/sub_users/{id}
GET /api/admin/reconciliation
GET /api/admin/jobs
GET /api/admin/jobs/{name}/runs
POST /api/admin/jobs/{name}/run
GET /api/admin/audit/search
POST /api/admin/backup/db
GET /api/admin/backup/db
GET /api/admin/dashboard/summary
GET /api/admin/stats
GET /api/admin/charts/users-daily
GET /api/admin/charts/traffic-daily
GET /api/admin/charts/revenue-daily
GET /api/admin/charts/payouts-daily
GET /api/admin/charts/buyers-daily
GET /api/admin/charts/countries-daily
GET /api/admin/reports/daily
GET /api/admin/metrics
GET /api/system/requests
GET /api/system/logs
GET /api/system/stats
GET /api/admin/gateways
POST /api/admin/gateways/{id}/drain
POST /api/webhook/ipintel
GET /api/dashboard
GET /api/dashboard/{telegram_id}
GET /api/referrals
GET /api/user/export
GET /api/notifications
POST /api/notifications/read
GET /api/user/telegrams
POST /api/user/telegrams/link
DELETE /api/user/telegrams/{index}
DELETE /api/user/telegrams
GET /api/admin/users-with-telegrams
DELETE /api/admin/users/{id}/telegrams/{index}
GET /api/admin/users
POST /api/admin/users
GET /api/admin/users/{id}
PATCH /api/admin/users/{id}
DELETE /api/admin/users/{id}
POST /api/admin/user/{id}/ban
POST /api/admin/user/{id}/unban
GET /api/news
GET /api/admin/news
POST /api/admin/news
GET /api/admin/news/{id}
PATCH /api/admin/news/{id}
DELETE /api/admin/news/{id}
POST /api/promo/redeem
GET /api/admin/promo_codes
POST /api/admin/promo_codes
GET /api/admin/promo_codes/{id}
PATCH /api/admin/promo_codes/{id}
DELETE /api/admin/promo_codes/{id}
POST /api/support
GET /api/support
GET /api/support/{id}
GET /api/admin/support
GET /api/admin/support/{id}
POST /api/admin/support/{id}/reply
POST /api/bot/send_login_code
POST /api/bot/notify_admin
POST /api/bot/update_balance
POST /api/bot/live_traffic
POST /api/bot/confirm_link
POST /api/admin/notify
POST /api/admin/broadcasts
GET /api/admin/broadcasts
GET /api/admin/broadcasts/{id}
GET /api/admin/broadcasts/{id}/recipients
POST /api/admin/broadcasts/{id}/start
POST /api/admin/broadcasts/{id}/cancel
GET /api/system/health
GET /api/system/ready
GET /api/system/version
`
  .trim()
  .split('\n');

/** What of an operation is to have an example: what is sent, what comes back, each refusal. */
function exampleParts(doc: Schema, operation: Schema): [what: string, schema: Schema, example: unknown][] {
  const first = (media: Schema) =>
    media.example ?? Object.values<{ value: unknown }>(media.examples ?? {})[0]?.value;
  const bodies: [string, Schema][] = [['body', operation.requestBody]];
  for (const [status, response] of Object.entries(operation.responses))
    bodies.push([status, resolve(doc, response)]);
  const parts: [string, Schema, unknown][] = bodies.flatMap(([what, part]) =>
    Object.entries<Schema>(part?.content ?? {})
      .filter(([type]) => type.endsWith('json'))
      .map(([, media]): [string, Schema, unknown] => [what, resolve(doc, media.schema), first(media)]),
  );
  for (const { name, in: where, schema, example } of operation.parameters ?? [])
    if (where === 'path') parts.push([name, schema, example]);
  return parts;
}

t.test('examples are made of schemas', async (t) => {
  const text = { type: 'string' };
  const schema = {
    type: 'object',
    required: ['country', 'port'],
    properties: {
      country: text,
      port: { type: 'integer', maximum: 80 },
      name: { type: 'string', examples: ['its own'] },
      cities: { type: 'array', items: text },
      ended_at: { anyOf: [{ type: 'null' }, { type: 'string', format: 'date-time' }] },
      via: { enum: ['pull'] },
      unheard_of: text,
    },
  };
  t.same(exampleOf(schema, false), { country: 'DE', port: 80 });
  t.same(exampleOf(schema, true), {
    country: 'DE',
    port: 80,
    name: 'its own',
    cities: ['Berlin'],
    ended_at: '2026-11-27T08:00:00.000Z',
    via: 'pull',
    unheard_of: NO_EXAMPLE,
  });
});

t.test('/openapi.json and /docs', async (t) => {
  const { call } = await startWorld(t);
  const { body: doc, status } = await call('GET', '/openapi.json');
  t.equal(status, 200);
  t.match(doc, { openapi: /^3\.1\./, info: { title: String, version: String }, paths: Object });

  const operations = Object.entries<Record<string, Record<string, unknown>>>(doc.paths).flatMap(
    ([path, item]) =>
      Object.entries(item).map(([method, operation]) => ({
        name: `${method.toUpperCase()} ${path}`,
        operation,
      })),
  );
  const names = new Set(operations.map((o) => o.name));
  for (const row of ROWS) t.ok(names.has(row), `${row} is documented`);

  // A server compiles each when it is first used
  const compile = SerializerSelector()({}, {});
  for (const { call: name, method, path: url, parameters, body, answers } of operationsOf(doc)) {
    for (const [status, answer] of answers)
      if (answer?.schema) {
        const schema = { ...answer.schema, components: doc.components };
        const route = { method, url, httpStatus: String(status), schema };
        t.doesNotThrow(() => compile(route), `${name} can answer ${status}`);
      }
    for (const schema of [body, ...parameters.map((p) => p.schema)])
      if (schema) t.doesNotThrow(() => Compile(schema), `${name} can be read`);
  }

  const tags = new Set(doc.tags.map((tag: { name: string }) => tag.name));
  const ids = new Set<unknown>();
  for (const { name, operation } of operations) {
    const { summary, description, operationId, responses } = operation as {
      summary?: string;
      description?: string;
      operationId?: string;
      tags?: string[];
      responses: Record<string, { description?: string; content?: Record<string, unknown> }>;
    };
    t.ok(summary && (description || !ROWS.includes(name)), `${name} says what it does`);
    t.ok(
      (operation.tags as string[])?.every((tag) => tags.has(tag)),
      `${name} has a known tag`,
    );
    t.notOk(ids.has(operationId), `${name} has an operationId of its own`);
    ids.add(operationId);
    for (const [what, schema, example] of exampleParts(doc, operation)) {
      t.ok(example !== undefined, `${name} ${what} has an example`);
      t.ok(Value.Check(schema, example), `${name} ${what}: its example fits ${JSON.stringify(example)}`);
      t.notMatch(JSON.stringify(example), NO_EXAMPLE, `${name} ${what}: say what each field looks like`);
    }
    const codes = Object.keys(responses);
    if (JSON.stringify(operation.parameters ?? []).includes('Idempotency-Key'))
      t.ok(codes.includes('409'), `${name} says that a key may come with another request`);
    t.ok(
      codes.some((code) => code.startsWith('2')),
      `${name} has a good answer`,
    );
    for (const code of codes.filter((c) => c.startsWith('4')))
      t.ok(
        resolve(doc, responses[code]).content?.['application/problem+json'],
        `${name} ${code} is a problem document`,
      );
  }

  t.match(
    doc.paths['/api/admin/packages/bulk_create'].post.requestBody.content['text/csv'],
    { schema: { type: 'string' }, example: /^user_id,ip,size_bytes/ },
    'CSV is documented beside JSON',
  );

  const pathParameters = operations.filter(({ name }) => name.includes('{'));
  for (const { name, operation } of pathParameters) {
    const wanted = [...name.matchAll(/\{(\w+)\}/g)].map((m) => m[1]);
    const given = (operation.parameters as { in: string; name: string; required: boolean }[])
      .filter((p) => p.in === 'path' && p.required)
      .map((p) => p.name);
    t.same(given.sort(), wanted.sort(), name);
  }

  const secured = doc.components.securitySchemes;
  for (const { name, operation } of operations)
    for (const requirement of (operation.security as Record<string, unknown>[] | undefined) ?? [])
      for (const scheme of Object.keys(requirement)) t.ok(secured[scheme], `${name}: ${scheme} is defined`);
  t.same(doc.paths['/api/traffic/start'].post.security, [
    { user_token: [] },
    { telegram_init_data: [] },
    { device_key: [] },
  ]);

  const refs = [...JSON.stringify(doc).matchAll(/"\$ref":"#\/([^"]+)"/g)].map((m) => m[1] as string);
  for (const ref of refs)
    t.ok(
      ref.split('/').reduce((node, key) => node?.[key], doc),
      `${ref} resolves`,
    );

  const docs = await call('GET', '/docs/');
  t.equal(docs.status, 200);
  const html = String(docs.body);
  t.notMatch(html, /(src|href)="(https?:)?\/\//, 'the documentation loads nothing from elsewhere');
  const initializer = await call('GET', '/docs/static/swagger-initializer.js');
  t.match(initializer.body, /"validatorUrl":null/);
  t.notMatch(docs.headers.get('content-security-policy'), /https:/);
});
