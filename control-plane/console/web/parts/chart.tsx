import { useEffect, useRef, useState } from 'preact/hooks';
import type { drawChart } from './chart-drawing.js';
import { Scroll } from './scroll.js';

export interface Series {
  label: string;
  values: readonly (number | null)[];
  /** For axis and table: `bytesText`, `String`. */
  text: (value: number) => string;
}

/** Rows of the table that says the same as the picture; the newest come first. */
const ROWS_MAX = 400;

/**
 * A chart over time, drawn by uPlot, which is loaded when the first is shown. The same figures are in a table for
 * whoever can not see it, or wants to read them. `atMs`: one for each value, growing.
 */
export function Chart(props: {
  title: string;
  atMs: readonly number[];
  series: readonly Series[];
  kind?: 'line' | 'bars';
  heightPx?: number;
  /** Days rather than moments: dates without times, in UTC. */
  days?: boolean;
}) {
  const place = useRef<HTMLDivElement>(null);
  const [draw, setDraw] = useState<{ with: typeof drawChart }>();
  useEffect(() => {
    let gone = false;
    void import('./chart-drawing.js').then((module) => {
      if (!gone) setDraw({ with: module.drawChart });
    });
    return () => {
      gone = true;
    };
  }, []);
  useEffect(() => {
    if (draw === undefined || place.current === null) return;
    const { atMs, series, kind = 'line', heightPx = 220, days = false } = props;
    return draw.with(place.current, { atMs, series, kind, heightPx, days });
  }, [draw, JSON.stringify([props.atMs, props.series.map(({ label, values }) => [label, values])])]);
  const empty = props.series.every(({ values }) => values.every((value) => value === null || value === 0));
  const format = new Intl.DateTimeFormat('en-GB', {
    dateStyle: 'medium',
    ...(props.days ? { timeZone: 'UTC' } : { timeStyle: 'medium' }),
  });
  return (
    <figure class="chart">
      <div class="chart-place" aria-hidden="true">
        <div ref={place} />
        {empty && <p class="chart-empty">Nothing in this time</p>}
      </div>
      <figcaption>
        <details>
          <summary>{props.title} as a table</summary>
          <Scroll label={props.title}>
            <table>
              <thead>
                <tr>
                  <th scope="col">{props.days ? 'Day' : 'Time'}</th>
                  {props.series.map(({ label }) => (
                    <th key={label} scope="col" class="cell-number">
                      {label}
                    </th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {props.atMs
                  .map((atMs, n) => ({ atMs, n }))
                  .slice(-ROWS_MAX)
                  .reverse()
                  .map(({ atMs, n }) => (
                    <tr key={atMs}>
                      <th scope="row">{format.format(atMs)}</th>
                      {props.series.map(({ label, values, text }) => {
                        const value = values[n];
                        return (
                          <td key={label} class="cell-number">
                            {value === null || value === undefined ? '–' : text(value)}
                          </td>
                        );
                      })}
                    </tr>
                  ))}
              </tbody>
            </table>
          </Scroll>
        </details>
      </figcaption>
    </figure>
  );
}
