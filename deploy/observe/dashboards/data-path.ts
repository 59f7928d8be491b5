import { type Dashboard, OF_GATEWAY, perSecond, quantile } from '../dashboard.js';

const perGateway = (counter: string) => perSecond(counter, 'instance', OF_GATEWAY);
const gauge = (name: string) => `sum by (instance) (${name}{${OF_GATEWAY}})`;
const worst = (name: string) => `max by (instance) (${name}{${OF_GATEWAY}})`;

/** Gateways: what goes through, how fast, and what holds it up. */
export const dataPath: Dashboard = {
  uid: 'ts-data-path',
  title: 'Traffic Share · Data path',
  about: 'Gateways: what goes through, how fast, and what holds it up.',
  rows: [
    {
      title: 'Traffic',
      panels: [
        {
          title: 'Bytes relayed',
          unit: 'Bps',
          queries: [
            [perGateway('ts_bytes_up_total'), '{{instance}} up'],
            [perGateway('ts_bytes_down_total'), '{{instance}} down'],
          ],
        },
        { title: 'Streams', unit: 'short', queries: [[gauge('ts_streams'), '{{instance}}']] },
        {
          title: 'Streams that ended',
          unit: 'ops',
          queries: [[perSecond('ts_streams_ended_total', 'how', OF_GATEWAY), '{{how}}']],
        },
        {
          title: 'Throughput of a stream, downwards',
          about: 'Of streams that ended, with 64 KiB or more in that direction; time without bytes counts.',
          unit: 'Bps',
          queries: [
            [
              quantile(0.1, 'ts_stream_throughput_bytes_per_second', `direction="down",${OF_GATEWAY}`),
              'slowest 10 %',
            ],
            [
              quantile(0.5, 'ts_stream_throughput_bytes_per_second', `direction="down",${OF_GATEWAY}`),
              '50 %',
            ],
            [
              quantile(0.9, 'ts_stream_throughput_bytes_per_second', `direction="down",${OF_GATEWAY}`),
              '90 %',
            ],
          ],
        },
        {
          title: 'Life of a stream',
          unit: 's',
          queries: [
            [quantile(0.5, 'ts_stream_duration_seconds', OF_GATEWAY), '50 %'],
            [quantile(0.95, 'ts_stream_duration_seconds', OF_GATEWAY), '95 %'],
          ],
        },
        {
          title: 'Streams out of window',
          about:
            'Up: the device takes bytes too slowly. Down: the buyer does. Bulk transfers stall a little always.',
          unit: 'ops',
          queries: [[perSecond('ts_credit_stalls_total', 'direction', OF_GATEWAY), '{{direction}}']],
        },
        {
          title: 'Bytes of tunnels for a byte of payload',
          unit: 'short',
          queries: [
            [
              `sum(rate(ts_tunnel_wire_bytes_total{${OF_GATEWAY}}[$__rate_interval])) / clamp_min(sum(rate(ts_bytes_up_total{${OF_GATEWAY}}[$__rate_interval])) + sum(rate(ts_bytes_down_total{${OF_GATEWAY}}[$__rate_interval])), 1)`,
              'wire / payload',
            ],
          ],
        },
        {
          title: 'Datagrams',
          unit: 'ops',
          queries: [
            [perSecond('ts_datagrams_total', 'direction', OF_GATEWAY), '{{direction}}'],
            [perSecond('ts_datagrams_dropped_total', 'reason', OF_GATEWAY), 'dropped: {{reason}}'],
          ],
        },
        { title: 'UDP associations', unit: 'short', queries: [[gauge('ts_associations'), '{{instance}}']] },
      ],
    },
    {
      title: 'Set-up',
      panels: [
        {
          title: 'Time to a device having dialled',
          unit: 's',
          queries: [
            [quantile(0.5, 'ts_connection_setup_seconds', `outcome="ok",${OF_GATEWAY}`), '50 %'],
            [quantile(0.95, 'ts_connection_setup_seconds', `outcome="ok",${OF_GATEWAY}`), '95 %'],
            [quantile(0.99, 'ts_connection_setup_seconds', `outcome="ok",${OF_GATEWAY}`), '99 %'],
          ],
        },
        {
          title: 'How they went',
          unit: 'ops',
          queries: [[perSecond('ts_connections_total', 'outcome', OF_GATEWAY), '{{outcome}}']],
        },
        {
          title: 'What devices answered',
          unit: 'ops',
          queries: [[perSecond('ts_dials_total', 'result', OF_GATEWAY), '{{result}}']],
        },
        {
          title: 'Refusals by code',
          unit: 'ops',
          queries: [[perSecond('ts_refusals_total', 'code', OF_GATEWAY), '{{code}}']],
        },
        {
          title: 'Client connections',
          unit: 'short',
          queries: [
            [gauge('ts_client_connections'), '{{instance}}'],
            [gauge('ts_client_strangers'), '{{instance}} not logged in'],
          ],
        },
        {
          title: 'Turned away before a request',
          unit: 'ops',
          queries: [
            [perSecond('ts_client_connections_shed_total', '', OF_GATEWAY), 'shed: loop too late'],
            [perSecond('ts_proxy_port_closures_total', '', OF_GATEWAY), 'port closed: too many wait (times)'],
            [perSecond('ts_client_connections_dropped_total', '', OF_GATEWAY), 'dropped: too many'],
            [
              perSecond('ts_client_connections_dropped_early_total', '', OF_GATEWAY),
              'dropped: too many strangers',
            ],
            [perSecond('ts_client_handshake_deadlines_total', '', OF_GATEWAY), 'no request in time'],
          ],
        },
      ],
    },
    {
      title: 'Counting',
      panels: [
        {
          title: 'Journal in use',
          about: 'Of what it may grow to.',
          unit: 'percentunit',
          queries: [
            [
              `max by (instance) (ts_journal_slots_used{${OF_GATEWAY}} / ts_journal_slots_max{${OF_GATEWAY}})`,
              '{{instance}}',
            ],
          ],
        },
        {
          title: 'Age of what waits',
          unit: 's',
          queries: [
            [worst('ts_meter_delivery_lag_seconds'), '{{instance}} to Redis'],
            [worst('ts_meter_final_wait_seconds'), '{{instance}} final, to Postgres'],
          ],
        },
        {
          title: 'Meters not settled',
          unit: 'short',
          queries: [[gauge('ts_meters_unsettled'), '{{instance}}']],
        },
        {
          title: 'Streams that wait for money',
          unit: 'short',
          queries: [
            [gauge('ts_wallet_streams_waiting'), '{{instance}} waiting'],
            [gauge('ts_wallet_asks_pending'), '{{instance}} wallets asked for'],
          ],
        },
        {
          title: 'Journal usable',
          unit: 'bool_yes_no',
          queries: [[`min by (instance) (ts_journal_admits{${OF_GATEWAY}})`, '{{instance}}']],
        },
        {
          title: 'Usage held for the next delivery',
          unit: 'short',
          queries: [
            [gauge('ts_usage_entries'), '{{instance}} entries'],
            [gauge('ts_usage_batches_pending'), '{{instance}} batches'],
          ],
        },
      ],
    },
    {
      title: 'Processes',
      panels: [
        { title: 'Event loop late', unit: 's', queries: [[worst('ts_loop_lag_seconds'), '{{instance}}']] },
        {
          title: 'Workers that take connections',
          about: 'Processes of a gateway behind the same ports; 1 where there are no workers.',
          unit: 'short',
          queries: [
            [
              `sum by (instance) (ts_worker_up{${OF_GATEWAY}}) or sum by (instance) (up{job="gateway",${OF_GATEWAY}})`,
              '{{instance}}',
            ],
            [
              `sum by (instance) (increase(ts_worker_restarts_total{${OF_GATEWAY}}[1h])) > 0 or 0 * sum by (instance) (up{job="gateway",${OF_GATEWAY}})`,
              '{{instance}} started again in the last hour',
            ],
          ],
        },
        {
          title: 'CPU, cores',
          unit: 'short',
          queries: [
            [
              perSecond('process_cpu_seconds_total', 'instance', `job="gateway",${OF_GATEWAY}`),
              '{{instance}}',
            ],
          ],
        },
        {
          title: 'Memory',
          unit: 'bytes',
          queries: [
            [
              `sum by (instance) (process_resident_memory_bytes{job="gateway",${OF_GATEWAY}})`,
              '{{instance}}',
            ],
          ],
        },
        {
          title: 'File descriptors',
          unit: 'short',
          queries: [[`sum by (instance) (process_open_fds{job="gateway",${OF_GATEWAY}})`, '{{instance}}']],
        },
        {
          title: 'Redis connected',
          unit: 'bool_yes_no',
          queries: [
            [
              `min by (instance, connection) (ts_redis_connected{${OF_GATEWAY}})`,
              '{{instance}} {{connection}}',
            ],
          ],
        },
        {
          title: 'Commands Redis has not answered',
          unit: 'short',
          queries: [
            [
              `sum by (instance) (ts_redis_commands_pending{connection="live",${OF_GATEWAY}})`,
              '{{instance}}',
            ],
          ],
        },
      ],
    },
  ],
};
