import { type Dashboard, perSecond, quantile } from '../dashboard.js';

const anHour = (micros: string) => `sum(rate(${micros}[$__rate_interval])) * 3600 / 1e6`;

/** From counted bytes to the ledger and out to people. */
export const money: Dashboard = {
  uid: 'ts-money',
  title: 'Traffic Share · Money',
  about:
    'From counted bytes to the ledger and out to people. Alerts on it: deploy/prometheus/rules/money.yml.',
  rows: [
    {
      title: 'The books',
      panels: [
        {
          title: 'Books off, micro-dollars',
          unit: 'short',
          stat: true,
          alarmFrom: 1,
          queries: [['max(abs(ts_books_off_micros))', '']],
        },
        {
          title: 'Sums of the ledger, micro-dollars',
          unit: 'short',
          stat: true,
          alarmFrom: 1,
          queries: [['max by (of) (abs(ts_ledger_sum_micros))', '{{of}}']],
        },
        {
          title: 'Buyers with more held than they have',
          unit: 'short',
          stat: true,
          alarmFrom: 1,
          queries: [['max(ts_wallet_overheld_buyers)', '']],
        },
        {
          title: 'Sessions whose books differ',
          unit: 'short',
          stat: true,
          alarmFrom: 1,
          queries: [['max(ts_reconciliation_flags_open{kind="books"})', '']],
        },
        {
          title: 'Held for running traffic',
          unit: 'currencyUSD',
          stat: true,
          queries: [['max(ts_wallet_held_micros) / 1e6', '']],
        },
        {
          title: 'Age of these figures',
          unit: 's',
          stat: true,
          alarmFrom: 300,
          queries: [['min(ts_money_figures_age_seconds)', '']],
        },
      ],
    },
    {
      title: 'Settlement',
      panels: [
        {
          title: 'Counted and booked',
          about: 'The two lie on each other, a second apart.',
          unit: 'Bps',
          queries: [
            ['sum(direction:ts_bytes:rate5m)', 'counted by gateways'],
            ['sum(rate(ts_settlement_bytes_booked_total[5m]))', 'booked'],
          ],
        },
        {
          title: 'Charged and earned an hour',
          unit: 'currencyUSD',
          queries: [
            [anHour('ts_settlement_charged_micros_total'), 'charged to buyers'],
            [anHour('ts_settlement_earned_micros_total'), 'credited to providers'],
          ],
        },
        {
          title: 'From byte to ledger',
          unit: 's',
          queries: [
            [quantile(0.5, 'ts_settlement_lag_seconds'), '50 %'],
            [quantile(0.99, 'ts_settlement_lag_seconds'), '99 %'],
          ],
        },
        {
          title: 'Since the last round of settlement',
          unit: 's',
          queries: [['min(ts_settlement_last_pass_age_seconds)', 'of the one that settled last']],
        },
        {
          title: 'Meters booked',
          unit: 'ops',
          queries: [[perSecond('ts_settlement_meters_booked_total'), 'meters']],
        },
        {
          title: 'Not booked',
          unit: 'ops',
          queries: [
            [perSecond('ts_settlement_set_aside_total', 'reason'), '{{reason}}'],
            [perSecond('ts_settlement_failures_total'), 'rounds that failed'],
            [perSecond('ts_meter_marks_short_total'), 'committed with too little'],
          ],
        },
        {
          title: 'Open meters',
          unit: 'short',
          queries: [['max(ts_meters_open)', 'open']],
        },
        {
          title: 'Open meter without a byte for longest',
          unit: 's',
          queries: [['max(ts_meters_open_idle_seconds)', 'idle']],
        },
        {
          title: 'Open flags',
          unit: 'short',
          queries: [['max by (kind) (ts_reconciliation_flags_open)', '{{kind}}']],
        },
      ],
    },
    {
      title: 'Wallets',
      panels: [
        {
          title: 'Questions of gateways answered',
          unit: 'ops',
          queries: [
            [perSecond('ts_wallet_answers_total'), 'answered'],
            [perSecond('ts_wallet_keeper_failures_total'), 'rounds that failed'],
          ],
        },
        {
          title: 'Streams cut for want of an answer or money',
          unit: 'ops',
          queries: [[perSecond('ts_wallet_streams_cut_total'), 'cut']],
        },
        {
          title: 'Granted to gateways and not taken yet',
          unit: 'currencyUSD',
          queries: [['sum(ts_wallet_left_micros) / 1e6', 'of money']],
        },
      ],
    },
    {
      title: 'Payouts',
      panels: [
        { title: 'By state', unit: 'short', queries: [['max by (state) (ts_payouts)', '{{state}}']] },
        {
          title: 'Waiting, in dollars',
          unit: 'currencyUSD',
          queries: [['max by (state) (ts_payouts_micros{state=~"pending|processing"}) / 1e6', '{{state}}']],
        },
        {
          title: 'Paid out in the last day',
          unit: 'currencyUSD',
          queries: [
            [
              'clamp_min(delta(max(ts_payouts_micros{state="completed"})[1d:5m]), 0) / 1e6 or vector(0)',
              'completed',
            ],
          ],
        },
      ],
    },
  ],
};
