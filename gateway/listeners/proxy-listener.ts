import type { AddressInfo } from 'node:net';
import { LiveSet } from '../../agent-protocol/live-set.js';
import { type Accepted, adoptHandle } from '../../agent-protocol/raw-server.js';
import type { RawSocket, SocketHandle } from '../../agent-protocol/raw-socket.js';
import { type ProxyErrorCode, type ProxyFailure, proxyErrors } from '../errors.js';
import { AddressSet, plainAddress } from '../runtime/addresses.js';
import type { Log } from '../runtime/logging.js';
import { type Soon, soon } from '../runtime/soon.js';
import type { Certificate } from '../runtime/tls-certificate.js';
import { AddressGate, type AddressGateSettings } from './address-gate.js';
import { ClientPeer } from './client-peer.js';
import type { ProxyPipeline } from './connect-pipeline.js';
import { EchoServer } from './echo.js';
import type { HandedRequest, Siblings } from './hand-over.js';
import type { HttpForwarderSettings } from './http-forward.js';
import { ListeningPort } from './listening-port.js';
import type { ListenerContext } from './open-destination.js';
import type { PortProtocol } from './port-protocol.js';
import { asStream, ProtocolSwitch } from './protocol-switch.js';
import type { UdpListening } from './udp-associate.js';

/** Limits of the ports. Of a tunnel's early payload no more than about `headBytesMax` is read ahead. */
export interface ProxyListenerSettings extends HttpForwarderSettings, AddressGateSettings {
  /** Client connections at once; above it new ones are closed unread. */
  connectionsMax: number;
  /** Time that a connection may wait to be served, ms; at it the port is closed until most are served. 0: any time. */
  acceptWaitMsMax: number;
  /**
   * CIDRs of load balancers. Their connections must begin with a PROXY header, else they are closed; of others such
   * bytes are never believed.
   */
  proxyProtocolFrom: readonly string[];
  /**
   * How often connections that are not read (their device takes no more) are looked at, ms: one that its client has
   * reset is closed then.
   */
  probeIntervalMs: number;
}

export const proxyListenerDefaults: ProxyListenerSettings = {
  connectionsMax: 50_000,
  acceptWaitMsMax: 1_000,
  strangersSoftMax: 1_000,
  strangersHardMax: 2_000,
  proxyProtocolFrom: [],
  probeIntervalMs: 5_000,
  handshakeTimeoutMs: 10_000,
  headBytesMax: 16_384,
  lingerTimeoutMs: 2_000,
  keepAliveTimeoutMs: 60_000,
  pipelinedMax: 16,
  idleStreamsMax: 4,
  originHeadBytesMax: 65_536,
};

export interface ProxyListenerDeps {
  pipeline: ProxyPipeline;
  settings: ProxyListenerSettings;
  log: Log;
  /** What TLS is spoken with now; left out: TLS is refused. */
  certificate?: () => Certificate | null;
  /** Whether the process can not keep up: new connections are turned away. Left out: never. */
  isOverloaded?: () => boolean;
  /** Left out: no UDP ASSOCIATE. */
  udp?: UdpListening;
  /** Left out: this process has all devices. */
  siblings?: Siblings | undefined;
}

/** Connections that were turned away or failed before they had a request, since the start. */
export interface ConnectionCounts {
  /** Closed unread because `connectionsMax` were open. */
  dropped: number;
  /** Closed unread because their address had too many that had not logged in. */
  droppedEarly: number;
  /** Turned away because the process could not keep up. */
  shed: number;
  /** Times that a port was closed for a while, because connections waited too long to be served. */
  portClosures: number;
  /** Closed because no request came in time. */
  deadlines: number;
  /** TLS handshakes that failed, or came where TLS is not spoken. */
  tlsFailures: number;
  /** PROXY headers of load balancers that were missing or bad. */
  proxyHeaderFailures: number;
  /** Logins and requests that were refused, by code. */
  refusals: Readonly<Record<ProxyErrorCode, number>>;
}

const NO_PLACE = { leave() {} };

const OVERLOADED: ProxyFailure = { ok: false, code: 'DRAINING', detail: 'overloaded' };

