import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import type { ApiError } from '../api/problem.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { bytesText, durationText } from '../parts/amounts.js';
import { Button } from '../parts/buttons.js';
import { Time } from '../parts/figures.js';
import { CheckField, Form, SelectField, TextField } from '../parts/form.js';
import { Card, PageHead } from '../parts/layout.js';
import { Show } from '../parts/states.js';
import { UserId } from './admin-parts.js';
import type { AnswerOf } from './api-types.js';
import {
  SETTING_FIELDS,
  SETTING_GROUPS,
  type SettingField,
  type Settings,
  settingText,
  settingValue,
} from './setting-fields.js';

type Answer = AnswerOf<'/api/admin/settings'>;

/** Every business setting, in force at once. */
export default function SettingsPage() {
  const settings = useLoad((api, signal) => ask(api.GET('/api/admin/settings', { signal })));
  return (
    <>
      <PageHead title="Settings" lead="In force at once, on every control plane and gateway." />
      <Show of={settings} lines={10}>
        {(data) => (
          <>
            {data.proposals.length > 0 && <Proposals data={data} onChange={settings.set} />}
            <Editor key={JSON.stringify(data)} data={data} onSaved={settings.set} />
          </>
        )}
      </Show>
    </>
  );
}

function Editor({ data, onSaved }: { data: Answer; onSaved: (data: Answer) => void }) {
  const [texts, setTexts] = useState<Record<string, string>>(() =>
    Object.fromEntries(SETTING_FIELDS.map(({ name }) => [name, settingText(data[name])])),
  );
  const changed = SETTING_FIELDS.filter(({ name }) => texts[name] !== settingText(data[name]));
  const save = useAct(
    (api) =>
      ask(
        api.PATCH('/api/admin/settings', {
          body: Object.fromEntries(
            changed.map((field) => [field.name, settingValue(field, texts[field.name] ?? '')]),
          ) as Partial<Settings>,
        }),
      ),
    {
      quiet: true,
      done: ({ proposals }) =>
        changed.some(({ name }) => proposals.some(({ setting }) => setting === name))
          ? 'Proposed. Some of it is not in force until a second admin agrees.'
          : 'Saved and in force.',
    },
  );
  return (
    <Form
      submit={changed.length === 0 ? 'Nothing changed' : `Save ${changed.length} changed`}
      busy={save.busy}
      error={save.error}
      disabled={changed.length === 0}
      onSubmit={() => void save.run().then((answer) => answer && onSaved(answer))}
    >
      {SETTING_GROUPS.map(({ title, fields }) => (
        <Card key={title} title={title}>
          <div class="fields">
            {fields.map((field) => (
              <Field
                key={field.name}
                field={field}
                error={save.error}
                value={texts[field.name] ?? ''}
                onValue={(value) => setTexts((before) => ({ ...before, [field.name]: value }))}
              />
            ))}
          </div>
        </Card>
      ))}
    </Form>
  );
}

function Field(props: {
  field: SettingField;
  value: string;
  onValue: (value: string) => void;
  error: ApiError | undefined;
}) {
  const { field, value, onValue, error } = props;
  const common = { label: field.label, name: field.name, error, value, onValue };
  if (field.kind === 'stale')
    return (
      <SelectField
        {...common}
        options={[
          ['available', 'available again'],
          ['revoked', 'revoked'],
        ]}
      />
    );
  if (field.kind === 'networks') return <Networks {...{ field, value, onValue }} />;
  const figure = /^[0-9]+$/.test(value) ? Number(value) : null;
  const meaning =
    figure === null
      ? ''
      : field.kind === 'bytes'
        ? bytesText(figure)
        : field.kind === 'seconds'
          ? durationText(figure * 1_000)
          : '';
  const hint = [field.hint, field.kind === 'dollars' ? 'US dollars.' : meaning].filter(Boolean).join(' ');
  return (
    <TextField
      {...common}
      {...(hint !== '' && { hint })}
      inputMode={field.kind === 'text' ? 'text' : field.kind === 'dollars' ? 'decimal' : 'numeric'}
    />
  );
}

/** The networks there are, those chosen ticked. */
function Networks({
  field,
  value,
  onValue,
}: Pick<Parameters<typeof Field>[0], 'field' | 'value' | 'onValue'>) {
  const networks = useLoad((api, signal) => ask(api.GET('/api/withdraw/networks', { signal })));
  const chosen = value.split(',').filter((part) => part !== '');
  return (
    <fieldset class="scope-group">
      <legend>{field.label}</legend>
      <Show of={networks} lines={2}>
        {({ items }) => (
          <>
            {items.map(({ network, name }) => (
              <CheckField
                key={network}
                label={name}
                checked={chosen.includes(network)}
                onValue={(checked) =>
                  onValue(
                    items
                      .map((one) => one.network)
                      .filter((one) => (one === network ? checked : chosen.includes(one)))
                      .join(','),
                  )
                }
              />
            ))}
          </>
        )}
      </Show>
    </fieldset>
  );
}

function Proposals({ data, onChange }: { data: Answer; onChange: (data: Answer) => void }) {
  // Who proposed it is not the second one.
  const me = useLoad((api, signal) => ask(api.GET('/api/admin/auth/me', { signal }))).data?.id;
  const act = useAct(
    (api, setting: string, value: unknown) =>
      ask(api.PATCH('/api/admin/settings', { body: { [setting]: value } as Partial<Settings> })),
    { done: 'Done.' },
  );
  const run = (setting: string, value: unknown) =>
    void act.run(setting, value).then((answer) => answer && onChange(answer));
  return (
    <Card title="Waiting for a second admin" lead="Not in force until another admin agrees.">
      <ul class="rows">
        {data.proposals.map(({ setting, value, proposed_by, proposed_at }) => (
          <li key={setting}>
            <div>
              <strong>{SETTING_FIELDS.find(({ name }) => name === setting)?.label ?? setting}</strong>:{' '}
              {settingText(value as Settings[keyof Settings])}
              <p class="quiet small">
                by <UserId id={proposed_by} /> <Time at={proposed_at} />, now{' '}
                {settingText(data[setting as keyof Settings])}
              </p>
            </div>
            <div class="row">
              <Button disabled={act.busy} onClick={() => run(setting, data[setting as keyof Settings])}>
                Withdraw
              </Button>
              {proposed_by !== me && (
                <Button kind="main" disabled={act.busy} onClick={() => run(setting, value)}>
                  Agree
                </Button>
              )}
            </div>
          </li>
        ))}
      </ul>
    </Card>
  );
}
