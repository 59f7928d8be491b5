/** Examples for the OpenAPI document, made of the schemas themselves, so that none is out of date. */

/** The part of JSON Schema that examples are made of. */
export interface ExampleSchema {
  type?: string;
  const?: unknown;
  enum?: unknown[];
  default?: unknown;
  example?: unknown;
  examples?: unknown[];
  format?: string;
  anyOf?: ExampleSchema[];
  minimum?: number;
  maximum?: number;
  minItems?: number;
  items?: ExampleSchema;
  properties?: Record<string, ExampleSchema>;
  required?: string[];
}

/** What stands for a text that nothing is known of: a test looks for it. */
export const NO_EXAMPLE = '…';

const FORMATS: Record<string, string> = {
  uuid: '7b0c2f4e-3c58-4a39-9d0f-0f6a5a0d4a11',
  'date-time': '2026-11-27T08:00:00.000Z',
  date: '2026-11-27',
  ipv4: '203.0.113.7',
  email: 'ann@example.org',
};

/** By the name of the field, where the schema says no more than that it is text, a pattern, or anything at all. */
const BY_NAME: Record<string, unknown> = {
  access_token: 'eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI3YjBjMmY0ZSJ9.c2lnbmF0dXJl',
  account: 'acme',
  action: 'buyer_changed',
  actor_role: 'admin',
  after: { kyc_status: 'approved' },
  allowed_ip: '198.51.100.0/24',
  allowed_domain: '.example.org',
  actor_id: FORMATS.uuid as string,
  api_version: '1.4.0',
  app_latest: '2.1.0',
  ban_reason: 'abuse',
  before: { kyc_status: 'pending' },
  blocked_destination: '.example.org',
  body: 'We pay out on Sundays, too.',
  buyer_account: 'acme',
  city: 'Berlin',
  client_version: '2.0.3',
  code: 'SPRING26',
  contact: 'ops@acme.example',
  country: 'DE',
  credited: '25.000000',
  currency: 'USDT',
  cursor: 'WyIyMDI2LTExLTI3VDA4OjAwOjAwLjAwMDAwMFoiXQ',
  denied_domain: 'example.net',
  description: 'the crawler in Frankfurt',
  detail: 'DE',
  device_id: 'pixel-8-4f1c9a',
  device_key: 'tsd_9sVb3cJr1o8n4q0y7uT2kXwZ5aHfLmPd6eGiRtUvYx0',
  email: 'ann@example.org',
  epoch: '5f0e0d7b2f6b5f3c1f9a8d7e0f4e1b9f',
  error: 'not_delivered',
  error_code: 'ECONNRESET',
  event: 'request',
  exit_id: 'x7b0c2f4e3c58',
  exit_ip: '203.0.113.7',
  failure_reason: 'Cryptomus: fail',
  file: 'traffic-share-2026-11-27T02-30-00Z.dump',
  first_name: 'Ann',
  from: 'in_progress',
  gateway_id: 'gw-fra-1',
  granted: '1000000000',
  hash: '6f0d9c8374db57cac0d806251473de754f361c83a03cd805f74aa9da3193486b',
  held: '400000000',
  host: 'example.org',
  id: '1042170042',
  init_data: 'user=%7B%22id%22%3A4217%7D&auth_date=1795766400&hash=6f0d9c8374db57ca',
  ip: '203.0.113.7',
  isp: 'Deutsche Telekom AG',
  kind: 'traffic_earning',
  last_error: 'no answer: ECONNRESET',
  last_message: 'My phone does not earn.',
  last_name: 'Lee',
  latest: '2.1.0',
  level: 'info',
  link: 'https://t.me/TrafficShareBot?start=ref_7K2M9QXA',
  local_ip: '192.168.1.20',
  message: 'My phone does not earn.',
  min_client_version: '1.4.0',
  model: 'Pixel 8',
  name: 'Acme Crawling',
  network: 'TRON',
  next_cursor: 'WyIyMDI2LTExLTI3VDA4OjAwOjAwLjAwMDAwMFoiXQ',
  object_id: FORMATS.uuid as string,
  object_type: 'buyer',
  order_id: '7b0c2f4e3c584a399d0f0f6a5a0d4a11',
  os: 'android',
  password: 'q7Zr2mXc9vLk4tWb8nYp3s',
  passwordless_ip: '198.51.100.0/24',
  phone: '+998901234567',
  photo_url: 'https://t.me/i/userpic/320/ann.jpg',
  prefix: 'tsb_9sVb',
  provider_status: 'process',
  provider_uuid: 'a7c0caec-a594-4aaa-b1c4-77d511857594',
  push_token: 'fGx0b2tlbg:APA91bHPRgkFLJu6n4ycT2',
  q: 'payout',
  query: 'ann',
  reason: 'an outage on Monday',
  referral_code: '7K2M9QXA',
  refresh_token: 'tsr_9sVb3cJr1o8n4q0y7uT2kXwZ5aHfLmPd6eGiRtUvYx0',
  refunded: '0.500000',
  region: 'DE',
  renounced: '100000000',
  request_id: FORMATS.uuid as string,
  run: '5f0e0d7b2f6b5f3c1f9a8d7e',
  schedule: '*/5 * * * *',
  scope: 'api',
  secret: 'the bootstrap secret of this server',
  session_name: 'cart7',
  setting: 'payout_two_admin_min',
  sha256: '6f0d9c8374db57cac0d806251473de754f361c83a03cd805f74aa9da3193486b',
  session: 'cart7',
  sign: '0f4e1b9f5f0e0d7b2f6b5f3c1f9a8d7e',
  source: 'maxmind',
  spent: '500000000',
  start: '22:00',
  state: 'Berlin',
  status: 'active',
  stop_reason: 'stopped',
  subject: 'My phone',
  tag: 'crawler-7',
  target: 'TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t',
  terms_version: '2026-11-01',
  thread_id: FORMATS.uuid as string,
  ticket: 'q7Zr2mXc9vLk4tWb8nYp3sq7Zr2mXc9vLk4tWb8nYp3',
  title: 'Payouts every day',
  to: '06:00',
  todo: 'Leave it on: buyers come and go.',
  token: 'tsb_9sVb3cJr1o8n4q0y7uT2kXwZ5aHfLmPd6eGiRtUvYx0',
  tx_reference: '6f0d9c8374db57cac0d806251473de754f361c83a03cd805f74aa9da3193486b',
  type: 'payout',
  url: 'https://api.example.org/pay/7b0c2f4e',
  user_agent: 'Mozilla/5.0',
  username: 'ann_lee',
  uuid: FORMATS.uuid as string,
  value: '2000.000000',
  version: '2026-11-01',
  via: 'pull',
  what: 'The device is ready, but no buyer wants this place now.',
};

