import { useCallback, useState } from 'preact/hooks';
import type { ApiClient } from '../../../client/client.js';
import { useRole } from '../shell/role.js';
import { toast } from '../shell/toasts.js';
import { apiOf } from './client.js';
import { type ApiError, asApiError } from './problem.js';

export interface Act<Input extends unknown[], Answer> {
  /** Resolves to the answer, or undefined when it failed: `error` then says why. */
  run: (...input: Input) => Promise<Answer | undefined>;
  busy: boolean;
  error: ApiError | undefined;
  clear: () => void;
}

/**
 * Something a person does: busy while it runs, one at a time, its error for the form. `done`: what a toast says when it
 * worked. `quiet`: the form shows the error itself; otherwise a toast does.
 */
export function useAct<Input extends unknown[], Answer>(
  act: (api: ApiClient, ...input: Input) => Promise<Answer>,
  { done, quiet = false }: { done?: string | ((answer: Answer) => string); quiet?: boolean } = {},
): Act<Input, Answer> {
  const role = useRole();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError>();
  const run = async (...input: Input): Promise<Answer | undefined> => {
    if (busy) return undefined;
    setBusy(true);
    setError(undefined);
    try {
      const answer = await act(apiOf(role), ...input);
      if (done !== undefined) toast(typeof done === 'function' ? done(answer) : done);
      return answer;
    } catch (thrown) {
      const problem = asApiError(thrown);
      setError(problem);
      if (!quiet) toast(problem.message, 'bad');
      return undefined;
    } finally {
      setBusy(false);
    }
  };
  const clear = useCallback(() => setError(undefined), []);
  return { run, busy, error, clear };
}
