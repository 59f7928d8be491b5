/** Settings of a gateway beside others on this machine: on loopback, on whatever ports are free. */
export const ANY_PORTS = {
  TS_PROXY_HOST: '127.0.0.1',
  TS_PROXY_PORT: '0',
  TS_TUNNEL_HOST: '127.0.0.1',
  TS_TUNNEL_PORT: '0',
  TS_METRICS_PORT: '0',
} as const;
