import { signal } from '@preact/signals';

export type Theme = 'auto' | 'light' | 'dark';
const KEY = 'ts.theme';

/** What the person chose; `auto` follows the system, in Telegram its theme. */
export const theme = signal<Theme>('auto');

const root = document.documentElement;

/** Goes with what was chosen last time. Call before rendering. */
export function restoreTheme(): void {
  const stored = localStorage.getItem(KEY);
  if (stored === 'light' || stored === 'dark') chooseTheme(stored);
}

export function chooseTheme(chosen: Theme): void {
  theme.value = chosen;
  if (chosen === 'auto') {
    localStorage.removeItem(KEY);
    root.removeAttribute('data-theme');
  } else {
    localStorage.setItem(KEY, chosen);
    root.setAttribute('data-theme', chosen);
  }
}

/** Telegram's theme parameters and our properties that take them over. */
const FROM_TELEGRAM: Readonly<Record<string, string>> = {
  bg_color: '--surface',
  secondary_bg_color: '--background',
  text_color: '--text',
  hint_color: '--text-quiet',
  link_color: '--accent-text',
  button_color: '--accent',
  button_text_color: '--on-accent',
};

/** Shows the Mini App in Telegram's colours. What is no colour is left out. */
export function applyTelegramTheme(parameters: Readonly<Record<string, string>>): void {
  for (const [name, property] of Object.entries(FROM_TELEGRAM)) {
    const colour = parameters[name];
    if (colour !== undefined && /^#[0-9a-f]{6}$/i.test(colour)) root.style.setProperty(property, colour);
  }
  const background = parameters.bg_color;
  if (background !== undefined && /^#[0-9a-f]{6}$/i.test(background))
    root.setAttribute('data-theme', isDark(background) ? 'dark' : 'light');
  root.setAttribute('data-telegram', '');
}

/** Relative luminance under a half (WCAG 2.2, roughly). */
function isDark(colour: string): boolean {
  const [r, g, b] = [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16)) as [
    number,
    number,
    number,
  ];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b < 128;
}
