import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Duplex } from 'node:stream';
import type { Status } from '../../agent-protocol/control.js';
import { limitsMessage } from '../../agent-protocol/control.js';
import { defaultTimings, type SessionLimits } from '../../agent-protocol/limits.js';
import { listen } from '../../agent-protocol/raw-server.js';
import type { SocketHandle } from '../../agent-protocol/raw-socket.js';
import type { MuxSession } from '../../agent-protocol/session.js';
import { refuseUpgrade, ticketOf, upgradeTunnel } from '../../agent-protocol/websocket.js';
import { redisNowMs } from '../live/claims.js';
import type { LiveRedis } from '../live/connection.js';
import type { TicketRecord } from '../live/records.js';
import { takeTicket } from '../live/store.js';
import type { Clock } from '../runtime/clock.js';
import type { Log } from '../runtime/logging.js';
import { BULK_TLS, type TlsCertificate } from '../runtime/tls-certificate.js';
import type { TunnelRegistry } from './registry.js';
import { type Origin, Tunnel } from './tunnel.js';

/** What is known of the address a device comes from. */
export type OriginVerdict =
  | (Omit<Origin, 'exitIp' | 'isp'> & { ok: true; asOrganisation: string | null })
  | { ok: false; code: 'region_not_allowed' | 'vpn_detected' | 'denylisted'; rule: string };

export interface TunnelServerOptions {
  host: string;
  port: number;
  /** As for `listen` of raw-server.ts. */
  bound?: SocketHandle | undefined;
  gatewayId: string;
  limits: SessionLimits;
  /** Devices at once; above it a tunnel is refused with 503. */
  tunnelsMax: number;
}

export interface TunnelServerDeps {
  redis: LiveRedis;
  registry: TunnelRegistry;
  clock: Clock;
  log: Log;
  /** null: plain, with TLS in front or on loopback. */
  certificate: TlsCertificate | null;
  /** The device's address: of the connection, or of a trusted proxy's header. */
  observedAddress: (remoteAddress: string, forwardedFor: string | undefined) => string;
  checkOrigin: (address: string) => OriginVerdict;
  /** Versions in force, told in WELCOME. */
  versions: () => { policyVersion: string; termsVersion: string };
  isDraining: () => boolean;
}

/** Time a client has for the headers of its upgrade request; then its connection is closed. */
const HEADERS_TIMEOUT_MS = 10_000;

/**
 * The port devices connect to: `GET /tunnel` with a ticket. A ticket opens one tunnel; the address it comes from is
 * checked again, since it may have changed since Start and the lists may have too. Refusals are problem details with
 * `ticket_required`, `ticket_invalid` (get a new one), `region_not_allowed`, `vpn_detected`, `denylisted`, `draining`,
 * `gateway_full`, `live_state_unavailable`.
 */
export class TunnelServer {
  readonly #server: Server;

