import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useId, useRef } from 'preact/hooks';
import type { ApiError } from '../api/problem.js';
import { Button } from './buttons.js';

/** A form that sends nothing by itself: `onSubmit` does; the error on top, the fields' own beside them. */
export function Form(props: {
  onSubmit: () => void;
  submit?: string;
  busy?: boolean;
  error?: ApiError | undefined;
  children: ComponentChildren;
  /** Beside the button. */
  extra?: ComponentChildren;
  disabled?: boolean;
}) {
  const form = useRef<HTMLFormElement>(null);
  const { error } = props;
  useEffect(() => {
    // To the first field that does not fit.
    if (error !== undefined) form.current?.querySelector<HTMLElement>('[aria-invalid=true]')?.focus();
  }, [error]);
  return (
    <form
      ref={form}
      class="form"
      onSubmit={(event) => {
        event.preventDefault();
        props.onSubmit();
      }}
    >
      {error !== undefined && (
        <p class="form-error" role="alert">
          {error.message}
        </p>
      )}
      {props.children}
      {props.submit !== undefined && (
        <div class="form-foot">
          <Button type="submit" kind="main" busy={props.busy ?? false} disabled={props.disabled ?? false}>
            {props.submit}
          </Button>
          {props.extra}
        </div>
      )}
    </form>
  );
}

interface FieldProps {
  label: string;
  hint?: ComponentChildren;
  /** Name of the field in the API's body: its finding in `error` is shown here. */
  name?: string;
  error?: ApiError | undefined;
}

/** Of the field, or of the first wrong entry where it holds a list. */
function findingOf({ name, error }: FieldProps): string | undefined {
  if (name === undefined || error === undefined) return undefined;
  const own = error.fields[name];
  if (own !== undefined) return own;
  for (const [path, message] of Object.entries(error.fields)) {
    const entry = path.startsWith(`${name}/`) ? /^\d+/.exec(path.slice(name.length + 1)) : null;
    if (entry !== null) return `Entry ${Number(entry[0]) + 1} ${message}.`;
  }
  return undefined;
}

function Labelled(props: FieldProps & { id: string; children: ComponentChildren }) {
  const finding = findingOf(props);
  return (
    <div class="field">
      <label for={props.id}>{props.label}</label>
      {props.children}
      {finding !== undefined && (
        <p class="field-error" id={`${props.id}-error`}>
          {finding}
        </p>
      )}
      {props.hint !== undefined && (
        <p class="field-hint" id={`${props.id}-hint`}>
          {props.hint}
        </p>
      )}
    </div>
  );
}

function described(id: string, props: FieldProps): string | undefined {
  const parts = [
    ...(findingOf(props) === undefined ? [] : [`${id}-error`]),
    ...(props.hint === undefined ? [] : [`${id}-hint`]),
  ];
  return parts.length === 0 ? undefined : parts.join(' ');
}

type Native = Omit<JSX.InputHTMLAttributes<HTMLInputElement>, 'onInput' | 'value' | 'name' | 'label'>;

/** A line of text. Other attributes go to the input; `focused`: it has the focus when it appears. */
export function TextField(
  props: FieldProps & { value: string; onValue: (value: string) => void; focused?: boolean } & Native,
) {
  const id = useId();
  const input = useRef<HTMLInputElement>(null);
  const { label, hint, name, error, value, onValue, focused = false, ...native } = props;
  useEffect(() => {
    if (focused) input.current?.focus();
  }, [focused]);
  return (
    <Labelled {...{ label, hint, name, error, id }}>
      <input
        type="text"
        {...native}
        ref={input}
        id={id}
        name={name}
        value={value}
        aria-invalid={findingOf(props) !== undefined}
        aria-describedby={described(id, props)}
        onInput={(event) => onValue(event.currentTarget.value)}
      />
    </Labelled>
  );
}

/** Several lines of text. */
export function TextArea(
  props: FieldProps & { value: string; onValue: (value: string) => void; rows?: number; maxLength?: number },
) {
  const id = useId();
  const { label, hint, name, error } = props;
  return (
    <Labelled {...{ label, hint, name, error, id }}>
      <textarea
        id={id}
        name={name}
        rows={props.rows ?? 4}
        maxLength={props.maxLength}
        value={props.value}
        aria-invalid={findingOf(props) !== undefined}
        aria-describedby={described(id, props)}
        onInput={(event) => props.onValue(event.currentTarget.value)}
      />
    </Labelled>
  );
}

/** One of several. */
export function SelectField(
  props: FieldProps & {
    value: string;
    onValue: (value: string) => void;
    options: readonly (readonly [value: string, label: string])[];
  },
) {
  const id = useId();
  const { label, hint, name, error } = props;
  return (
    <Labelled {...{ label, hint, name, error, id }}>
      <select
        id={id}
        name={name}
        value={props.value}
        aria-invalid={findingOf(props) !== undefined}
        aria-describedby={described(id, props)}
        onChange={(event) => props.onValue(event.currentTarget.value)}
      >
        {props.options.map(([value, text]) => (
          <option key={value} value={value}>
            {text}
          </option>
        ))}
      </select>
    </Labelled>
  );
}

/** Yes or no. */
export function CheckField(props: {
  label: ComponentChildren;
  hint?: ComponentChildren;
  checked: boolean;
  onValue: (checked: boolean) => void;
  disabled?: boolean;
}) {
  const id = useId();
  return (
    <div class="check">
      <input
        type="checkbox"
        id={id}
        checked={props.checked}
        disabled={props.disabled}
        aria-describedby={props.hint === undefined ? undefined : `${id}-hint`}
        onChange={(event) => props.onValue(event.currentTarget.checked)}
      />
      <div>
        <label for={id}>{props.label}</label>
        {props.hint !== undefined && (
          <p class="field-hint" id={`${id}-hint`}>
            {props.hint}
          </p>
        )}
      </div>
    </div>
  );
}
