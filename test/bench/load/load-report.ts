import type { Results, SystemResult } from '../report.js';
import type { LoadOptions } from './load-options.js';

/** A figure of the table; the target is what the project asks of itself. */
interface Row {
  what: string;
  figure: string;
  digits: number;
  target?: Target;
}

/** `max`: no more, `min`: no less, `within`: neither above nor below zero by more. */
type Target = { max: number } | { min: number } | { within: number };

/** The rows of all phases under load, in the order of the table. */
function rowsOf({ storm, soak, overload, memory }: LoadOptions): Row[] {
  const held = `over ${memory.holdMs / 1_000} s`;
  const back = (how: 'cut' | 'vanish', text: string): Row[] => [
    {
      what: `storm: ${storm.devices} devices ${text}, all back after, s`,
      figure: `storm_${how}_all_back_s`,
      digits: 1,
      target: { max: 20 },
    },
    { what: 'half of them, s', figure: `storm_${how}_half_back_s`, digits: 1 },
    { what: 'attempts that failed', figure: `storm_${how}_failed_attempts`, digits: 0 },
  ];
  return [
    {
      what: `memory: ${memory.idleTunnels} idle tunnels, KiB each`,
      figure: 'kib_per_idle_tunnel',
      digits: 1,
      target: { max: 12 },
    },
    { what: `growth ${held}, %`, figure: 'idle_tunnels_growth_percent', digits: 2, target: { max: 2 } },
    {
      what: `memory: ${memory.idleStreams} idle streams, KiB each`,
      figure: 'kib_per_idle_stream',
      digits: 1,
      target: { max: 12 },
    },
    { what: `growth ${held}, %`, figure: 'idle_streams_growth_percent', digits: 2, target: { max: 2 } },

    ...back('cut', 'cut off'),
    ...back('vanish', 'vanish'),
    { what: 'streams of others that broke', figure: 'storm_others_broken', digits: 0, target: { max: 0 } },
    { what: 'new connections of theirs that were not served', figure: 'storm_others_refused', digits: 0 },
    { what: 'longest wait of theirs for an echo, ms', figure: 'storm_others_echo_max_ms', digits: 0 },
    { what: 'requests of theirs meanwhile', figure: 'storm_others_requests', digits: 0 },

    {
      what: `soak: ${soak.streams} streams over ${soak.devices} devices, ${soak.durationMs / 1_000} s: errors`,
      figure: 'soak_errors',
      digits: 0,
      target: { max: 0 },
    },
    {
      what: 'resident size of the gateway, most, MB',
      figure: 'soak_rss_max_mb',
      digits: 0,
      target: { max: 600 },
    },
    {
      what: 'its growth over the last 60 % of the time, %',
      figure: 'soak_growth_percent',
      digits: 2,
      target: { within: 2 },
    },
    {
      what: 'bytes booked and not counted by the origin, or the other way',
      figure: 'soak_unbooked_bytes',
      digits: 0,
      target: { max: 0 },
    },
    { what: 'Σ ledger, micro-dollars', figure: 'soak_ledger_sum_micros', digits: 0, target: { within: 0 } },
    { what: 'traffic, GB', figure: 'soak_gb', digits: 2 },
    { what: 'small requests', figure: 'soak_requests', digits: 0 },
    { what: 'bulk transfers', figure: 'soak_transfers', digits: 0 },
    { what: 'echoes of trickling streams', figure: 'soak_echoes', digits: 0 },
    { what: 'p99 of an echo, ms', figure: 'soak_echo_p99_ms', digits: 1 },
    { what: 'CPU of the gateway, cores', figure: 'soak_gateway_cores', digits: 2 },

    {
      what: 'control: connections/s that find an exit, held already',
      figure: 'allocation_held_per_s',
      digits: 0,
    },
    { what: 'the same in one of 200 cities', figure: 'allocation_city_per_s', digits: 0 },
    { what: 'with a claim in Redis for each', figure: 'allocation_claims_per_s', digits: 0 },
    { what: 'p99 of a claim, ms', figure: 'allocation_claim_p99_ms', digits: 2 },
    {
      what: 'settlement, new meters/s',
      figure: 'settlement_first_per_s',
      digits: 0,
    },
    { what: 'meters that grew/s', figure: 'settlement_growth_per_s', digits: 0, target: { min: 5_000 } },
    { what: 'pulls/s, one package each', figure: 'pull_per_s', digits: 0, target: { min: 1_000 } },
    { what: 'p50 of a pull, ms', figure: 'pull_p50_ms', digits: 1 },
    { what: 'p99 of a pull, ms', figure: 'pull_p99_ms', digits: 1 },
    { what: 'CPU s of the control plane for 1 000 pulls', figure: 'pull_cpu_s_per_1000', digits: 2 },
    { what: 'Redis: commands/s at rest', figure: 'redis_rest_commands_per_s', digits: 1 },
    { what: 'bytes/s at rest', figure: 'redis_rest_bytes_per_s', digits: 0 },
    { what: 'commands for 1 000 connections', figure: 'redis_commands_per_1000_connections', digits: 1 },
    { what: 'commands for a GB', figure: 'redis_commands_per_gb', digits: 1 },

    { what: 'overload: peak, small requests/s', figure: 'overload_peak_per_s', digits: 0 },
    { what: 'CPU of the gateway at the peak, cores', figure: 'overload_peak_gateway_cores', digits: 2 },
    {
      what: `then offered, 1/s (${overload.factor} × peak were due, for ${overload.offerMs / 1_000} s)`,
      figure: 'overload_offered_per_s',
      digits: 0,
    },
    {
      what: 'goodput, % of peak',
      figure: 'overload_goodput_percent',
      digits: 0,
      target: { min: 80 },
    },
    { what: 'refused', figure: 'overload_refused', digits: 0 },
    { what: 'time to a refusal, p50, ms', figure: 'overload_refusal_p50_ms', digits: 1, target: { max: 50 } },
    { what: 'p99, ms', figure: 'overload_refusal_p99_ms', digits: 1, target: { max: 50 } },
    { what: 'neither answered nor refused', figure: 'overload_unanswered', digits: 0 },
    {
      what: 'then at half the peak: p99 as before after, s',
      figure: 'overload_recovery_s',
      digits: 2,
      target: { max: 5 },
    },
    { what: 'that p99 before, ms', figure: 'overload_calm_p99_ms', digits: 1 },
    {
      what: 'lag of the gateway’s event loop while overloaded, most, ms',
      figure: 'overload_loop_lag_max_ms',
      digits: 0,
    },
    { what: 'CPU while overloaded, cores: gateway', figure: 'overload_gateway_cores', digits: 2 },
    { what: `${overload.clients} clients`, figure: 'overload_clients_cores', digits: 2 },
    { what: 'agent', figure: 'overload_agent_cores', digits: 2 },
    { what: 'origin', figure: 'overload_origin_cores', digits: 2 },
  ];
}

