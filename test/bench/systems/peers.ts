/** What others offer for the same job or a part of it, each with settings of its own in a temporary folder. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { userInfo } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { freePort } from '../../../deploy/standalone/services/free-port.js';
import { startServerProcess } from '../../../deploy/standalone/services/server-process.js';
import { processTree } from '../processes.js';
import type { Endpoint } from '../protocol.js';
import { startRole } from '../role.js';
import {
  localRoute,
  portOpen,
  program,
  type RunningSystem,
  type SystemUnderTest,
  versionOf,
  workFolder,
} from './system.js';

/** Nothing in between: what client, origin and the kernel can do. */
export const direct: SystemUnderTest = {
  id: 'direct',
  async start(origin) {
    return {
      label: 'loopback, no relay',
      route: { kind: 'direct', ...origin, username: '', password: '' },
      gatewayPids: () => [],
      agentPids: () => [],
      stop: async () => {},
    };
  },
};

/** The same job with encryption: a device dials out, SOCKS at the server's end comes back through the tunnel. */
export const openssh: SystemUnderTest = {
  id: 'openssh',
  start: () => startOpenssh(async (port) => port),
};

/** `dialled` says which port the device's end dials instead of sshd's. */
export async function startOpenssh(
  dialled: (port: number) => Promise<number>,
): Promise<RunningSystem | { absent: string }> {
  const sshd = program('sshd');
  const ssh = program('ssh');
  const keygen = program('ssh-keygen');
  if (!sshd || !ssh || !keygen) return { absent: 'sshd, ssh and ssh-keygen are not installed' };
  const folder = await workFolder();
  const file = (name: string) => join(folder.path, name);
  for (const name of ['host', 'user'])
    execFileSync(keygen, ['-q', '-t', 'ed25519', '-N', '', '-f', file(name)]);
  const sshdPort = await freePort();
  const socksPort = await freePort();
  const cipher = 'aes128-gcm@openssh.com';
  const settings = [
    `Port ${sshdPort}`,
    'ListenAddress 127.0.0.1',
    `HostKey ${file('host')}`,
    `AuthorizedKeysFile ${file('user.pub')}`,
    'PidFile none',
    'UsePAM no',
    'StrictModes no', // the key lies in a temporary folder
    'PermitRootLogin prohibit-password',
    'PasswordAuthentication no',
    `Ciphers ${cipher}`,
    'LogLevel ERROR',
  ];
  await writeFile(file('sshd_config'), `${settings.join('\n')}\n`);
  const separation = '/run/sshd'; // Debian's sshd insists on it; its service usually makes it
  const made = process.getuid?.() === 0 && !existsSync(separation);
  if (made) {
    mkdirSync(separation, { mode: 0o755 });
    process.once('exit', () => rmSync(separation, { recursive: true, force: true }));
  }
  const server = await startServerProcess([sshd, '-D', '-e', '-f', file('sshd_config')], {
    stopSignal: 'TERM',
  });
  const options = {
    BatchMode: 'yes',
    StrictHostKeyChecking: 'no',
    UserKnownHostsFile: '/dev/null',
    IdentitiesOnly: 'yes',
    ExitOnForwardFailure: 'yes',
    LogLevel: 'ERROR',
  };
  const words = Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  await portOpen(sshdPort, server);
  // -tt: a terminal makes the session interactive, and that sets TCP_NODELAY on the tunnel
  const where = ['-p', String(await dialled(sshdPort)), `${userInfo().username}@127.0.0.1`, 'sleep 100000'];
  const client = await startServerProcess(
    [
      ssh,
      '-F',
      'none',
      '-tt',
      '-i',
      file('user'),
      '-c',
      cipher,
      '-R',
      `127.0.0.1:${socksPort}`,
      ...words,
      ...where,
    ],
    { stopSignal: 'TERM' },
  );
  await portOpen(socksPort, client);
  return {
    label: `OpenSSH ${versionOf(ssh, ['-V'])} \`-tt -R\` SOCKS, aes128-gcm (same job, encrypted)`,
    route: localRoute('socks5', socksPort),
    gatewayPids: () => processTree(server.pid),
    agentPids: () => [client.pid],
    async stop() {
      await client.stop();
      await server.stop();
      await folder.remove();
    },
  };
}

