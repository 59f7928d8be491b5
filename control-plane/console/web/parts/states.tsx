import type { ComponentChildren } from 'preact';
import type { ApiError } from '../api/problem.js';
import type { Loaded } from '../api/use-load.js';

/** Grey bars where content will be. */
export function Loading({ lines = 3 }: { lines?: number }) {
  return (
    <div class="loading" role="status" aria-label="Loading">
      {Array.from({ length: lines }, (_, n) => (
        <div key={n} class="loading-line" />
      ))}
    </div>
  );
}

/** What went wrong and a way on. */
export function Failure({ error, retry }: { error: ApiError; retry?: () => void }) {
  return (
    <div class="failure" role="alert">
      <p>{error.message}</p>
      {error.requestId !== null && <p class="quiet small">Request {error.requestId}</p>}
      {retry !== undefined && (
        <button type="button" class="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}

/** Nothing there yet, and what to do about it. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children !== undefined && <div class="quiet">{children}</div>}
    </div>
  );
}

/** Loading, failure or the data; data that is there stays while it is loaded anew or when that fails. */
export function Show<Data>(props: {
  of: Loaded<Data>;
  children: (data: Data) => ComponentChildren;
  lines?: number;
}) {
  const { data, error, loading, reload } = props.of;
  if (data === undefined) {
    if (error !== undefined && !loading) return <Failure error={error} retry={reload} />;
    return <Loading lines={props.lines ?? 3} />;
  }
  return (
    <>
      {error !== undefined && <Failure error={error} retry={reload} />}
      {props.children(data)}
    </>
  );
}
