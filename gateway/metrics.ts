import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { DialCode } from '../agent-protocol/frame.js';
import { type ProxyErrorCode, proxyErrors } from './errors.js';
import { exposeFleet } from './fleet-metrics.js';
import { exposeRedis } from './live/redis-metrics.js';
import { type Distribution, TallyHistogram, tallies } from './metric-tallies.js';
import { type DatagramTotals, DROP_REASONS } from './relay/datagram-totals.js';
import type { EndedStream } from './relay/relay.js';
import { exposeBuild } from './runtime/build-info.js';
import { spanEnded } from './runtime/spans.js';
import type { DialAnswer } from './tunnels/tunnel.js';

/** Figures that are read when Prometheus asks. */
export interface GaugeReadings {
  tunnels: () => number;
  streams: () => number;
  connections: () => number;
  allocations: () => number;
  bytesUp: () => number;
  bytesDown: () => number;
  metersUnsettled: () => number;
  journalSlotsUsed: () => number;
  journalSlots: () => number;
  journalSlotsMax: () => number;
  journalFailed: () => number;
  journalAdmits: () => number;
  marksShort: () => number;
  tunnelWireBytes: () => number;
  deliveryLagSeconds: () => number;
  finalWaitSeconds: () => number;
  deliveryFailures: () => number;
  strangers: () => number;
  waiting: () => number;
  loopLagSeconds: () => number;
  connectionsDropped: () => number;
  connectionsDroppedEarly: () => number;
  connectionsShed: () => number;
  portClosures: () => number;
  handshakeDeadlines: () => number;
  tlsFailures: () => number;
  proxyHeaderFailures: () => number;
  loginsDelayed: () => number;
  walletMicrosLeft: () => number;
  walletBytesLeft: () => number;
  walletAsksPending: () => number;
  walletStreamsWaiting: () => number;
  walletStreamsCut: () => number;
  walletFailures: () => number;
  usageEntries: () => number;
  usageFlows: () => number;
  usageBatchesPending: () => number;
  usageFolded: () => number;
  usageFailures: () => number;
  refusalsUntold: () => number;
  limitsShared: () => number;
  limitsShareFailures: () => number;
}

const GAUGES: ReadonlyArray<[keyof GaugeReadings, string, string]> = [
  ['tunnels', 'ts_tunnels', 'Devices connected to this gateway'],
  ['streams', 'ts_streams', 'Connections being relayed'],
  ['connections', 'ts_client_connections', 'Buyer connections open, relayed ones included'],
  ['strangers', 'ts_client_strangers', 'Buyer connections open that have not logged in'],
  ['waiting', 'ts_client_waiting', 'Buyer connections accepted that wait to be served'],
  ['loopLagSeconds', 'ts_loop_lag_seconds', 'How late the event loop is, as shedding sees it'],
  ['allocations', 'ts_allocations', 'Allocations served by this gateway'],
  ['metersUnsettled', 'ts_meters_unsettled', 'Meters that Postgres has not committed as final'],
  ['journalSlotsUsed', 'ts_journal_slots_used', 'Slots of the meter journal in use'],
  ['journalSlots', 'ts_journal_slots', 'Slots of the meter journal'],
  ['journalSlotsMax', 'ts_journal_slots_max', 'Slots the meter journal may grow to'],
  ['journalFailed', 'ts_journal_failed', '1: the meter journal cannot be written, and no byte is relayed'],
  ['journalAdmits', 'ts_journal_admits', '1: the meter journal takes meters of new streams'],
  ['walletMicrosLeft', 'ts_wallet_left_micros', "Micro-dollars of buyers' wallets that nobody has taken yet"],
  [
    'walletBytesLeft',
    'ts_wallet_left_bytes',
    'Bytes of package and sub-user wallets that nobody has taken yet',
  ],
  ['walletAsksPending', 'ts_wallet_asks_pending', 'Wallets that wait for the control plane to answer'],
  ['walletStreamsWaiting', 'ts_wallet_streams_waiting', 'Streams that wait for their wallet to be filled'],
  [
    'limitsShared',
    'ts_limits_shared_accounts',
    'Buyers, and sub-users with limits of their own, whose use of limits is told to other gateways',
  ],
  ['usageFlows', 'ts_usage_flows', 'Streams whose usage by destination is being added up'],
  ['usageEntries', 'ts_usage_entries', 'Destinations, by tag and session name, held for the next delivery'],
  ['usageBatchesPending', 'ts_usage_batches_pending', 'Batches of usage that are not known to be booked'],
  ['deliveryLagSeconds', 'ts_meter_delivery_lag_seconds', 'Age of the oldest count not delivered to Redis'],
  [
    'finalWaitSeconds',
    'ts_meter_final_wait_seconds',
    'Time the journal has held the FINAL meter that waits longest for Postgres to commit it',
  ],
];

