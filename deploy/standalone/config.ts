import {
  flag,
  integer,
  list,
  oneOf,
  readEnvironment,
  text,
  type Values,
} from '../../gateway/runtime/environment.js';

/** Settings of the standalone system; everything else it decides by itself. */
export const standaloneSettings = {
  proxyPort: integer('TS_PROXY_PORT', 'port for buyers, 0 = any free', { default: 8080, max: 65_535 }),
  proxyTlsCert: text(
    'TS_PROXY_TLS_CERT',
    'PEM file, with TS_PROXY_TLS_KEY: TLS at the proxy port; unset: with a certificate made for localhost',
    null,
  ),
  apiPort: integer('TS_API_PORT', 'port of the API, 0 = any free', { default: 3000, max: 65_535 }),
  tunnelPort: integer('TS_TUNNEL_PORT', 'port for devices, 0 = any free', { default: 8443, max: 65_535 }),
  tunnelTlsCert: text(
    'TS_TUNNEL_TLS_CERT',
    'PEM file, with TS_TUNNEL_TLS_KEY: TLS at the tunnel port; for 127.0.0.1 or localhost, where the demo device dials',
    null,
  ),
  metricsPort: integer('TS_METRICS_PORT', "the gateway's private port, 0 = any free", {
    default: 9464,
    max: 65_535,
  }),
  controlMetricsPort: integer('TS_CONTROL_METRICS_PORT', "the control plane's private port, 0 = any free", {
    default: 9465,
    max: 65_535,
  }),
  demoPort: integer('TS_DEMO_PORT', 'port of the demo destination, 0 = any free', {
    default: 8088,
    max: 65_535,
  }),
  dataDir: text('TS_DATA_DIR', 'folder of all data', '.data'),
  demo: flag('TS_DEMO', '0: no demo buyer, provider, device and destination', true),
  databaseUrl: text('TS_DATABASE_URL', 'use this Postgres instead of the embedded one', null),
  redisUrl: text('TS_REDIS_URL', 'use this Redis instead of starting one', null),
  redisUrlPlain: text('REDIS_URL', 'the same, by the common name', null),
  devAllow: list('TS_DEV_ALLOW', 'further host:port destinations exempt from the address policy'),
  logLevel: oneOf(
    'TS_LOG_LEVEL',
    'how much goes to the log files: debug, info, warn, error',
    ['debug', 'info', 'warn', 'error', 'silent'],
    'info',
  ),
};

export type StandaloneConfig = Values<typeof standaloneSettings>;

/** Reads the settings; throws EnvironmentError with every problem. The standalone system is for development only. */
export function readStandaloneConfig(
  env: Readonly<Record<string, string | undefined>> = process.env,
): StandaloneConfig {
  return readEnvironment(standaloneSettings, env, () =>
    env.NODE_ENV === 'production'
      ? ['NODE_ENV=production is refused: the standalone system is for trying and developing (see deploy/)']
      : [],
  );
}

/** The environment that children inherit: settings of the standalone system itself are decided for them. */
export function inheritedEnvironment(): Record<string, string> {
  return Object.fromEntries(
    Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
}

/** The environment of a command, whose settings are those of other processes. */
export function commandEnvironment(): Readonly<Record<string, string | undefined>> {
  return process.env;
}
