/** What a label says, and how many values it can have. */
export interface MetricLabel {
  label: string;
  /** Where it has this meaning; left out: everywhere. */
  metrics?: readonly string[];
  values: string;
  /** Values at most, in one process. */
  max: number;
}

/**
 * Every label of our metrics. Values come from tables of the code or of the world: never an id, a host, an account or an
 * address, which would make a series each and tell who does what.
 */
export const METRIC_LABELS: readonly MetricLabel[] = [
  { label: 'version', values: 'of the program, as in package.json', max: 1 },
  { label: 'node', values: 'version of Node', max: 1 },
  {
    label: 'outcome',
    metrics: ['ts_connections_total'],
    values: '`OK` or a code of gateway/errors.ts',
    max: 30,
  },
  {
    label: 'outcome',
    metrics: ['ts_link_requests_total'],
    values:
      '`OK`, `elsewhere` (it has no device), `away` (no answer), `unspoken` (its version does not know it), or a code of gateway/errors.ts',
    max: 30,
  },
  { label: 'way', values: '`out` (asked for buyers here), `in` (asked by others)', max: 2 },
  { label: 'outcome', metrics: ['ts_connection_setup_seconds'], values: '`ok`, `refused`', max: 2 },
  { label: 'code', metrics: ['ts_refusals_total'], values: 'codes of gateway/errors.ts', max: 30 },
  { label: 'code', metrics: ['ts_api_problems_total'], values: 'codes of control-plane/errors.ts', max: 200 },
  {
    label: 'result',
    metrics: ['ts_dials_total'],
    values: "the wire's dial codes (agent-protocol/SPEC.md), `lost`, `no_answer`",
    max: 14,
  },
  {
    label: 'result',
    metrics: ['ts_agent_dials_total'],
    values: "the wire's dial codes (agent-protocol/SPEC.md)",
    max: 14,
  },
  {
    label: 'code',
    metrics: ['ts_agent_troubles_total'],
    values:
      'codes of a refused start (the API) or of a lost tunnel (GOAWAY, the network); further ones `other`',
    max: 51,
  },
  {
    label: 'state',
    metrics: ['ts_agent_state'],
    values: '`starting`, `connecting`, `online`, `waiting`, `refused`, `ended`',
    max: 6,
  },
  {
    label: 'result',
    metrics: ['ts_bot_updates_total'],
    values: '`handled`, `postponed`, `given_up`',
    max: 3,
  },
  { label: 'how', values: '`finished`, `reset`, `refused`', max: 3 },
  { label: 'direction', values: '`up` (buyer to destination), `down`', max: 2 },
  { label: 'reason', values: 'a fixed list in the code', max: 10 },
  {
    label: 'connection',
    values: '`live`; `commands` (gateways), `rate_limit` (control planes)',
    max: 2,
  },
  { label: 'country', values: 'two letters of ISO 3166, `other`, `unknown`', max: 250 },
  { label: 'state', metrics: ['ts_devices'], values: '`sharing`, `paused`, `draining`', max: 3 },
  { label: 'state', metrics: ['ts_sessions'], values: '`active`, `stopping`', max: 2 },
  { label: 'state', metrics: ['ts_postgres_connections'], values: '`idle`, `busy`', max: 2 },
  { label: 'state', metrics: ['ts_payouts', 'ts_payouts_micros'], values: 'states of a payout', max: 5 },
  { label: 'of', values: '`accounts`, `entries`', max: 2 },
  { label: 'kind', metrics: ['ts_reconciliation_flags_open'], values: 'kinds of a flag', max: 3 },
  {
    label: 'kind',
    metrics: ['ts_alerts_raised'],
    values: 'kinds of a warning (control-plane/alerts)',
    max: 10,
  },
  { label: 'what', values: '`findings`, `reports`', max: 2 },
  { label: 'queue', values: '`jobs`, `outbox`, `bot_updates`, `bot_notices`, `pushes`', max: 5 },
  { label: 'task', values: 'names of jobs', max: 20 },
  { label: 'route', values: 'method and pattern of a route of the API, `none`', max: 260 },
  { label: 'status', values: '`2xx` to `5xx`', max: 5 },
  { label: 'delivery', values: 'what may become of a message (telegram-queue.ts)', max: 7 },
];

/** The row that tells of this label of this metric. */
export function labelOf(metric: string, label: string): MetricLabel | undefined {
  return METRIC_LABELS.find((row) => row.label === label && (row.metrics?.includes(metric) ?? true));
}
