import { signal } from '@preact/signals';

export type Tone = 'good' | 'bad' | 'plain';

interface Toast {
  id: number;
  text: string;
  tone: Tone;
}

const toasts = signal<readonly Toast[]>([]);
let lastId = 0;

/** How long one stays: bad news are read twice. */
const STAY_MS = { good: 4_000, plain: 4_000, bad: 9_000 };

/** Tells something in passing, to screen readers too. */
export function toast(text: string, tone: Tone = 'good'): void {
  const id = ++lastId;
  toasts.value = [...toasts.value.filter((one) => one.text !== text).slice(-3), { id, text, tone }];
  setTimeout(() => drop(id), STAY_MS[tone]);
}

function drop(id: number): void {
  toasts.value = toasts.value.filter((one) => one.id !== id);
}

/** Where toasts appear; once, always there, so that screen readers watch it. */
export function Toasts() {
  return (
    <div class="toasts" aria-live="polite" role="status">
      {toasts.value.map(({ id, text, tone }) => (
        <div key={id} class={`toast toast-${tone}`}>
          <span>{text}</span>
          <button type="button" class="icon-button" aria-label="Dismiss" onClick={() => drop(id)}>
            ×
          </button>
        </div>
      ))}
    </div>
  );
}