/** Appends what Traffic Share did under load, each figure beside its target, and what has to be known of it. */
export function loadTable(lines: string[], { systems, options }: Results): void {
  const ours = systems.find(({ id }) => id === 'traffic-share');
  if (ours === undefined) return;
  const rows = rowsOf(options.load).filter(({ figure }) => figure in ours.figures);
  if (rows.length > 0) {
    lines.push(
      '',
      'Traffic Share under load.',
      '',
      '| what | measured | target | met |',
      '|---|---|---|---|',
    );
    for (const row of rows) lines.push(line(ours, row));
  }
  if (ours.remarks.length > 0)
    lines.push('', 'To read the figures by:', '', ...ours.remarks.map((text) => `- ${text}`));
}

function line({ figures }: SystemResult, { what, figure, digits, target }: Row): string {
  const value = figures[figure]?.at(-1) ?? Number.NaN;
  const told = target === undefined ? '' : targetText(target);
  const met = target === undefined ? '' : isMet(value, target) ? 'yes' : '**no**';
  return `| ${what} | ${value.toFixed(digits)} | ${told} | ${met} |`;
}

function targetText(target: Target): string {
  if ('max' in target) return target.max === 0 ? '0' : `≤ ${target.max}`;
  if ('min' in target) return `≥ ${target.min}`;
  return target.within === 0 ? '0' : `within ${target.within}`;
}

function isMet(value: number, target: Target): boolean {
  if ('max' in target) return value <= target.max;
  if ('min' in target) return value >= target.min;
  return Math.abs(value) <= target.within;
}
