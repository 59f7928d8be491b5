import { createHash } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import { isSignedWebhook, signatureOf } from '../../../control-plane/cryptomus/signature.js';

// Both from: printf %s "$(printf %s "$BODY" | base64 -w0)the-key" | md5sum
const REQUEST = '{"amount":"5.000000","order_id":"1"}';
const REQUEST_SIGN = '4ad0a0395a61984f4231677440a470b8';
const WEBHOOK_SIGN = '0839b2569fb6cddd6b5f9bea00fb1f1b';
/** What was signed: `{"type":"payout",…,"url":"https:\/\/x.example\/a","note":"Ünï","is_final":true,"rate":1.10}` */
const FIELDS =
  '"type":"payout","uuid":"a7","order_id":"o1","amount":"5.00","url":"https:\\/\\/x.example\\/a","note":"Ünï","is_final":true,"rate":1.10';
const webhook = (fields: string, sign = WEBHOOK_SIGN) => `{${fields},"sign":"${sign}"}`;

t.test('a request is signed over its exact bytes', (t) => {
  t.equal(signatureOf(REQUEST, 'the-key'), REQUEST_SIGN);
  t.equal(signatureOf(Buffer.from(REQUEST), 'the-key'), REQUEST_SIGN);
  t.not(signatureOf(`${REQUEST} `, 'the-key'), REQUEST_SIGN);
  t.not(signatureOf(REQUEST, 'the-kez'), REQUEST_SIGN);
  t.end();
});

t.test('a webhook is verified however its sender spelled the JSON', (t) => {
  const good = (body: string, what: string) => t.ok(isSignedWebhook(body, 'the-key'), what);
  good(webhook(FIELDS), 'as PHP wrote it');
  good(webhook(FIELDS.replaceAll('\\/', '/')), 'slashes as they are');
  good(webhook(FIELDS.replace('Ünï', '\\u00dcn\\u00EF')), 'unicode escaped');
  good(`{ "sign" : "${WEBHOOK_SIGN}" ,\n ${FIELDS.replaceAll(',"', ' , "')} }`, 'blanks, and sign first');
  t.end();
});

t.test('anything else is refused', (t) => {
  const bad = (body: string, what: string, key = 'the-key') => t.notOk(isSignedWebhook(body, key), what);
  bad(webhook(FIELDS), 'another key', 'the-kez');
  bad(webhook(FIELDS.replace('5.00', '50.0')), 'another amount');
  bad(webhook(FIELDS.replace('1.10', '1.1')), 'the same number with other digits');
  bad(webhook(`${FIELDS},"more":1`), 'a member more');
  bad(webhook(FIELDS.replace('"uuid":"a7",', '')), 'a member less');
  bad(webhook(FIELDS.replace('"type":"payout","uuid":"a7"', '"uuid":"a7","type":"payout"')), 'another order');
  bad(webhook(`${FIELDS},"amount":"5.00"`), 'a member twice');
  bad(`{${FIELDS},"sign":"${WEBHOOK_SIGN}","sign":"${WEBHOOK_SIGN}"}`, 'sign twice');
  bad(`{${FIELDS},"inner":{"sign":"${WEBHOOK_SIGN}"}}`, 'sign inside');
  bad(`{${FIELDS}}`, 'no sign');
  bad(webhook(FIELDS, WEBHOOK_SIGN.toUpperCase()), 'capitals');
  bad(webhook(FIELDS, ''), 'empty');
  bad(`{${FIELDS},"sign":null}`, 'null');
  bad(`{${FIELDS},"sign":["${WEBHOOK_SIGN}"]}x`, 'no JSON');
  for (const body of ['', '[]', '"x"', 'null', '[{"sign":"x"}]', '{']) bad(body, JSON.stringify(body));
  t.end();
});

t.test('any webhook is verified, and none with a character changed', (t) => {
  const php = (value: unknown) =>
    JSON.stringify(value)
      .replaceAll('/', '\\/')
      .replaceAll('\u2028', '\\u2028')
      .replaceAll('\u2029', '\\u2029');
  const key = 'a-key';
  // Integer-like names have no order of their own in JavaScript, and `sign` is the signature's.
  const name = fc.string({ unit: 'grapheme' }).filter((text) => !/^\d+$|^sign$/.test(text));
  const value = fc.jsonValue({ maxDepth: 3 });
  fc.assert(
    fc.property(fc.dictionary(name, value), fc.nat(), fc.nat(), (data, at, by) => {
      const json = php(data);
      const sign = createHash('md5')
        .update(Buffer.from(json).toString('base64') + key)
        .digest('hex');
      const body = json === '{}' ? `{"sign":"${sign}"}` : `${json.slice(0, -1)},"sign":"${sign}"}`;
      if (!isSignedWebhook(body, key)) return false;
      if (!isSignedWebhook(JSON.stringify(JSON.parse(body)), key)) return false; // without PHP's escapes
      const i = at % body.length;
      const changed = body.slice(0, i) + String.fromCharCode(33 + (by % 90)) + body.slice(i + 1);
      const same = () => {
        try {
          // Another spelling of the same (an escape left out, say) is as good.
          return JSON.stringify(JSON.parse(changed)) === JSON.stringify(JSON.parse(body));
        } catch {
          return false;
        }
      };
      return !isSignedWebhook(changed, key) || same();
    }),
    { numRuns: 2_000 },
  );
  t.end();
});
