import t from 'tap';
import { dedicatedPorts, readGatewayConfig } from '../../gateway/config.js';

function problemsOf(env: Record<string, string>): readonly string[] {
  try {
    readGatewayConfig(env);
  } catch (error) {
    return (error as { problems: string[] }).problems;
  }
  return [];
}

t.test('ports for one protocol', async (t) => {
  const config = readGatewayConfig({
    TS_PROXY_PORTS: '1080:socks5, 3128:http,443:tls',
    TS_PROXY_TLS_DEV: '1',
  });
  t.same(dedicatedPorts(config), [
    { port: 1080, protocol: 'socks5' },
    { port: 3128, protocol: 'http' },
    { port: 443, protocol: 'tls' },
  ]);
  t.same(dedicatedPorts(readGatewayConfig({})), []);
  t.same(problemsOf({ TS_PROXY_PORTS: '0:socks5,0:http', TS_PROXY_PORT: '0' }), [], 'any free ones');
  t.same(problemsOf({ TS_PROXY_PORTS: '1080:socks5,1080:http,8080:http,socks,9000:tls' }), [
    'TS_PROXY_PORTS, item 2: the port is taken by TS_PROXY_PORT or an item before',
    'TS_PROXY_PORTS, item 3: the port is taken by TS_PROXY_PORT or an item before',
    'TS_PROXY_PORTS, item 4: must be port:protocol, with a port up to 65535 and socks5, http or tls',
    'TS_PROXY_PORTS, item 5: a tls port needs TS_PROXY_TLS_CERT',
  ]);
});

t.test('TLS, balancers and limits: relations are checked together', async (t) => {
  t.same(problemsOf({ TS_PROXY_TLS_CERT: 'a.pem' }), ['TS_PROXY_TLS_CERT and TS_PROXY_TLS_KEY go together']);
  t.same(problemsOf({ TS_PROXY_TLS_DEV: '1', NODE_ENV: 'production' }), [
    'TS_PROXY_TLS_DEV is refused in production',
  ]);
  t.same(problemsOf({ TS_PROXY_PROTOCOL_FROM: '10.0.0.0/8,::1,lb.example' }), [
    'TS_PROXY_PROTOCOL_FROM must be addresses or CIDRs',
  ]);
  t.same(problemsOf({ TS_PROXY_PROTOCOL_FROM: '10.0.0.0/8, 2001:db8::/32' }), []);
  t.same(
    problemsOf({ TS_STRANGERS_SOFT_MAX: '10', TS_STRANGERS_HARD_MAX: '9', TS_LOGIN_DELAY_MS_MAX: '10' }),
    [
      'TS_STRANGERS_HARD_MAX must be at least TS_STRANGERS_SOFT_MAX',
      'TS_LOGIN_DELAY_MS_MAX must be at least TS_LOGIN_DELAY_MS',
    ],
  );
});

t.test(
  'workers: a number, before that of the environment when it is given, and room for their names',
  async (t) => {
    t.equal(readGatewayConfig({}).workers, 1);
    t.equal(readGatewayConfig({ TS_WORKERS: '2' }, { TS_WORKERS: '3' }).workers, 3);
    t.same(problemsOf({ TS_WORKERS: '0' }), ['TS_WORKERS must be a whole number from 1 to 64']);
    const long = 'g'.repeat(61);
    t.same(problemsOf({ TS_GATEWAY_ID: long }), []);
    t.same(problemsOf({ TS_GATEWAY_ID: long, TS_WORKERS: '2' }), [
      'TS_GATEWAY_ID must leave room for the -w2 of a worker: up to 60 characters',
    ]);
  },
);
