import { type Setting, secret } from '../runtime/environment.js';

/** A server to ask first. */
export interface RedisHost {
  host: string;
  port: number;
}

interface Credentials {
  username?: string;
  password?: string;
  /** TLS to every server named or found. */
  tls: boolean;
}

/** Where the live state is. */
export type RedisAddress =
  /** One server; ioredis reads the URL. */
  | { kind: 'single'; url: string }
  /** A server with replicas; sentinels say which one takes writes. */
  | ({
      kind: 'sentinel';
      sentinels: RedisHost[];
      /** As the sentinels name the group. */
      master: string;
      database: number;
      /** For the sentinels, which have none of the servers' own. */
      sentinelUsername?: string;
      sentinelPassword?: string;
    } & Credentials)
  /** Redis Cluster; the nodes named say which others there are. */
  | ({ kind: 'cluster'; nodes: RedisHost[] } & Credentials);

/** A text that is no URL of Redis; the message says what is expected and quotes nothing, since it may hold a password. */
export class BadRedisUrlError extends Error {
  readonly code = 'BAD_REDIS_URL';
}

const DEFAULT_PORTS = { sentinel: 26_379, cluster: 6_379 };
/** Scheme, user and password, hosts, path, query. */
const MANY = /^(rediss?)\+(sentinel|cluster):\/\/(?:([^@/?#]*)@)?([^@/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/;
const HOST = /^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?$/;

/**
 * Reads `redis://…`, `rediss://…` or a path of a Unix socket (one server), `redis+sentinel://[user:password@]h1:p1,h2:p2/NAME[/DB]`
 * (or `/[DB]?master=NAME`, with `sentinelUsername=` and `sentinelPassword=`), `redis+cluster://[user:password@]h1:p1,h2:p2`;
 * `rediss+…` for TLS. Throws BadRedisUrlError.
 */
export function parseRedisUrl(text: string): RedisAddress {
  if (/^(\/|rediss?:\/\/.)/.test(text)) return { kind: 'single', url: text };
  const parts = MANY.exec(text);
  if (parts === null)
    throw new BadRedisUrlError(
      'redis://host:port, rediss://…, redis+sentinel://host:port,host:port/name or redis+cluster://host:port,host:port',
    );
  const [, scheme, kind, login, hosts = '', path = '', query = ''] = parts;
  const credentials = { ...readLogin(login), tls: scheme === 'rediss' };
  const named = readHosts(hosts, DEFAULT_PORTS[kind as keyof typeof DEFAULT_PORTS]);
  const given = new URLSearchParams(query);
  const words = path.split('/').filter(Boolean).map(decoded);
  if (kind === 'cluster') {
    if (given.size > 0 || words.some((word) => word !== '0'))
      throw new BadRedisUrlError('redis+cluster://host:port,host:port alone: a cluster has one database');
    return { kind: 'cluster', nodes: named, ...credentials };
  }
  const { name, database } = readGroup(words, given);
  const sentinelUsername = given.get('sentinelUsername');
  const sentinelPassword = given.get('sentinelPassword');
  for (const key of given.keys())
    if (!['master', 'sentinelUsername', 'sentinelPassword'].includes(key))
      throw new BadRedisUrlError(
        'without other parameters than master, sentinelUsername and sentinelPassword',
      );
  return {
    kind: 'sentinel',
    sentinels: named,
    master: name,
    database,
    ...credentials,
    ...(sentinelUsername ? { sentinelUsername } : {}),
    ...(sentinelPassword ? { sentinelPassword } : {}),
  };
}

function readHosts(text: string, defaultPort: number): RedisHost[] {
  return text.split(',').map((item) => {
    const parts = HOST.exec(item.trim());
    const port = Number(parts?.[2] ?? defaultPort);
    if (parts === null || port < 1 || port > 65_535)
      throw new BadRedisUrlError('with hosts as host:port, separated by commas, ports from 1 to 65535');
    return { host: (parts[1] as string).replace(/^\[|\]$/g, ''), port };
  });
}

function readLogin(login: string | undefined): { username?: string; password?: string } {
  if (login === undefined) return {};
  const at = login.indexOf(':');
  const username = decoded(at < 0 ? login : login.slice(0, at));
  const password = at < 0 ? '' : decoded(login.slice(at + 1));
  return { ...(username ? { username } : {}), ...(password ? { password } : {}) };
}

/** The name of the servers' group and the database's number, from path and parameters. */
function readGroup(words: readonly string[], given: URLSearchParams): { name: string; database: number } {
  const names = [...given.getAll('master'), ...words.filter((word) => !/^\d+$/.test(word))];
  const numbers = words.filter((word) => /^\d+$/.test(word));
  const [name] = names;
  if (!name || names.length > 1)
    throw new BadRedisUrlError("with the name of the sentinels' group once, as /name or ?master=name");
  if (numbers.length > 1 || Number(numbers[0] ?? 0) > 1_000_000)
    throw new BadRedisUrlError('with one number of a database at most');
  return { name, database: Number(numbers[0] ?? 0) };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new BadRedisUrlError('with %XX for special characters in names and passwords');
  }
}

/** `TS_REDIS_URL`, checked. */
export const redisUrl: Setting<string> = {
  ...secret(
    'TS_REDIS_URL',
    'the live state: redis://host:port, redis+sentinel://host:port,host:port/name, redis+cluster://host:port,host:port; ' +
      'rediss… for TLS',
    'redis://127.0.0.1:6379',
  ),
  takes: 'URL of Redis',
  parse(value) {
    parseRedisUrl(value);
    return value;
  },
};
