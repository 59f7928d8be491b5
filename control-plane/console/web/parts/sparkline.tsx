import type { Signal } from '@preact/signals';
import { useEffect, useState } from 'preact/hooks';

/** Values kept: one a second. */
const POINTS = 90;
const WIDTH = 300;
const HEIGHT = 56;

/**
 * The last minute and a half of a live value, one point a second. A picture for the eye alone: the value itself is in
 * words beside it.
 */
export function Sparkline<State>({ of, value }: { of: Signal<State>; value: (state: State) => number }) {
  const [points, setPoints] = useState<readonly number[]>([]);
  useEffect(() => {
    const timer = setInterval(
      () => setPoints((before) => [...before, value(of.peek())].slice(-POINTS)),
      1_000,
    );
    return () => clearInterval(timer);
  }, [of]);
  const max = Math.max(1, ...points);
  const step = WIDTH / (POINTS - 1);
  const from = WIDTH - (points.length - 1) * step;
  const line = points.map(
    (point, n) => `${(from + n * step).toFixed(1)},${(HEIGHT - 3 - (point / max) * (HEIGHT - 8)).toFixed(1)}`,
  );
  return (
    <svg class="sparkline" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
      {line.length > 1 && (
        <>
          <polygon points={`${from.toFixed(1)},${HEIGHT} ${line.join(' ')} ${WIDTH},${HEIGHT}`} />
          <polyline points={line.join(' ')} />
        </>
      )}
    </svg>
  );
}
