import { join } from 'node:path';
import { CommandFailure } from './command-failure.js';
import type { DayHours, OwnerLimits } from './owner-rules.js';
import { DamagedFile, readPrivate, writePrivate } from './private-file.js';

/** What the owner set on the running agent; it outlives a restart. Undefined: never set here. */
export interface LocalSettings {
  readonly capBytesDay?: number | null;
  readonly capBytesMonth?: number | null;
  readonly bandwidthBytesPerSecond?: number | null;
  readonly wifiOnly?: boolean;
  readonly chargingOnly?: boolean;
  readonly hours?: DayHours | null;
  /** The owner's pause; `until` (ISO 8601) null: until they resume. */
  readonly paused?: { readonly until: string | null } | null;
}

/** Names of the limits among them. */
export const LOCAL_LIMITS = [
  'capBytesDay',
  'capBytesMonth',
  'bandwidthBytesPerSecond',
  'wifiOnly',
  'chargingOnly',
  'hours',
] as const satisfies readonly (keyof LocalSettings & keyof OwnerLimits)[];

const isNullOr = (check: (value: unknown) => boolean) => (value: unknown) => value === null || check(value);
const isBytes = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 1;
const isFlag = (value: unknown) => typeof value === 'boolean';
const isMinute = (value: unknown) =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 1440;

const CHECKS: Readonly<Record<keyof LocalSettings, (value: unknown) => boolean>> = {
  capBytesDay: isNullOr(isBytes),
  capBytesMonth: isNullOr(isBytes),
  bandwidthBytesPerSecond: isNullOr((value) => isBytes(value) && (value as number) >= 1_000),
  wifiOnly: isFlag,
  chargingOnly: isFlag,
  hours: isNullOr((value) => {
    const { fromMinute, toMinute } = (value ?? {}) as Partial<DayHours>;
    return isMinute(fromMinute) && isMinute(toMinute);
  }),
  paused: isNullOr((value) => {
    const { until } = (value ?? {}) as { until?: unknown };
    return until === null || (typeof until === 'string' && !Number.isNaN(Date.parse(until)));
  }),
};

/** The settings in `value`; null: something in it is none, or does not fit. */
export function parseLocalSettings(value: unknown): LocalSettings | null {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null;
  const fits = Object.entries(value).every(
    ([name, one]) => Object.hasOwn(CHECKS, name) && CHECKS[name as keyof LocalSettings](one),
  );
  return fits ? (value as LocalSettings) : null;
}

const FILE = 'settings.json';

/** Throws a CommandFailure when the file is damaged: limits that the owner set must not be lost in silence. */
export async function readLocalSettings(stateDir: string): Promise<LocalSettings> {
  const path = join(stateDir, FILE);
  const value = await readPrivate(path).catch((error: unknown) => {
    if (error instanceof DamagedFile) return undefined;
    throw error;
  });
  if (value === null) return {};
  const settings = parseLocalSettings(value);
  if (settings === null)
    throw new CommandFailure(
      'failed',
      `${path} is damaged: mend it, or remove it and set caps and hours again`,
    );
  return settings;
}

export function writeLocalSettings(stateDir: string, settings: LocalSettings): Promise<void> {
  return writePrivate(join(stateDir, FILE), settings);
}

/** The limits of this machine: what the flags fix, else what was set here, else what the agent was started with. */
export function effectiveLimits(
  started: OwnerLimits,
  settings: LocalSettings,
  fixed: readonly (keyof OwnerLimits)[],
): OwnerLimits {
  const set = Object.fromEntries(
    LOCAL_LIMITS.filter((name) => !fixed.includes(name) && settings[name] !== undefined).map((name) => [
      name,
      settings[name],
    ]),
  );
  return { ...started, ...set };
}
