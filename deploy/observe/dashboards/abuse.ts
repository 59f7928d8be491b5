import { type Dashboard, perSecond } from '../dashboard.js';

/** Who knocks that should not, and who asks for what they may not have. */
export const abuse: Dashboard = {
  uid: 'ts-abuse',
  title: 'Traffic Share · Abuse',
  about:
    'Who knocks that should not, and who asks for what they may not have. Whose it is is in the control plane ' +
    '(buyers, their refusals and destinations), never in a metric.',
  rows: [
    {
      title: 'At the proxy ports',
      panels: [
        {
          title: 'Wrong logins',
          unit: 'ops',
          queries: [
            [perSecond('ts_refusals_total', 'code', 'code=~"AUTH_FAILED|RATE_LIMIT"'), '{{code}}'],
            [perSecond('ts_logins_delayed_total'), 'refused unchecked'],
          ],
        },
        {
          title: 'What may not be reached',
          unit: 'ops',
          queries: [
            [
              perSecond(
                'ts_refusals_total',
                'code',
                'code=~"TARGET_BLOCKED|PORT_BLOCKED|IP_PROHIBITED|UDP_NOT_ALLOWED"',
              ),
              '{{code}}',
            ],
          ],
        },
        {
          title: 'Accounts that may not',
          unit: 'ops',
          queries: [
            [
              perSecond(
                'ts_refusals_total',
                'code',
                'code=~"ACCOUNT_SUSPENDED|KYC_REQUIRED|NO_BALANCE|QUOTA_REACHED|CONN_LIMIT"',
              ),
              '{{code}}',
            ],
          ],
        },
        {
          title: 'Destinations that do not answer',
          about: 'Many at once look like a scan of addresses or ports: see the buyers by failed dials.',
          unit: 'ops',
          queries: [
            [
              perSecond(
                'ts_dials_total',
                'result',
                'result=~"refused|unreachable|timeout|dns_fail|prohibited"',
              ),
              '{{result}}',
            ],
          ],
        },
        {
          title: 'Strangers',
          unit: 'short',
          queries: [['sum by (instance) (ts_client_strangers)', '{{instance}}']],
        },
        {
          title: 'Connections that became nothing',
          unit: 'ops',
          queries: [
            [perSecond('ts_client_handshake_deadlines_total'), 'no request in time'],
            [perSecond('ts_client_tls_failures_total'), 'TLS failed'],
            [perSecond('ts_client_proxy_header_failures_total'), 'bad PROXY header'],
            [perSecond('ts_client_connections_dropped_early_total'), 'too many of one address'],
            [perSecond('ts_client_connections_shed_total'), 'shed'],
          ],
        },
        {
          title: 'Datagrams dropped',
          unit: 'ops',
          queries: [[perSecond('ts_datagrams_dropped_total', 'reason'), '{{reason}}']],
        },
        {
          title: 'Refusals nobody is told of',
          about: 'The books of refusals are full: many buyers or codes at once.',
          unit: 'ops',
          queries: [[perSecond('ts_refusals_untold_total'), 'untold']],
        },
        {
          title: 'Usage folded into (other)',
          about: 'A buyer with very many destinations.',
          unit: 'ops',
          queries: [[perSecond('ts_usage_folded_total'), 'folded']],
        },
      ],
    },
    {
      title: 'At the API',
      panels: [
        {
          title: 'Who may not',
          unit: 'ops',
          queries: [
            [
              perSecond(
                'ts_api_problems_total',
                'code',
                'code=~"unauthenticated|invalid_token|invalid_code|invalid_secret|forbidden|ip_not_allowed|banned"',
              ),
              '{{code}}',
            ],
          ],
        },
        {
          title: 'Too much',
          unit: 'ops',
          queries: [
            [
              perSecond(
                'ts_api_problems_total',
                'code',
                'code=~"rate_limited|too_many_streams|body_too_large"',
              ),
              '{{code}}',
            ],
          ],
        },
        {
          title: 'Paths that are none',
          unit: 'ops',
          queries: [[perSecond('ts_api_requests_total', '', 'route="none"'), 'requests']],
        },
      ],
    },
    {
      title: 'Findings and reports',
      panels: [
        {
          title: 'Open',
          about: 'Findings of detection that nobody has decided on, and reports that wait for an answer.',
          unit: 'short',
          queries: [['max by (what) (ts_abuse_open)', '{{what}}']],
        },
        {
          title: 'The oldest has waited',
          unit: 's',
          queries: [['max by (what) (ts_abuse_oldest_seconds)', '{{what}}']],
        },
      ],
    },
    {
      title: 'Reports that differ',
      panels: [
        {
          title: 'Open flags of devices and buyers',
          about: 'Sessions whose device or buyer tells of other bytes than the meters.',
          unit: 'short',
          queries: [['max by (kind) (ts_reconciliation_flags_open{kind!="books"})', '{{kind}}']],
        },
      ],
    },
  ],
};
