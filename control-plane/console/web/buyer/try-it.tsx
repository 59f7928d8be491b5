import { useEffect, useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { bytesText } from '../parts/amounts.js';
import { Button } from '../parts/buttons.js';
import { Badge, Card, Facts } from '../parts/layout.js';
import { Failure } from '../parts/states.js';
import { countryName } from './countries.js';
import { adviceFor } from './proxy-errors.js';

/** Has the server connect with the login, since a browser can not use a proxy for one request. */
export function TryIt(props: { username: string; password: string | undefined; disabled: boolean }) {
  const { username, password } = props;
  const attempt = useAct(
    (api, login: { username: string; password: string }) => ask(api.POST('/api/buyer/try', { body: login })),
    { quiet: true },
  );
  const [result, setResult] = useState<Awaited<ReturnType<typeof attempt.run>>>();
  // What was tried is not what is shown any more.
  useEffect(() => setResult(undefined), [username, password]);
  const known = password !== undefined && password !== '';
  return (
    <Card
      title="Try it"
      lead="The server connects with this login over HTTP and asks which exit it got. Free of charge."
      actions={
        <Button
          kind="main"
          busy={attempt.busy}
          disabled={props.disabled || !known}
          onClick={() => {
            if (known) void attempt.run({ username, password }).then(setResult);
          }}
        >
          Try it
        </Button>
      }
    >
      <div aria-live="polite">
        {attempt.error !== undefined && <Failure error={attempt.error} />}
        {result === undefined ? (
          attempt.error === undefined && (
            <p class="quiet">
              {known ? 'Nothing tried yet.' : 'Paste the password above or make a new one first.'}
            </p>
          )
        ) : (
          <Result result={result} />
        )}
      </div>
    </Card>
  );
}

interface Tried {
  took_ms: number;
  exit: {
    exit_id: string;
    country: string;
    city: string | null;
    asn: number | null;
    session: string | null;
    bytes_left: number | null;
  } | null;
  error: { code: string; detail: string | null; http_status: number | null } | null;
  request_id: string | null;
}

function Result({ result }: { result: Tried }) {
  const { exit, error, took_ms: tookMs, request_id: requestId } = result;
  if (exit !== null)
    return (
      <Facts
        rows={[
          ['Result', <Badge tone="good">It works</Badge>],
          ['Exit', `${countryName(exit.country)}${exit.city === null ? '' : `, ${exit.city}`}`],
          ['Network', exit.asn === null ? '–' : `AS${exit.asn}`],
          ['Exit id', <code>{exit.exit_id}</code>],
          ['Session', exit.session ?? 'none: the next connection may get another exit'],
          ['Bytes left', exit.bytes_left === null ? 'not limited' : bytesText(exit.bytes_left)],
          ['Took', `${tookMs} ms`],
        ]}
      />
    );
  const code = error?.code ?? 'INTERNAL';
  const { means, todo } = adviceFor(code);
  return (
    <Facts
      rows={[
        [
          'Result',
          <Badge tone="bad">
            {code}
            {error?.detail != null && ` ${error.detail}`}
          </Badge>,
        ],
        ['Meaning', means],
        ['What to do', todo],
        ...(requestId === null ? [] : [['Request', <code>{requestId}</code>] as const]),
      ]}
    />
  );
}
