import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Test } from 'tap';
import { type Hello, limitsMessage, type Welcome } from '../../../agent-protocol/control.js';
import { Heartbeat } from '../../../agent-protocol/heartbeat.js';
import { defaultLimits, type SessionLimits } from '../../../agent-protocol/limits.js';
import type { CloseReason, MuxSession, SessionHandler } from '../../../agent-protocol/session.js';
import { connectTunnel, type TunnelOptions, upgradeTunnel } from '../../../agent-protocol/websocket.js';

export const hello: Hello = {
  agent: 'test',
  agent_version: '1.0.0',
  os: 'linux',
  terms_version: '2024-01',
  versions: [1],
};

export function welcome(limits: Partial<SessionLimits> = {}, pings: Partial<Welcome> = {}): Welcome {
  return {
    session_id: 'session-1',
    gateway_id: 'gateway-1',
    limits: limitsMessage({ ...defaultLimits, ...limits }),
    policy_version: '7',
    terms_version: '2024-01',
    ping_live_ms: 5_000,
    ping_idle_ms: 25_000,
    ...pings,
  };
}

/** A SessionHandler whose end can be awaited. */
export class Watched implements SessionHandler {
  readonly closed: Promise<CloseReason>;
  closes = 0;
  #resolve!: (reason: CloseReason) => void;
  onHello?: SessionHandler['onHello'];
  onWelcome?: SessionHandler['onWelcome'];
  onStatus?: SessionHandler['onStatus'];
  onDrain?: SessionHandler['onDrain'];
  onOpen?: SessionHandler['onOpen'];
  constructor(handlers: Omit<SessionHandler, 'onClose'> = {}) {
    Object.assign(this, handlers);
    this.closed = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }
  onClose(_session: MuxSession, reason: CloseReason): void {
    this.closes++;
    this.#resolve(reason);
  }
}

/** A gateway's tunnel port on loopback; every upgrade gets a session with `handlerOf()`. */
export async function serveTunnels(
  t: Test,
  handlerOf: () => SessionHandler,
  options: TunnelOptions = {},
): Promise<{ server: Server; port: number; url: string; sessions: MuxSession[] }> {
  const sessions: MuxSession[] = [];
  const server = createServer();
  server.on('upgrade', (request, socket, head) => {
    const session = upgradeTunnel(request, socket, head, handlerOf(), options);
    if (session !== null) sessions.push(session);
  });
  server.listen(0, '127.0.0.1');
  t.teardown(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return { server, port, url: `ws://127.0.0.1:${port}/tunnel`, sessions };
}

export interface Tunnel {
  gateway: MuxSession;
  agent: MuxSession;
  gatewayHandler: Watched;
  agentHandler: Watched;
}

/** Both ends of an open tunnel over a real socket. */
export async function openTunnel(
  t: Test,
  options: {
    gateway?: Omit<SessionHandler, 'onClose'>;
    agent?: Omit<SessionHandler, 'onClose'>;
    limits?: Partial<SessionLimits>;
    pings?: Partial<Welcome>;
    tunnel?: TunnelOptions;
    /** Something between agent and gateway: gets the gateway's port, gives the port to connect to. */
    via?: (port: number) => Promise<number>;
  } = {},
): Promise<Tunnel> {
  const gatewayHandler = new Watched({
    ...options.gateway,
    onHello: (session) => session.welcome(welcome(options.limits, options.pings)),
  });
  const { port, sessions } = await serveTunnels(t, () => gatewayHandler, options.tunnel);
  const url = `ws://127.0.0.1:${options.via ? await options.via(port) : port}/tunnel`;
  let welcomed!: () => void;
  const open = new Promise<void>((resolve) => {
    welcomed = resolve;
  });
  const agentHandler = new Watched({ ...options.agent, onWelcome: () => welcomed() });
  const agent = await connectTunnel({ url, ticket: 'ticket', ...options.tunnel }, agentHandler);
  t.teardown(() => agent.destroy());
  agent.hello(hello);
  await open;
  return { gateway: sessions[0] as MuxSession, agent, gatewayHandler, agentHandler };
}

/** A heartbeat fast enough for tests. */
export const fastHeartbeat = (): Heartbeat => new Heartbeat(20);
