import { AccountStore } from './account.js';
import { CommandFailure } from './command-failure.js';
import { type CommandInput, type CommandShape, commandHelp, readCommand } from './command-options.js';
import { agentEnvironment, defaultStateDir, systemLanguage } from './config.js';
import { obtainConsent, readTerms, rememberWithdrawal, termsText } from './consent.js';
import { callRunning } from './control-socket.js';
import type { AgentStatus, LimitsView } from './local-agent.js';
import type { LocalSettings } from './local-settings.js';
import { login, logout } from './login.js';
import {
  isPrivateTransport,
  parseBytes,
  parseDuration,
  parseHours,
  parseHttpUrl,
  parseSwitch,
} from './setting-values.js';
import { limitsText, statusText } from './status-text.js';
import { say, show } from './terminal.js';
import { UserApi } from './user-api.js';

type Environment = Readonly<Record<string, string | undefined>>;

interface Context {
  readonly input: CommandInput;
  readonly env: Environment;
  readonly stateDir: string;
}

interface Command extends CommandShape {
  run(context: Context): Promise<void>;
}

const JSON_OPTION = { json: { value: true, help: 'as JSON' } } as const;
const LANGUAGE_OPTION = { language: { value: 'code', help: 'of the terms: en, ru or uz' } } as const;

const COMMANDS: Readonly<Record<string, Command>> = {
  login: {
    usage: 'login [--api-url <url>] [--telegram-id <id>] [--code <code>]',
    about: 'Signs in with a code that the bot sends you, and registers this machine as a device of yours.',
    options: {
      'api-url': { value: 'url', help: 'the control plane, TS_API_URL' },
      'telegram-id': { value: 'id', help: 'your Telegram id; asked for when not given' },
      code: { value: 'code', help: 'for scripts: the code of a request that was made before' },
      name: { value: 'text', help: 'what the device is called in the app' },
    },
    run: runLogin,
  },
  logout: {
    usage: 'logout',
    about: 'Removes this machine from your account, ends its tunnel and its login.',
    options: {},
    run: ({ stateDir }) => logout(new AccountStore(stateDir)),
  },
  consent: {
    usage: 'consent [accept | withdraw]',
    about:
      'Shows the terms. `accept` records that you accept them; `withdraw` takes it back: every device of yours stops at once.',
    options: {
      'accept-terms': { value: 'version', help: 'accepts this version, which must be the one in force' },
      ...LANGUAGE_OPTION,
      'api-url': { value: 'url', help: 'to read the terms before login, TS_API_URL' },
    },
    words: ['accept', 'withdraw'],
    run: runConsent,
  },
  status: {
    usage: 'status [--json]',
    about: 'What the agent does that runs here, and why it earns or not.',
    options: JSON_OPTION,
    run: async ({ input, stateDir }) =>
      showStatus(await callRunning<AgentStatus>(stateDir, 'GET', '/status'), input),
  },
  pause: {
    usage: 'pause [--for 2h]',
    about: 'Stops sharing at once: open connections are cut, new ones refused. It holds over a restart.',
    options: { for: { value: 'time', help: '90s, 30m, 2h, 1d; without it until resume' }, ...JSON_OPTION },
    run: async ({ input, stateDir }) => {
      const forMs = parsed('for', input.value('for'), parseDuration);
      showStatus(
        await callRunning<AgentStatus>(stateDir, 'POST', '/pause', { for_ms: forMs ?? null }),
        input,
      );
    },
  },
  resume: {
    usage: 'resume',
    about: 'Goes on sharing.',
    options: JSON_OPTION,
    run: async ({ input, stateDir }) =>
      showStatus(await callRunning<AgentStatus>(stateDir, 'POST', '/resume'), input),
  },
  caps: {
    usage: 'caps [--day 2GB] [--month none] …',
    about:
      'Shows the limits of this machine, or sets those given: in force at once, and after a restart. What you set in the\napp for all devices holds beside them; the tighter one counts.',
    options: {
      day: { value: 'bytes', help: '500MB, 2GB; none: no cap. Payload of both directions, local day' },
      month: { value: 'bytes', help: 'the same a month' },
      bandwidth: { value: 'bytes', help: 'a second, both directions together; none: no limit' },
      'wifi-only': { value: 'on|off', help: 'share only over Wi-Fi or a cable' },
      'charging-only': { value: 'on|off', help: 'share only on mains power' },
      ...JSON_OPTION,
    },
    run: async (context) => {
      const { input } = context;
      const change: LocalSettings = defined({
        capBytesDay: parsed('day', input.value('day'), parseBytes),
        capBytesMonth: parsed('month', input.value('month'), parseBytes),
        bandwidthBytesPerSecond: parsed('bandwidth', input.value('bandwidth'), parseBandwidth),
        wifiOnly: parsed('wifi-only', input.value('wifi-only'), parseSwitch),
        chargingOnly: parsed('charging-only', input.value('charging-only'), parseSwitch),
      });
      await changeLimits(context, change, 'caps');
    },
  },
  schedule: {
    usage: 'schedule [--hours 22-06]',
    about: 'Shows the hours of this machine, or sets them. What you set in the app holds beside them.',
    options: {
      hours: { value: 'from-to', help: 'local time, 22-06 or 9:30-17; any: at any time' },
      ...JSON_OPTION,
    },
    run: async (context) => {
      const anyTime = (text: string) => (text === 'any' ? null : parseHours(text));
      const change = defined({ hours: parsed('hours', context.input.value('hours'), anyTime) });
      await changeLimits(context, change, 'schedule');
    },
  },
};