const COUNTERS: ReadonlyArray<[keyof GaugeReadings, string, string]> = [
  ['bytesUp', 'ts_bytes_up_total', 'Payload bytes relayed from buyers to destinations'],
  ['bytesDown', 'ts_bytes_down_total', 'Payload bytes relayed from destinations to buyers'],
  [
    'walletStreamsCut',
    'ts_wallet_streams_cut_total',
    'Streams cut because their wallet was not filled in time',
  ],
  [
    'walletFailures',
    'ts_wallet_failures_total',
    'Attempts to ask for or read wallets that Redis did not take',
  ],
  [
    'tunnelWireBytes',
    'ts_tunnel_wire_bytes_total',
    'Bytes in and out of all tunnels on the wire, counted apart from the meters',
  ],
  [
    'marksShort',
    'ts_meter_marks_short_total',
    'Times Postgres had committed a meter as final with less than was counted here',
  ],
  ['usageFolded', 'ts_usage_folded_total', 'Times usage was told as (other) for lack of room'],
  [
    'refusalsUntold',
    'ts_refusals_untold_total',
    'Refused connections that buyers are not told of for lack of room',
  ],
  [
    'limitsShareFailures',
    'ts_limits_share_failures_total',
    'Times Redis did not answer what other gateways use of limits: what was heard last stays in force',
  ],
  ['usageFailures', 'ts_usage_delivery_failures_total', 'Deliveries of usage to Redis that failed'],
  ['deliveryFailures', 'ts_meter_delivery_failures_total', 'Deliveries of meters to Redis that failed'],
  [
    'connectionsDropped',
    'ts_client_connections_dropped_total',
    'Connections closed unread above TS_CONNECTIONS_MAX',
  ],
  [
    'connectionsDroppedEarly',
    'ts_client_connections_dropped_early_total',
    'Connections closed unread because their address had too many that had not logged in',
  ],
  [
    'connectionsShed',
    'ts_client_connections_shed_total',
    'Connections turned away because the event loop was above TS_LOOP_LAG_MS_MAX',
  ],
  [
    'portClosures',
    'ts_proxy_port_closures_total',
    'Times that a proxy port was closed until fewer waited, since connections waited for TS_ACCEPT_WAIT_MS_MAX',
  ],
  [
    'handshakeDeadlines',
    'ts_client_handshake_deadlines_total',
    'Connections closed because no request came within TS_HANDSHAKE_TIMEOUT_MS',
  ],
  ['tlsFailures', 'ts_client_tls_failures_total', 'TLS handshakes at the proxy ports that failed'],
  [
    'proxyHeaderFailures',
    'ts_client_proxy_header_failures_total',
    'Connections of load balancers without a good PROXY header',
  ],
  [
    'loginsDelayed',
    'ts_logins_delayed_total',
    'Logins refused unchecked because too many before them were wrong',
  ],
];

const ERROR_CODES = Object.keys(proxyErrors) as ProxyErrorCode[];
/** What a device may answer, as the metrics name it: of the wire's codes in lower case. */
const DIAL_RESULTS = new Map<DialAnswer, string>([
  ...Object.entries(DialCode).map(([name, code]) => [code, name.toLowerCase()] as const),
  ['lost', 'lost'],
  ['timeout', 'no_answer'],
]);
/** Fewer bytes one way say nothing of how fast they could have gone. */
const THROUGHPUT_BYTES_MIN = 65_536;
const ENDS: readonly EndedStream['how'][] = ['finished', 'reset', 'refused'];

/** What the metrics are of, beside the readings. */
export interface GatewayParts {
  /** Logins and requests that were refused, by code. */
  refusals: () => Readonly<Record<ProxyErrorCode, number>>;
  registry: Parameters<typeof exposeFleet>[1];
  redis: Parameters<typeof exposeRedis>[1];
}

/** Metrics of one gateway process, with those of Node itself. Every series is there from the start, at 0. */
export class GatewayMetrics {
  readonly registry = new Registry();
  readonly #outcomes: Record<ProxyErrorCode | 'OK', number>;
  readonly #dials: Record<string, number>;
  readonly #ends: Record<EndedStream['how'], number>;
  readonly #setUp: Distribution;
  readonly #refused: Distribution;
  readonly #durations: Distribution;
  readonly #throughputUp: Distribution;
  readonly #throughputDown: Distribution;

