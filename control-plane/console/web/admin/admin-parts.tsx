import type { ComponentChildren } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { useLocation } from 'preact-iso/router';
import { CopyButton } from '../parts/buttons.js';
import { SelectField, TextField } from '../parts/form.js';
import { Badge, type BadgeTone } from '../parts/layout.js';

const TONES: Readonly<Record<string, BadgeTone>> = {
  active: 'good',
  approved: 'good',
  available: 'good',
  completed: 'good',
  done: 'good',
  sent: 'good',
  succeeded: 'good',
  sharing: 'good',
  online: 'good',
  answered: 'good',
  pending: 'warn',
  open: 'warn',
  queued: 'warn',
  suspended: 'warn',
  stopping: 'warn',
  draining: 'warn',
  unknown: 'warn',
  warn: 'warn',
  paused: 'warn',
  processing: 'info',
  running: 'info',
  sending: 'info',
  in_progress: 'info',
  allocated: 'info',
  info: 'info',
  banned: 'bad',
  failed: 'bad',
  rejected: 'bad',
  revoked: 'bad',
  lost: 'bad',
  error: 'bad',
  blocked: 'bad',
};

/** A state as the API names it, in words. */
export function Status({ of }: { of: string }) {
  return <Badge tone={TONES[of] ?? 'plain'}>{of.replaceAll('_', ' ')}</Badge>;
}

/** The beginning of an id, all of it on hover, as a link where it has a page. */
export function Id({ id, href }: { id: string | null; href?: string }) {
  if (id === null) return <span class="quiet">–</span>;
  const text = <code title={id}>{id.length > 13 ? `${id.slice(0, 8)}…` : id}</code>;
  return href === undefined ? (
    text
  ) : (
    <a href={href} onClick={(event) => event.stopPropagation()}>
      {text}
    </a>
  );
}

/** The whole id with a way to copy it. */
export function FullId({ id }: { id: string }) {
  return (
    <span class="row">
      <code>{id}</code>
      <CopyButton text={id} />
    </span>
  );
}

export const UserId = ({ id }: { id: string | null }) => (
  <Id id={id} {...(id === null ? {} : { href: `/admin/users/${id}` })} />
);
export const BuyerId = ({ id }: { id: string | null }) => (
  <Id id={id} {...(id === null ? {} : { href: `/admin/buyers/${id}` })} />
);
export const SessionId = ({ id }: { id: string | null }) => (
  <Id id={id} {...(id === null ? {} : { href: `/admin/sessions/${id}` })} />
);

/** A country by its name; its code where the browser knows none. */
export function countryText(code: string | null): string {
  if (code === null || code === '') return '–';
  try {
    return countryNames.of(code) ?? code;
  } catch {
    return code;
  }
}
const countryNames = new Intl.DisplayNames('en', { type: 'region' });

/** Time after the last key before a search goes out, ms. */
const TYPING_MS = 300;

/** A search field: `onValue` gets the text when typing pauses. */
export function SearchField(props: {
  label: string;
  value: string;
  onValue: (value: string) => void;
  placeholder?: string;
}) {
  const [text, setText] = useState(props.value);
  useEffect(() => {
    if (text.trim() === props.value) return;
    const timer = setTimeout(() => props.onValue(text.trim()), TYPING_MS);
    return () => clearTimeout(timer);
  }, [text]);
  return (
    <TextField
      label={props.label}
      type="search"
      value={text}
      onValue={setText}
      {...(props.placeholder === undefined ? {} : { placeholder: props.placeholder })}
    />
  );
}

/** One of a few values, or all of them. */
export function FilterField(props: {
  label: string;
  value: string;
  onValue: (value: string) => void;
  values: readonly string[];
  all?: string;
}) {
  return (
    <SelectField
      label={props.label}
      value={props.value}
      onValue={props.onValue}
      options={[
        ['', props.all ?? 'All'],
        ...props.values.map((value) => [value, value.replaceAll('_', ' ')] as const),
      ]}
    />
  );
}

/** Filters of a list, beginning with those in the address (`?status=pending`), and kept there. */
export function useFilters<Names extends string>(
  ...names: Names[]
): [Record<Names, string>, (name: Names) => (value: string) => void] {
  const { query, path, route } = useLocation();
  const values = Object.fromEntries(names.map((name) => [name, query[name] ?? ''])) as Record<Names, string>;
  const set = (name: Names) => (value: string) => {
    // Of the address as it is by now: a search that was typed goes out later than other filters change.
    const search = new URLSearchParams(location.search);
    if (value === '') search.delete(name);
    else search.set(name, value);
    route(search.size === 0 ? path : `${path}?${search}`, true);
  };
  return [values, set];
}

/** Where a page lies below another: back to that one. */
export function Crumb({ href, children }: { href: string; children: ComponentChildren }) {
  return (
    <nav aria-label="Back">
      <a class="crumb" href={href}>
        ← {children}
      </a>
    </nav>
  );
}

/** Lines of text as a list, empty ones left out. */
export function linesOf(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
}

/** Whole numbers from a field; NaN stays for the API to refuse. */
export function numbersOf(text: string): number[] {
  return text
    .split(/[\s,]+/)
    .filter((part) => part !== '')
    .map(Number);
}

/** Figures as bars, the greatest first; the words beside them say the same. `href`: what a row leads to. */
export function BarList(props: {
  rows: readonly { label: string; value: number; text: ComponentChildren; href?: string }[];
  empty: string;
}) {
  if (props.rows.length === 0) return <p class="quiet">{props.empty}</p>;
  const rows = [...props.rows].sort((a, b) => b.value - a.value);
  const max = Math.max(1, ...rows.map(({ value }) => value));
  return (
    <ul class="bars">
      {rows.map(({ label, value, text, href }) => (
        <li key={label}>
          {href === undefined ? <span>{label}</span> : <a href={href}>{label}</a>}
          <div class="bar-track" aria-hidden="true">
            <div class="bar-fill" style={{ width: `${(value / max) * 100}%` }} />
          </div>
          <span>{text}</span>
        </li>
      ))}
    </ul>
  );
}
