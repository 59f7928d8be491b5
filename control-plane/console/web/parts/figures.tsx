import { signal } from '@preact/signals';
import { bytesText, dateTimeText, microsOf, moneyText, rateText, relativeText } from './amounts.js';

/** Money as text, its exact amount on hover. `signed`: a plus before what came in. */
export function Money({ amount, exact, signed }: { amount: string; exact?: boolean; signed?: boolean }) {
  const plus = signed === true && microsOf(amount) > 0n ? '+' : '';
  return (
    <span class="number" title={`${amount} USD`}>
      {plus}
      {moneyText(amount, { exact: exact ?? false })}
    </span>
  );
}

export function Bytes({ bytes }: { bytes: number | string | bigint }) {
  return (
    <span class="number" title={`${bytes} bytes`}>
      {bytesText(bytes)}
    </span>
  );
}

/** `bytesPerSecond` shown in bits, as connections are sold. */
export function Rate({ bytesPerSecond }: { bytesPerSecond: number }) {
  return (
    <span class="number" title={`${bytesPerSecond} bytes per second`}>
      {rateText(bytesPerSecond)}
    </span>
  );
}

const TICK_MS = 10_000;
/** Now, for everything that says how long ago something was. */
const now = signal(Date.now());
let ticking = false;

function startTicking(): void {
  if (ticking) return;
  ticking = true;
  setInterval(() => {
    now.value = Date.now();
  }, TICK_MS);
}

/** A moment in the viewer's zone: how long ago, the date on hover; `full` the other way about. Null: a dash. */
export function Time({ at, full = false }: { at: string | null | undefined; full?: boolean }) {
  startTicking();
  if (at === null || at === undefined) return <span class="quiet">–</span>;
  const exact = dateTimeText(at);
  const ago = relativeText(Date.parse(at), now.value);
  return (
    <time dateTime={at} title={full ? ago : exact}>
      {full ? exact : ago}
    </time>
  );
}