/** A plain forward to the origin, no SOCKS and no tunnel: the fastest relay that anyone runs. */
function haproxy(id: string, splice: boolean): SystemUnderTest {
  return {
    id,
    async start(origin: Endpoint) {
      const command = program('haproxy');
      if (!command) return { absent: 'haproxy is not installed' };
      const folder = await workFolder();
      const port = await freePort();
      const config = join(folder.path, 'haproxy.cfg');
      await writeFile(
        config,
        `global
  maxconn 4000
  nbthread 1
defaults
  mode tcp
  ${splice ? 'option splice-auto' : 'no option splice-auto'}
  timeout connect 10s
  timeout client 1h
  timeout server 1h
listen relay
  bind 127.0.0.1:${port}
  server origin ${origin.host}:${origin.port}
`,
      );
      const server = await startServerProcess([command, '-db', '-f', config], { stopSignal: 'TERM' });
      await portOpen(port, server);
      return {
        label: `HAProxy ${versionOf(command, ['-v'])}${splice ? ' with splice' : ''} (plain forward: no SOCKS, no tunnel)`,
        route: localRoute('direct', port),
        gatewayPids: () => processTree(server.pid),
        agentPids: () => [],
        async stop() {
          await server.stop();
          await folder.remove();
        },
      };
    },
  };
}

/** A SOCKS server that dials by itself: no tunnel. */
export const dante: SystemUnderTest = {
  id: 'dante',
  async start() {
    const command = program('danted') ?? program('sockd');
    if (!command) return { absent: 'dante is not installed' };
    if (process.getuid?.() !== 0) return { absent: 'dante wants to be started by root' };
    const folder = await workFolder();
    const port = await freePort();
    const config = join(folder.path, 'danted.conf');
    await writeFile(
      config,
      `errorlog: stderr
internal: 127.0.0.1 port = ${port}
external: 127.0.0.1
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: nobody
client pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }
socks pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }
`,
    );
    const server = await startServerProcess([command, '-f', config, '-p', join(folder.path, 'pid')], {
      stopSignal: 'TERM',
    });
    await portOpen(port, server);
    return {
      label: `dante ${versionOf(command, ['-v'])} (SOCKS, no tunnel)`,
      route: localRoute('socks5', port),
      gatewayPids: () => processTree(server.pid),
      agentPids: () => [],
      async stop() {
        await server.stop();
        await folder.remove();
      },
    };
  },
};

/** The smallest SOCKS server, a thread a connection: no tunnel. */
export const microsocks: SystemUnderTest = {
  id: 'microsocks',
  async start() {
    const command = program('microsocks');
    if (!command) return { absent: 'microsocks is not installed' };
    const port = await freePort();
    const credentials = { username: 'bench', password: 'bench' };
    const words = ['-i', '127.0.0.1', '-p', String(port), '-u', 'bench', '-P', 'bench'];
    const server = await startServerProcess([command, ...words], { stopSignal: 'TERM' });
    await portOpen(port, server);
    return {
      label: 'microsocks (SOCKS with password, no tunnel)',
      route: { ...localRoute('socks5', port), ...credentials },
      gatewayPids: () => [server.pid],
      agentPids: () => [],
      stop: () => server.stop(),
    };
  },
};

/** The common proxy of the Node world: HTTP CONNECT, no tunnel. */
export const proxyChain: SystemUnderTest = {
  id: 'proxy-chain',
  async start() {
    let version: string;
    try {
      version = packageVersion('proxy-chain');
    } catch {
      return { absent: 'proxy-chain is not installed (a development dependency)' };
    }
    const role = startRole<{ listen(): Promise<number> }>('proxy-chain');
    const port = await role.call.listen();
    return {
      label: `proxy-chain ${version} (HTTP CONNECT, no tunnel)`,
      route: localRoute('connect', port),
      gatewayPids: () => [role.pid],
      agentPids: () => [],
      stop: () => role.stop(),
    };
  },
};

/** The version of an installed package; throws when it is not installed. */
function packageVersion(name: string): string {
  let folder = dirname(createRequire(import.meta.url).resolve(name));
  while (basename(folder) !== name) folder = dirname(folder);
  const { version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { version: string };
  return version;
}

export const peers: readonly SystemUnderTest[] = [
  direct,
  openssh,
  haproxy('haproxy-splice', true),
  haproxy('haproxy', false),
  dante,
  microsocks,
  proxyChain,
];
