import { useEffect, useRef, useState } from 'preact/hooks';

/** Shortest time between two loads, ms. */
const PAUSE_MS = 1_000;
/** What is booked by destination is told this much later than the bytes, ms. */
const LATE_MS = 3_500;

/**
 * A number that goes up when `figure` changes, at most once in a while, and once more when everything that belongs to
 * the last change must be there: for loading tables anew while traffic flows. `figure` undefined: nothing known yet.
 */
export function useFresh(figure: string | undefined): number {
  const [revision, setRevision] = useState(0);
  const state = useRef<{ seen?: string; atMs: number }>({ atMs: 0 });
  useEffect(() => {
    const { seen } = state.current;
    if (figure === undefined || figure === seen) return;
    state.current.seen = figure;
    const up = () => {
      state.current.atMs = Date.now();
      setRevision((n) => n + 1);
    };
    // The first figure comes with the page, which loads the rest itself; that may have been a moment before.
    const soon =
      seen === undefined
        ? undefined
        : setTimeout(up, Math.max(0, state.current.atMs + PAUSE_MS - Date.now()));
    const late = setTimeout(up, LATE_MS);
    return () => {
      clearTimeout(soon);
      clearTimeout(late);
    };
  }, [figure]);
  return revision;
}
