import { type Dashboard, perSecond, quantile } from '../dashboard.js';

const OURS = 'job="control-plane"';

/** API, jobs, bot, and what they stand on. */
export const controlPlane: Dashboard = {
  uid: 'ts-control-plane',
  title: 'Traffic Share · Control plane',
  about: 'API, jobs, bot, and what they stand on.',
  rows: [
    {
      title: 'API',
      panels: [
        {
          title: 'Answers by route',
          unit: 'ops',
          queries: [[`topk(15, ${perSecond('ts_api_requests_total', 'route')})`, '{{route}}']],
        },
        {
          title: 'Answers by status',
          unit: 'ops',
          queries: [[perSecond('ts_api_requests_total', 'status'), '{{status}}']],
        },
        {
          title: 'Time to the answer',
          unit: 's',
          queries: [
            [quantile(0.5, 'ts_api_request_seconds'), '50 %'],
            [quantile(0.95, 'ts_api_request_seconds'), '95 %'],
            [quantile(0.99, 'ts_api_request_seconds'), '99 %'],
          ],
        },
        {
          title: 'Slowest routes, on average',
          unit: 's',
          queries: [
            [
              'topk(10, sum by (route) (rate(ts_api_request_seconds_sum[$__rate_interval])) / clamp_min(sum by (route) (rate(ts_api_request_seconds_count[$__rate_interval])), 1e-9))',
              '{{route}}',
            ],
          ],
        },
        {
          title: 'Problems by code',
          unit: 'ops',
          queries: [[`topk(15, ${perSecond('ts_api_problems_total', 'code')})`, '{{code}}']],
        },
        {
          title: 'Warnings to the admins',
          unit: 'short',
          queries: [['max by (kind) (ts_alerts_raised) or vector(0)', '{{kind}}']],
        },
      ],
    },
    {
      title: 'Postgres and Redis',
      panels: [
        {
          title: 'Connections to Postgres',
          unit: 'short',
          queries: [['sum by (instance, state) (ts_postgres_connections)', '{{instance}} {{state}}']],
        },
        {
          title: 'Waiting for a connection to Postgres',
          unit: 'short',
          queries: [['sum by (instance) (ts_postgres_waiting)', '{{instance}}']],
        },
        {
          title: 'Redis connected',
          unit: 'bool_yes_no',
          queries: [
            [`min by (instance, connection) (ts_redis_connected{${OURS}})`, '{{instance}} {{connection}}'],
          ],
        },
        {
          title: 'Commands Redis has not answered',
          unit: 'short',
          queries: [
            [
              `sum by (instance, connection) (ts_redis_commands_pending{${OURS}})`,
              '{{instance}} {{connection}}',
            ],
          ],
        },
        {
          title: 'Figures that could not be read',
          unit: 'ops',
          queries: [
            [perSecond('ts_record_figures_failures_total'), 'of operation'],
            [perSecond('ts_money_figures_failures_total'), 'of money'],
          ],
        },
      ],
    },
    {
      title: 'Jobs and queues',
      panels: [
        {
          title: 'Due and not worked off',
          unit: 'short',
          queries: [['max by (queue) (ts_queue_due)', '{{queue}}']],
        },
        {
          title: 'Oldest that is due',
          unit: 's',
          queries: [['max by (queue) (ts_queue_oldest_seconds)', '{{queue}}']],
        },
        {
          title: 'Jobs in the last hour',
          unit: 'short',
          queries: [
            ['sum by (task) (increase(ts_jobs_succeeded_total[1h]))', '{{task}}'],
            ['sum by (task) (increase(ts_jobs_failed_total[1h]))', '{{task}} failed'],
          ],
        },
        {
          title: 'Since a job ended well',
          unit: 's',
          queries: [['min by (task) (ts_job_last_success_age_seconds) or vector(0)', '{{task}}']],
        },
        {
          title: 'Usage booked',
          unit: 'ops',
          queries: [
            [perSecond('ts_usage_entries_booked_total'), 'entries'],
            [perSecond('ts_usage_booking_failures_total'), 'failures'],
          ],
        },
      ],
    },
    {
      title: 'Bot',
      panels: [
        {
          title: 'Updates from Telegram',
          unit: 'ops',
          queries: [[perSecond('ts_bot_updates_total', 'result'), '{{result}}']],
        },
        {
          title: 'Messages to Telegram',
          unit: 'ops',
          queries: [[perSecond('ts_telegram_messages_total', 'delivery'), '{{delivery}}']],
        },
        {
          title: 'Messages waiting',
          unit: 'short',
          queries: [['sum by (instance) (ts_telegram_messages_waiting)', '{{instance}}']],
        },
      ],
    },
    {
      title: 'Processes',
      panels: [
        {
          title: 'Event loop late, 99 %',
          unit: 's',
          queries: [[`max by (instance) (nodejs_eventloop_lag_p99_seconds{${OURS}})`, '{{instance}}']],
        },
        {
          title: 'CPU, cores',
          unit: 'short',
          queries: [[perSecond('process_cpu_seconds_total', 'instance', OURS), '{{instance}}']],
        },
        {
          title: 'Memory',
          unit: 'bytes',
          queries: [[`sum by (instance) (process_resident_memory_bytes{${OURS}})`, '{{instance}}']],
        },
      ],
    },
  ],
};