/** Numbers by the name of their field; others are 1, or the nearest that the schema allows. */
const NUMBERS: Record<string, number> = {
  asn: 3_320,
  auth_date: 1_795_766_400,
  days: 30,
  expires_in: 900,
  hold_time_s: 86_400,
  id: 4_217_338,
  percent: 2,
  port: 443,
  telegram_id: 4_217_338,
};

/**
 * An example that fits the schema. `name`: of the field it is for. `optional`: also give members that may be left out.
 * What the schema says itself (`examples`, `default`, a constant) comes before all else.
 */
export function exampleOf(schema: ExampleSchema, optional: boolean, name = ''): unknown {
  const [said] = schema.examples ?? [];
  if (said !== undefined) return said;
  for (const fixed of [schema.example, schema.const, schema.default, schema.enum?.[0]])
    if (fixed !== undefined) return fixed;
  if (schema.anyOf !== undefined) {
    const form = schema.anyOf.find(({ type }) => type !== 'null') ?? {};
    return exampleOf(form, optional, name);
  }
  switch (schema.type) {
    case 'object':
      return objectExample(schema, optional);
    case 'array':
      return schema.items === undefined
        ? []
        : [exampleOf(schema.items, optional, name.replace(/ies$/, 'y').replace(/s$/, ''))];
    case 'integer':
    case 'number':
      return numberExample(schema, name);
    case 'boolean':
      return true;
    case 'null':
      return null;
    default:
      return FORMATS[schema.format ?? ''] ?? BY_NAME[name] ?? NO_EXAMPLE;
  }
}

function objectExample({ properties = {}, required = [] }: ExampleSchema, optional: boolean) {
  return Object.fromEntries(
    Object.entries(properties)
      .filter(([name]) => optional || required.includes(name))
      .map(([name, schema]) => [name, exampleOf(schema, optional, name)]),
  );
}

function numberExample({ minimum = 0, maximum = Number.MAX_SAFE_INTEGER }: ExampleSchema, name: string) {
  const wanted = NUMBERS[name] ?? (name.includes('bytes') ? 1_000_000_000 : 1);
  return Math.min(maximum, Math.max(minimum, wanted));
}
