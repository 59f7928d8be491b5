import { createServer } from 'node:https';
import t, { type Test } from 'tap';
import { LINK_VERSIONS } from '../../../agent-protocol/frame.js';
import { defaultLimits, TUNNEL_DATAGRAM_BYTES_MAX } from '../../../agent-protocol/limits.js';
import { listen } from '../../../agent-protocol/raw-server.js';
import type { MuxStream, StreamHandler } from '../../../agent-protocol/stream.js';
import { connectTunnel, upgradeTunnel } from '../../../agent-protocol/websocket.js';
import type { ProxyFailure } from '../../../gateway/errors.js';
import { openIdentity, vouchesFor } from '../../../gateway/links/identity.js';
import { LinkClient } from '../../../gateway/links/link-client.js';
import { LinkServer } from '../../../gateway/links/link-server.js';
import {
  LinkedPipeline,
  type LinkedPipelineDeps,
  type OwnPipeline,
} from '../../../gateway/links/linked-pipeline.js';
import {
  decodeConnectAnswer,
  decodeEchoAnswer,
  decodeRequest,
  encodeAnswer,
  encodeRequest,
  type LinkRequest,
} from '../../../gateway/links/messages.js';
import { PeerDirectory } from '../../../gateway/links/peer-directory.js';
import {
  type LinkConfig,
  linkPlaceOf,
  linkPortsOfWorker,
  problemsOfLinks,
} from '../../../gateway/links/settings.js';
import type { Attempts } from '../../../gateway/listeners/connect-pipeline.js';
import { connectLive } from '../../../gateway/live/connection.js';
import { liveKeys, PRESENCE_TTL_MS, SUMMARY_KEPT_MS } from '../../../gateway/live/keys.js';
import { type GatewaySummary, readSummaries, writeSummary } from '../../../gateway/live/summaries.js';
import { ManualClock, systemClock } from '../../../gateway/runtime/clock.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { startLinkCa } from '../../helpers/link-certificates.js';
import { startRedis } from '../../helpers/services.js';

const LOGIN = { username: 'acme-cc-us', password: 'secret', clientAddress: '203.0.113.7' };
const HELLO = { agent: 'test', agent_version: '1', os: 'linux', terms_version: '' };
const SPOKEN = { versions: LINK_VERSIONS, datagramBytesMax: TUNNEL_DATAGRAM_BYTES_MAX };
const EXIT = { id: 'abc', country: 'US', session: null };

t.test('requests and answers are read as version 1 writes them, and nothing else', async (t) => {
  const request: LinkRequest = {
    asks: { connect: { host: 'a.b', port: 443 } },
    login: LOGIN,
    devicesLeft: 2,
    stays: true,
  };
  t.same(decodeRequest(encodeRequest(request), 1), request);
  t.ok(decodeRequest(JSON.stringify({ ...request, later: [1] }), 1), 'a newer one may say more');
  for (const bad of [
    'no JSON',
    '{}',
    JSON.stringify({ ...request, asks: {} }),
    JSON.stringify({ ...request, asks: { connect: { host: 'a.b', port: 0 } } }),
    JSON.stringify({ ...request, login: { ...LOGIN, password: 1 } }),
    JSON.stringify({ ...request, devicesLeft: -1 }),
  ])
    t.equal(decodeRequest(bad, 2), null, bad);
  const associate = encodeRequest({ asks: { associate: true }, login: LOGIN });
  t.same(decodeRequest(associate, 2)?.asks, { associate: true });
  t.equal(decodeRequest(associate, 1), null, 'version 1 has no associations');
  const answer = (value: object) =>
    encodeAnswer(value as { ok: true })
      .toString()
      .slice(0, -1);
  t.same(decodeConnectAnswer(answer({ ok: true, exit: EXIT })), { ok: true, exit: EXIT });
  t.equal(decodeConnectAnswer(answer({ ok: true, exit: { id: 1 } })), null);
  t.same(decodeEchoAnswer(answer({ ok: true, exit: EXIT, city: null, asn: 1, bytesLeft: 5 })), {
    ok: true,
    exit: EXIT,
    city: null,
    asn: 1,
    bytesLeft: 5,
  });
  const refusal = {
    ok: false,
    code: 'NO_PEER',
    elsewhere: { devicesLeft: 2, worker: 7, gateway: 'b' },
  } as const;
  t.same(
    decodeConnectAnswer(answer(refusal)),
    { ok: false, code: 'NO_PEER', elsewhere: { devicesLeft: 2, gateway: 'b' } },
    "a worker's number means nothing elsewhere",
  );
  t.same(decodeConnectAnswer('{"ok":false,"code":"NEW_CODE","detail":"x"}'), {
    ok: false,
    code: 'INTERNAL',
    detail: 'x',
  });
});

