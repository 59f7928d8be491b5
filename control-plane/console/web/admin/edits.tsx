import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import type { ApiClient } from '../../../client/client.js';
import { useAct } from '../api/use-act.js';
import { Confirm } from '../parts/dialog.js';

/** A list whose entries are made, changed and removed in dialogs: which of them is open, and when the list is to be read anew. */
export function useEdits<Row>() {
  const [revision, setRevision] = useState(0);
  const [editing, setEditing] = useState<{ row: Row | null }>();
  const [removing, setRemoving] = useState<Row>();
  const close = () => {
    setEditing(undefined);
    setRemoving(undefined);
  };
  return {
    revision,
    /** Null in it: a new one. */
    editing,
    removing,
    make: () => setEditing({ row: null }),
    edit: (row: Row) => setEditing({ row }),
    remove: (row: Row) => setRemoving(row),
    close,
    done: () => {
      close();
      setRevision((n) => n + 1);
    },
  };
}

/** Asks before an entry goes. `done`: what is said when it has gone. */
export function Removal(props: {
  title: string;
  action: string;
  done: string;
  remove: (api: ApiClient) => Promise<unknown>;
  onDone: () => void;
  onClose: () => void;
  children: ComponentChildren;
}) {
  const act = useAct(async (api) => ({ gone: await props.remove(api) }), { quiet: true, done: props.done });
  return (
    <Confirm
      title={props.title}
      action={props.action}
      danger
      busy={act.busy}
      error={act.error}
      onConfirm={() => void act.run().then((gone) => gone && props.onDone())}
      onClose={props.onClose}
    >
      {props.children}
    </Confirm>
  );
}
