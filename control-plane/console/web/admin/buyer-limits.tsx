import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { CheckField, Form, TextArea, TextField } from '../parts/form.js';
import { linesOf, numbersOf } from './admin-parts.js';
import type { Buyer } from './buyer.js';

type Limits = Buyer['limits'];

const NUMBERS = [
  ['streams_max', 'Streams at once', 'Above it CONN_LIMIT.'],
  ['connections_per_second_max', 'New connections a second', 'Above it RATE_LIMIT.'],
  [
    'bandwidth_bytes_per_second_max',
    'Bytes a second',
    'Both directions, on each gateway. Above it streams are slowed down.',
  ],
  ['bytes_per_day_max', 'Bytes a day', 'A UTC day. Above it QUOTA_REACHED.'],
  ['bytes_per_month_max', 'Bytes a month', 'A UTC month.'],
] as const satisfies readonly (readonly [keyof Limits, string, string])[];

const PORTS = [
  ['ports', 'Only these ports', 'Of those that are open otherwise.'],
  ['extra_ports', 'Further ports', 'Beside those open to everybody.'],
  ['granted_ports', 'Granted ports', 'Of those that are never allowed without a grant, such as 25.'],
] as const satisfies readonly (readonly [keyof Limits, string, string])[];

const LISTS = [
  ['allowed_domains', 'Only these destinations', 'One a line: a name, .suffix, an address, a network.'],
  ['denied_domains', 'None of these destinations', 'One a line.'],
  ['allowed_ips', 'Client addresses', 'One a line. Empty: from anywhere.'],
  ['passwordless_ips', 'Client addresses without a password', 'One a line.'],
] as const satisfies readonly (readonly [keyof Limits, string, string])[];

/** The buyer's limits; an empty field is no limit. */
export function BuyerLimits({ buyer, onChange }: { buyer: Buyer; onChange: (buyer: Buyer) => void }) {
  const [texts, setTexts] = useState(() => textsOf(buyer.limits));
  const [udp, setUdp] = useState(buyer.limits.udp ?? false);
  const save = useAct(
    (api) =>
      ask(
        api.PATCH('/api/admin/buyers/{id}', {
          params: { path: { id: buyer.id } },
          body: { limits: limitsOf(texts, udp) },
        }),
      ),
    { quiet: true, done: 'Saved. Gateways have it within a second.' },
  );
  const field = (name: string) => ({
    name: `limits/${name}`,
    error: save.error,
    value: texts[name] ?? '',
    onValue: (value: string) => setTexts({ ...texts, [name]: value }),
  });
  return (
    <Form
      submit="Save the limits"
      busy={save.busy}
      error={save.error}
      onSubmit={() => void save.run().then((changed) => changed && onChange(changed))}
    >
      <p class="quiet">They hold for the buyer and all sub-users together. Empty: no limit of their own.</p>
      <div class="fields">
        {NUMBERS.map(([name, label, hint]) => (
          <TextField key={name} label={label} hint={hint} inputMode="numeric" {...field(name)} />
        ))}
        {PORTS.map(([name, label, hint]) => (
          <TextField key={name} label={label} hint={hint} placeholder="8080, 8443" {...field(name)} />
        ))}
        {LISTS.map(([name, label, hint]) => (
          <TextArea key={name} label={label} hint={hint} rows={3} {...field(name)} />
        ))}
      </div>
      <CheckField label="UDP through SOCKS5" checked={udp} onValue={setUdp} />
    </Form>
  );
}

function textsOf(limits: Limits): Record<string, string> {
  return Object.fromEntries([
    ...NUMBERS.map(([name]) => [name, limits[name]?.toString() ?? '']),
    ...PORTS.map(([name]) => [name, limits[name]?.join(', ') ?? '']),
    ...LISTS.map(([name]) => [name, limits[name]?.join('\n') ?? '']),
  ]);
}

function limitsOf(texts: Record<string, string>, udp: boolean): Limits {
  const given = (name: string) => (texts[name] ?? '').trim() !== '';
  return Object.fromEntries([
    ...NUMBERS.filter(([name]) => given(name)).map(([name]) => [name, Number(texts[name])]),
    ...PORTS.filter(([name]) => given(name)).map(([name]) => [name, numbersOf(texts[name] ?? '')]),
    ...LISTS.filter(([name]) => given(name)).map(([name]) => [name, linesOf(texts[name] ?? '')]),
    ...(udp ? [['udp', true]] : []),
  ]) as Limits;
}
