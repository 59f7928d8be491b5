import { useEffect, useRef, useState } from 'preact/hooks';
import { useLive } from '../live/live.js';
import { rateText } from '../parts/amounts.js';
import { Chart } from '../parts/chart.js';

/** Seconds shown. */
const POINTS_MAX = 120;

/** Speed as the live figures told it, while this is shown. */
export function LiveSpeed() {
  const live = useLive('buyer');
  const latest = useRef(0);
  const [points, setPoints] = useState<{ atMs: number; rate: number }[]>([]);
  latest.current = live.state.value?.bytes_per_second ?? 0;
  const open = live.link.value === 'open';
  useEffect(() => {
    if (!open) return;
    // A rate that stays what it is is not told again.
    const timer = setInterval(
      () => setPoints((before) => [...before, { atMs: Date.now(), rate: latest.current }].slice(-POINTS_MAX)),
      1_000,
    );
    return () => clearInterval(timer);
  }, [open]);
  if (points.length < 2)
    return <p class="quiet">{open ? 'Listening …' : 'Waiting for the live figures …'}</p>;
  return (
    <Chart
      title="Speed"
      atMs={points.map(({ atMs }) => atMs)}
      series={[{ label: 'Speed', values: points.map(({ rate }) => rate), text: rateText }]}
    />
  );
}
