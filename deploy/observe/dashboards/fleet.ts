import { type Dashboard, perSecond } from '../dashboard.js';

/** Dial results that are the device's doing. */
const BY_DEVICE = 'result=~"lost|no_answer|internal|cap_reached|paused|unsupported|blocked"';

/** Devices: where they are, and what they are good for. */
export const fleet: Dashboard = {
  uid: 'ts-fleet',
  title: 'Traffic Share · Fleet',
  about: 'Devices: where they are, and what they are good for.',
  rows: [
    {
      title: 'Connected',
      panels: [
        { title: 'Devices', unit: 'short', stat: true, queries: [['sum(ts_tunnels)', '']] },
        {
          title: 'Countries',
          unit: 'short',
          stat: true,
          queries: [['count(sum by (country) (ts_devices) > 0) or vector(0)', '']],
        },
        { title: 'Sharing', unit: 'short', stat: true, queries: [['sum(ts_devices{state="sharing"})', '']] },
        {
          title: 'Registered',
          unit: 'short',
          stat: true,
          queries: [['sum(max by (country) (ts_devices_registered))', '']],
        },
        {
          title: 'Sessions',
          unit: 'short',
          stat: true,
          queries: [['sum(max by (state) (ts_sessions))', '']],
        },
        { title: 'Allocations', unit: 'short', stat: true, queries: [['sum(ts_allocations)', '']] },
        {
          title: 'Devices by country',
          unit: 'short',
          queries: [['topk(20, sum by (country) (ts_devices))', '{{country}}']],
        },
        { title: 'Devices by state', unit: 'short', queries: [['sum by (state) (ts_devices)', '{{state}}']] },
        {
          title: 'Devices by gateway',
          unit: 'short',
          queries: [['sum by (instance) (ts_tunnels)', '{{instance}}']],
        },
        {
          title: 'Registered by country',
          unit: 'short',
          queries: [['topk(20, max by (country) (ts_devices_registered))', '{{country}}']],
        },
        {
          title: 'Sessions by state',
          unit: 'short',
          queries: [['max by (state) (ts_sessions)', '{{state}}']],
        },
        {
          title: 'Streams of a device',
          unit: 'short',
          queries: [['sum(ts_streams) / clamp_min(sum(ts_tunnels), 1)', 'on average']],
        },
      ],
    },
    {
      title: 'Quality',
      panels: [
        {
          title: 'Dialling that fails for the device',
          unit: 'ops',
          queries: [[perSecond('ts_dials_total', 'result', BY_DEVICE), '{{result}}']],
        },
        {
          title: 'Share of dialling that fails for the device',
          unit: 'percentunit',
          queries: [
            [
              `sum(rate(ts_dials_total{${BY_DEVICE}}[$__rate_interval])) / clamp_min(sum(rate(ts_dials_total[$__rate_interval])), 1e-9)`,
              'of all',
            ],
          ],
        },
        {
          title: 'No device for a wish',
          unit: 'ops',
          queries: [
            [perSecond('ts_connections_total', 'outcome', 'outcome=~"NO_PEER|SESSION_LOST"'), '{{outcome}}'],
          ],
        },
        {
          title: 'Streams out of window',
          about: 'Up: devices take bytes too slowly. Down: buyers do.',
          unit: 'ops',
          queries: [[perSecond('ts_credit_stalls_total', 'direction'), '{{direction}}']],
        },
        {
          title: 'Streams cut',
          unit: 'ops',
          queries: [[perSecond('ts_streams_ended_total', 'how', 'how!="finished"'), '{{how}}']],
        },
        {
          title: 'Bytes of tunnels on the wire',
          unit: 'Bps',
          queries: [[perSecond('ts_tunnel_wire_bytes_total', 'instance'), '{{instance}}']],
        },
      ],
    },
  ],
};