t.test('where others are told to connect to', async (t) => {
  const at = (linkAddress: string | null) => linkPlaceOf({ linkAddress, linkHost: '10.0.0.1' }, 7_000);
  t.same(at(null), { host: '10.0.0.1', port: 7_000 });
  t.same(at('gw-1.internal'), { host: 'gw-1.internal', port: 7_000 });
  t.same(at('gw-1.internal:7100'), { host: 'gw-1.internal', port: 7_100 });
  t.same(at('fd00::1'), { host: 'fd00::1', port: 7_000 });
  t.same(at('[fd00::1]:7100'), { host: 'fd00::1', port: 7_100 });
  t.same(linkPortsOfWorker({ linkPort: 7_000, linkAddress: 'gw-1:7100' }, 3), {
    linkPort: 7_002,
    linkAddress: 'gw-1:7102',
  });
  t.same(linkPortsOfWorker({ linkPort: 0, linkAddress: 'gw-1' }, 3), { linkPort: 0, linkAddress: 'gw-1' });
  const config = { linkPort: 7_000, linkAddress: 'gw-1:70000', linkCert: 'c', linkKey: 'k', linkCa: 'ca' };
  t.same(problemsOfLinks(config as LinkConfig), ['TS_GATEWAY_LINK_ADDRESS: 70000 is no port']);
});

t.test('whose certificate it is', async (t) => {
  const names = (subjectaltname: string) => ({ subjectaltname });
  t.ok(vouchesFor(names('DNS:gw-1, IP Address:127.0.0.1'), 'gw-1'));
  t.ok(vouchesFor(names('DNS:other, DNS:GW-1'), 'gw-1-w12'), 'of one of its workers');
  for (const [alt, id] of [
    ['DNS:gw-1', 'gw-2'],
    ['DNS:gw-1-w2', 'gw-1'],
    ['DNS:*', 'gw-1'],
    ['', 'gw-1'],
    ['DNS:"gw-1, DNS:gw-2"', 'gw-1'],
    ['URI:x, DNS:gw-1.example.org', 'gw-1'],
  ] as const)
    t.notOk(vouchesFor(names(alt), id), `${alt} is not ${id}`);
});

/** A server of links, and a client that thinks it is `b`. */
async function linked(t: Test, options: { streamsMax?: number } = {}) {
  const ca = await startLinkCa(t);
  const identityOf = async (name: string) => {
    const s = await ca.settings(name);
    const identity = await openIdentity(
      {
        linkCert: s.TS_GATEWAY_LINK_TLS_CERT,
        linkKey: s.TS_GATEWAY_LINK_TLS_KEY,
        linkCa: s.TS_GATEWAY_LINK_TLS_CA,
      } as unknown as LinkConfig,
      silentLog,
    );
    t.teardown(() => identity.certificate.close());
    return identity;
  };
  const asked: LinkRequest[] = [];
  const server = new LinkServer(
    {
      host: '127.0.0.1',
      port: 0,
      gatewayId: 'b',
      linksMax: 10,
      streamsMax: options.streamsMax ?? 10,
      ...SPOKEN,
    },
    { identity: await identityOf('b'), serve: (request) => asked.push(request), log: silentLog },
  );
  const port = await server.listen();
  t.teardown(() => server.close());
  const a = await identityOf('a');
  const clock = new ManualClock();
  const client = (identity = a, gatewayId = 'a', idleMs = 60_000) => {
    const made = new LinkClient(
      {
        gatewayId,
        ...SPOKEN,
        limits: { ...defaultLimits, streamsMax: 20 },
        connectTimeoutMs: 5_000,
        pingMs: 5_000,
        idleMs,
      },
      { identity, clock, log: silentLog },
    );
    t.teardown(() => made.close());
    return made;
  };
  return { server, port, asked, client, a, identityOf, clock };
}

