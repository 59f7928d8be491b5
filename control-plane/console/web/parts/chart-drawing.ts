import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import type { Series } from './chart.js';

/** Steps of an axis whose values are all whole, so that nobody reads of half a byte. */
const WHOLE_STEPS = Array.from({ length: 18 }, (_, power) =>
  [1, 2, 5].map((step) => step * 10 ** power),
).flat();

export interface Drawing {
  atMs: readonly number[];
  series: readonly Series[];
  kind: 'line' | 'bars';
  heightPx: number;
  days: boolean;
}

/** Draws into `place`, in the theme's colours, as wide as it is; the function that comes back takes it away again. */
export function drawChart(place: HTMLElement, drawing: Drawing): () => void {
  const { atMs, series, kind, heightPx, days } = drawing;
  let chart: uPlot | null = null;
  const draw = () => {
    chart?.destroy();
    const style = getComputedStyle(place);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const lines = [colour('--chart-1'), colour('--chart-2'), colour('--chart-3'), colour('--chart-4')];
    const axis = {
      stroke: colour('--text-quiet'),
      grid: { stroke: colour('--line'), width: 1 },
      ticks: { show: false },
      font: `12px ${style.fontFamily}`,
    };
    const first = series[0];
    const gapS = atMs.length > 1 ? ((atMs.at(-1) ?? 0) - (atMs[0] ?? 0)) / 1_000 / (atMs.length - 1) : 86_400;
    const barHalfS = kind === 'bars' ? gapS / 2 : 0;
    const values = series.flatMap(({ values }) => values.filter((value) => value !== null));
    const whole = values.every(Number.isInteger);
    const empty = values.every((value) => value === 0);
    chart = new uPlot(
      {
        width: Math.max(200, place.clientWidth),
        height: heightPx,
        cursor: { y: false, points: { size: 7 } },
        legend: { show: series.length > 1 },
        scales: {
          // Bars are as wide as what lies between two of them: room for half a one at either end.
          x: { time: true, range: (_chart, min, max) => [min - barHalfS, max + barHalfS] },
          y: { range: (_chart, _min, max) => [0, max > 0 ? max * 1.1 : 1] },
        },
        ...(days && { tzDate: (seconds: number) => uPlot.tzDate(new Date(seconds * 1_000), 'Etc/UTC') }),
        axes: [
          { ...axis, size: 36, ...(days && { values: '{DD} {MMM}' }) },
          {
            ...axis,
            size: 72,
            ...(whole && { incrs: WHOLE_STEPS }),
            ...(empty && { splits: () => [0] }),
            values: (_chart, splits) => splits.map((value) => first?.text(value) ?? ''),
          },
        ],
        series: [
          {},
          ...series.map(({ label, text }, n) => {
            const stroke = lines[n % lines.length] ?? 'currentColor';
            return {
              label,
              stroke,
              width: 2,
              fill: `${stroke}${kind === 'bars' ? 'cc' : '1f'}`,
              points: { show: false },
              value: (_chart: uPlot, value: number | null) => (value === null ? '–' : text(value)),
              ...(kind === 'bars' && { paths: uPlot.paths.bars?.({ size: [0.7, 40] }) }),
            } as uPlot.Series;
          }),
        ],
      },
      [atMs.map((ms) => ms / 1_000), ...series.map(({ values }) => [...values])],
      place,
    );
  };
  draw();
  const resized = new ResizeObserver(() => {
    if (chart !== null && place.clientWidth > 0 && Math.abs(chart.width - place.clientWidth) > 1)
      chart.setSize({ width: place.clientWidth, height: heightPx });
  });
  resized.observe(place);
  const themed = new MutationObserver(draw);
  themed.observe(document.documentElement, { attributes: true, attributeFilter: ['data-theme', 'style'] });
  const scheme = matchMedia('(prefers-color-scheme: dark)');
  scheme.addEventListener('change', draw);
  return () => {
    resized.disconnect();
    themed.disconnect();
    scheme.removeEventListener('change', draw);
    chart?.destroy();
  };
}
