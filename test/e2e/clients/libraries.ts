import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import axios from 'axios';
import got from 'got';
import { HttpsProxyAgent } from 'https-proxy-agent';
import { SocksProxyAgent } from 'socks-proxy-agent';
import { ProxyAgent, fetch as undiciFetch } from 'undici';
import { WebSocket } from 'ws';
import { testCertificate } from '../../helpers/test-certificate.js';
import type { ProxyKind, Way } from './programs.js';
import { type Page, type ProxyAccess, sha256 } from './system.js';

const ca = testCertificate.cert;

type Agent = HttpsProxyAgent<string> | SocksProxyAgent;

/**
 * The agent of a kind of proxy; to be destroyed by who asked for it. It keeps connections, so that the client ends them:
 * a server that ends a TLS connection first no longer reads the client's last alert, which the client has sent, though.
 */
export const agentFor = (kind: ProxyKind, proxy: ProxyAccess): Agent =>
  kind === 'connect'
    ? new HttpsProxyAgent(proxy.url('http'), { keepAlive: true })
    : new SocksProxyAgent(proxy.url(kind), { keepAlive: true });

/** One library and way; its agent is gone when it is done. */
const withAgent = (
  client: string,
  kind: ProxyKind,
  page: Way['page'],
  fetch: (page: Page, agent: Agent) => Promise<string | Buffer>,
): Way => ({
  client,
  program: null,
  kind,
  page,
  fetch: async (target, proxy) => {
    const agent = agentFor(kind, proxy);
    try {
      return sha256(await fetch(target, agent));
    } finally {
      agent.destroy();
    }
  },
});

async function byNode({ url }: Page, agent: Agent): Promise<Buffer> {
  const request = url.startsWith('https:') ? httpsRequest(url, { agent, ca }) : httpRequest(url, { agent });
  request.end();
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

const byGot = async ({ url }: Page, agent: Agent) =>
  (
    await got(url, {
      agent: { http: agent, https: agent },
      https: { certificateAuthority: ca },
      retry: { limit: 0 },
    })
  ).rawBody;

const byAxios = async ({ url }: Page, agent: Agent) =>
  Buffer.from(
    (
      await axios.get<ArrayBuffer>(url, {
        httpAgent: agent,
        httpsAgent: agent,
        proxy: false,
        responseType: 'arraybuffer',
      })
    ).data,
  );

function undici(kind: 'http' | 'connect', page: Way['page']): Way {
  return {
    client: 'undici ProxyAgent',
    program: null,
    kind,
    page,
    fetch: async ({ url }, { host, port, username, password }) => {
      const dispatcher = new ProxyAgent({
        uri: `http://${host}:${port}`,
        token: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`,
        proxyTunnel: kind === 'connect',
        requestTls: { ca },
      });
      try {
        return sha256(await (await undiciFetch(url, { dispatcher })).text());
      } finally {
        await dispatcher.close();
      }
    },
  };
}

/** Every library and way. */
export const LIBRARIES: readonly Way[] = [
  undici('http', 'named'),
  undici('connect', 'http'),
  undici('connect', 'https'),
  ...(['connect', 'socks5', 'socks5h'] as const).flatMap((kind) => [
    withAgent('node:http', kind, 'named', byNode),
    withAgent('node:https', kind, 'https', byNode),
    withAgent('got', kind, 'http', byGot),
    withAgent('got', kind, 'https', byGot),
    withAgent('axios with an agent', kind, 'named', byAxios),
  ]),
  {
    client: 'axios by its own proxy option',
    program: null,
    kind: 'http',
    page: 'named',
    fetch: async ({ url }, { host, port, username, password }) => {
      const { data } = await axios.get<ArrayBuffer>(url, {
        proxy: { protocol: 'http', host, port, auth: { username, password } },
        responseType: 'arraybuffer',
      });
      return sha256(Buffer.from(data));
    },
  },
];

/** A WebSocket through the proxy: sends each message and waits for it to come back. Closes. */
export async function echoByWebSocket(
  url: string,
  agent: Agent,
  messages: readonly Buffer[],
): Promise<Buffer[]> {
  const socket = new WebSocket(url, { agent, perMessageDeflate: false, ca });
  try {
    await once(socket, 'open');
    const got: Buffer[] = [];
    for (const message of messages) {
      const answer = once(socket, 'message') as Promise<[Buffer]>;
      socket.send(message);
      got.push((await answer)[0]);
    }
    const closed = once(socket, 'close');
    socket.close();
    await closed;
    return got;
  } finally {
    agent.destroy();
  }
}