t.test('a link is made once, kept, and not tried again and again where it can not be had', async (t) => {
  const { server, port, client, clock } = await linked(t);
  const one = client();
  const place = { gatewayId: 'b', host: '127.0.0.1', port };
  const [first, second] = await Promise.all([one.to(place), one.to(place)]);
  t.equal(first?.state, 'open');
  t.equal(first, second, 'those who ask meanwhile wait for it');
  t.equal(one.to(place), first, 'kept');
  t.same(server.gatewayIds, ['a']);
  const wrong = { ...place, gatewayId: 'c' };
  t.equal(await one.to(wrong), null, 'it is not c');
  t.equal(one.isResting('c'), true);
  t.equal(one.to(wrong), null, 'at once');
  clock.advance(201);
  const again = one.to(wrong);
  t.not(again, null, 'a moment later it is tried again');
  await again;
  t.equal(one.failures, 2);
  const liar = client(undefined, 'z');
  const before = server.refused;
  t.equal(await liar.to(place), null, 'who says it is another one is refused');
  t.ok(server.refused > before, 'counted');
});

t.test('versions: the highest both speak; none is told', async (t) => {
  const { port, a } = await linked(t);
  // An older and a newer gateway as the one that asks.
  const dial = (welcomeOf: (linkVersions: number[]) => object) =>
    new Promise<string>((resolve, reject) => {
      connectTunnel(
        {
          url: `wss://127.0.0.1:${port}/link`,
          role: 'gateway',
          headers: { 'traffic-share-gateway': 'a' },
          tls: {
            ca: a.ca,
            own: { cert: a.certificate.current.cert, key: a.certificate.current.key },
            checkServerIdentity: () => undefined,
          },
        },
        {
          onHello: (mux, hello) => {
            t.same(hello.link_versions, [1, 2]);
            mux.welcome({
              session_id: 's',
              gateway_id: 'a',
              limits: {
                stream_window_bytes: 131_072,
                stream_window_bytes_max: 131_072,
                tunnel_window_bytes_max: 131_072,
                streams_max: 10,
                frame_bytes_max: 65_536,
              },
              policy_version: '',
              terms_version: '',
              ping_live_ms: 5_000,
              ping_idle_ms: 25_000,
              ...(welcomeOf(hello.link_versions ?? []) as { link_version: number }),
            });
            const stream = mux.open(
              { host: '0.0.0.0', port: 1, network: 'tcp', request: 'of the future' },
              {
                onOpened: (_stream, code) => {
                  resolve(`opened ${code}`);
                  mux.destroy();
                },
                onData: () => {},
                onFin: () => {},
                onReset: () => {},
                onWritable: () => {},
              },
            );
            t.ok(stream);
          },
          onClose: (_mux, { code }) => resolve(code),
        },
      ).catch(reject);
    });
  t.equal(
    await dial(() => ({ link_version: 1, later: true })),
    'opened 8',
    'what is not understood is not served',
  );

  // As the one that is asked.
  const { identityOf, client } = await linked(t);
  const b = await identityOf('b');
  const answering = async (linkVersions: number[] | undefined) => {
    const said: string[] = [];
    let over = () => {};
    const closed = new Promise<void>((resolve) => {
      over = resolve;
    });
    const { cert, key } = b.certificate.current;
    const server = createServer({ cert, key });
    server.on('upgrade', (request, socket, head) => {
      const mux = upgradeTunnel(
        request,
        socket,
        head,
        {
          onWelcome: (_mux, { link_version }) => said.push(`version ${link_version}`),
          onClose: (_mux, { code }) => {
            said.push(code);
            over();
          },
        },
        { role: 'agent' },
      );
      const versions = linkVersions === undefined ? {} : { link_versions: linkVersions };
      mux?.hello({ ...HELLO, versions: [1, 9], ...versions, ...{ later: 'x' } });
    });
    const { port } = await listen(server, { host: '127.0.0.1', port: 0, backlog: 10 });
    t.teardown(() => server.close());
    const one = client(await identityOf('a'));
    const mux = await one.to({ gatewayId: 'b', host: '127.0.0.1', port });
    mux?.close({ code: 'idle', reason: '' });
    await closed;
    return said;
  };
  t.same(await answering([1, 2, 3]), ['version 2', 'idle'], 'a newer one');
  t.same(await answering([1]), ['version 1', 'idle'], 'an older one');
  t.same(await answering([3, 4]), ['gateway_too_old'], 'one that has forgotten ours');
  t.same(await answering(undefined), ['client_too_old'], 'one that knows no links');
});

