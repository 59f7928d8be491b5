import { setTimeout as delay } from 'node:timers/promises';

const EVERY_MS = 100;

/** Asks until the answer is yes; false: it was not within the time. */
export async function until(timeoutMs: number, asked: () => Promise<boolean>): Promise<boolean> {
  const untilMs = performance.now() + timeoutMs;
  while (!(await asked())) {
    if (performance.now() > untilMs) return false;
    await delay(EVERY_MS);
  }
  return true;
}
