import type { ComponentChildren } from 'preact';
import { Copyable } from '../parts/buttons.js';
import { Bytes } from '../parts/figures.js';

/** Something to be done or known, above what it is about. */
export function Notice(props: {
  tone?: 'warn' | 'bad' | 'info';
  children: ComponentChildren;
  action?: ComponentChildren;
}) {
  const { tone = 'warn' } = props;
  return (
    <div class={`buyer-notice ${tone === 'warn' ? '' : `buyer-notice-${tone}`}`}>
      <p>{props.children}</p>
      {props.action}
    </div>
  );
}

/** A login as it was made: the password is shown here and never again. */
export function ShownOnce({ account, password }: { account: string; password: string }) {
  return (
    <div class="secret">
      <p>
        Copy the password now. It is shown this once: only a hash of it is kept, so nobody can tell it to you
        later.
      </p>
      <div class="field">
        <span class="field-hint">Username</span>
        <Copyable text={account} label="Copy username" />
      </div>
      <div class="field">
        <span class="field-hint">Password</span>
        <Copyable text={password} label="Copy password" />
      </div>
    </div>
  );
}

/** Groups, the largest first, each as a part of that one. */
export function Shares({ items }: { items: readonly { name: string; bytes: bigint }[] }) {
  const most = items[0]?.bytes ?? 0n;
  const percent = (bytes: bigint) => (most === 0n ? 0 : Number((bytes * 1_000n) / most) / 10);
  return (
    <ul class="shares">
      {items.map(({ name, bytes }) => (
        <li key={name} class="share">
          <div class="spread">
            <span>{name}</span>
            <Bytes bytes={bytes} />
          </div>
          <div class="share-bar" aria-hidden="true">
            <div style={{ width: `${percent(bytes)}%` }} />
          </div>
        </li>
      ))}
    </ul>
  );
}