  constructor(
    private readonly options: TunnelServerOptions,
    private readonly deps: TunnelServerDeps,
  ) {
    this.#server = deps.certificate === null ? createServer() : tlsServer(deps.certificate);
    this.#server.headersTimeout = HEADERS_TIMEOUT_MS;
    this.#server.requestTimeout = HEADERS_TIMEOUT_MS;
    this.#server.on('request', (_request, response) => {
      response
        .writeHead(426, { 'content-type': 'text/plain', upgrade: 'websocket', connection: 'close' })
        .end('Traffic Share tunnels are WebSockets: see agent-protocol/SPEC.md\n');
    });
    this.#server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      socket.on('error', () => {});
      this.#upgrade(request, socket, head).catch((error: Error) => {
        deps.log.error({ error: error.message }, 'tunnel_upgrade_failed');
        socket.destroy();
      });
    });
  }

  async listen(): Promise<number> {
    const { host, port, bound } = this.options;
    return (await listen(this.#server, { host, port, bound, backlog: 4_096 })).port;
  }

  /** No more tunnels; those that are open stay. */
  stopAccepting(): void {
    this.#server.close();
    this.#server.closeIdleConnections();
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const { deps, options } = this;
    if ((request.url ?? '').split('?')[0] !== '/tunnel')
      return refuseUpgrade(socket, 404, 'not_found', 'tunnels are at /tunnel');
    if (deps.isDraining()) return refuseUpgrade(socket, 503, 'draining', 'this gateway is shutting down', 1);
    if (deps.registry.size >= options.tunnelsMax)
      return refuseUpgrade(socket, 503, 'gateway_full', 'this gateway has no room for more devices', 30);
    const ticketText = ticketOf(request);
    if (ticketText === null)
      return refuseUpgrade(socket, 401, 'ticket_required', 'send the ticket of POST /api/traffic/start');

    const forwarded = request.headers['x-forwarded-for'];
    const address = deps.observedAddress(
      request.socket.remoteAddress ?? '',
      Array.isArray(forwarded) ? forwarded.join(',') : forwarded,
    );
    const verdict = deps.checkOrigin(address);
    if (!verdict.ok) {
      deps.log.info({ code: verdict.code, rule: verdict.rule }, 'tunnel_refused');
      return refuseUpgrade(socket, 403, verdict.code, verdict.rule);
    }

    let ticket: TicketRecord | null;
    let sinceMs: number;
    try {
      [ticket, sinceMs] = await Promise.all([
        takeTicket(deps.redis, createHash('sha256').update(ticketText).digest('hex')),
        redisNowMs(deps.redis),
      ]);
    } catch (error) {
      deps.log.warn({ error: (error as Error).message }, 'ticket_not_read');
      return refuseUpgrade(socket, 503, 'live_state_unavailable', 'try again shortly', 1);
    }
    if (ticket === null)
      return refuseUpgrade(
        socket,
        401,
        'ticket_invalid',
        'the ticket is unknown, used or expired: start again',
      );
    if (socket.destroyed) return;
    const { ok: _, asOrganisation: isp, ...place } = verdict;
    this.#accept(request, socket, head, { ticket, sinceMs }, { ...place, exitIp: address, isp });
  }

  #accept(
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    { ticket, sinceMs }: { ticket: TicketRecord; sinceMs: number },
    origin: Origin,
  ): void {
    const { registry, log, clock } = this.deps;
    let tunnel: Tunnel | null = null;
    upgradeTunnel(request, socket, head, {
      onHello: (mux, hello) => {
        this.#welcome(mux, ticket);
        tunnel = new Tunnel(mux, ticket, origin, { nowMs: clock.nowMs(), sinceMs }, hello.udp ?? true);
        registry.add(tunnel);
        log.info(
          { deviceId: tunnel.deviceId, sessionId: tunnel.sessionId, country: tunnel.country },
          'tunnel_opened',
        );
      },
      onStatus: (_mux, status) => {
        if (tunnel) this.#status(tunnel, status);
      },
      onClose: (_mux, reason) => {
        if (!tunnel) return;
        registry.remove(tunnel);
        log.info({ deviceId: tunnel.deviceId, code: reason.code, byPeer: reason.byPeer }, 'tunnel_closed');
      },
    });
  }

  #welcome(mux: MuxSession, ticket: TicketRecord): void {
    const { policyVersion, termsVersion } = this.deps.versions();
    mux.welcome({
      session_id: ticket.sessionId,
      gateway_id: this.options.gatewayId,
      limits: limitsMessage(this.options.limits),
      policy_version: policyVersion,
      terms_version: termsVersion,
      ping_live_ms: defaultTimings.pingLiveMs,
      ping_idle_ms: defaultTimings.pingIdleMs,
    });
  }

  #status(tunnel: Tunnel, status: Status): void {
    const stateOf = () => `${tunnel.networkType} ${tunnel.status} ${tunnel.hasLeft}`;
    const before = stateOf();
    if (status.network) tunnel.networkType = status.network;
    const usable = status.paused !== true && status.cap_bytes_left !== 0;
    if (tunnel.status !== 'draining') tunnel.status = usable ? 'sharing' : 'paused';
    tunnel.hasLeft ||= tunnel.isAskedToMove && status.paused === true;
    if (before !== stateOf()) this.deps.registry.changed(tunnel);
  }
}

/** A server whose next handshakes follow the certificate. Agents resume by ticket until the next certificate or start. */
function tlsServer(certificate: TlsCertificate): Server {
  const { cert, key } = certificate.current;
  const server = createTlsServer({ cert, key, ...BULK_TLS });
  certificate.onChange(({ cert, key }) => server.setSecureContext({ cert, key, ...BULK_TLS }));
  return server;
}
