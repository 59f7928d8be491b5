import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import type { ApiClient } from '../../../client/client.js';
import { useRole } from '../shell/role.js';
import { apiOf } from './client.js';
import { type ApiError, asApiError } from './problem.js';

/** What a page loads: nothing yet, the data, or why not. Data stays while it is loaded anew. */
export interface Loaded<Data> {
  data: Data | undefined;
  error: ApiError | undefined;
  loading: boolean;
  /** Loads anew, keeping what is shown meanwhile. */
  reload: () => void;
  /** Puts data in place, such as what a change answered with. */
  set: (data: Data) => void;
}

/**
 * Loads at first and whenever one of `inputs` is another; what was under way is then given up, as when the page is left.
 * `load` gets the role's client and a signal for its calls.
 */
export function useLoad<Data>(
  load: (api: ApiClient, signal: AbortSignal) => Promise<Data>,
  inputs: readonly unknown[] = [],
): Loaded<Data> {
  const role = useRole();
  const [state, setState] = useState<{ data?: Data; error?: ApiError; loading: boolean }>({ loading: true });
  const [turn, setTurn] = useState(0);
  const latest = useRef(load);
  latest.current = load;
  useEffect(() => {
    const abort = new AbortController();
    setState((before) => ({ ...before, loading: true }));
    latest.current(apiOf(role), abort.signal).then(
      (data) => {
        if (!abort.signal.aborted) setState({ data, loading: false });
      },
      (error) => {
        if (!abort.signal.aborted)
          setState((before) => ({ ...before, error: asApiError(error), loading: false }));
      },
    );
    return () => abort.abort();
  }, [role, turn, ...inputs]);
  const reload = useCallback(() => setTurn((n) => n + 1), []);
  const set = useCallback((data: Data) => setState({ data, loading: false }), []);
  return { data: state.data, error: state.error, loading: state.loading, reload, set };
}