/** Whether it is the name of a command other than `run`. */
export function isCommand(name: string | undefined): name is string {
  return name !== undefined && Object.hasOwn(COMMANDS, name);
}

/** Runs a command to its end. Throws a CommandFailure when it came to nothing. */
export async function runCommand(
  name: string,
  argv: readonly string[],
  env: Environment = agentEnvironment(),
): Promise<void> {
  const command = COMMANDS[name] as Command;
  const input = readCommand(name, command, argv);
  if (input.help) return say(commandHelp(command).trimEnd());
  const stateDir = input.value('state-dir') ?? (env.TS_STATE_DIR?.trim() || defaultStateDir(env));
  await command.run({ input, env, stateDir });
}

async function runLogin({ input, env, stateDir }: Context): Promise<void> {
  const store = new AccountStore(stateDir);
  const given = input.value('api-url') ?? env.TS_API_URL?.trim();
  const apiUrl = given || (await store.read().catch(() => null))?.apiUrl;
  if (!apiUrl) throw new CommandFailure('failed', '--api-url (TS_API_URL) is required: the control plane.');
  parsed('api-url', apiUrl, parseHttpUrl);
  if (!isPrivateTransport(apiUrl))
    show(`Nothing is encrypted on the way to ${apiUrl}: whoever is on it can take this login.`);
  await login(store, {
    apiUrl,
    telegramId: input.value('telegram-id'),
    code: input.value('code'),
    name: input.value('name'),
  });
  say(`Done: this machine is a device of yours now. Its keys are in ${stateDir}.`);
  const running = await callRunning(stateDir, 'GET', '/').then(
    () => true,
    () => false,
  );
  if (running) return say('An agent runs here: stop it and start it again, so that it takes the new keys.');
  say('Next: traffic-share agent   shows the terms, and shares once you have accepted them.');
}

async function runConsent({ input, env, stateDir }: Context): Promise<void> {
  const store = new AccountStore(stateDir);
  const account = await store.read();
  const language = languageOf(input, env);
  const apiUrl = account?.apiUrl ?? input.value('api-url') ?? env.TS_API_URL?.trim();
  if (!apiUrl)
    throw new CommandFailure('not_signed_in', 'Log in first (traffic-share agent login), or give --api-url.');
  const user = new UserApi(store);
  if (input.word === 'withdraw') {
    const answer = await user.call('DELETE', '/api/user/consent');
    if (!answer.ok)
      throw new CommandFailure('failed', `The consent could not be withdrawn: ${answer.detail}`);
    await rememberWithdrawal(store);
    return say('Done: your consent is withdrawn, every device of yours has stopped.');
  }
  const terms = await readTerms(apiUrl, language);
  if (input.word === 'accept') {
    await obtainConsent({ store, user, acceptTerms: input.value('accept-terms') }, terms);
    return say(`Done: the terms of version ${terms.version} are accepted. Share: traffic-share agent`);
  }
  say(termsText(terms));
  say(
    account?.consent?.version === terms.version && !account.consent.withdrawn
      ? `You accepted them on this device at ${new Date(account.consent.acceptedAt).toLocaleString()}.`
      : 'They are not accepted on this device. To accept them: traffic-share agent consent accept',
  );
}

async function changeLimits(
  { input, stateDir }: Context,
  change: LocalSettings,
  which: 'caps' | 'schedule',
): Promise<void> {
  const view = await (Object.keys(change).length === 0
    ? callRunning<LimitsView>(stateDir, 'GET', '/limits')
    : callRunning<LimitsView>(stateDir, 'POST', '/limits', change));
  say((input.isSet('json') ? JSON.stringify(view, null, 2) : limitsText(view, which)).trimEnd());
}

function showStatus(status: AgentStatus, input: CommandInput): void {
  say((input.isSet('json') ? JSON.stringify(status, null, 2) : statusText(status)).trimEnd());
}

function languageOf(input: CommandInput, env: Environment): 'en' | 'ru' | 'uz' {
  const given = input.value('language') ?? env.TS_LANGUAGE?.trim();
  if (!given) return systemLanguage(env);
  if (given !== 'en' && given !== 'ru' && given !== 'uz')
    throw new CommandFailure('failed', '--language must be one of en, ru, uz');
  return given;
}

function parseBandwidth(text: string): number | null {
  const bytes = parseBytes(text.replace(/\/s$/, ''));
  if (bytes !== null && bytes < 1_000) throw new Error('at least 1kB, or none');
  return bytes;
}

/** Undefined when it is not given. Throws a CommandFailure that names the option. */
function parsed<T>(flag: string, text: string | null, parse: (text: string) => T): T | undefined {
  if (text === null) return undefined;
  try {
    return parse(text);
  } catch (error) {
    throw new CommandFailure('failed', `--${flag} must be ${(error as Error).message}`);
  }
}

/** Without what is undefined. */
function defined<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, one]) => one !== undefined)) as never;
}
