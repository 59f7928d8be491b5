import { OPTIONS, type Option } from '../../agent-protocol/agent/options.js';
import { controlPlaneSettings } from '../../control-plane/config.js';
import { gatewaySettings } from '../../gateway/config.js';
import { defaultAsText, type Setting } from '../../gateway/runtime/environment.js';
import { standaloneSettings } from '../standalone/config.js';

/** One setting as the documents show it. */
export interface SettingDescription {
  /** Environment variable. */
  readonly name: string;
  /** The agent's option that does the same. */
  readonly flag?: string;
  /** What a value looks like, its unit last. */
  readonly takes: string;
  /** As it would be written; null: unset. */
  readonly default: string | null;
  /** What there is instead of a default: the machine's, or the process does not start without. */
  readonly required: boolean;
  /** `NAME_FILE` may hold the path of a file with it. */
  readonly secret: boolean;
  /** Meaning, and what happens at it. */
  readonly help: string;
}

/** A process and all its settings, in the order of its configuration code. */
export interface ProcessSettings {
  readonly process: string;
  readonly about: string;
  readonly settings: readonly SettingDescription[];
}

/** Units that names end in; the first that fits. */
const UNITS: readonly (readonly [RegExp, string])[] = [
  [/_MICROS_PER_GB$/, 'micro-dollars per 10^9 bytes'],
  [/_MICROS(_MAX|_MIN)?$/, 'micro-dollars'],
  [/_MS(_MAX|_MIN)?$/, 'ms'],
  [/_S$/, 's'],
  [/_DAYS$/, 'days'],
  [/_BYTES(_MAX|_MIN|_DAY|_MONTH)?$/, 'bytes'],
  [/_PERCENT$/, 'percent'],
  [/_PER_SECOND(_MAX)?$/, 'a second'],
  [/_PER_MINUTE$/, 'a minute'],
  [/_PER_HOUR$/, 'an hour'],
];

/** The unit that a setting's name says; null for counts, ports and words. */
export function unitOf(name: string): string | null {
  return UNITS.find(([pattern]) => pattern.test(name))?.[1] ?? null;
}

function describe(setting: Setting<unknown>): SettingDescription {
  const unit = setting.takes.startsWith('whole number') ? unitOf(setting.name) : null;
  return {
    name: setting.name,
    takes: unit === null ? setting.takes : `${setting.takes}, ${unit}`,
    default: setting.defaultText ?? defaultAsText(setting),
    required: !('default' in setting),
    secret: setting.secret === true,
    help: setting.help,
  };
}

function describeOption({ flag, env, value, fallback, help }: Option<unknown>): SettingDescription {
  const unset = fallback === null || fallback === '' || (Array.isArray(fallback) && fallback.length === 0);
  return {
    name: env,
    flag: `--${flag}`,
    takes: value ?? '1 or 0; the option takes nothing',
    default: unset ? null : typeof fallback === 'boolean' ? (fallback ? '1' : '0') : String(fallback),
    required: false,
    secret: false,
    help,
  };
}

/** Every setting of every process, from the configuration code. */
export function allSettings(): ProcessSettings[] {
  const of = (table: Record<string, Setting<unknown>>) => Object.values(table).map(describe);
  return [
    {
      process: 'gateway',
      about: '`traffic-share gateway`: the data path.',
      settings: of(gatewaySettings),
    },
    {
      process: 'control-plane',
      about:
        '`traffic-share control-plane`: API, console, settlement, background jobs, Telegram bot. The commands that ' +
        'work on the database read `TS_DATABASE_URL` from here.',
      settings: of(controlPlaneSettings),
    },
    {
      process: 'agent',
      about: '`traffic-share agent`: a device. An option wins over its variable.',
      settings: Object.values(OPTIONS as Record<string, Option<unknown>>).map(describeOption),
    },
    {
      process: 'start',
      about:
        '`traffic-share start` (`npm start`): everything on one machine, for trying and developing; refused with ' +
        '`NODE_ENV=production`. Gateway and control plane that it starts read their own settings as well, except ' +
        'those that it decides for them.',
      settings: of(standaloneSettings),
    },
  ];
}

