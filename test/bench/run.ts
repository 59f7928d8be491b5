/** `npm run bench`: measures Traffic Share beside its peers on this machine, each part in a process of its own. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { control } from './control/control.js';
import { longLine } from './delay.js';
import { echoBesideBulk } from './echo.js';
import type { Outcome } from './load/outcome.js';
import { overload } from './load/overload.js';
import { soak } from './load/soak.js';
import { storm } from './load/storm.js';
import { measureMemory } from './memory.js';
import { type Options, readOptions, USAGE } from './options.js';
import {
  bulk,
  connectRate,
  type Figures,
  fixedRate,
  latency,
  meteringCost,
  type Stage,
  warmUp,
} from './phases.js';
import { plots } from './plot.js';
import type { ClientCalls, OriginCalls } from './protocol.js';
import { addFigures, describeMachine, isOurs, markdown, type Results, type SystemResult } from './report.js';
import { startRole } from './role.js';
import { trafficShareLinked } from './systems/linked.js';
import { overLines } from './systems/over-line.js';
import { trafficShareTls } from './systems/own-agent.js';
import { peers } from './systems/peers.js';
import type { RunningSystem, SystemUnderTest } from './systems/system.js';
import { trafficShare, trafficShareSwitched, trafficShareWorkers } from './systems/traffic-share.js';

/** Measured only when they are named. */
const onRequest: readonly SystemUnderTest[] = [trafficShareTls, trafficShareWorkers, trafficShareLinked];

/** Set in the run inside the namespace. */
const INSIDE = 'TS_BENCH_NETNS';
/** Loopback up, no pacing on it, room for short connections. */
const NAMESPACE_SETUP = `
ip link set lo up &&
{ echo reno >/proc/sys/net/ipv4/tcp_congestion_control
  echo '10000 65000' >/proc/sys/net/ipv4/ip_local_port_range
  echo 4096 >/proc/sys/net/core/somaxconn; } 2>/dev/null
exec "$@"`;

const say = (text: string) => process.stderr.write(`${text}\n`);

interface Measured {
  result: SystemResult;
  system: RunningSystem;
}

/** The systems that the phases want: those over a line are started for their phase alone. */
function chosen(options: Options): { plain: SystemUnderTest[]; overLine: SystemUnderTest[] } {
  const all: readonly SystemUnderTest[] = options.only.includes('metering')
    ? [trafficShareSwitched]
    : options.alone
      ? [trafficShare]
      : [trafficShare, ...peers];
  const { systems, only } = options;
  const named = (system: SystemUnderTest) => systems.includes(system.id);
  const known = options.alone ? all : [...all, ...onRequest, ...overLines];
  const unknown = systems.filter((id) => !known.some((system) => system.id === id));
  if (unknown.length > 0) throw new Error(`--systems: ${unknown.join(', ')} unknown`);
  const wanted = (system: SystemUnderTest) => systems.length === 0 || named(system);
  const overLine = only.includes('delay') ? overLines.filter(wanted) : [];
  const onlyOverLine = only.every((phase) => phase === 'delay');
  const plain = onlyOverLine ? [] : [...all.filter(wanted), ...onRequest.filter(named)];
  if (plain.length + overLine.length === 0)
    throw new Error(`--systems ${systems.join(',')}: none has a part in --only ${only.join(',')}`);
  return { plain, overLine };
}

/** Starts them; the results of each, with what went wrong, are added to those there are. */
async function startSystems(
  systems: readonly SystemUnderTest[],
  stage: Stage,
  results: SystemResult[],
): Promise<Measured[]> {
  const running: Measured[] = [];
  for (const { id, start } of systems) {
    let result = results.find((earlier) => earlier.id === id);
    if (result === undefined) {
      result = { id, label: id, figures: {}, problems: [], remarks: [] };
      results.push(result);
    }
    let problem: string | null = null;
    try {
      const system = await start(stage.originAt);
      if ('absent' in system) problem = system.absent;
      else {
        result.label = system.label;
        running.push({ result, system });
      }
    } catch (error) {
      problem = `did not start: ${(error as Error).message}`;
    }
    if (problem !== null && !result.problems.includes(problem)) result.problems.push(problem);
    say(`${id}: ${problem ?? 'ready'}`);
  }
  return running;
}

/** The systems, and behind each its other ways in, for phases that are about setting connections up. */
function waysInto(running: readonly Measured[], results: SystemResult[]): Measured[] {
  return running.flatMap((measured) => {
    const { otherWays = [], ...system } = measured.system;
    const ways = otherWays.map(({ id, label, route }) => {
      const result: SystemResult = { id, label, figures: {}, problems: [], remarks: [] };
      return { result, system: { ...system, label, route } };
    });
    results.splice(results.indexOf(measured.result) + 1, 0, ...ways.map(({ result }) => result));
    return [measured, ...ways];
  });
}

/** The phase `delay`, on systems of its own. */
async function measureOverLine(systems: readonly SystemUnderTest[], stage: Stage, results: SystemResult[]) {
  const { lineRates, repeats } = stage.options;
  const running = await startSystems(systems, stage, results);
  try {
    for (const rate of lineRates)
      for (const direction of ['down', 'up'] as const)
        await interleaved(`delay ${rate} Mbit/s ${direction}`, running, repeats, (system) =>
          longLine(stage, system, direction, rate),
        );
  } finally {
    for (const { system } of running) await system.stop();
  }
}