  constructor(readings: GaugeReadings, { refusals, registry, redis }: GatewayParts) {
    collectDefaultMetrics({ register: this.registry });
    exposeBuild(this.registry);
    exposeFleet(this.registry, registry);
    exposeRedis(this.registry, redis);
    const registers = [this.registry];
    for (const [reading, name, help] of GAUGES)
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(readings[reading]());
        },
      });
    for (const [reading, name, help] of COUNTERS)
      new Counter({
        name,
        help,
        registers,
        collect() {
          this.reset();
          this.inc(readings[reading]());
        },
      });
    this.#outcomes = tallies(
      {
        name: 'ts_connections_total',
        help: 'Connections that were asked for, by how they went (OK or an error code)',
        registers,
      },
      'outcome',
      ['OK', ...ERROR_CODES],
    );
    const setup = new TallyHistogram(
      {
        name: 'ts_connection_setup_seconds',
        help: 'From the request to the device having dialled, or the refusal',
        registers,
      },
      [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10],
      'outcome',
    );
    this.#setUp = setup.series('ok');
    this.#refused = setup.series('refused');
    new Counter({
      name: 'ts_refusals_total',
      help: 'Logins and requests that were refused, by the code the buyer was told',
      labelNames: ['code'],
      registers,
      collect() {
        this.reset();
        for (const [code, count] of Object.entries(refusals())) this.inc({ code }, count);
      },
    });
    this.#dials = tallies(
      { name: 'ts_dials_total', help: 'Dialling through devices, by what they answered', registers },
      'result',
      [...DIAL_RESULTS.values()],
    );
    this.#ends = tallies(
      {
        name: 'ts_streams_ended_total',
        help: 'Streams that have ended: in order, cut by either side, or cut because they might not go on',
        registers,
      },
      'how',
      ENDS,
    );
    this.#durations = new TallyHistogram(
      {
        name: 'ts_stream_duration_seconds',
        help: 'How long streams lived, told when they end',
        registers,
      },
      [0.1, 0.3, 1, 3, 10, 30, 100, 300, 1_000, 3_600],
    ).series();
    const throughput = new TallyHistogram(
      {
        name: 'ts_stream_throughput_bytes_per_second',
        help: 'Bytes of a stream by its time, told when it ends, of directions with 64 KiB or more',
        registers,
      },
      [1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8, 1e9],
      'direction',
    );
    this.#throughputUp = throughput.series('up');
    this.#throughputDown = throughput.series('down');
  }

  /** A device was asked to dial. */
  dialled(answer: DialAnswer): void {
    const result = DIAL_RESULTS.get(answer) ?? 'internal';
    this.#dials[result] = (this.#dials[result] ?? 0) + 1;
  }

  /** A stream is over. */
  streamEnded({ how, durationMs, bytesUp, bytesDown }: EndedStream): void {
    const seconds = Math.max(durationMs, 1) / 1_000;
    this.#ends[how]++;
    this.#durations.observe(seconds);
    if (bytesUp >= THROUGHPUT_BYTES_MIN) this.#throughputUp.observe(bytesUp / seconds);
    if (bytesDown >= THROUGHPUT_BYTES_MIN) this.#throughputDown.observe(bytesDown / seconds);
  }

  /** One connection was set up or refused. */
  connection(outcome: ProxyErrorCode | 'OK', tookMs: number): void {
    this.#outcomes[outcome]++;
    (outcome === 'OK' ? this.#setUp : this.#refused).observe(tookMs / 1_000);
    spanEnded(() => ({
      name: 'proxy connection',
      kind: 'server',
      durationMs: tookMs,
      attributes: { 'ts.outcome': outcome },
      failed: outcome === 'INTERNAL',
    }));
  }
}

/** Shows what a worker gives away. */
export function exposePassed(registry: Registry, from: { readonly passed: number }): void {
  new Counter({
    name: 'ts_worker_requests_passed_total',
    help: 'Requests given to another worker of this gateway; only with several',
    registers: [registry],
    collect() {
      this.reset();
      this.inc(from.passed);
    },
  });
}

/** Shows associations and their datagrams. */
export function exposeDatagrams(registry: Registry, totals: DatagramTotals): void {
  const registers = [registry];
  new Gauge({
    name: 'ts_associations',
    help: 'UDP associations being relayed through devices here; they count as streams, too',
    registers,
    collect() {
      this.set(totals.associations);
    },
  });
  new Counter({
    name: 'ts_datagrams_total',
    help: 'Datagrams passed on through devices here: up from buyers, down to them',
    labelNames: ['direction'],
    registers,
    collect() {
      this.reset();
      this.inc({ direction: 'up' }, totals.up);
      this.inc({ direction: 'down' }, totals.down);
    },
  });
  new Counter({
    name: 'ts_datagrams_dropped_total',
    help: 'Datagrams that were not passed on, by reason',
    labelNames: ['reason'],
    registers,
    collect() {
      this.reset();
      for (const reason of DROP_REASONS) this.inc({ reason }, totals.dropped[reason]);
    },
  });
}