t.test('a link has room for so many streams', async (t) => {
  const { port, client, asked } = await linked(t, { streamsMax: 2 });
  const mux = await client().to({ gatewayId: 'b', host: '127.0.0.1', port });
  const request = encodeRequest({ asks: { echo: true }, login: LOGIN });
  const codes = await Promise.all(
    [1, 2, 3].map(
      () =>
        new Promise((resolve) => {
          mux?.open(
            { host: '0.0.0.0', port: 1, network: 'tcp', request },
            {
              onOpened: (_stream, code) => resolve(code),
              onData: () => {},
              onFin: () => {},
              onReset: () => {},
              onWritable: () => {},
            },
          );
        }),
    ),
  );
  t.same(codes, [0, 0, 7]);
  t.equal(asked.length, 2);
});

t.test('what others have: known by what they write, and for as long as they write', async (t) => {
  const server = await startRedis();
  t.teardown(() => server.stop());
  const redis = connectLive({ url: server.url, log: silentLog });
  t.teardown(() => redis.disconnect());
  const clock = new ManualClock();
  const summary = (gatewayId: string, devices: GatewaySummary['devices'], more = {}): GatewaySummary => ({
    gatewayId,
    host: '127.0.0.1',
    port: 1,
    draining: false,
    devices,
    beat: 0,
    ...more,
  });
  const { beat: _, gatewayId, ...own } = summary('a', {});
  const silent = new Set<string>();
  const directory = new PeerDirectory({
    isSilent: (id) => silent.has(id),
    redis,
    clock,
    log: silentLog,
    gatewayId,
    describe: () => own,
    isSibling: (id) => id === 'a-w2',
    onRead: () => {},
  });
  await writeSummary(redis, summary('b', { US: { wifi: [3, 5], mobile: [0, 1] } }));
  await writeSummary(redis, summary('c', { DE: { wifi: [0, 2] } }));
  await writeSummary(redis, summary('d', { US: { wifi: [9, 9] } }, { draining: true }));
  await writeSummary(redis, summary('a-w2', { US: { wifi: [9, 9] } }));
  await redis.hset(
    liveKeys.gatewaySummaries(),
    'e',
    '{"of":"another program"}',
    'f',
    JSON.stringify(summary('b', {})),
  );
  await directory.refresh();
  const ask = (wish: object, exclude: string[] = []) =>
    directory.candidates({ country: null, net: 'any', fallback: 'none', ...wish } as never, new Set(exclude));
  t.same(ask({ country: 'US' }), ['b', 'd'], 'who drains comes last');
  t.same(ask({ country: 'US', net: 'mobile' }), ['b'], 'none free: this buyer may hold it');
  t.same(ask({ country: 'EU' }), ['c']);
  t.same(ask({}), ['b', 'c', 'd'], 'free ones first');
  t.same(ask({ country: 'FR', fallback: 'any' }), ['b', 'c', 'd']);
  t.same(ask({}, ['b']), ['c', 'd'], 'nobody twice');
  silent.add('b');
  t.same(ask({}), ['c', 'd'], 'who is silent is not asked');
  t.same([directory.canBeAsked('b'), directory.get('b')?.gatewayId], [false, 'b'], 'and still there');
  silent.clear();
  t.equal(directory.get('d')?.draining, true);
  t.ok(directory.hasServing, 'two that do not drain');
  t.equal(directory.get('a-w2'), null, 'a worker of this gateway');
  t.ok(
    (await readSummaries(redis)).some(({ gatewayId }) => gatewayId === 'a'),
    'it tells of itself',
  );

  await redis.del(liveKeys.gatewaySummaries());
  await directory.refresh();
  t.same(ask({}), ['b', 'c'], 'Redis came back empty: whoever did not say that it leaves is still there');
  await directory.refresh();
  t.same(
    (await readSummaries(redis)).map(({ gatewayId }) => gatewayId),
    ['a'],
    'and this one is there again',
  );
  await writeSummary(redis, summary('b', { US: { wifi: [3, 5], mobile: [0, 1] } }));
  await directory.refresh();

  clock.advance(PRESENCE_TTL_MS - 1);
  await writeSummary(redis, summary('c', { DE: { wifi: [1, 2] } }, { beat: 1 }));
  await directory.refresh();
  clock.advance(2);
  t.same([directory.get('b'), directory.get('c')?.beat], [null, 1], 'one that writes no more is gone');
  clock.advance(SUMMARY_KEPT_MS);
  await directory.refresh();
  t.notOk(
    (await readSummaries(redis)).some(({ gatewayId }) => gatewayId === 'b'),
    'and removed',
  );
  await directory.stop();
  t.notOk(
    (await readSummaries(redis)).some(({ gatewayId }) => gatewayId === 'a'),
    'as who stops',
  );
});

