import type { ComponentChildren } from 'preact';
import { useId } from 'preact/hooks';

/** The head of a page: its title (the h1, which gets the focus after navigation), a line below, actions at the side. */
export function PageHead(props: { title: string; lead?: ComponentChildren; children?: ComponentChildren }) {
  return (
    <header class="page-head">
      <div>
        <h1 tabIndex={-1}>{props.title}</h1>
        {props.lead !== undefined && <p class="quiet">{props.lead}</p>}
      </div>
      {props.children !== undefined && <div class="actions">{props.children}</div>}
    </header>
  );
}

/** A part of a page with a title of its own. */
export function Card(props: {
  title?: string;
  lead?: ComponentChildren;
  actions?: ComponentChildren;
  class?: string;
  children: ComponentChildren;
}) {
  const id = useId();
  const { title } = props;
  return (
    <section class={`card ${props.class ?? ''}`} aria-labelledby={title === undefined ? undefined : id}>
      {title !== undefined && (
        <header class="card-head">
          <div>
            <h2 id={id}>{title}</h2>
            {props.lead !== undefined && <p class="quiet small">{props.lead}</p>}
          </div>
          {props.actions !== undefined && <div class="actions">{props.actions}</div>}
        </header>
      )}
      {props.children}
    </section>
  );
}

/** Figures side by side. */
export function Stats({ children }: { children: ComponentChildren }) {
  return <dl class="stats">{children}</dl>;
}

/** One figure: what it is, how much, and a line below. */
export function Stat(props: {
  label: string;
  note?: ComponentChildren;
  children: ComponentChildren;
  tone?: 'good';
}) {
  return (
    <div class={`stat ${props.tone === 'good' ? 'stat-good' : ''}`}>
      <dt>{props.label}</dt>
      <dd>
        <span class="stat-value">{props.children}</span>
        {props.note !== undefined && <span class="stat-note">{props.note}</span>}
      </dd>
    </div>
  );
}

/** Names and values under each other. */
export function Facts({ rows }: { rows: readonly (readonly [name: string, value: ComponentChildren])[] }) {
  return (
    <dl class="facts">
      {rows.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

export type BadgeTone = 'good' | 'bad' | 'warn' | 'plain' | 'info';

/** A state in a word; colour never says it alone. */
export function Badge({ tone = 'plain', children }: { tone?: BadgeTone; children: ComponentChildren }) {
  return <span class={`badge badge-${tone}`}>{children}</span>;
}

/** How far long work is; `value` null: nobody knows. */
export function Progress({ label, value, max }: { label: string; value: number | null; max: number }) {
  return (
    <div class="progress">
      <progress aria-label={label} max={max} {...(value === null ? {} : { value })} />
      <span class="quiet small">{label}</span>
    </div>
  );
}
