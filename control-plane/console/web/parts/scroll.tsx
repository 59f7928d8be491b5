import type { ComponentChildren } from 'preact';

/** What may be wider than its place: it scrolls there, and is reachable by keyboard, as all that scrolls must be. */
export function Scroll(props: {
  /** What it is called to screen readers. */
  label: string;
  /** Another content is on its way. */
  busy?: boolean;
  /** Of the style sheets; without it that of tables. */
  class?: string;
  children: ComponentChildren;
}) {
  const { label, busy, class: name = 'table-scroll' } = props;
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
    <section class={name} aria-busy={busy} aria-label={label} tabIndex={0}>
      {props.children}
    </section>
  );
}