t.test('whom to ask, in which order, and how often', async (t) => {
  const NO_PEER = (gateway: string | null = null): ProxyFailure => ({
    ok: false,
    code: 'NO_PEER',
    elsewhere: { devicesLeft: 2, worker: null, gateway },
  });
  const OK = { ok: true, exit: EXIT, city: null, asn: null, bytesLeft: null } as const;
  /** `here`: how it goes here, in turn; `there`: at each gateway. null: it is away. */
  const run = async (
    here: (ProxyFailure | typeof OK)[],
    there: Record<string, object | null>,
    more: {
      home?: string;
      goesOn?: boolean;
      candidates?: string[];
      params?: object;
      late?: typeof there;
    } = {},
  ) => {
    const log: string[] = [];
    const own = {
      authenticate: (asked: unknown) => ({
        ok: true,
        asked,
        buyer: { account: 'acme' },
        params: { packageId: null, session: null, country: null, fallback: 'none', ...more.params },
      }),
      echo: async (_auth: unknown, { stays, exact, isLast }: Attempts) => {
        log.push(`here${isLast ? ' at last' : ''}${stays ? ', stays' : ''}${exact ? ', exact' : ''}`);
        return here.shift() ?? NO_PEER();
      },
      gaveUp: (_auth: unknown, { code }: ProxyFailure) => log.push(`gave up: ${code}`),
    } as unknown as OwnPipeline;
    const mux = (gatewayId: string) => ({
      canOpen: true,
      open: ({ request }: { request: string }, handler: Pick<StreamHandler, 'onData'>) => {
        const { stays, exact } = decodeRequest(request, 2) as LinkRequest;
        log.push(`${gatewayId}${stays ? ', stays' : ''}${exact ? ', exact' : ''}`);
        const line = Buffer.from(`${JSON.stringify(there[gatewayId])}\n`);
        const stream = { handler, consumed() {}, reset() {} };
        setImmediate(() => handler.onData(stream as unknown as MuxStream, line, 0, line.length));
        return stream;
      },
    });
    const pipeline = new LinkedPipeline({
      own,
      directory: {
        get: (gatewayId: string) => (gatewayId in there ? { gatewayId, host: '', port: 1 } : null),
        candidates: (_params: unknown, asked: Set<string>) =>
          (more.candidates ?? Object.keys(there)).filter((id) => !asked.has(id)),
        lookAgain: async () => {
          if (more.late === undefined) return false;
          log.push('looks again');
          more.candidates = [...Object.keys(there), ...Object.keys(more.late)];
          Object.assign(there, more.late);
          return true;
        },
      },
      homes: { homeOf: () => more.home ?? null, served: () => {} },
      client: {
        isResting: () => false,
        versionOf: () => 2,
        to: ({ gatewayId }: { gatewayId: string }) => {
          if (there[gatewayId] !== null) return mux(gatewayId);
          log.push(`${gatewayId} is away`);
          return null;
        },
      },
      clock: systemClock,
      requestBytesMax: 8_000,
      dialTimeoutMs: 1_000,
      onAsked: () => {},
    } as unknown as LinkedPipelineDeps);
    const auth = await pipeline.authenticate(LOGIN);
    const outcome = await pipeline.echo(auth as never, { goesOn: more.goesOn ?? false });
    log.push(outcome.ok ? 'OK' : outcome.elsewhere ? `${outcome.code}, elsewhere` : outcome.code);
    return log;
  };
  t.same(await run([OK], { b: OK }), ['here', 'OK'], 'a device here comes first');
  t.same(
    await run([{ ok: false, code: 'NO_BALANCE' }], { b: OK }),
    ['here', 'NO_BALANCE'],
    'a refusal is one',
  );
  t.same(await run([NO_PEER()], { b: NO_PEER(), c: null, d: OK }), [
    'here',
    'b, stays',
    'c is away',
    'd, stays',
    'OK',
  ]);
  t.same(
    await run([NO_PEER()], { b: { ok: false, code: 'DRAINING' }, c: { ok: false, code: 'REFUSED' } }),
    ['here', 'b, stays', 'c, stays', 'REFUSED'],
    'one that drains is passed over; what another one says is final',
  );
  t.same(await run([NO_PEER()], { b: NO_PEER() }), [
    'here',
    'b, stays',
    'here at last, stays',
    'gave up: NO_PEER',
    'NO_PEER',
  ]);
  t.same(
    await run([NO_PEER()], { b: NO_PEER() }, { late: { c: OK } }),
    ['here', 'b, stays', 'looks again', 'c, stays', 'OK'],
    'a device has come to one that had none',
  );
  t.same(
    await run([NO_PEER()], { b: NO_PEER() }, { late: {} }),
    ['here', 'b, stays', 'looks again', 'here at last, stays', 'gave up: NO_PEER', 'NO_PEER'],
    'nobody is asked again',
  );
  t.same(
    await run([NO_PEER(), OK], { b: NO_PEER() }),
    ['here', 'b, stays', 'here at last, stays', 'OK'],
    'a device has come meanwhile, or an exit come free',
  );
  t.same(
    await run([NO_PEER()], Object.fromEntries([...'bcdefgh'].map((id) => [id, NO_PEER()]))),
    [
      'here',
      'b, stays',
      'c, stays',
      'd, stays',
      'e, stays',
      'here at last, stays',
      'gave up: NO_PEER',
      'NO_PEER',
    ],
    'so many and no more',
  );
  t.same(
    await run([NO_PEER('c')], { b: OK, c: OK }),
    ['here', 'c, stays', 'OK'],
    'who has the device of its session',
  );
  t.same(
    await run([NO_PEER('c'), OK], { c: null }),
    ['here', 'c is away', 'here, stays', 'OK'],
    'is it away, another device may do',
  );
  t.same(await run([], { b: OK, c: OK }, { home: 'c' }), ['c', 'OK'], 'who served it last is asked first');
  t.same(
    await run([], { b: OK, c: NO_PEER('b') }, { home: 'c' }),
    ['c', 'b', 'OK'],
    'and says to whom the device went',
  );
  t.same(
    await run([NO_PEER('c'), NO_PEER()], { b: NO_PEER('c'), c: NO_PEER('b') }, { home: 'b' }),
    ['b', 'c', 'here', 'here, stays', 'here at last, stays', 'gave up: NO_PEER', 'NO_PEER'],
    'nobody is asked twice, whoever names whom',
  );
  t.same(
    await run([NO_PEER()], { b: OK }, { goesOn: true }),
    ['here', 'NO_PEER, elsewhere'],
    'other workers of this gateway come before other gateways',
  );
  const wide = { country: 'US', fallback: 'any' };
  t.same(
    await run([NO_PEER(), OK], { b: NO_PEER() }, { params: wide }),
    ['here, exact', 'b, stays, exact', 'here', 'OK'],
    'what is wanted, wherever it is, before what may stand in for it',
  );
  t.same(
    await run([NO_PEER(), NO_PEER()], { b: NO_PEER() }, { params: wide }),
    [
      'here, exact',
      'b, stays, exact',
      'here',
      'b, stays',
      'here at last, stays',
      'gave up: NO_PEER',
      'NO_PEER',
    ],
    'and it fails once',
  );
  t.same(
    await run([OK], {}, { params: { ...wide, session: 'one' } }),
    ['here', 'OK'],
    'a session stays where it is',
  );
});
