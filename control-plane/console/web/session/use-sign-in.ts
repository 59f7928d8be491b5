import { useState } from 'preact/hooks';
import { type ApiError, asApiError } from '../api/problem.js';

/** A step of signing in: busy while it runs, why it failed. */
export function useStep() {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError>();
  const run = async (step: () => Promise<void>): Promise<void> => {
    if (busy) return;
    setBusy(true);
    setError(undefined);
    try {
      await step();
    } catch (thrown) {
      setError(asApiError(thrown));
    } finally {
      setBusy(false);
    }
  };
  return { run, busy, error };
}
