/** One figure of all systems as an SVG: bars with the spread as a whisker. Text alone: no script, no font to fetch. */
import { allColumns, isOurs, median, type Results } from './report.js';

/** One system's bar. */
export interface Bar {
  /** Stands in front of it. */
  name: string;
  /** All of what it is, shown by viewers that show titles. */
  label: string;
  low: number;
  median: number;
  high: number;
  /** Drawn in the colour of what the plot is about. */
  ours: boolean;
}

export interface Plot {
  title: string;
  /** Below the title: which way is better, how often it was measured. */
  note: string;
  /** Digits behind the point of the values. */
  digits: number;
  bars: readonly Bar[];
  /** Drawn as a line through all bars. */
  target?: number;
}

const WIDTH = 800;
const NAMES_WIDTH = 150;
const VALUES_WIDTH = 190;
/** The bars' own width: the value at the end of the scale is drawn here. */
export const PLOT_LEFT = NAMES_WIDTH;
export const PLOT_RIGHT = WIDTH - VALUES_WIDTH;
const TOP = 64;
const ROW = 30;
const BAR = 18;
const WHISKER = 8;
const BOTTOM = 34;

const STYLE = `
  svg { --back: #ffffff; --text: #1f2328; --faint: #656d76; --grid: #d8dee4; --bar: #9aa7b4; --ours: #1f6feb; --aim: #bc4c00 }
  @media (prefers-color-scheme: dark) {
    svg { --back: #0d1117; --text: #e6edf3; --faint: #8d96a0; --grid: #30363d; --bar: #57606a; --ours: #4493f8; --aim: #f0883e }
  }
  .back { fill: var(--back) }
  text { font: 13px system-ui, sans-serif; fill: var(--text) }
  .title { font-size: 16px; font-weight: 600 }
  .faint { fill: var(--faint); font-size: 12px }
  .grid { stroke: var(--grid) }
  .bar { fill: var(--bar) }
  .ours { fill: var(--ours) }
  .whisker { stroke: var(--text); stroke-width: 1.5; fill: none }
  .aim { stroke: var(--aim); stroke-dasharray: 4 3 }
`;

/** The plot as a whole file. Values below zero are drawn as zero. */
export function plotSvg({ title, note, digits, bars, target }: Plot): string {
  const height = TOP + bars.length * ROW + BOTTOM;
  const end = scaleEnd(Math.max(0, target ?? 0, ...bars.map(({ high }) => high)));
  const x = (value: number) => number(PLOT_LEFT + (Math.max(0, value) / end) * (PLOT_RIGHT - PLOT_LEFT));
  const bottom = TOP + bars.length * ROW;
  const lines = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img">`,
    `<title>${escaped(title)}</title>`,
    `<style>${STYLE}</style>`,
    `<rect class="back" width="${WIDTH}" height="${height}"/>`,
    `<text class="title" x="16" y="26">${escaped(title)}</text>`,
    `<text class="faint" x="16" y="46">${escaped(note)}</text>`,
  ];
  for (const value of [0, end / 4, end / 2, (3 * end) / 4, end])
    lines.push(
      `<line class="grid" x1="${x(value)}" x2="${x(value)}" y1="${TOP - 6}" y2="${bottom}"/>`,
      `<text class="faint" x="${x(value)}" y="${bottom + 18}" text-anchor="middle">${tick(value)}</text>`,
    );
  bars.forEach((bar, row) => {
    lines.push(...drawn(bar, TOP + row * ROW + ROW / 2, digits, x));
  });
  if (target !== undefined)
    lines.push(
      `<line class="aim" x1="${x(target)}" x2="${x(target)}" y1="${TOP - 6}" y2="${bottom}"><title>target ${target}</title></line>`,
    );
  return `${lines.join('\n')}\n</svg>\n`;
}

function drawn(bar: Bar, middle: number, digits: number, x: (value: number) => string): string[] {
  const [low, median, high] = [bar.low, bar.median, bar.high].map((value) => value.toFixed(digits));
  const spread = bar.low === bar.high ? '' : ` (${low}–${high})`;
  const [from, to] = [x(bar.low), x(bar.high)];
  const [up, down] = [middle - WHISKER / 2, middle + WHISKER / 2];
  return [
    '<g>',
    `<title>${escaped(`${bar.label}: ${median}${spread}`)}</title>`,
    `<text x="${PLOT_LEFT - 8}" y="${middle + 4}" text-anchor="end">${escaped(bar.name)}</text>`,
    `<rect class="bar${bar.ours ? ' ours' : ''}" x="${PLOT_LEFT}" y="${middle - BAR / 2}" ` +
      `width="${number(Number(x(bar.median)) - PLOT_LEFT)}" height="${BAR}"/>`,
    `<path class="whisker" d="M${from} ${up}V${down}M${from} ${middle}H${to}M${to} ${up}V${down}"/>`,
    `<text x="${PLOT_RIGHT + 8}" y="${middle + 4}">${median}${spread}</text>`,
    '</g>',
  ];
}

/** A round number at or above the largest value: four parts of it are round as well. */
export function scaleEnd(largest: number): number {
  if (!(largest > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(largest));
  return power * ([1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10].find((step) => step * power >= largest) ?? 10);
}

const number = (value: number) => String(Number(value.toFixed(1)));
const tick = (value: number) => String(Number(value.toPrecision(3)));

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
};

/** Text for XML: what has a meaning there is escaped; control characters, which may not be there, become blanks. */
function escaped(text: string): string {
  return text.replace(/\p{Cc}/gu, ' ').replace(/[&<>"']/g, (c) => ENTITIES[c] ?? c);
}

/** A plot for each figure that was measured, by file name. Systems without it have no bar. */
export function plots({ options, systems }: Results): Map<string, string> {
  const files = new Map<string, string>();
  for (const { figure, title, alone, digits, more, target } of allColumns(options)) {
    const bars = systems.flatMap((system): Bar[] => {
      const windows = system.figures[figure];
      if (windows === undefined) return [];
      const [low, high] = [Math.min(...windows), Math.max(...windows)];
      return [
        { name: system.id, label: system.label, low, median: median(windows), high, ours: isOurs(system) },
      ];
    });
    if (bars.length === 0) continue;
    const aim = target === undefined ? '' : `; target ${more ? 'at least' : 'at most'} ${target}`;
    const note = `${more ? 'more' : 'less'} is better${aim}; median of ${options.repeats} windows, whisker from lowest to highest`;
    files.set(
      `${figure}.svg`,
      plotSvg({ title: alone ?? title, note, digits, bars, ...(target !== undefined && { target }) }),
    );
  }
  return files;
}
