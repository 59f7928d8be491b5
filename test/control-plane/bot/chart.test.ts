import t from 'tap';
import { chartSvg } from '../../../control-plane/bot/chart.js';
import { drawPng } from '../../../control-plane/bot/chart-painter.js';

const days = (values: number[]) =>
  values.map((value, i) => ({ day: `2026-11-${String(i + 1).padStart(2, '0')}`, value }));
/** Heights of the bars, in order. */
const heights = (svg: string) =>
  [...svg.matchAll(/<rect x="[\d.]+" y="[\d.]+" width="[\d.]+" height="([\d.]+)"/g)].map((m) => Number(m[1]));
const size = (png: Uint8Array) => {
  const view = new DataView(png.buffer, png.byteOffset);
  return [view.getUint32(16), view.getUint32(20)];
};

t.test('bars are as high as their values, the counted ones in full colour', async (t) => {
  const svg = chartSvg(days([0, 1, 2, 4]), { strong: 2 });
  const [none = -1, one = 0, two = 0, four = 0] = heights(svg);
  t.equal(none, 0);
  t.ok(Math.abs(two / one - 2) < 0.01 && Math.abs(four / one - 4) < 0.01);
  t.equal(svg.match(/#1f7a8c/g)?.length, 2);
  t.equal(svg.match(/#a9cdd4/g)?.length, 2);
  t.notMatch(svg, /<text|href|NaN|Infinity/);
  for (const empty of [[], [0, 0], [1e-9], [123_456]])
    t.notMatch(chartSvg(days(empty), { strong: 1 }), /NaN|Infinity/);
});

t.test('drawn as PNG, several at once, in a thread that outlives a picture that fails', async (t) => {
  const [png, other] = await Promise.all(
    [[1, 2, 3], Array.from({ length: 30 }, (_, i) => i)].map((values) =>
      drawPng(chartSvg(days(values), { strong: 1 })),
    ),
  );
  t.same(
    Buffer.from(png ?? [])
      .subarray(1, 4)
      .toString(),
    'PNG',
  );
  t.same(
    [size(png as Uint8Array), size(other as Uint8Array)],
    [
      [640, 320],
      [640, 320],
    ],
  );
  await t.rejects(drawPng('no picture'), /could not be drawn/);
  t.ok((await drawPng(chartSvg(days([5]), { strong: 1 }))).length > 500);
});
