import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { LINE_DELAY_MS, SHARE_PERCENT_MIN } from './delay.js';
import { BULK_STREAMS } from './echo.js';
import { loadTable } from './load/load-report.js';
import { type Options, PHASES } from './options.js';
import type { Figures } from './phases.js';

export interface SystemResult {
  id: string;
  label: string;
  /** Each figure's windows in order. */
  figures: Record<string, number[]>;
  /** Why there are none, or why a phase has none, or what in it must not be. */
  problems: string[];
  /** What has to be known to read the figures. */
  remarks: string[];
}

export interface Results {
  machine: Record<string, string>;
  options: Options;
  systems: SystemResult[];
}

/** Adds one window's figures. */
export function addFigures(result: SystemResult, figures: Figures): void {
  for (const [name, value] of Object.entries(figures)) {
    if (value === null) continue;
    const windows = result.figures[name] ?? [];
    windows.push(value);
    result.figures[name] = windows;
  }
}

/** What the figures were taken on. */
export function describeMachine(netns: boolean): Record<string, string> {
  const read = (path: string) => {
    try {
      return readFileSync(path, 'utf8').trim();
    } catch {
      return 'unknown';
    }
  };
  const git = (...args: string[]) => {
    try {
      return execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
    } catch {
      return 'unknown';
    }
  };
  const dirty = git('status', '--porcelain') === '' ? '' : ' (with changes)';
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: git('rev-parse', '--short', 'HEAD') + dirty,
    node: process.version,
    kernel: release(),
    cpu: `${cpus().length} × ${cpus()[0]?.model.trim() ?? 'unknown'}`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    congestion_control: read('/proc/sys/net/ipv4/tcp_congestion_control'),
    network: netns ? 'loopback in a network namespace of its own' : 'loopback of the host',
  };
}

/** The middle one; of an even number the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] as number;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] as number) + upper) / 2;
}

export interface Column {
  title: string;
  /** The title for a figure on its own, where that of the table needs the column before it. */
  alone?: string;
  figure: string;
  digits: number;
  /** Whether more is better: decides which way a ratio is read. */
  more: boolean;
  /** What Traffic Share is to reach; stands in the title. */
  target?: number;
}

/** Bulk, one direction: throughput and CPU for each number of streams. */
function bulkColumns(direction: 'down' | 'up', streams: readonly number[]): Column[] {
  return streams.flatMap((n) => [
    { title: `${n} × ${direction}, GB/s`, figure: `${direction}_${n}_gb_per_s`, digits: 2, more: true },
    {
      title: 'CPU s/GB',
      alone: `${n} × ${direction}, gateway CPU s/GB`,
      figure: `${direction}_${n}_cpu_s_per_gb`,
      digits: 2,
      more: false,
    },
  ]);
}

/** What metering and journal cost: gateway CPU seconds for each GB with and without, and the difference in percent. */
function meteringColumns(streams: readonly number[]): Column[] {
  const column = (title: string, figure: string, digits: number): Column => ({
    title,
    figure,
    digits,
    more: false,
  });
  return (['down', 'up'] as const).flatMap((direction) =>
    streams.flatMap((n) => {
      const figure = `metering_${direction}_${n}`;
      return [
        column(`${n} × ${direction}, CPU s/GB`, `${figure}_on`, 3),
        { ...column('without', `${figure}_off`, 3), alone: `${n} × ${direction}, CPU s/GB without metering` },
        {
          ...column('cost, %', `${figure}_percent`, 1),
          alone: `${n} × ${direction}, what metering costs, %`,
        },
      ];
    }),
  );
}

const CONNECTIONS: readonly Column[] = [
  { title: 'new/s at 64', figure: 'connections_per_s', digits: 0, more: true },
  {
    title: 'CPU s/1 000',
    alone: 'gateway CPU s for 1 000 new connections',
    figure: 'cpu_s_per_1000',
    digits: 3,
    more: false,
  },
  { title: 'one at a time, p50 ms', figure: 'p50_ms', digits: 3, more: false },
  { title: 'p99 ms', alone: 'one at a time, p99 ms', figure: 'p99_ms', digits: 2, more: false },
];

const RATE: readonly Column[] = [
  { title: 'at a fixed rate, p50 ms', figure: 'rate_p50_ms', digits: 2, more: false },
  { title: 'p99 ms', alone: 'at a fixed rate, p99 ms', figure: 'rate_p99_ms', digits: 2, more: false },
];