/** Variables that are not settings of ours and change what the programs do. */
const OTHERS: readonly (readonly [string, string])[] = [
  [
    'NODE_ENV',
    '`production`: the same as `TS_PRODUCTION=1`; `start`, and options for development, are refused',
  ],
  ['XDG_STATE_HOME, HOME', 'agent: where its state is when `TS_STATE_DIR` does not say so'],
  ['LC_ALL, LC_MESSAGES, LANG', 'agent: the language of the terms when `TS_LANGUAGE` does not say so'],
  ['PGSSLROOTCERT, PGSSLCERT, PGSSLKEY', 'control plane: handed to `pg_dump` for its connection to Postgres'],
];

const cell = (text: string) => text.replaceAll('|', '\\|').replaceAll('<', '&lt;');

function row(s: SettingDescription): string {
  const name = s.flag === undefined ? `\`${s.name}\`` : `\`${s.name}\`, \`${s.flag}\``;
  const fallback = s.required ? '**required**' : s.default === null ? 'unset' : `\`${s.default}\``;
  const help = s.secret ? `${s.help}; or in the file of \`${s.name}_FILE\`` : s.help;
  return `| ${name} | ${cell(s.takes)} | ${cell(fallback)} | ${cell(help)} |`;
}

/** deploy/SETTINGS.md. */
export function settingsMarkdown(): string {
  const sections = allSettings().map(
    ({ process, about, settings }) =>
      `## ${process}\n\n${about}\n\n| variable | value | default | meaning, and what happens at it |\n|---|---|---|---|\n` +
      `${settings.map(row).join('\n')}\n`,
  );
  return `# Settings

Made from the configuration code by \`npm run settings\`; do not edit. All settings are environment variables, read once
when a process starts: it names everything that is wrong and ends with 1. An empty variable is an unset one. A secret
may be in a file instead, for systemd credentials and secrets of containers: \`TS_JWT_SECRET_FILE=/run/secrets/jwt\`.
\`deploy/env.example\` has the settings of gateway and control plane to start from.

${sections.join('\n')}
## Variables of others

| variable | meaning |
|---|---|
${OTHERS.map(([name, help]) => `| ${name} | ${help} |`).join('\n')}
`;
}

function assignment(s: SettingDescription): string {
  const isText = s.takes === 'text';
  const value = s.required || s.default === null ? '' : isText && s.default.includes(' ') ? '' : s.default;
  const notes = [s.takes, s.required ? 'required' : s.default === null ? 'unset' : null].filter(Boolean);
  const file = s.secret ? [`# or ${s.name}_FILE=path of a file that holds it`] : [];
  return [`# ${s.help} (${notes.join('; ')})`, ...file, `${s.required ? '' : '#'}${s.name}=${value}`].join(
    '\n',
  );
}

/** deploy/env.example: settings of gateway and control plane, all with their defaults, as comments where not required. */
export function environmentExample(): string {
  const tables = allSettings().filter(({ process }) => process === 'gateway' || process === 'control-plane');
  const [gateway, controlPlane] = tables.map(({ settings }) => settings);
  if (gateway === undefined || controlPlane === undefined) throw new Error('no settings');
  const ofGateway = new Map(gateway.map((s) => [s.name, s]));
  const shared = new Set(controlPlane.map((s) => s.name).filter((name) => ofGateway.has(name)));
  const both = controlPlane
    .filter((s) => shared.has(s.name))
    .map((s) => {
      const other = ofGateway.get(s.name)?.help;
      return { ...s, help: other === s.help ? s.help : `control plane: ${s.help}; gateway: ${other}` };
    });
  const part = (title: string, settings: readonly SettingDescription[]) =>
    `# ==== ${title}\n\n${settings.map(assignment).join('\n\n')}\n`;
  return [
    '# Settings of gateway and control plane, for EnvironmentFile= of systemd and env_file of containers.\n' +
      '# Made from the configuration code by `npm run settings`; copy it, do not edit it here. What is commented out is\n' +
      '# the default. Processes on one machine may share a copy; see SETTINGS.md.\n',
    part('both', both),
    part(
      'gateway',
      gateway.filter((s) => !shared.has(s.name)),
    ),
    part(
      'control plane',
      controlPlane.filter((s) => !shared.has(s.name)),
    ),
  ].join('\n');
}

/** The forms that `traffic-share settings` knows. */
type SettingsFormat = 'markdown' | 'env' | 'json';

/** `traffic-share settings`: every setting of every process to stdout. Needs no setting itself. */
export function runSettings(options: { format: SettingsFormat }): void {
  process.stdout.write(
    options.format === 'markdown'
      ? settingsMarkdown()
      : options.format === 'env'
        ? environmentExample()
        : `${JSON.stringify(allSettings(), null, 2)}\n`,
  );
}