/** One window of a phase on each system in turn; the order turns with each repeat. */
async function interleaved(
  phase: string,
  running: readonly Measured[],
  repeats: number,
  measure: (system: RunningSystem) => Promise<Figures>,
): Promise<void> {
  for (let repeat = 0; repeat < repeats; repeat++)
    for (let i = 0; i < running.length; i++) {
      const { result, system } = running[(i + repeat) % running.length] as Measured;
      try {
        const figures = await measure(system);
        addFigures(result, figures);
        const values = Object.entries(figures).map(
          ([name, value]) => `${name} ${value?.toPrecision(3) ?? '–'}`,
        );
        say(`${phase} ${repeat + 1}/${repeats} ${result.id}: ${values.join(', ')}`);
      } catch (error) {
        result.problems.push(`${phase}: ${(error as Error).message}`);
        say(`${phase} ${result.id}: ${(error as Error).message}`);
      }
    }
}

/** A phase that has more to say than figures, once on each system. */
async function once(
  phase: string,
  running: readonly Measured[],
  measure: (system: RunningSystem) => Promise<Outcome>,
): Promise<void> {
  for (const { result, system } of running)
    await interleaved(phase, [{ result, system }], 1, async () => {
      const { figures, problems, remarks } = await measure(system);
      for (const text of [...problems, ...remarks]) say(`${phase} ${result.id}: ${text}`);
      result.problems.push(...problems);
      result.remarks.push(...remarks);
      return figures;
    });
}

async function measure(options: Options): Promise<Results> {
  const origin = startRole<OriginCalls>('origin');
  const client = startRole<ClientCalls>('client');
  const stage: Stage = { origin, client, options, originAt: await origin.call.listen() };
  const { plain, overLine } = chosen(options);
  const results: SystemResult[] = [];
  let running: Measured[] = [];
  try {
    running = await startSystems(plain, stage, results);
    const wanted = new Set(options.only);
    const setUp = wanted.has('connect') || wanted.has('latency') ? waysInto(running, results) : running;
    await interleaved('warm-up', setUp, 1, async (system) => {
      await warmUp(stage, system);
      return {};
    });
    if (wanted.has('bulk'))
      for (const direction of ['down', 'up'] as const)
        for (const streams of options.streams)
          await interleaved(`bulk ${direction} ${streams}`, running, options.repeats, (system) =>
            bulk(stage, system, direction, streams),
          );
    let runs = 0;
    if (wanted.has('metering'))
      for (const direction of ['down', 'up'] as const)
        for (const streams of options.streams)
          await interleaved(`metering ${direction} ${streams}`, running, options.repeats, (system) =>
            meteringCost(stage, system, direction, streams, runs++ % 2 === 1),
          );
    if (wanted.has('connect'))
      await interleaved('connect', setUp, options.repeats, (system) => connectRate(stage, system));
    if (wanted.has('latency'))
      await interleaved('latency', setUp, options.repeats, (system) => latency(stage, system));
    if (wanted.has('rate'))
      await interleaved('rate', running, options.repeats, (system) => fixedRate(stage, system));
    if (wanted.has('echo'))
      for (const direction of ['down', 'up'] as const)
        await interleaved(`echo ${direction}`, running, options.repeats, (system) =>
          echoBesideBulk(stage, system, direction),
        );
    if (wanted.has('memory')) {
      const tunnels = running.filter(({ system }) => system.agentPids().length > 0);
      await once('memory', tunnels, (system) => measureMemory(stage, system));
    }
    if (wanted.has('storm')) await once('storm', running, (system) => storm(stage, system));
    if (wanted.has('control')) await once('control', running, (system) => control(stage, system));
    if (wanted.has('soak')) await once('soak', running, (system) => soak(stage, system));
    // Last: requests that it breaks are counted by both ends in their own way
    if (wanted.has('overload')) await once('overload', running, (system) => overload(stage, system));
    // the others are gone by then: a system at rest takes time, too
    for (const { system } of running.splice(0)) await system.stop();
    if (overLine.length > 0) await measureOverLine(overLine, stage, results);
  } finally {
    for (const { system } of running) await system.stop();
    await client.stop();
    await origin.stop();
  }
  return { machine: describeMachine(process.env[INSIDE] !== undefined), options, systems: results };
}

/** Runs this same command in a network namespace of its own; its exit status. */
function runInNamespace(): number {
  const words = ['--net', 'sh', '-c', NAMESPACE_SETUP, 'sh', process.execPath, ...process.argv.slice(1)];
  const { status, error } = spawnSync('unshare', words, {
    stdio: 'inherit',
    env: { ...process.env, [INSIDE]: '1' },
  });
  if (error) say(`--netns: ${error.message}`);
  return status ?? 1;
}

async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2));
  if (options === 'help') {
    process.stdout.write(USAGE);
    return 0;
  }
  if (process.platform !== 'linux') {
    say('The benchmark reads CPU time and memory from /proc: Linux only.');
    return 1;
  }
  if (options.netns && process.env[INSIDE] === undefined) return runInNamespace();
  const results = await measure(options);
  process.stdout.write(markdown(results));
  for (const file of options.out)
    writeFileSync(file, file.endsWith('.json') ? `${JSON.stringify(results, null, 2)}\n` : markdown(results));
  if (options.plots !== null) {
    mkdirSync(options.plots, { recursive: true });
    for (const [file, svg] of plots(results)) writeFileSync(join(options.plots, file), svg);
  }
  return results.systems.some((system) => isOurs(system) && system.problems.length > 0) ? 1 : 0;
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(130));
main().then(
  (code) => process.exit(code),
  (error: Error) => {
    say(error.stack ?? error.message);
    process.exit(1);
  },
);