/** The small stream beside bulk ones, one direction. */
function echoColumns(direction: 'down' | 'up'): Column[] {
  const of = (figure: string) => `echo_${direction}_${figure}`;
  const beside = `echo beside ${BULK_STREAMS} × ${direction}`;
  return [
    { title: `${beside}, p50 ms`, figure: of('p50_ms'), digits: 2, more: false },
    { title: `${beside}, p99 ms`, figure: of('p99_ms'), digits: 2, more: false, target: 10 },
    {
      title: 'bulk meanwhile, GB/s',
      alone: `${beside}: bulk meanwhile, GB/s`,
      figure: of('bulk_gb_per_s'),
      digits: 2,
      more: true,
    },
  ];
}

/** One stream over a long line of one rate. */
function delayColumns(rate: number): Column[] {
  return (['down', 'up'] as const).flatMap((direction) => {
    const of = (figure: string) => `delay_${rate}_${direction}_${figure}`;
    const line = `${rate} Mbit/s ${direction}`;
    const alone = `one stream over ${line}, ${2 * LINE_DELAY_MS} ms`;
    const until = `s until ${SHARE_PERCENT_MIN} %`;
    return [
      {
        title: `${line}, % of it`,
        alone: `${alone}: % of the line`,
        figure: of('percent'),
        digits: 1,
        more: true,
        target: SHARE_PERCENT_MIN,
      },
      {
        title: `${line}, ${until}`,
        alone: `${alone}: ${until}`,
        figure: of('grown_s'),
        digits: 2,
        more: false,
      },
      {
        title: 'the line’s own CPU, % of a core',
        alone: `${alone}: the line’s own CPU, % of a core`,
        figure: of('line_cpu_percent'),
        digits: 1,
        more: false,
      },
    ];
  });
}

const MEMORY: readonly Column[] = [
  { title: 'idle tunnel, KiB', figure: 'kib_per_idle_tunnel', digits: 1, more: false },
  { title: 'idle stream, KiB', figure: 'kib_per_idle_stream', digits: 1, more: false },
];

/** The results for people: medians with the spread, then Traffic Share against each of the others. */
export function markdown(results: Results): string {
  const lines = ['# Benchmark results', ''];
  for (const [name, value] of Object.entries(results.machine))
    lines.push(`- ${name.replaceAll('_', ' ')}: ${value}`);
  const { repeats, streams, bulkMs, connectMs, latencyMs, ratePerSecond, rateMs, concurrency } =
    results.options;
  const { echoBytes, echoMs } = results.options;
  const inTurn = results.options.only.some((phase) => phase !== 'memory' && PHASES.some((p) => p === phase));
  if (inTurn || results.options.only.includes('metering'))
    lines.push(
      '',
      `Median of ${repeats} windows (lowest–highest), systems in turn. Bulk: ${streams.join(', ')} streams, windows of ${bulkMs / 1000} s. ` +
        `New connections: a small request on each, ${concurrency} at a time, ${connectMs / 1000} s; one at a time: ${latencyMs / 1000} s. ` +
        `Fixed rate: ${ratePerSecond} requests/s for ${rateMs / 1000} s, each timed from when it was due. ` +
        `Echo: round trips of ${echoBytes} bytes on one stream for ${echoMs / 1000} s, one after another. ` +
        'CPU: user + system seconds of the processes at the gateway’s place; client, origin and agent share the same cores.',
      '',
    );
  const tables = compared(results.options);
  for (const columns of tables)
    table(lines, 'system', columns, results.systems, (system, column) => cell(system, column));
  const withFigures = (system: SystemResult) => tables.flat().some(({ figure }) => figure in system.figures);
  const others = results.systems.filter((system) => !isOurs(system) && withFigures(system));
  for (const ours of results.systems.filter((system) => isOurs(system) && withFigures(system))) {
    if (others.length === 0) break;
    const which = ours.id === 'traffic-share' ? '' : ` (${ours.id})`;
    lines.push(
      '',
      `Traffic Share${which} against each, as a ratio; above 1 is better for Traffic Share in every column.`,
      '',
    );
    for (const columns of tables.map((all) => all.filter(({ figure }) => figure in ours.figures)))
      table(lines, 'against', columns, others, (system, column) => ratio(ours, system, column));
  }
  const { lineRates, delayWarmMs, delayMs } = results.options;
  if (results.options.only.includes('delay')) {
    lines.push(
      '',
      `One stream, its tunnel over a line with ${2 * LINE_DELAY_MS} ms of round trip: ${delayMs / 1000} s after ` +
        `${delayWarmMs / 1000} s to grow; a dash: not reached in these.`,
      '',
    );
    for (const rate of lineRates) table(lines, 'system', delayColumns(rate), results.systems, cell);
  }
  addedOverDirect(lines, results);
  if (results.options.only.includes('metering')) {
    lines.push(
      '',
      'Metering and journal switched off and on over the same streams (on, off, off, on, and the other way round in turn).',
      '',
    );
    for (const n of streams)
      table(lines, 'system', meteringColumns([n]), results.systems, (system, column) => cell(system, column));
  }
  const measured = results.systems.filter(({ figures }) => MEMORY.some(({ figure }) => figure in figures));
  if (measured.length > 0) {
    lines.push('', 'Memory of the gateway process, growth of the resident size.', '');
    table(lines, 'system', MEMORY, measured, (system, column) => cell(system, column));
  }
  loadTable(lines, results);
  const problems = results.systems.flatMap(({ id, problems }) => problems.map((text) => `- ${id}: ${text}`));
  if (problems.length > 0) lines.push('', 'Not measured, or not as it must be:', '', ...problems);
  return `${lines.join('\n')}\n`;
}

