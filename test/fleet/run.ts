/**
 * `npm run sim:fleet`: a fleet far larger than any machine here carries, in simulated time, on the project's own allocation and directory
 * of gateways. Tells what buyers get, how devices spread, and what Redis has to carry.
 */
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { describe } from './figures.js';
import { type FleetPlan, simulateFleet } from './scenario.js';

// With gigabytes half marked, each young collection goes through all that is still to be marked: nearly all of the time.
setFlagsFromString('--no-incremental-marking');

const USAGE = `npm run sim:fleet -- [options]
  --devices N        devices (1000000)
  --gateways N       gateways (200)
  --connections N    buyers' connections a second, of all gateways (12500: 100 Gbit/s at 1 MB each)
  --buyers N         buyers (10000)
  --seconds N        simulated seconds of each phase (20)
  --seed S           equal seeds give like histories (1)
  --quick            20 000 devices, 10 gateways, 250 connections a second, 200 buyers
  --json FILE        writes the figures there, too`;

function readPlan(args: string[]): { plan: FleetPlan; json: string | undefined } | 'help' | null {
  const { values } = parseArgs({
    args,
    options: {
      devices: { type: 'string' },
      gateways: { type: 'string' },
      connections: { type: 'string' },
      buyers: { type: 'string' },
      seconds: { type: 'string', default: '20' },
      seed: { type: 'string', default: '1' },
      quick: { type: 'boolean', default: false },
      json: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  const { quick } = values;
  const number = (text: string | undefined, usual: number, small: number) =>
    text === undefined ? (quick ? small : usual) : /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  const plan: FleetPlan = {
    devices: number(values.devices, 1_000_000, 20_000),
    gateways: number(values.gateways, 200, 10),
    connectionsPerSecond: number(values.connections, 12_500, 250),
    buyers: number(values.buyers, 10_000, 200),
    phaseSeconds: number(values.seconds, 20, 20),
    seed: number(values.seed, 1, 1),
  };
  const isGood = Object.values(plan).every((n) => n > 0) && plan.gateways >= 2;
  if (values.help) return 'help';
  return isGood ? { plan, json: values.json } : null;
}

async function main(): Promise<number> {
  const read = readPlan(process.argv.slice(2));
  if (read === null || read === 'help') {
    console.error(USAGE);
    return read === null ? 2 : 0;
  }
  const { plan, json } = read;
  const isTty = process.stderr.isTTY;
  let saidAtMs = performance.now();
  const onProgress = (text: string) => {
    if (isTty) process.stderr.write(`\r\u001b[K${text}`);
    else if (performance.now() - saidAtMs > 15_000) {
      saidAtMs = performance.now();
      console.error(text);
    }
  };
  const figures = await simulateFleet({ ...plan, onProgress }, (phase) => {
    if (isTty) process.stderr.write('\r\u001b[K');
    console.log(describe(phase));
  });
  if (json !== undefined) await writeFile(json, `${JSON.stringify({ plan, figures }, null, 2)}\n`);
  return 0;
}

process.exitCode = await main();
