/** Several redis-servers that belong together: a Cluster, and a master with a replica that a sentinel watches. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Command, Redis } from 'ioredis';
import {
  type ServerProcess,
  signalProcess,
  startServerProcess,
} from '../../deploy/standalone/services/server-process.js';
import { freePort } from './services.js';

/** All of them are asked for it. */
const PASSWORD = 'w6Tz/3+p=x';
const SLOTS = 16_384;
/** After which a node or master that does not answer is given up, ms. */
const DOWN_AFTER_MS = 500;

export interface RedisNode {
  readonly port: number;
  /** Straight to it. */
  readonly redis: Redis;
  /** kill -9. */
  kill(): Promise<void>;
  /** Starts it again on its port: empty, with what it knows of its cluster. */
  start(): Promise<void>;
}

export interface RedisGroup {
  /** `TS_REDIS_URL` of the group. */
  readonly url: string;
  readonly nodes: readonly RedisNode[];
  /** Of a cluster: the node whose the key is, as the nodes see it now. */
  masterOf(key: string): Promise<RedisNode>;
  stop(): Promise<void>;
}

class Node implements RedisNode {
  readonly redis: Redis;
  #server: ServerProcess | null = null;

  constructor(
    readonly port: number,
    private readonly command: readonly string[],
    password: string | null,
  ) {
    this.redis = new Redis({
      port,
      ...(password === null ? {} : { password }),
      lazyConnect: true,
      retryStrategy: () => 20,
      maxRetriesPerRequest: null,
    });
    this.redis.on('error', () => {}); // it starts, or was killed
  }

  async start(): Promise<void> {
    this.#server = await startServerProcess(this.command, { stopSignal: 'KILL' });
    await this.redis.ping();
  }

  async kill(): Promise<void> {
    const server = this.#server;
    if (!server?.running) return;
    signalProcess(server.pid, 'SIGKILL');
    await server.exited;
  }

  async stop(): Promise<void> {
    this.redis.disconnect();
    await this.#server?.stop();
  }
}

class Group implements RedisGroup {
  url = '';
  readonly nodes: Node[] = [];

  private constructor(readonly folder: string) {}

  static async make(): Promise<Group> {
    return new Group(await mkdtemp(join(tmpdir(), 'ts-redis-')));
  }

  async add(settings: readonly string[]): Promise<Node> {
    const port = await freePort();
    const dir = join(this.folder, String(port));
    await mkdir(dir);
    const node = new Node(
      port,
      [
        ...['redis-server', '--port', String(port), '--bind', '127.0.0.1', '--dir', dir],
        ...['--save', '', '--appendonly', 'no', '--repl-diskless-sync-delay', '0'],
        ...['--requirepass', PASSWORD, '--masterauth', PASSWORD, ...settings],
      ],
      PASSWORD,
    );
    this.nodes.push(node);
    return node;
  }

  async addSentinel(master: number): Promise<number> {
    const port = await freePort();
    const path = join(this.folder, 'sentinel.conf');
    await writeFile(
      path,
      [
        `port ${port}`,
        'bind 127.0.0.1',
        `dir ${this.folder}`,
        `sentinel monitor main 127.0.0.1 ${master} 1`,
        `sentinel auth-pass main ${PASSWORD}`,
        `sentinel down-after-milliseconds main ${DOWN_AFTER_MS}`,
        'sentinel failover-timeout main 3000',
      ].join('\n'),
    );
    const node = new Node(port, ['redis-server', path, '--sentinel'], null);
    this.nodes.push(node);
    await node.start();
    await until(async () => {
      const replicas = (await node.redis.call('SENTINEL', 'replicas', 'main')) as string[][];
      return replicas.length === 1 && replicas[0]?.[(replicas[0]?.indexOf('flags') ?? 0) + 1] === 'slave';
    }, 'the sentinel knows the replica');
    return port;
  }

