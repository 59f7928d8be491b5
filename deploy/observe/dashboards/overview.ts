import { type Dashboard, perSecond, quantile } from '../dashboard.js';

/** What somebody looks at who wants to know whether all is well. */
export const overview: Dashboard = {
  uid: 'ts-overview',
  title: 'Traffic Share · Overview',
  about: 'Whether all is well, and how much goes through.',
  rows: [
    {
      title: 'Now',
      panels: [
        { title: 'Devices', unit: 'short', stat: true, queries: [['sum(ts_tunnels)', '']] },
        { title: 'Streams', unit: 'short', stat: true, queries: [['sum(ts_streams)', '']] },
        { title: 'Traffic', unit: 'Bps', stat: true, queries: [['sum(direction:ts_bytes:rate5m)', '']] },
        {
          title: 'Connections that fail for us',
          about:
            'Of all that were asked for; refusals that are the fault of buyer or destination do not count.',
          unit: 'percentunit',
          stat: true,
          alarmFrom: 0.05,
          queries: [['ts_connections:platform_failures:ratio5m', '']],
        },
        {
          title: 'Charged an hour',
          unit: 'currencyUSD',
          stat: true,
          queries: [['sum(rate(ts_settlement_charged_micros_total[5m])) * 3600 / 1e6', '']],
        },
        {
          title: 'Books off, micro-dollars',
          about: 'Charges less earnings, bonuses and revenue. Anything but 0 is an emergency.',
          unit: 'short',
          stat: true,
          alarmFrom: 1,
          queries: [['max(abs(ts_books_off_micros))', '']],
        },
        {
          title: 'Processes down',
          unit: 'short',
          stat: true,
          alarmFrom: 1,
          queries: [['count(up{job=~"gateway|control-plane"} == 0) or vector(0)', '']],
        },
        {
          title: 'Alerts firing',
          unit: 'short',
          stat: true,
          alarmFrom: 1,
          queries: [['count(ALERTS{alertstate="firing"}) or vector(0)', '']],
        },
        {
          title: 'API answers a second',
          unit: 'ops',
          stat: true,
          queries: [[perSecond('ts_api_requests_total'), '']],
        },
        {
          title: 'API answers that are 5xx',
          unit: 'percentunit',
          stat: true,
          alarmFrom: 0.01,
          queries: [['ts_api_requests:failures:ratio5m', '']],
        },
        {
          title: 'Settlement lag, 99 %',
          about: 'From the latest byte of a report to its commit.',
          unit: 's',
          stat: true,
          alarmFrom: 30,
          queries: [['ts_settlement_lag_seconds:p99_5m', '']],
        },
        {
          title: 'Set-up of connections, 99 %',
          unit: 's',
          stat: true,
          alarmFrom: 3,
          queries: [['ts_connection_setup_seconds:p99_5m', '']],
        },
      ],
    },
    {
      title: 'Over time',
      panels: [
        {
          title: 'Traffic',
          unit: 'Bps',
          queries: [
            [perSecond('ts_bytes_up_total'), 'up'],
            [perSecond('ts_bytes_down_total'), 'down'],
          ],
        },
        {
          title: 'Connections asked for',
          unit: 'ops',
          queries: [[`topk(10, ${perSecond('ts_connections_total', 'outcome')})`, '{{outcome}}']],
        },
        {
          title: 'Set-up of connections',
          unit: 's',
          queries: [
            [quantile(0.5, 'ts_connection_setup_seconds', 'outcome="ok"'), '50 %'],
            [quantile(0.99, 'ts_connection_setup_seconds', 'outcome="ok"'), '99 %'],
          ],
        },
        { title: 'Devices by state', unit: 'short', queries: [['sum by (state) (ts_devices)', '{{state}}']] },
        {
          title: 'API answers',
          unit: 'ops',
          queries: [[perSecond('ts_api_requests_total', 'status'), '{{status}}']],
        },
        {
          title: 'Settlement lag',
          unit: 's',
          queries: [
            [quantile(0.5, 'ts_settlement_lag_seconds'), '50 %'],
            [quantile(0.99, 'ts_settlement_lag_seconds'), '99 %'],
          ],
        },
      ],
    },
  ],
};
