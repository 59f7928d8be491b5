import type { Readable } from 'node:stream';
import type { ListObjectsV2CommandOutput, S3Client } from '@aws-sdk/client-s3';
import { BackupFailed, type BackupStorage } from './storage.js';

export interface S3Settings {
  bucket: string;
  /** Goes before every name, such as `backups/`. */
  prefix: string;
  region: string;
  /** Root of an S3-compatible service, which is then asked with the bucket in the path; null: Amazon's. */
  endpoint: string | null;
  /** Null: what the SDK finds by itself (a role of the machine, say). */
  credentials: { accessKeyId: string; secretAccessKey: string } | null;
}

/** Size of a part, bytes, and parts at once: 32 MiB of memory, and at most 10 000 parts are 160 GB. */
const PART_BYTES = 16 * 1_048_576;
const PARTS_AT_ONCE = 2;
/** Time a connection may take, and a request may stay without a byte. */
const CONNECT_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 60_000;

/**
 * Backups in a bucket of Amazon S3 or a service that speaks the same. A file is sent in parts, which are a
 * file with a name only when all have come. What a kill leaves of parts is not listed as a file; the bucket's
 * lifecycle rule `AbortIncompleteMultipartUpload` takes it away.
 */
export class S3Storage implements BackupStorage {
  readonly kind = 's3';
  readonly #settings: S3Settings;
  /** Made when it is needed: the SDK is large, and most do without it. */
  #client: Promise<S3Client> | null = null;

  constructor(settings: S3Settings) {
    this.#settings = settings;
  }

  async put(file: string, source: Readable, signal: AbortSignal): Promise<void> {
    const { Upload } = await import('@aws-sdk/lib-storage');
    const upload = new Upload({
      client: await this.#connected(),
      params: { ...this.#place(file), Body: source },
      partSize: PART_BYTES,
      queueSize: PARTS_AT_ONCE,
      leavePartsOnError: false,
    });
    const onAbort = () => void upload.abort().catch(() => {});
    signal.addEventListener('abort', onAbort);
    let sourceError: Error | undefined;
    source.once('error', (error) => {
      sourceError = error;
    });
    try {
      await upload.done();
    } catch (error) {
      await upload.abort().catch(() => {});
      throw sourceError ?? unusable(error);
    } finally {
      signal.removeEventListener('abort', onAbort);
      source.destroy();
    }
  }

  async read(file: string): Promise<Readable> {
    const { GetObjectCommand } = await import('@aws-sdk/client-s3');
    const client = await this.#connected();
    const { Body } = await client.send(new GetObjectCommand(this.#place(file))).catch((error: unknown) => {
      throw unusable(error);
    });
    return Body as Readable;
  }

  async remove(file: string): Promise<void> {
    const { DeleteObjectCommand } = await import('@aws-sdk/client-s3');
    const client = await this.#connected();
    await client.send(new DeleteObjectCommand(this.#place(file))).catch((error: unknown) => {
      throw unusable(error);
    });
  }

  async list(): Promise<string[]> {
    const { ListObjectsV2Command } = await import('@aws-sdk/client-s3');
    const client = await this.#connected();
    const { bucket, prefix } = this.#settings;
    const names: string[] = [];
    let token: string | undefined;
    do {
      const page: ListObjectsV2CommandOutput = await client
        .send(new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, ContinuationToken: token }))
        .catch((error: unknown) => {
          throw unusable(error);
        });
      for (const { Key } of page.Contents ?? []) if (Key) names.push(Key.slice(prefix.length));
      token = page.NextContinuationToken;
    } while (token !== undefined);
    return names;
  }

  async tidy(): Promise<void> {}

  #place(file: string): { Bucket: string; Key: string } {
    return { Bucket: this.#settings.bucket, Key: this.#settings.prefix + file };
  }

  #connected(): Promise<S3Client> {
    this.#client ??= this.#connect();
    return this.#client;
  }

  async #connect(): Promise<S3Client> {
    const { S3Client } = await import('@aws-sdk/client-s3');
    const { region, endpoint, credentials } = this.#settings;
    return new S3Client({
      region,
      ...(endpoint !== null && { endpoint, forcePathStyle: true }),
      ...(credentials !== null && { credentials }),
      // Not every service knows Amazon's newer checksums; what arrived is read back and compared instead.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      requestHandler: { connectionTimeout: CONNECT_TIMEOUT_MS, requestTimeout: REQUEST_TIMEOUT_MS },
    });
  }
}

/** Code and status alone: what else a service says may hold keys and what was signed. */
function unusable(cause: unknown): BackupFailed {
  const { name, code, $metadata } = cause as {
    name?: string;
    code?: string;
    $metadata?: { httpStatusCode?: number };
  };
  const status = $metadata?.httpStatusCode;
  const words = [
    name ?? 'Error',
    ...(code === undefined ? [] : [code]),
    ...(status === undefined ? [] : [status]),
  ];
  const failure = name === 'NoSuchKey' ? 'backup_not_found' : 'backup_storage_unusable';
  return new BackupFailed(failure, `S3: ${words.join(' ')}`, { cause });
}
