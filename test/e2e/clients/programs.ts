import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runProgram } from '../../helpers/programs.js';
import { testCertificate } from '../../helpers/test-certificate.js';
import { type Page, type ProxyAccess, sha256 } from './system.js';

/** How a client goes through the proxy: plain HTTP, CONNECT, SOCKS5 with the name resolved here or at the device. */
export type ProxyKind = 'http' | 'connect' | 'socks5' | 'socks5h';

/** One program and one way through the proxy. */
export interface Way {
  /** As a sentence begins: what a failure is called. */
  client: string;
  /** What must be installed; null: comes with npm. */
  program: string | null;
  /** A command that succeeds when it can be used; left out: it is there. */
  probe?: string[];
  kind: ProxyKind;
  /** Which page it asks for. */
  page: 'http' | 'named' | 'https';
  /** Fetches the page and gives the SHA-256 of what arrived. Rejects when the program failed. */
  fetch(page: Page, proxy: ProxyAccess): Promise<string>;
}

/** Debian's, since its packages for Python are not those of another one on PATH. */
export const PYTHON = '/usr/bin/python3';

async function run(name: string, args: string[], env: Record<string, string> = {}): Promise<string> {
  const { code, out, err } = await runProgram(name, args, { env });
  if (code !== 0) throw new Error(`${name} ended with ${code}: ${err.slice(-1_000)} ${out.slice(0, 200)}`);
  return out;
}

async function inFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'ts-client-'));
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** With the test's certificate in a file. */
const withCertificate = <T>(work: (path: string) => Promise<T>) =>
  inFolder(async (folder) => {
    const path = join(folder, 'ca.pem');
    await writeFile(path, testCertificate.cert);
    return work(path);
  });

const way = (
  client: string,
  program: string,
  kind: ProxyKind,
  page: Way['page'],
  fetch: Way['fetch'],
  probe?: string[],
): Way => ({ client, program, kind, page, fetch, ...(probe ? { probe } : {}) });

function curl(kind: ProxyKind, page: Way['page'], args: string[]): Way {
  const scheme = kind === 'http' || kind === 'connect' ? 'http' : kind;
  return way('curl', 'curl', kind, page, ({ url }, proxy) =>
    withCertificate(async (ca) =>
      sha256(await run('curl', ['-sS', '--cacert', ca, ...args, '-x', proxy.url(scheme), url])),
    ),
  );
}

/** A page through the raw connection that nc and ncat make, HTTP/1.0 written by hand. */
async function byRawConnection(name: string, args: string[], { host, port }: Page): Promise<string> {
  const request = `GET /page HTTP/1.0\r\nHost: ${host}\r\n\r\n`;
  // Its input stays open until the answer has come: some end at the end of their input.
  const script = '{ printf "%s" "$REQUEST"; sleep 1; } | exec "$0" "$@"';
  const out = await run('sh', ['-c', script, name, ...args, host, `${port}`], { REQUEST: request });
  const end = out.indexOf('\r\n\r\n');
  if (!out.startsWith('HTTP/1.1 200 ') || end < 0) throw new Error(`${name}: ${out.slice(0, 300)}`);
  return sha256(out.slice(end + 4));
}

const python = (client: string, kind: ProxyKind, page: Way['page'], program: string, needs: string): Way =>
  way(
    client,
    PYTHON,
    kind,
    page,
    ({ url }, proxy) =>
      withCertificate(async (ca) => {
        const scheme = kind === 'http' || kind === 'connect' ? 'http' : kind;
        return (await run(PYTHON, ['-c', program, url, proxy.url(scheme), ca])).trim();
      }),
    [PYTHON, '-c', `import ${needs}`],
  );

const URLLIB = `
import hashlib, ssl, sys, urllib.request
url, proxy, ca = sys.argv[1:]
opener = urllib.request.build_opener(
    urllib.request.ProxyHandler({'http': proxy, 'https': proxy}),
    urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca)))
print(hashlib.sha256(opener.open(url).read()).hexdigest())
`;
const REQUESTS = `
import hashlib, requests, sys
url, proxy, ca = sys.argv[1:]
with requests.Session() as session:
    session.trust_env = False
    answer = session.get(url, proxies={'http': proxy, 'https': proxy}, verify=ca)
    answer.raise_for_status()
    print(hashlib.sha256(answer.content).hexdigest())
`;
const PYSOCKS = `
import hashlib, socks, sys, urllib.parse
url, proxy = map(urllib.parse.urlsplit, sys.argv[1:3])
with socks.socksocket() as s:
    s.set_proxy(socks.SOCKS5, proxy.hostname, proxy.port, True, proxy.username, proxy.password)
    s.connect((url.hostname, url.port))
    s.sendall(f'GET {url.path} HTTP/1.0\\r\\nHost: {url.netloc}\\r\\n\\r\\n'.encode())
    data = b''
    while piece := s.recv(65536):
        data += piece
print(hashlib.sha256(data.split(b'\\r\\n\\r\\n', 1)[1]).hexdigest())
`;

