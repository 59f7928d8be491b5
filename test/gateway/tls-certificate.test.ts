import { X509Certificate } from 'node:crypto';
import { copyFileSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import {
  developmentCertificate,
  developmentCertificateFiles,
} from '../../gateway/runtime/development-certificate.js';
import { type Log, silentLog } from '../../gateway/runtime/logging.js';
import { type CertificateFiles, TlsCertificate } from '../../gateway/runtime/tls-certificate.js';
import { eventually, startListener, TestClient } from './listeners/fake-pipeline.js';

const quick = { settleMs: 20, pollMs: 60_000 };

/** Pairs that differ, each in a folder. */
async function pairs(t: Test, count: number): Promise<CertificateFiles[]> {
  const folder = t.testdir({});
  const names = Array.from({ length: count }, (_, i) => `pair${i}`);
  return Promise.all(names.map((name) => developmentCertificate(join(folder, name), Date.now())));
}

function recordingLog(): { log: Log; events: Array<{ event: string; problem?: string }> } {
  const events: Array<{ event: string; problem?: string }> = [];
  const note = (fields: object, event: string) => void events.push({ ...fields, event });
  return { log: { ...silentLog, info: note, error: note }, events };
}

t.test('development: drawn once, kept, drawn anew when nearly over or broken', async (t) => {
  const folder = join(t.testdir({}), 'data');
  const nowMs = Date.now();
  const files = await developmentCertificate(folder, nowMs);
  t.same(files, developmentCertificateFiles(folder));
  for (const path of [files.certPath, files.keyPath]) t.equal(statSync(path).mode & 0o777, 0o600, path);
  const first = readFileSync(files.certPath, 'utf8');
  const leaf = new X509Certificate(first);
  t.ok(leaf.checkHost('localhost') && leaf.checkIP('127.0.0.1') && leaf.checkIP('::1'));
  t.ok(leaf.verify(leaf.publicKey) && leaf.ca, 'clients can trust it as it is');

  await developmentCertificate(folder, nowMs + 700 * 86_400_000);
  t.equal(readFileSync(files.certPath, 'utf8'), first, 'kept');
  await developmentCertificate(folder, nowMs + 800 * 86_400_000);
  const second = readFileSync(files.certPath, 'utf8');
  t.not(second, first, 'less than a month left: another one');
  writeFileSync(files.keyPath, 'broken');
  await developmentCertificate(folder, nowMs);
  t.not(readFileSync(files.certPath, 'utf8'), second);
});

t.test('what can not be used at start is said, without the key', async (t) => {
  const [one, two] = (await pairs(t, 2)) as [CertificateFiles, CertificateFiles];
  const key = readFileSync(one.keyPath, 'utf8');
  const folder = dirname(one.certPath);
  writeFileSync(join(folder, 'half.pem'), readFileSync(one.certPath, 'utf8').slice(0, 300));
  writeFileSync(join(folder, 'text.pem'), 'text');
  const cases: Array<[CertificateFiles, RegExp]> = [
    [{ ...one, certPath: join(folder, 'none.pem') }, /none\.pem cannot be read: ENOENT/],
    [{ ...one, certPath: join(folder, 'half.pem') }, /half\.pem is no certificate/],
    [{ ...one, certPath: one.keyPath }, /is no certificate/],
    [{ ...one, keyPath: join(folder, 'text.pem') }, /text\.pem is no private key/],
    [{ ...one, keyPath: two.keyPath }, /is not the key of/],
  ];
  for (const [files, message] of cases) {
    const error = await TlsCertificate.open(files, silentLog).then(
      () => t.fail(String(message)),
      (reason: Error) => reason,
    );
    t.match(error, { message });
    t.notOk(String(error).includes(key.split('\n')[1] ?? '?'));
  }
});

t.test(
  'a change serves the next handshakes; open connections go on; broken pairs change nothing',
  async (t) => {
    const [live, next] = (await pairs(t, 2)) as [CertificateFiles, CertificateFiles];
    const { log, events } = recordingLog();
    const certificate = await TlsCertificate.open(live, log, quick);
    t.teardown(() => certificate.close());
    const { port } = await startListener(t, { certificate: () => certificate.current });
    const before = readFileSync(live.certPath);
    const after = readFileSync(next.certPath);
    const open = await TestClient.connectTls(t, port, { ca: before });

    writeFileSync(live.certPath, after.subarray(0, 200));
    await eventually(() => events.length === 1);
    t.match(events[0], { event: 'tls_certificate_unusable_last_good_kept', problem: /is no certificate/ });
    await TestClient.connectTls(t, port, { ca: before });
    writeFileSync(live.certPath, after);
    await eventually(() => events.length === 2);
    t.match(events[1], { problem: /is not the key of/ });
    await TestClient.connectTls(t, port, { ca: before });
    copyFileSync(next.keyPath, `${live.keyPath}.new`);
    renameSync(`${live.keyPath}.new`, live.keyPath);
    await eventually(() => events.length === 3);
    t.match(events[2], { event: 'tls_certificate_reloaded' });

    await TestClient.connectTls(t, port, { ca: after });
    await t.rejects(TestClient.connectTls(t, port, { ca: before }), { code: /SELF_SIGNED|UNABLE_TO/ });
    open.send('CONNECT a.test:443 HTTP/1.1\r\nHost: a\r\n\r\n');
    t.match(await open.match(/\}\n$/), /^HTTP\/1\.1 407 /, 'the open connection is served');
  },
);

t.test('a folder in which other files change all the time puts nothing off', async (t) => {
  const [live, next] = (await pairs(t, 2)) as [CertificateFiles, CertificateFiles];
  const { log, events } = recordingLog();
  const certificate = await TlsCertificate.open(live, log, { ...quick, settleMs: 50 });
  t.teardown(() => certificate.close());
  const busy = setInterval(() => writeFileSync(join(dirname(live.certPath), 'busy'), 'x'), 5);
  try {
    copyFileSync(next.keyPath, live.keyPath);
    copyFileSync(next.certPath, live.certPath);
    await eventually(() => events.some(({ event }) => event === 'tls_certificate_reloaded'));
  } finally {
    clearInterval(busy); // before the folder is removed
  }
  t.equal(certificate.current.cert, readFileSync(next.certPath, 'utf8'));
});

t.test('both replaced at once are read once; the poll finds what no watch tells', async (t) => {
  const [live, next] = (await pairs(t, 2)) as [CertificateFiles, CertificateFiles];
  const { log, events } = recordingLog();
  const certificate = await TlsCertificate.open(live, log, { settleMs: 60_000, pollMs: 20 });
  t.teardown(() => certificate.close());
  const changes: string[] = [];
  certificate.onChange(({ cert }) => changes.push(cert));
  copyFileSync(next.keyPath, live.keyPath);
  copyFileSync(next.certPath, live.certPath);
  await eventually(() => changes.length === 1);
  t.equal(changes[0], readFileSync(next.certPath, 'utf8'));
  t.match(events.at(-1), { event: 'tls_certificate_reloaded' });
});
