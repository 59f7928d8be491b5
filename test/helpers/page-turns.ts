/** How long a table of the console takes from the click on Next to the next rows on the screen. */
import type { Page } from 'playwright-core';

/**
 * Measures in the page, with its own clock: from when the browser got the click to the task after the frame in which the
 * table has its new rows. Installed once a document.
 */
const TIMER = `globalThis.pageTurn ??= new Promise((done) => {
  const rows = () => document.querySelector('main tbody')?.textContent;
  const before = rows();
  let clickedMs = null;
  addEventListener('click', (event) => { clickedMs ??= event.timeStamp; }, { capture: true, once: true });
  const changed = new MutationObserver(() => {
    if (clickedMs === null || rows() === before || document.querySelector('main [aria-busy=true]')) return;
    changed.disconnect();
    requestAnimationFrame(() => {
      const painted = new MessageChannel();
      painted.port1.onmessage = () => {
        performance.measure('page turn', { start: clickedMs, end: performance.now() });
        done(performance.getEntriesByName('page turn').at(-1).duration);
      };
      painted.port2.postMessage(null);
    });
  });
  changed.observe(document.querySelector('main'),
    { subtree: true, childList: true, characterData: true, attributes: true });
})`;

/** Clicks Next so many times; how long each took, ms. */
export async function turnPages(page: Page, turns: number): Promise<number[]> {
  const tookMs: number[] = [];
  const next = page.getByRole('button', { name: 'Next' });
  for (let turn = 0; turn < turns; turn++) {
    await page.evaluate(`void (${TIMER})`);
    await next.click();
    tookMs.push((await page.evaluate('globalThis.pageTurn')) as number);
    await page.evaluate('delete globalThis.pageTurn');
  }
  return tookMs;
}

/** Of an uneven or even number of values. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] as number;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] as number) + upper) / 2;
}
