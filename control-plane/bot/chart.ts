/** One bar: a UTC day and its value, ≥ 0. */
export interface Bar {
  day: string;
  value: number;
}

const [WIDTH, HEIGHT] = [640, 320];
/** Room for the labels at the left and below. */
const [LEFT, RIGHT, TOP, BOTTOM] = [76, 28, 20, 40];
const GRID_LINES = 4;
/** Days that carry a label, at most. */
const LABELS_MAX = 8;

/**
 * Strokes of the signs that a chart needs, on a field of 4 × 6: no font has to be shipped, and the picture is the same
 * everywhere.
 */
const STROKES: Readonly<Record<string, string>> = {
  '0': 'M0 0H4V6H0Z',
  '1': 'M1 1L2 0V6',
  '2': 'M0 0H4V3H0V6H4',
  '3': 'M0 0H4V6H0M1 3H4',
  '4': 'M0 0V3H4M4 0V6',
  '5': 'M4 0H0V3H4V6H0',
  '6': 'M4 0H0V6H4V3H0',
  '7': 'M0 0H4L2 6',
  '8': 'M0 0H4V6H0ZM0 3H4',
  '9': 'M4 3H0V0H4V6H0',
  '.': 'M2 5.7V6',
  '-': 'M0 3H4',
};
const SIGN_SIZE = 1.7;
const SIGN_ADVANCE = 6 * SIGN_SIZE;

/** A label whose right (`end`) or middle is at x. */
function label(text: string, x: number, y: number, anchor: 'end' | 'middle'): string {
  const width = text.length * SIGN_ADVANCE - 2 * SIGN_SIZE;
  const left = anchor === 'end' ? x - width : x - width / 2;
  return [...text]
    .map(
      (sign, i) =>
        `<path transform="translate(${(left + i * SIGN_ADVANCE).toFixed(1)} ${y.toFixed(1)}) scale(${SIGN_SIZE})" ` +
        `d="${STROKES[sign] ?? ''}"/>`,
    )
    .join('');
}

/** The first of 1, 2, 5, 10, 20 … that is not below the value. */
function roundUp(value: number): number {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * ([1, 2, 5].find((step) => step * power >= value) ?? 10);
}

/** Bars of days, oldest first, the last `strong` of them in full colour. */
export function chartSvg(bars: readonly Bar[], { strong }: { strong: number }): string {
  const top = roundUp(Math.max(0, ...bars.map(({ value }) => value)));
  const digits = Math.max(0, Math.min(6, 2 - Math.floor(Math.log10(top))));
  const [plotWidth, plotHeight] = [WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM];
  const yOf = (value: number) => TOP + plotHeight * (1 - value / top);
  const step = plotWidth / Math.max(1, bars.length);
  const everyNth = Math.max(1, Math.ceil(bars.length / LABELS_MAX));
  const grid = Array.from({ length: GRID_LINES + 1 }, (_, i) => (top * i) / GRID_LINES);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>`,
    '<g stroke="#dfe3e8" stroke-width="1">',
    ...grid.map((value) => `<path d="M${LEFT} ${yOf(value).toFixed(1)}H${WIDTH - RIGHT}"/>`),
    '</g>',
    ...bars.map(({ value }, i) => {
      const y = yOf(value);
      const colour = i >= bars.length - strong ? '#1f7a8c' : '#a9cdd4';
      const size = `width="${(step * 0.7).toFixed(1)}" height="${(TOP + plotHeight - y).toFixed(1)}"`;
      return `<rect x="${(LEFT + step * (i + 0.15)).toFixed(1)}" y="${y.toFixed(1)}" ${size} fill="${colour}"/>`;
    }),
    '<g fill="none" stroke="#4a5560" stroke-width="0.9" stroke-linecap="round" stroke-linejoin="round">',
    ...grid.map((value) => label(value.toFixed(digits), LEFT - 10, yOf(value) - 3 * SIGN_SIZE, 'end')),
    ...bars.map(({ day }, i) =>
      (bars.length - 1 - i) % everyNth === 0
        ? label(day.slice(5), LEFT + step * (i + 0.5), HEIGHT - BOTTOM + 12, 'middle')
        : '',
    ),
    '</g></svg>',
  ].join('');
}
