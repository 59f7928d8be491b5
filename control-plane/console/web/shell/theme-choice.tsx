import { Icon } from './icons.js';
import { chooseTheme, type Theme, theme } from './theme.js';

const CHOICES = [
  ['auto', 'Like the system', 'auto'],
  ['light', 'Light', 'sun'],
  ['dark', 'Dark', 'moon'],
] as const satisfies readonly (readonly [Theme, string, string])[];

/** Light, dark, or like the system. */
export function ThemeChoice() {
  return (
    <fieldset class="theme-choice">
      <legend class="hidden">Colours</legend>
      {CHOICES.map(([value, label, icon]) => (
        <button
          key={value}
          type="button"
          aria-pressed={theme.value === value}
          title={label}
          onClick={() => chooseTheme(value)}
        >
          <Icon name={icon} />
          <span class="hidden">{label}</span>
        </button>
      ))}
    </fieldset>
  );
}
