import type { ComponentChildren } from 'preact';
import { useEffect, useId, useRef } from 'preact/hooks';
import type { ApiError } from '../api/problem.js';
import { Button } from './buttons.js';

/** A modal dialog: the browser's own, which keeps the focus inside and closes by Escape. Shown while it is rendered. */
export function Dialog(props: { title: string; onClose: () => void; children: ComponentChildren }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const before = document.activeElement;
    dialog.current?.showModal();
    return () => {
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      class="dialog"
      aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault();
        props.onClose();
      }}
    >
      <header class="dialog-head">
        <h2 id={id}>{props.title}</h2>
        <button type="button" class="icon-button" aria-label="Close" onClick={props.onClose}>
          ×
        </button>
      </header>
      {props.children}
    </dialog>
  );
}

/** Asks before something is done that can not be taken back lightly. */
export function Confirm(props: {
  title: string;
  children: ComponentChildren;
  /** What is done, in a verb: on the button. */
  action: string;
  danger?: boolean;
  busy?: boolean;
  error?: ApiError | undefined;
  disabled?: boolean;
  onConfirm: () => void;
  onClose: () => void;
}) {
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <div class="dialog-body">{props.children}</div>
      {props.error !== undefined && (
        <p class="form-error" role="alert">
          {props.error.message}
        </p>
      )}
      <footer class="dialog-foot">
        <Button onClick={props.onClose}>Cancel</Button>
        <Button
          kind={props.danger === true ? 'danger' : 'main'}
          busy={props.busy ?? false}
          disabled={props.disabled ?? false}
          onClick={props.onConfirm}
        >
          {props.action}
        </Button>
      </footer>
    </Dialog>
  );
}