/** Every program and way. */
export const PROGRAMS: readonly Way[] = [
  curl('http', 'http', []),
  curl('http', 'named', []),
  curl('connect', 'http', ['-p']),
  curl('connect', 'https', []),
  curl('connect', 'named', ['-p', '--proxy-anyauth']),
  curl('socks5', 'http', []),
  curl('socks5h', 'named', []),
  curl('socks5h', 'https', []),
  ...(['http', 'named', 'https'] as const).map((page) =>
    way('wget', 'wget', page === 'https' ? 'connect' : 'http', page, ({ url }, proxy) =>
      withCertificate(async (ca) => {
        const env = { http_proxy: proxy.url('http'), https_proxy: proxy.url('http') };
        return sha256(await run('wget', ['-q', '-t', '1', `--ca-certificate=${ca}`, '-O', '-', url], env));
      }),
    ),
  ),
  ...(['http', 'https'] as const).map((page) =>
    way('aria2c', 'aria2c', page === 'https' ? 'connect' : 'http', page, ({ url }, proxy) =>
      withCertificate((ca) =>
        inFolder(async (folder) => {
          await run('aria2c', [
            ...['-q', '--no-conf', '--max-tries=1', '-d', folder, '-o', 'page', `--ca-certificate=${ca}`],
            ...[`--all-proxy=http://${proxy.host}:${proxy.port}`, `--all-proxy-user=${proxy.username}`],
            ...[`--all-proxy-passwd=${proxy.password}`, url],
          ]);
          return sha256(await readFile(join(folder, 'page')));
        }),
      ),
    ),
  ),
  way('ncat by CONNECT', 'ncat', 'connect', 'http', (page, { host, port, username, password }) => {
    const auth = ['--proxy-type', 'http', '--proxy-auth', `${username}:${password}`];
    return byRawConnection('ncat', ['--proxy', `${host}:${port}`, ...auth], page);
  }),
  way('ncat by SOCKS5', 'ncat', 'socks5', 'http', (page, { host, port, username, password }) => {
    const auth = ['--proxy-type', 'socks5', '--proxy-auth', `${username}:${password}`];
    return byRawConnection('ncat', ['--proxy', `${host}:${port}`, ...auth], page);
  }),
  way('proxychains4 with curl', 'proxychains4', 'socks5h', 'named', ({ url }, proxy) =>
    inFolder(async (folder) => {
      const config = join(folder, 'proxychains.conf');
      const { host, port, username, password } = proxy;
      await writeFile(
        config,
        `strict_chain\nproxy_dns\nquiet_mode\n[ProxyList]\nsocks5 ${host} ${port} ${username} ${password}\n`,
      );
      return sha256(await run('proxychains4', ['-q', '-f', config, 'curl', '-sS', url]));
    }),
  ),
  way('proxychains4 with curl, by HTTP', 'proxychains4', 'connect', 'http', ({ url }, proxy) =>
    inFolder(async (folder) => {
      const config = join(folder, 'proxychains.conf');
      const { host, port, username, password } = proxy;
      await writeFile(config, `strict_chain\n[ProxyList]\nhttp ${host} ${port} ${username} ${password}\n`);
      return sha256(await run('proxychains4', ['-q', '-f', config, 'curl', '-sS', url]));
    }),
  ),
  python('Python urllib', 'http', 'http', URLLIB, 'ssl'),
  python('Python urllib', 'connect', 'https', URLLIB, 'ssl'),
  python('Python requests', 'http', 'named', REQUESTS, 'requests'),
  python('Python requests', 'connect', 'https', REQUESTS, 'requests'),
  python('Python requests with PySocks', 'socks5', 'http', REQUESTS, 'requests, socks'),
  python('Python requests with PySocks', 'socks5h', 'https', REQUESTS, 'requests, socks'),
  python('PySocks', 'socks5h', 'named', PYSOCKS, 'socks'),
];

/** Of the netcats it is OpenBSD's that knows proxies. */
const HAS_PROXIES = ['sh', '-c', "nc -h 2>&1 | grep -q -e '-X'"];

/** netcat-openbsd has no password: only for an allowlisted address. */
export const WITHOUT_LOGIN: readonly Way[] = [
  way(
    'nc -X connect',
    'nc',
    'connect',
    'http',
    (page, { host, port }) => byRawConnection('nc', ['-X', 'connect', '-x', `${host}:${port}`], page),
    HAS_PROXIES,
  ),
  way(
    'nc -X 5',
    'nc',
    'socks5h',
    'named',
    (page, { host, port }) => byRawConnection('nc', ['-X', '5', '-x', `${host}:${port}`], page),
    HAS_PROXIES,
  ),
  ...(['http', 'socks5h'] as const).map((kind) =>
    way(`curl without a login, ${kind}`, 'curl', kind, 'named', async ({ url }, { host, port }) =>
      sha256(await run('curl', ['-sS', '-x', `${kind}://${host}:${port}`, url])),
    ),
  ),
];
