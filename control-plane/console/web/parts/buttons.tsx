import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import { toast } from '../shell/toasts.js';

/** A button that shows when it is at work. */
export function Button(props: {
  children: ComponentChildren;
  onClick?: () => void;
  kind?: 'plain' | 'main' | 'danger' | 'quiet';
  type?: 'button' | 'submit';
  busy?: boolean;
  disabled?: boolean;
  label?: string;
}) {
  const { kind = 'plain', busy = false } = props;
  return (
    <button
      type={props.type ?? 'button'}
      class={`button button-${kind}`}
      disabled={props.disabled === true || busy}
      aria-busy={busy}
      aria-label={props.label}
      onClick={props.onClick}
    >
      {busy && <span class="spinner" aria-hidden="true" />}
      {props.children}
    </button>
  );
}

const COPIED_MS = 2_000;

/** Puts `text` on the clipboard and says so. */
export function CopyButton({ text, label = 'Copy' }: { text: string; label?: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setCopied(true);
      setTimeout(() => setCopied(false), COPIED_MS);
    } catch {
      toast('This browser does not let pages copy. Select the text instead.', 'bad');
    }
  };
  return (
    <button type="button" class="button button-small" onClick={() => void copy()}>
      <span aria-live="polite">{copied ? 'Copied' : label}</span>
    </button>
  );
}

/** Text to be copied, in a box with its button. */
export function Copyable({ text, label }: { text: string; label: string }) {
  return (
    <div class="copyable">
      <code>{text}</code>
      <CopyButton text={text} label={label} />
    </div>
  );
}