/** The buyers' ports: SOCKS5 and HTTP, plain or in TLS, told apart by the first byte. Knows nothing of devices. */
export class ProxyListener {
  readonly #settings: ProxyListenerSettings;
  readonly #log: Log;
  readonly #gate: AddressGate;
  readonly #switch: ProtocolSwitch;
  readonly #balancers: AddressSet;
  readonly #isOverloaded: () => boolean;
  readonly #ports: ListeningPort[] = [];
  readonly #connections = new LiveSet<RawSocket>();
  #probing: NodeJS.Timeout | null = null;
  #draining = false;
  #dropped = 0;
  #shed = 0;
  #portClosures = 0;
  readonly #refusals = Object.fromEntries(Object.keys(proxyErrors).map((code) => [code, 0])) as Record<
    ProxyErrorCode,
    number
  >;
  #onEmpty: (() => void) | null = null;

  constructor(deps: ProxyListenerDeps) {
    const { settings, log } = deps;
    this.#settings = settings;
    this.#log = log;
    this.#gate = new AddressGate(settings);
    this.#balancers = new AddressSet(settings.proxyProtocolFrom);
    this.#isOverloaded = deps.isOverloaded ?? (() => false);
    this.#switch = new ProtocolSwitch({
      context: this.#context(deps),
      settings,
      certificate: deps.certificate ?? (() => null),
    });
  }

  /** Client connections open now, relayed ones included. */
  get connectionCount(): number {
    return this.#connections.size;
  }

  /** Client connections open now that have not logged in. */
  get strangerCount(): number {
    return this.#gate.count;
  }

  /** Client connections accepted that wait to be served. */
  get waitingCount(): number {
    return this.#ports.reduce((sum, port) => sum + port.waitingCount, 0);
  }

  get counts(): ConnectionCounts {
    const { deadlines, tls, proxyHeaders } = this.#switch.failures;
    return {
      dropped: this.#dropped,
      droppedEarly: this.#gate.droppedTotal,
      shed: this.#shed,
      portClosures: this.#portClosures,
      deadlines,
      tlsFailures: tls,
      proxyHeaderFailures: proxyHeaders,
      refusals: this.#refusals,
    };
  }

  /**
   * Starts accepting, on one more port at each call; resolves with the address, rejects when it can not be had.
   * Port 0: any free one. `bound`: as for `listen` of raw-server.ts.
   */
  async listen(options: {
    host: string;
    port: number;
    accepts?: PortProtocol;
    bound?: SocketHandle | undefined;
  }): Promise<AddressInfo> {
    const { accepts = 'any', ...where } = options;
    const port = new ListeningPort({
      ...where,
      waitMsMax: this.#settings.acceptWaitMsMax,
      onAccepted: (accepted) => this.#accept(accepted, accepts),
      onFull: () => {
        this.#portClosures += 1;
      },
      log: this.#log,
    });
    const address = await port.open();
    this.#ports.push(port);
    this.#probing ??= setInterval(() => {
      for (const socket of this.#connections) socket.probe();
    }, this.#settings.probeIntervalMs).unref();
    return address;
  }

  /**
   * Accepts no more; requests on open connections get DRAINING; what is relayed may finish within `graceMs`, then it
   * is dropped. Resolves when the last connection is gone.
   */
  async close(graceMs: number): Promise<void> {
    this.#draining = true;
    for (const port of this.#ports.splice(0)) port.close();
    this.#switch.drain();
    if (this.#connections.size > 0) {
      const timer = setTimeout(() => {
        for (const socket of this.#connections) socket.reset();
      }, graceMs);
      await new Promise<void>((resolve) => {
        this.#onEmpty = resolve;
      });
      clearTimeout(timer);
    }
    if (this.#probing !== null) clearInterval(this.#probing);
  }

  /** Serves what another worker has handed over, on the connection that came with it, within the limits of its own. */
  takeOver(request: HandedRequest, connection: SocketHandle): void {
    if (this.#connections.size >= this.#settings.connectionsMax) {
      this.#dropped += 1;
      connection.close();
      return;
    }
    const overloaded = this.#isOverloaded();
    if (overloaded) this.#shed += 1;
    const socket = this.#adopt(adoptHandle(connection));
    const peer = new ClientPeer(request.clientAddress, NO_PLACE);
    this.#switch.serveHanded(socket, peer, request, overloaded ? OVERLOADED : null);
  }

  #accept(accepted: Accepted, accepts: PortProtocol): void {
    const remoteAddress = accepted.remoteAddress;
    if (remoteAddress === undefined) {
      accepted.close();
      return;
    }
    if (this.#connections.size >= this.#settings.connectionsMax) {
      this.#dropped += 1;
      accepted.close();
      return;
    }
    const address = plainAddress(remoteAddress) ?? remoteAddress;
    const announced = this.#balancers.has(address);
    if (this.#isOverloaded()) {
      this.#shed += 1;
      // A balancer sees that another gateway should have it; the first byte is not its client's.
      if (announced) accepted.close();
      else this.#switch.turnAway(this.#adopt(accepted.adopt()), new ClientPeer(address, NO_PLACE));
    } else if (announced) this.#acceptAnnounced(accepted, address, accepts);
    else {
      const place = this.#gate.enter(address);
      if (place === null) accepted.close();
      else {
        const socket = this.#adopt(accepted.adopt());
        this.#switch.serve(socket, this.#peer(socket, new ClientPeer(address, place)), accepts);
      }
    }
  }

  /** A load balancer's connection counts for the address that it announces. */
  #acceptAnnounced(accepted: Accepted, balancer: string, accepts: PortProtocol): void {
    const socket = this.#adopt(accepted.adopt());
    this.#switch.serveAnnounced(socket, new ClientPeer(balancer, NO_PLACE), accepts, (clientAddress) => {
      // Its own connections are health checks; what it checks for others comes with their address.
      if (clientAddress === null) return new ClientPeer(balancer, NO_PLACE);
      const place = this.#gate.enter(clientAddress);
      return place && this.#peer(socket, new ClientPeer(clientAddress, place));
    });
  }

  #adopt(socket: RawSocket): RawSocket {
    const place = this.#connections.add(socket);
    socket.onceClosed(() => {
      this.#connections.remove(place);
      if (this.#connections.size === 0) this.#onEmpty?.();
    });
    return socket;
  }

  #peer(socket: RawSocket, peer: ClientPeer): ClientPeer {
    socket.onceClosed(() => peer.leave());
    return peer;
  }

  #context({ pipeline, udp, siblings }: ProxyListenerDeps): ListenerContext {
    const guarded = this.#guard(pipeline);
    const echo = new EchoServer();
    return {
      pipeline: guarded,
      log: this.#log,
      udp: udp ?? null,
      siblings: siblings ?? null,
      login: (peer, credentials, handed = null) => {
        const { username, password } = credentials;
        const asked = guarded.authenticate({ username, password, clientAddress: peer.address });
        return soon(asked, (auth) => {
          if (!auth.ok) return auth;
          peer.logIn();
          const { buyer, params } = auth;
          return { ok: true, buyer, params, asked: auth.asked, credentials, handed };
        });
      },
      refused: (peer, { code, detail }, requestId) => {
        this.#refusals[code]++;
        const fields = { clientAddress: peer.address, refusal: code, detail, requestId };
        this.#log.debug(fields, 'proxy request refused');
      },
      serveEcho: (client, answer) => {
        const { socket, head } = client.release();
        echo.serve(asStream(socket, head), answer, this.#settings.keepAliveTimeoutMs);
      },
    };
  }

  /** While draining nobody gets in; a stage that throws is INTERNAL to the client and an error in the log. */
  #guard(pipeline: ProxyPipeline): ProxyPipeline {
    const failed = (error: unknown): ProxyFailure => {
      this.#log.error({ err: error }, 'proxy pipeline failed');
      return { ok: false, code: 'INTERNAL' };
    };
    const safely = <T>(work: () => Soon<T | ProxyFailure>): Soon<T | ProxyFailure> => {
      try {
        const outcome = work();
        return outcome instanceof Promise ? outcome.catch(failed) : outcome;
      } catch (error) {
        return failed(error);
      }
    };
    const guarded: ProxyPipeline = {
      authenticate: (credentials) =>
        this.#draining ? { ok: false, code: 'DRAINING' } : safely(() => pipeline.authenticate(credentials)),
      connect: (auth, destination, attempts) => safely(() => pipeline.connect(auth, destination, attempts)),
      echo: (auth, attempts) => pipeline.echo(auth, attempts).catch(failed),
    };
    const { associate } = pipeline;
    if (associate)
      guarded.associate = (auth, attempts) => safely(() => associate.call(pipeline, auth, attempts));
    return guarded;
  }
}
