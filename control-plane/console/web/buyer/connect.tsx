import { useState } from 'preact/hooks';
import { useLocation } from 'preact-iso/router';
import { ask } from '../api/client.js';
import { useLoad } from '../api/use-load.js';
import { Copyable, CopyButton } from '../parts/buttons.js';
import { SelectField, TextField } from '../parts/form.js';
import { Card, PageHead } from '../parts/layout.js';
import { Show } from '../parts/states.js';
import { Tabs } from '../parts/tabs.js';
import { Notice } from './parts.js';
import { PasswordField } from './password-field.js';
import { passwords } from './passwords.js';
import {
  ECHO_URL,
  PASSWORD_MISSING,
  proxyUrl,
  type Scheme,
  type SnippetParts,
  snippetsOf,
} from './snippets.js';
import { TryIt } from './try-it.js';
import { findings, NO_WISH, usernameOf, type Wish } from './username.js';
import { WishFields } from './wish-fields.js';

const SCHEMES: readonly (readonly [Scheme, string])[] = [
  ['http', 'HTTP'],
  ['https', 'HTTPS (the way to the proxy in TLS)'],
  ['socks5', 'SOCKS5'],
];

type Option = readonly [value: string, label: string];

/** Sub-users that can be chosen; who has more finds them by their own page. */
const SUB_USERS_SHOWN = 200;

/** Where the proxy is, a login for what is wanted of the exit, and how clients are told. */
export default function Connect() {
  const { query } = useLocation();
  const me = useLoad((api, signal) => ask(api.GET('/api/buyer/me', { signal })));
  const subUsers = useLoad((api, signal) =>
    ask(api.GET('/api/buyer/sub_users', { params: { query: { limit: SUB_USERS_SHOWN } }, signal })),
  );
  const [scheme, setScheme] = useState<Scheme>('http');
  const [url, setUrl] = useState(ECHO_URL);
  const [chosen, setChosen] = useState(query.account ?? '');
  const [wish, setWish] = useState<Omit<Wish, 'account'>>({
    ...NO_WISH,
    country: query.country ?? '',
    city: query.city ?? '',
    asn: query.asn ?? '',
  });
  return (
    <>
      <PageHead
        title="Connect"
        lead="Choose what you want of the exit. The username says it; one port takes every protocol."
      />
      <Show of={me} lines={6}>
        {({ account: main, proxy }) => {
          const account = chosen === '' ? main : chosen;
          const subUser = subUsers.data?.items.find((one) => one.account === account);
          const full: Wish = { account, ...wish };
          const wrong = findings(full);
          const address = addressOf(url);
          const password = passwords.value[account];
          const parts: SnippetParts = {
            scheme,
            host: proxy.host,
            port: proxy.ports[scheme],
            username: usernameOf(full),
            password: password ?? PASSWORD_MISSING,
            url: address ?? ECHO_URL,
          };
          const accounts: Option[] = [
            [main, `${main} (main account)`],
            ...(subUsers.data?.items ?? [])
              .filter(({ status }) => status !== 'closed')
              .map((one): Option => [one.account, `${one.name} (${one.account})`]),
          ];
          if (!accounts.some(([known]) => known === account)) accounts.push([account, account]);
          return (
            <>
              <Card title="What you want">
                <div class="fields">
                  <SelectField
                    label="Protocol"
                    value={scheme}
                    onValue={(value) => setScheme(value as Scheme)}
                    options={SCHEMES}
                  />
                  <SelectField label="Account" value={account} onValue={setChosen} options={accounts} />
                </div>
                <WishFields wish={wish} wrong={wrong} onWish={setWish} />
              </Card>
              <Card title="Login">
                <div class="fields">
                  <Value name="Host" value={proxy.host} />
                  <Value name="Port" value={String(proxy.ports[scheme])} />
                </div>
                <Value name="Username" value={parts.username} />
                <PasswordField
                  key={account}
                  account={account}
                  subUserId={subUser?.id ?? null}
                  main={account === main}
                />
              </Card>
              <TryIt username={parts.username} password={password} disabled={Object.keys(wrong).length > 0} />
              <Card title="Ready to paste">
                {password === undefined && (
                  <Notice>
                    The password of {account} is not known to this page. Paste it above or make a new one;
                    until then {PASSWORD_MISSING} stands in its place.
                  </Notice>
                )}
                <TextField
                  label="What to fetch"
                  type="url"
                  value={url}
                  onValue={setUrl}
                  spellcheck={false}
                  hint={
                    address === null
                      ? 'An address that begins with http:// or https://. Until it does, the echo page is fetched.'
                      : 'The echo page tells which exit you got, free of charge.'
                  }
                />
                <Snippets parts={parts} />
              </Card>
            </>
          );
        }}
      </Show>
    </>
  );
}

function Value({ name, value }: { name: string; value: string }) {
  return (
    <div class="field">
      <span class="field-hint">{name}</span>
      <Copyable text={value} label={`Copy ${name.toLowerCase()}`} />
    </div>
  );
}

/** The address as it is written into snippets; null: it is none. */
function addressOf(text: string): string | null {
  if (!URL.canParse(text)) return null;
  const url = new URL(text);
  return url.protocol === 'http:' || url.protocol === 'https:' ? url.href : null;
}

function Snippets({ parts }: { parts: SnippetParts }) {
  const address = proxyUrl(parts);
  return (
    <Tabs
      label="Client"
      tabs={[
        ...snippetsOf(parts).map(({ key, label, text, needs }) => ({
          key,
          label,
          content: () => (
            <div class="snippet" key={text}>
              {needs !== null && (
                <p class="quiet small">
                  First: <code>{needs}</code>
                </p>
              )}
              <pre>
                <code>{text}</code>
              </pre>
              <div class="row">
                <CopyButton text={text} label={`Copy ${label}`} />
              </div>
              {key === 'browser' && <BrowserHint scheme={parts.scheme} />}
              {key === 'curl' && parts.scheme === 'https' && (
                <p class="quiet small">
                  A proxy with a certificate of its own (as in development) needs{' '}
                  <code>--proxy-cacert FILE</code> as well.
                </p>
              )}
            </div>
          ),
        })),
        {
          key: 'url',
          label: 'Other clients',
          content: () => (
            <div class="snippet">
              <p class="quiet small">
                Most clients take the proxy as one address, many of them from <code>HTTPS_PROXY</code>.
              </p>
              <Copyable text={address} label="Copy address" />
            </div>
          ),
        },
      ]}
    />
  );
}

function BrowserHint({ scheme }: { scheme: Scheme }) {
  return (
    <p class="quiet small">
      {scheme === 'socks5' ? (
        <>
          Browsers send no login over SOCKS5. Use HTTP, or enter your address under passwordless addresses of
          a sub-user: then its account needs none.
        </>
      ) : (
        <>
          The browser asks for username and password when it opens the first page. Any other browser: enter
          host and port as its HTTP proxy.
        </>
      )}
    </p>
  );
}
