import { parseCronItem } from 'graphile-worker';

const MINUTE_MS = 60_000;
/** A schedule that never comes within this is none. */
const AHEAD_MINUTES_MAX = 366 * 1_440;

/**
 * When the schedule (crontab, UTC) comes next after the moment, ms; null: not within a year. Throws when it is no
 * crontab.
 */
export function nextRunAtMs(schedule: string, afterMs: number): number | null {
  const { match } = parseCronItem({ task: 'any', match: schedule });
  let atMs = Math.floor(afterMs / MINUTE_MS) * MINUTE_MS;
  for (let minute = 0; minute < AHEAD_MINUTES_MAX; minute++) {
    atMs += MINUTE_MS;
    const at = new Date(atMs);
    const digest = {
      min: at.getUTCMinutes(),
      hour: at.getUTCHours(),
      date: at.getUTCDate(),
      month: at.getUTCMonth() + 1,
      dow: at.getUTCDay(),
    };
    if (match(digest)) return atMs;
  }
  return null;
}
