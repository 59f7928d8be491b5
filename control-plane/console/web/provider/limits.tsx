import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { ApiError } from '../api/problem.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { bytesText } from '../parts/amounts.js';
import { CheckField, Form, TextArea, TextField } from '../parts/form.js';
import { Card, PageHead } from '../parts/layout.js';
import { Show } from '../parts/states.js';
import { gigabytesText, parseBlockList, parseGigabytes } from './limit-texts.js';

interface Settings {
  cap_bytes_per_day?: number | null;
  cap_bytes_per_month?: number | null;
  wifi_only?: boolean;
  charging_only?: boolean;
  hours?: { from: string; to: string } | null;
  notifications?: boolean;
  blocked_destinations?: string[];
}

/** How much, when and where to is shared. */
export default function Limits() {
  const me = useLoad((api, signal) => ask(api.GET('/api/user/me', { signal })));
  return (
    <>
      <PageHead title="Limits" lead="Your devices follow these within seconds." />
      <Show of={me}>
        {({ settings }) => (
          <div class="columns">
            <Caps settings={settings} />
            <div class="stack">
              <When settings={settings} />
              <Blocked settings={settings} />
            </div>
          </div>
        )}
      </Show>
    </>
  );
}

function useSave() {
  return useAct((api, settings: Settings) => ask(api.POST('/api/user/update', { body: { settings } })), {
    done: 'Saved.',
    quiet: true,
  });
}

/** The API's findings say `settings/cap_bytes_per_day`; ours, before anything is sent, say the same. */
const wrong = (field: string, message: string) =>
  new ApiError(400, 'validation_failed', 'Some of this does not fit. Look at the marked fields.', {
    [`settings/${field}`]: message,
  });

function Caps({ settings }: { settings: Settings }) {
  const [day, setDay] = useState(gigabytesText(settings.cap_bytes_per_day));
  const [month, setMonth] = useState(gigabytesText(settings.cap_bytes_per_month));
  const [mistake, setMistake] = useState<ApiError>();
  const save = useSave();
  const error = mistake ?? save.error;
  const submit = () => {
    const [perDay, perMonth] = [parseGigabytes(day), parseGigabytes(month)];
    const bad =
      perDay === undefined ? 'cap_bytes_per_day' : perMonth === undefined ? 'cap_bytes_per_month' : undefined;
    setMistake(bad && wrong(bad, 'must be a number of gigabytes, such as 2 or 0.5, or empty'));
    if (perDay !== undefined && perMonth !== undefined)
      void save.run({ cap_bytes_per_day: perDay, cap_bytes_per_month: perMonth });
  };
  const hint = (text: string) => {
    const bytes = parseGigabytes(text);
    return bytes === null
      ? 'Empty: no cap.'
      : bytes === undefined
        ? undefined
        : `Stops at ${bytesText(bytes)}.`;
  };
  return (
    <Card title="Data caps" lead="All your devices together, up and down, in UTC days and months.">
      <Form onSubmit={submit} submit="Save caps" busy={save.busy} error={error}>
        <TextField
          label="Gigabytes a day"
          name="settings/cap_bytes_per_day"
          error={error}
          inputMode="decimal"
          value={day}
          onValue={setDay}
          hint={hint(day)}
        />
        <TextField
          label="Gigabytes a month"
          name="settings/cap_bytes_per_month"
          error={error}
          inputMode="decimal"
          value={month}
          onValue={setMonth}
          hint={hint(month)}
        />
      </Form>
    </Card>
  );
}

function When({ settings }: { settings: Settings }) {
  const [wifi, setWifi] = useState(settings.wifi_only ?? false);
  const [charging, setCharging] = useState(settings.charging_only ?? false);
  const [scheduled, setScheduled] = useState(settings.hours != null);
  const [from, setFrom] = useState(settings.hours?.from ?? '22:00');
  const [to, setTo] = useState(settings.hours?.to ?? '07:00');
  const save = useSave();
  const submit = () =>
    void save.run({ wifi_only: wifi, charging_only: charging, hours: scheduled ? { from, to } : null });
  return (
    <Card title="When to share">
      <Form onSubmit={submit} submit="Save" busy={save.busy} error={save.error}>
        <CheckField label="On Wi-Fi only" hint="Not over mobile data." checked={wifi} onValue={setWifi} />
        <CheckField label="While charging only" checked={charging} onValue={setCharging} />
        <CheckField
          label="Between certain hours only"
          hint="In the device's own time; past midnight is fine."
          checked={scheduled}
          onValue={setScheduled}
        />
        {scheduled && (
          <div class="hours">
            <TextField
              label="From"
              name="settings/hours/from"
              error={save.error}
              type="time"
              value={from}
              onValue={setFrom}
              required
            />
            <TextField
              label="To"
              name="settings/hours/to"
              error={save.error}
              type="time"
              value={to}
              onValue={setTo}
              required
            />
          </div>
        )}
      </Form>
    </Card>
  );
}

function Blocked({ settings }: { settings: Settings }) {
  const [text, setText] = useState((settings.blocked_destinations ?? []).join('\n'));
  const save = useSave();
  const hosts = parseBlockList(text);
  return (
    <Card title="Blocked destinations" lead="Nobody reaches these through your devices.">
      <Form
        onSubmit={() => void save.run({ blocked_destinations: hosts })}
        submit="Save list"
        busy={save.busy}
        error={save.error}
      >
        <TextArea
          label="One host a line"
          name="settings/blocked_destinations"
          error={save.error}
          value={text}
          onValue={setText}
          rows={6}
          hint={`${hosts.length} of at most 500. A name blocks its subdomains too.`}
        />
      </Form>
    </Card>
  );
}
