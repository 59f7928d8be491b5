import t from 'tap';
import { type Options, readOptions } from './options.js';
import { type Bar, PLOT_LEFT, PLOT_RIGHT, plotSvg, plots, scaleEnd } from './plot.js';

const bar = (name: string, low: number, median: number, high: number): Bar => ({
  name,
  label: name,
  low,
  median,
  high,
  ours: name === 'ours',
});

/** The text between the tags, joined; throws at what is not well-formed XML (of the kind without CDATA and the like). */
function wellFormed(xml: string): string {
  const open: string[] = [];
  let text = '';
  for (const [token] of xml.matchAll(/<[^>]*>|[^<]+|</g)) {
    if (!token.startsWith('<')) {
      if (/&(?!(amp|lt|gt|quot|apos);)/.test(token)) throw new Error(`bare & in ${token}`);
      if (open.length === 0 && token.trim() !== '') throw new Error(`text outside: ${token}`);
      text += `${token}\n`;
      continue;
    }
    const tag = /^<(\/?)([a-z]+)((?:\s+[\w-]+(?::\w+)?="[^"<&]*")*)\s*(\/?)>$/i.exec(token);
    if (tag === null) throw new Error(`not a tag: ${token}`);
    const names = [...(tag[3] as string).matchAll(/([\w:-]+)=/g)].map(([, name]) => name);
    if (new Set(names).size < names.length) throw new Error(`an attribute twice: ${token}`);
    if (tag[1] === '/') {
      if (open.pop() !== tag[2]) throw new Error(`${token} closes nothing`);
    } else if (tag[4] === '') open.push(tag[2] as string);
  }
  if (open.length > 0) throw new Error(`not closed: ${open}`);
  return text;
}

t.test('what tells well-formed XML', async (t) => {
  t.equal(wellFormed('<a b="1"><c/>x &amp; y</a>'), 'x &amp; y\n');
  for (const bad of ['<a>', '<a></b>', '<a b=1/>', '<a>&</a>', '<a>1 < 2</a>', '<a b="1" b="2"/>', '<a/>x'])
    t.throws(() => wellFormed(bad), bad);
});

t.test('values stand where they belong', async (t) => {
  const svg = plotSvg({
    title: '8 × down, GB/s',
    note: 'more is better',
    digits: 2,
    bars: [bar('ours', 1, 3, 4), bar('peer', 2, 2, 2), bar('below', -1, -0.5, 0)],
    target: 3.5,
  });
  wellFormed(svg);
  const at = (value: number) => PLOT_LEFT + (value / scaleEnd(4)) * (PLOT_RIGHT - PLOT_LEFT);
  const bars = [...svg.matchAll(/<rect class="(bar[^"]*)" x="(\d+)" y="[\d.]+" width="([\d.]+)"/g)];
  t.same(
    bars.map(([, kind, x, width]) => [kind, Number(x), Math.round(Number(width))]),
    [
      ['bar ours', PLOT_LEFT, Math.round(at(3) - PLOT_LEFT)],
      ['bar', PLOT_LEFT, Math.round(at(2) - PLOT_LEFT)],
      ['bar', PLOT_LEFT, 0],
    ],
  );
  const whiskers = [
    ...svg.matchAll(/<path class="whisker" d="M([\d.]+) [\d.]+V[\d.]+M[\d.]+ [\d.]+H([\d.]+)/g),
  ];
  t.same(
    whiskers.map(([, from, to]) => [Math.round(Number(from)), Math.round(Number(to))]),
    [
      [Math.round(at(1)), Math.round(at(4))],
      [Math.round(at(2)), Math.round(at(2))],
      [PLOT_LEFT, PLOT_LEFT],
    ],
  );
  const aim = /<line class="aim" x1="([\d.]+)"/.exec(svg);
  t.equal(Math.round(Number(aim?.[1])), Math.round(at(3.5)));
  t.match(svg, '>3.00 (1.00–4.00)</text>');
  t.match(svg, '>2.00</text>', 'no spread to tell');
});

t.test('labels are escaped', async (t) => {
  const nasty = `<b> "R&D" 'x' \u0007 end`;
  const svg = plotSvg({ title: nasty, note: nasty, digits: 0, bars: [bar(nasty, 1, 1, 1)] });
  const text = wellFormed(svg);
  t.equal(text.split('&lt;b&gt; &quot;R&amp;D&quot; &apos;x&apos;   end').length - 1, 5);
});

t.test('light and dark, and nothing that is loaded or run', async (t) => {
  const svg = plotSvg({ title: 'a', note: 'b', digits: 0, bars: [] });
  wellFormed(svg);
  t.match(svg, '@media (prefers-color-scheme: dark)');
  t.notMatch(svg.replace('http://www.w3.org/2000/svg', ''), /script|https?:|url\(|@import|href/);
});

t.test('the end of the scale', async (t) => {
  for (const [largest, end] of [
    [0, 1],
    [0.001, 0.001],
    [0.9, 1],
    [1.1, 1.2],
    [2.1, 2.4],
    [99, 100],
    [5_108, 6_000],
  ] as const)
    t.ok(Math.abs(scaleEnd(largest) - end) < 1e-9, `${largest} → ${end}`);
});

t.test('a file for each figure that was measured', async (t) => {
  const files = plots({
    machine: {},
    options: readOptions(['--only', 'bulk,echo']) as Options,
    systems: [
      {
        id: 'traffic-share',
        label: 'Traffic Share',
        figures: { down_8_cpu_s_per_gb: [0.2, 0.4, 0.3], echo_down_p99_ms: [8] },
        problems: [],
        remarks: [],
      },
      { id: 'peer', label: 'A <peer>', figures: { down_8_cpu_s_per_gb: [0.5] }, problems: [], remarks: [] },
    ],
  });
  t.same([...files.keys()], ['down_8_cpu_s_per_gb.svg', 'echo_down_p99_ms.svg']);
  const cpu = wellFormed(files.get('down_8_cpu_s_per_gb.svg') as string);
  t.match(cpu, '8 × down, gateway CPU s/GB');
  t.match(cpu, 'less is better; median of 5 windows');
  t.match(cpu, '0.30 (0.20–0.40)');
  t.match(cpu, 'A &lt;peer&gt;: 0.50');
  const echo = wellFormed(files.get('echo_down_p99_ms.svg') as string);
  t.match(echo, 'target at most 10');
  t.notMatch(echo, 'peer');
});