/** Whether this is Traffic Share, in whatever form. */
export function isOurs({ id }: SystemResult): boolean {
  return id.startsWith('traffic-share');
}

/** The tables in which systems are compared. */
function compared({ streams }: Options): readonly (readonly Column[])[] {
  return [
    bulkColumns('down', streams),
    bulkColumns('up', streams),
    CONNECTIONS,
    RATE,
    [...echoColumns('down'), ...echoColumns('up')],
  ];
}

/** Every figure that a run with these options may have. */
export function allColumns(options: Options): readonly Column[] {
  return [
    ...compared(options).flat(),
    ...options.lineRates.flatMap(delayColumns),
    ...meteringColumns(options.streams),
    ...MEMORY,
  ];
}

/** What each system adds to a request at the fixed rate: its windows less those of the way without any, in turn. */
function addedOverDirect(lines: string[], { systems, options }: Results): void {
  const direct = systems.find(({ id }) => id === 'direct')?.figures;
  if (direct === undefined || direct.rate_p50_ms === undefined) return;
  const added = systems.flatMap((system): SystemResult[] => {
    const figures: SystemResult['figures'] = {};
    for (const { figure } of RATE) {
      const [through, without] = [system.figures[figure], direct[figure]];
      if (through && without)
        figures[figure] = through.flatMap((ms, n) => (n in without ? [ms - Number(without[n])] : []));
    }
    return system.id === 'direct' || Object.keys(figures).length === 0 ? [] : [{ ...system, figures }];
  });
  if (added.length === 0) return;
  lines.push('', `Added to a request over the direct way, at ${options.ratePerSecond} requests/s.`, '');
  table(lines, 'system', RATE, added, cell);
}

function table(
  lines: string[],
  first: string,
  columns: readonly Column[],
  systems: readonly SystemResult[],
  value: (system: SystemResult, column: Column) => string,
): void {
  const used = columns.filter(({ figure }) => systems.some(({ figures }) => figure in figures));
  if (used.length === 0) return;
  lines.push(`| ${[first, ...used.map(titleOf)].join(' | ')} |`);
  lines.push(`|${'---|'.repeat(used.length + 1)}`);
  for (const system of systems.filter(({ figures }) => used.some(({ figure }) => figure in figures)))
    lines.push(`| ${[system.label, ...used.map((column) => value(system, column))].join(' | ')} |`);
  lines.push('');
}

function titleOf({ title, more, target }: Column): string {
  return target === undefined ? title : `${title} (target ${more ? '≥' : '≤'} ${target})`;
}

function cell(system: SystemResult, { figure, digits }: Column): string {
  const windows = system.figures[figure];
  if (windows === undefined) return '–';
  const [low, high] = [Math.min(...windows), Math.max(...windows)];
  const spread = windows.length > 1 ? ` (${low.toFixed(digits)}–${high.toFixed(digits)})` : '';
  return `${median(windows).toFixed(digits)}${spread}`;
}

function ratio(ours: SystemResult, theirs: SystemResult, { figure, more }: Column): string {
  const [a, b] = [ours.figures[figure], theirs.figures[figure]];
  if (a === undefined || b === undefined) return '–';
  const value = more ? median(a) / median(b) : median(b) / median(a);
  return Number.isFinite(value) ? value.toFixed(2) : '–';
}
