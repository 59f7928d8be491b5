import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { request as ask, createServer, type IncomingMessage } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';

/** s3rver has no types. */
type S3rver = new (options: {
  address: string;
  port: number;
  silent: boolean;
  directory: string;
  configureBuckets: { name: string; configs: string[] }[];
}) => { run(): Promise<AddressInfo>; close(): Promise<void> };

/** The one key that s3rver knows, and its secret. */
export const S3_KEYS = { accessKeyId: 'S3RVER', secretAccessKey: 'S3RVER' };
export const BUCKET = 'backups';

export interface S3Server {
  url: string;
  /** Keys of the bucket's objects. */
  keys(): Promise<string[]>;
}

/**
 * A server that speaks S3, with one empty bucket: s3rver, behind a check of signatures of version 4, which it
 * does not make itself.
 */
export async function startS3(t: { teardown(fn: () => unknown): unknown }): Promise<S3Server> {
  const directory = await mkdtemp(join(tmpdir(), 'ts-s3-'));
  const Server = createRequire(import.meta.url)('s3rver') as S3rver;
  const server = new Server({
    address: '127.0.0.1',
    port: 0,
    silent: true,
    directory,
    configureBuckets: [{ name: BUCKET, configs: [] }],
  });
  const behind = await server.run();
  const front = createServer(async (request, response) => {
    const body = await buffer(request);
    const wrong = whatIsWrong(request, body);
    if (wrong !== null) {
      // Amazon's answer shows what was signed, and the key: nothing of it may get into a log.
      response.writeHead(403, { 'content-type': 'application/xml' });
      response.end(
        `<?xml version="1.0"?><Error><Code>${wrong}</Code><Message>refused</Message><AWSAccessKeyId>S3RVER</AWSAccessKeyId></Error>`,
      );
      return;
    }
    const { method, url: path, headers } = request;
    const onward = ask({ host: '127.0.0.1', port: behind.port, method, path, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(response);
    });
    onward.on('error', () => response.destroy());
    onward.end(body);
  }).listen(0, '127.0.0.1');
  await once(front, 'listening');
  t.teardown(async () => {
    front.closeAllConnections();
    front.close();
    await server.close();
    await rm(directory, { recursive: true, force: true });
  });
  return {
    url: `http://127.0.0.1:${(front.address() as AddressInfo).port}`,
    async keys() {
      const files = await readdir(join(directory, BUCKET), { recursive: true });
      return files
        .filter((file) => file.endsWith('._S3rver_object'))
        .map((file) => file.slice(0, -'._S3rver_object'.length))
        .sort();
    },
  };
}

const AUTHORIZATION =
  /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8}\/[^/]+\/s3\/aws4_request), ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$/;

/**
 * What Amazon would say of a request's signature ("Signature Version 4 for the Authorization header" in the
 * S3 API reference), as the code of an error; null: it is right.
 */
function whatIsWrong(request: IncomingMessage, body: Buffer): string | null {
  const { method, url = '/', headers } = request;
  const [, key, scope = '', signed = '', signature = ''] =
    AUTHORIZATION.exec(headers.authorization ?? '') ?? [];
  if (key === undefined) return 'AccessDenied';
  if (key !== S3_KEYS.accessKeyId) return 'InvalidAccessKeyId';
  const sha256 = (data: string | Buffer) => createHash('sha256').update(data).digest('hex');
  const given = headers['x-amz-content-sha256'];
  if (given !== sha256(body)) return 'XAmzContentSHA256Mismatch';
  const [path = '/', query = ''] = url.split('?', 2);
  const parameters = query
    .split('&')
    .filter(Boolean)
    .map((pair) => (pair.includes('=') ? pair : `${pair}=`))
    .sort();
  const names = signed.split(';');
  if (!names.includes('host') || !names.includes('x-amz-date')) return 'AccessDenied';
  const lines = names.map(
    (name) =>
      `${name}:${String(headers[name] ?? '')
        .trim()
        .replace(/ +/g, ' ')}\n`,
  );
  const canonical = [method, path, parameters.join('&'), lines.join(''), signed, given].join('\n');
  const toSign = ['AWS4-HMAC-SHA256', headers['x-amz-date'], scope, sha256(canonical)].join('\n');
  const hmac = (secret: string | Buffer, data: string) => createHmac('sha256', secret).update(data).digest();
  const signingKey = scope.split('/').reduce<string | Buffer>(hmac, `AWS4${S3_KEYS.secretAccessKey}`);
  const right = timingSafeEqual(hmac(signingKey, toSign), Buffer.from(signature, 'hex'));
  return right ? null : 'SignatureDoesNotMatch';
}
