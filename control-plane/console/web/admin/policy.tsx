import { useState } from 'preact/hooks';
import type { ApiClient } from '../../../client/client.js';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { Form, TextArea } from '../parts/form.js';
import { Card, PageHead } from '../parts/layout.js';
import { Show } from '../parts/states.js';
import { Tabs } from '../parts/tabs.js';
import { linesOf, numbersOf } from './admin-parts.js';
import type { AnswerOf } from './api-types.js';

type Destinations = AnswerOf<'/api/admin/policy/destinations'>;
type Ports = AnswerOf<'/api/admin/policy/ports'>;
type Origins = AnswerOf<'/api/admin/policy/origins'>;

/** What the network does not do, whoever asks. */
export default function Policy() {
  return (
    <>
      <PageHead
        title="Policy lists"
        lead="In force on every gateway within a second; live streams and tunnels that are refused now are cut."
      />
      <Card>
        <Tabs
          label="Policy lists"
          tabs={[
            { key: 'destinations', label: 'Destinations', content: () => <DestinationLists /> },
            { key: 'ports', label: 'Ports', content: () => <PortLists /> },
            { key: 'origins', label: 'Networks that may not share', content: () => <OriginLists /> },
          ]}
        />
      </Card>
    </>
  );
}

interface Field {
  name: string;
  label: string;
  hint: string;
}

/** The lists of one kind as texts, one entry a line. The version keeps two admins from overwriting each other. */
function Lists<Data extends { version: number }>(props: {
  load: (api: ApiClient, signal: AbortSignal) => Promise<Data>;
  save: (api: ApiClient, texts: Record<string, string>, version: number) => Promise<Data>;
  fields: readonly Field[];
  texts: (data: Data) => Record<string, string>;
  note?: (data: Data) => string;
}) {
  const lists = useLoad(props.load);
  return (
    <Show of={lists}>
      {(data) => (
        <Editor key={data.version} {...props} data={data} onSaved={lists.set} onConflict={lists.reload} />
      )}
    </Show>
  );
}

function Editor<Data extends { version: number }>(props: {
  save: (api: ApiClient, texts: Record<string, string>, version: number) => Promise<Data>;
  fields: readonly Field[];
  texts: (data: Data) => Record<string, string>;
  note?: (data: Data) => string;
  data: Data;
  onSaved: (data: Data) => void;
  onConflict: () => void;
}) {
  const { data } = props;
  const [texts, setTexts] = useState(() => props.texts(data));
  const save = useAct((api) => props.save(api, texts, data.version), { quiet: true, done: 'In force.' });
  const same = JSON.stringify(texts) === JSON.stringify(props.texts(data));
  return (
    <Form
      submit="Put in force"
      busy={save.busy}
      error={save.error}
      disabled={same}
      onSubmit={() => void save.run().then((changed) => changed && props.onSaved(changed))}
      extra={
        <>
          <span class="quiet small">Version {data.version}</span>
          {save.error?.code === 'policy_changed' && (
            <button type="button" class="button" onClick={props.onConflict}>
              Load what is in force (yours is lost)
            </button>
          )}
        </>
      }
    >
      {props.note !== undefined && <p class="quiet">{props.note(data)}</p>}
      <div class="fields">
        {props.fields.map(({ name, label, hint }) => (
          <TextArea
            key={name}
            label={label}
            hint={hint}
            name={name}
            error={save.error}
            rows={10}
            value={texts[name] ?? ''}
            onValue={(value) => setTexts({ ...texts, [name]: value })}
          />
        ))}
      </div>
    </Form>
  );
}

function DestinationLists() {
  return (
    <Lists<Destinations>
      load={(api, signal) => ask(api.GET('/api/admin/policy/destinations', { signal }))}
      save={(api, texts, version) =>
        ask(
          api.PUT('/api/admin/policy/destinations', {
            body: {
              denied_domains: linesOf(texts.denied_domains ?? ''),
              denied_ips: linesOf(texts.denied_ips ?? ''),
              version,
            },
          }),
        )
      }
      texts={(data) => ({
        denied_domains: data.denied_domains.join('\n'),
        denied_ips: data.denied_ips.join('\n'),
      })}
      fields={[
        { name: 'denied_domains', label: 'Denied domains', hint: 'One a line; .suffix for all below it.' },
        { name: 'denied_ips', label: 'Denied networks', hint: 'One a line: 203.0.113.0/24.' },
      ]}
    />
  );
}

function PortLists() {
  return (
    <Lists<Ports>
      load={(api, signal) => ask(api.GET('/api/admin/policy/ports', { signal }))}
      save={(api, texts, version) =>
        ask(
          api.PUT('/api/admin/policy/ports', {
            body: {
              open_tcp: numbersOf(texts.open_tcp ?? ''),
              open_udp: numbersOf(texts.open_udp ?? ''),
              never_allowed: numbersOf(texts.never_allowed ?? ''),
              version,
            },
          }),
        )
      }
      texts={(data) => ({
        open_tcp: data.open_tcp.join('\n'),
        open_udp: data.open_udp.join('\n'),
        never_allowed: data.never_allowed.join('\n'),
      })}
      note={(data) => `Always closed without a grant: ${data.never_allowed_built_in.join(', ')}.`}
      fields={[
        { name: 'open_tcp', label: 'Open to everybody', hint: 'TCP, one a line.' },
        { name: 'open_udp', label: 'Open for UDP', hint: 'For buyers who may use UDP.' },
        { name: 'never_allowed', label: 'Only by grant', hint: 'Closed but for buyers granted the port.' },
      ]}
    />
  );
}

function OriginLists() {
  return (
    <Lists<Origins>
      load={(api, signal) => ask(api.GET('/api/admin/policy/origins', { signal }))}
      save={(api, texts, version) =>
        ask(
          api.PUT('/api/admin/policy/origins', {
            body: {
              asn_rules: linesOf(texts.asn_rules ?? '').map(ruleOf),
              denied_ips: linesOf(texts.denied_ips ?? ''),
              allowed_asns: numbersOf((texts.allowed_asns ?? '').replace(/AS/gi, '')),
              version,
            },
          }),
        )
      }
      texts={(data) => ({
        asn_rules: data.asn_rules
          .map(({ match, name }) => (name === undefined ? match : `${match} # ${name}`))
          .join('\n'),
        denied_ips: data.denied_ips.join('\n'),
        allowed_asns: data.allowed_asns.join('\n'),
      })}
      fields={[
        {
          name: 'asn_rules',
          label: 'Who announces the address',
          hint: 'One a line: AS64500, or org *vpn*; after # what a refusal calls it.',
        },
        { name: 'denied_ips', label: 'Addresses', hint: 'One a line: 198.51.100.0/24.' },
        { name: 'allowed_asns', label: 'Never refused by a rule', hint: 'AS numbers, one a line.' },
      ]}
    />
  );
}

function ruleOf(line: string): { match: string; name?: string } {
  const [match = '', name] = line.split('#').map((part) => part.trim());
  return name === undefined || name === '' ? { match } : { match, name };
}