  async masterOf(key: string): Promise<RedisNode> {
    const slot = new Command('get', [key]).getSlot() as number;
    for (const { redis } of this.nodes) {
      if (redis.status !== 'ready') continue;
      const ranges = (await redis.cluster('SLOTS')) as unknown as Array<[number, number, [string, number]]>;
      const range = ranges.find(([from, to]) => from <= slot && slot <= to);
      const node = this.nodes.find(({ port }) => port === range?.[2][1]);
      if (node) return node;
    }
    throw new Error(`nobody has ${key}`);
  }

  async stop(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.stop()));
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** Three masters with a third of the slots each, and a replica of the one that has `replicated`. */
export async function startRedisCluster(replicated: string): Promise<RedisGroup> {
  const group = await Group.make();
  try {
    const busPorts: number[] = [];
    for (let n = 0; n < 4; n++) {
      busPorts.push(await freePort());
      await group.add([
        ...['--cluster-enabled', 'yes', '--cluster-node-timeout', String(DOWN_AFTER_MS)],
        ...['--cluster-port', String(busPorts[n]), '--cluster-require-full-coverage', 'no'],
        ...['--cluster-replica-validity-factor', '0'],
      ]);
    }
    const { nodes } = group;
    await Promise.all(nodes.map((node) => node.start()));
    const [first, second, third, replica] = nodes as [Node, Node, Node, Node];
    for (const [n, node] of [first, second, third].entries()) {
      const [from, to] = [Math.round((n * SLOTS) / 3), Math.round(((n + 1) * SLOTS) / 3) - 1];
      await node.redis.call('CLUSTER', 'ADDSLOTSRANGE', from, to);
      await node.redis.call('CLUSTER', 'SET-CONFIG-EPOCH', n + 1);
    }
    for (const [n, { port }] of nodes.entries())
      if (n > 0) await first.redis.call('CLUSTER', 'MEET', '127.0.0.1', port, busPorts[n] as number);
    await until(async () => {
      const infos = await Promise.all(nodes.map(({ redis }) => redis.cluster('INFO')));
      return infos.every((info) => /cluster_state:ok/.test(info) && /cluster_known_nodes:4/.test(info));
    }, 'the nodes know each other');
    const master = await group.masterOf(replicated);
    const id = await (master as Node).redis.cluster('MYID');
    // It may still be hearing of the master.
    await until(
      () =>
        replica.redis.call('CLUSTER', 'REPLICATE', id).then(
          () => true,
          () => false,
        ),
      'it replicates',
    );
    await untilInSync(replica);
    group.url = `redis+cluster://:${encodeURIComponent(PASSWORD)}@127.0.0.1:${second.port},127.0.0.1:${third.port}`;
    return group;
  } catch (error) {
    await group.stop();
    throw error;
  }
}

/** A master, its replica and a sentinel that decides alone; the URL names another sentinel first, which is not there. */
export async function startRedisWithSentinel(): Promise<RedisGroup> {
  const group = await Group.make();
  try {
    const master = await group.add([]);
    const replica = await group.add(['--replicaof', `127.0.0.1 ${master.port}`]);
    await Promise.all([master.start(), replica.start()]);
    await untilInSync(replica);
    const sentinel = await group.addSentinel(master.port);
    const hosts = `127.0.0.1:${await freePort()},127.0.0.1:${sentinel}`;
    group.url = `redis+sentinel://:${encodeURIComponent(PASSWORD)}@${hosts}/main/1`;
    return group;
  } catch (error) {
    await group.stop();
    throw error;
  }
}

const untilInSync = (replica: Node) =>
  until(
    async () => /master_link_status:up/.test(await replica.redis.info('replication')),
    'the replica is in step',
  );

async function until(probe: () => Promise<boolean>, what: string): Promise<void> {
  for (let tries = 0; tries < 1_500; tries++) {
    if (await probe()) return;
    await delay(20);
  }
  throw new Error(`never: ${what}`);
}
