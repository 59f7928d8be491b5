/** The composition of the buyers' ports: a part of `gateway.ts`. */

import type { SocketHandle } from '../agent-protocol/raw-socket.js';
import { LoginBackoff } from './buyers/login-backoff.js';
import { dedicatedPorts, type GatewayConfig } from './config.js';
import type { ProxyPipeline } from './listeners/connect-pipeline.js';
import type { Siblings } from './listeners/hand-over.js';
import type { DedicatedPort } from './listeners/port-protocol.js';
import { ProxyListener, proxyListenerDefaults } from './listeners/proxy-listener.js';
import type { UdpListening } from './listeners/udp-associate.js';
import type { GaugeReadings } from './metrics.js';
import type { Clock } from './runtime/clock.js';
import { developmentCertificate } from './runtime/development-certificate.js';
import type { Log } from './runtime/logging.js';
import { LoopLag } from './runtime/loop-lag.js';
import { TlsCertificate } from './runtime/tls-certificate.js';
import type { PortName } from './workers/messages.js';

/** How often the lag of the event loop is looked at. */
const LOOP_LAG_INTERVAL_MS = 50;

/** The configured certificate, or a development one where that is wanted, or none. Rejects when it is unusable. */
export async function openProxyCertificate(
  config: GatewayConfig,
  clock: Clock,
  log: Log,
): Promise<TlsCertificate | null> {
  const { proxyTlsCert: certPath, proxyTlsKey: keyPath } = config;
  if (certPath && keyPath) return TlsCertificate.open({ certPath, keyPath }, log);
  if (!config.proxyTlsDev) return null;
  const files = await developmentCertificate(config.dataDir, clock.nowMs());
  log.warn({ ...files }, 'development_certificate_at_the_proxy_port');
  return TlsCertificate.open(files, log);
}

/** The tunnel port's, or none. Rejects when it is unusable. */
export async function openTunnelCertificate(config: GatewayConfig, log: Log): Promise<TlsCertificate | null> {
  const { tunnelTlsCert: certPath, tunnelTlsKey: keyPath } = config;
  return certPath && keyPath ? TlsCertificate.open({ certPath, keyPath }, log) : null;
}

/** What failed logins cost, as configured. */
export function loginBackoff(config: GatewayConfig, clock: Clock): LoginBackoff {
  return new LoginBackoff(clock, {
    pairFailuresMax: config.loginPairFailuresMax,
    addressFailuresMax: config.loginAddressFailuresMax,
    accountFailuresMax: config.loginAccountFailuresMax,
    delayMs: config.loginDelayMs,
    delayMsMax: config.loginDelayMsMax,
    forgetAfterMs: config.loginForgetAfterMs,
    entriesMax: config.loginEntriesMax,
  });
}

export interface ProxyPortsDeps {
  pipeline: ProxyPipeline;
  backoff: LoginBackoff;
  certificate: TlsCertificate | null;
  clock: Clock;
  log: Log;
  udp: UdpListening;
  siblings: Siblings | undefined;
  /** Listening sockets that were made for this process; undefined: it makes its own. */
  bound: ReadonlyMap<PortName, SocketHandle> | undefined;
}

/** The main port and those of TS_PROXY_PORTS, with what sheds load from them. */
export class ProxyPorts {
  readonly listener: ProxyListener;
  readonly #loopLag: LoopLag;

  constructor(
    private readonly config: GatewayConfig,
    private readonly deps: ProxyPortsDeps,
  ) {
    const { pipeline, certificate, clock, log, udp, siblings } = deps;
    this.#loopLag = new LoopLag({ lagMsMax: config.loopLagMsMax, intervalMs: LOOP_LAG_INTERVAL_MS }, clock);
    this.listener = new ProxyListener({
      pipeline,
      settings: {
        ...proxyListenerDefaults,
        connectionsMax: config.connectionsMax,
        acceptWaitMsMax: config.acceptWaitMsMax,
        handshakeTimeoutMs: config.handshakeTimeoutMs,
        strangersSoftMax: config.strangersSoftMax,
        strangersHardMax: config.strangersHardMax,
        proxyProtocolFrom: config.proxyProtocolFrom,
      },
      log,
      udp,
      siblings,
      certificate: () => certificate?.current ?? null,
      isOverloaded: () => this.#loopLag.overloaded,
    });
  }

  /** Rejects when a port can not be had. */
  async listen(): Promise<{ proxyPort: number; dedicated: DedicatedPort[] }> {
    const { proxyHost: host, proxyPort: port } = this.config;
    const { bound } = this.deps;
    const main = await this.listener.listen({ host, port, bound: bound?.get('proxy') });
    const dedicated: DedicatedPort[] = [];
    for (const [index, { port: wanted, protocol: accepts }] of dedicatedPorts(this.config).entries()) {
      const made = bound?.get(`dedicated-${index}`);
      const { port } = await this.listener.listen({ host, port: wanted, accepts, bound: made });
      dedicated.push({ port, protocol: accepts });
    }
    this.#loopLag.start();
    return { proxyPort: main.port, dedicated };
  }

  /** As `ProxyListener.strangerCount`. */
  get strangerCount(): number {
    return this.listener.strangerCount;
  }

  get isOverloaded(): boolean {
    return this.#loopLag.overloaded;
  }

  /** As `ProxyListener.close`. */
  async close(graceMs: number): Promise<void> {
    await this.listener.close(graceMs);
    this.#loopLag.stop();
    this.deps.certificate?.close();
  }

  /** Logins and requests that were refused, by code. */
  get refusals() {
    return this.listener.counts.refusals;
  }

  /** For the metrics. */
  get readings() {
    const { listener, deps } = this;
    return {
      connections: listener.connectionCount,
      strangers: listener.strangerCount,
      waiting: listener.waitingCount,
      loopLagSeconds: this.#loopLag.lagMs / 1_000,
      connectionsDropped: listener.counts.dropped,
      connectionsDroppedEarly: listener.counts.droppedEarly,
      connectionsShed: listener.counts.shed,
      portClosures: listener.counts.portClosures,
      handshakeDeadlines: listener.counts.deadlines,
      tlsFailures: listener.counts.tlsFailures,
      proxyHeaderFailures: listener.counts.proxyHeaderFailures,
      loginsDelayed: deps.backoff.refusedTotal,
    } satisfies Partial<Record<keyof GaugeReadings, number>>;
  }
}
