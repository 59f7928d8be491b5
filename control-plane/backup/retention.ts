/** How many dumps are kept. */
export interface Retention {
  /** The last one of each of so many UTC days, weeks (from Monday) and months, the present one included. */
  days: number;
  weeks: number;
  months: number;
}

const DAY_MS = 86_400_000;

/**
 * Which of these are past their time. Kept are the newest, all of the last 24 hours, and the last one of each of so many
 * days, weeks and months. What bears a time to come is left alone.
 */
export function outlived<T extends { made_at: string }>(
  backups: readonly T[],
  { days, weeks, months }: Retention,
  nowMs: number,
): T[] {
  const newestFirst = [...backups].sort((a, b) => (a.made_at < b.made_at ? 1 : -1));
  const kept = new Set<T>(newestFirst.slice(0, 1));
  for (const backup of newestFirst) if (Date.parse(backup.made_at) > nowMs - DAY_MS) kept.add(backup);
  const keepLastOfEach = (period: (ms: number) => number, count: number) => {
    const seen = new Set<number>();
    for (const backup of newestFirst) {
      const its = period(Date.parse(backup.made_at));
      if (seen.has(its) || its <= period(nowMs) - count) continue;
      seen.add(its);
      kept.add(backup);
    }
  };
  keepLastOfEach(dayOf, days);
  keepLastOfEach(weekOf, weeks);
  keepLastOfEach(monthOf, months);
  return newestFirst.filter((backup) => !kept.has(backup));
}

const dayOf = (ms: number): number => Math.floor(ms / DAY_MS);
/** 1970-01-01 was a Thursday. */
const weekOf = (ms: number): number => Math.floor((dayOf(ms) + 3) / 7);
const monthOf = (ms: number): number => {
  const date = new Date(ms);
  return date.getUTCFullYear() * 12 + date.getUTCMonth();
};
