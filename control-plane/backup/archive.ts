import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { pipeline, Readable, Transform } from 'node:stream';
import { text } from 'node:stream/consumers';
import type { Log } from '../../gateway/runtime/logging.js';
import {
  type BackupContents,
  type BackupLabel,
  checksumOf,
  kindOfFile,
  type Manifest,
  manifestOf,
  readManifest,
  writeManifest,
} from './manifest.js';
import { outlived, type Retention } from './retention.js';
import { type BackupKeys, keyOf, Seal, Unseal } from './sealing.js';
import { BackupFailed, type BackupStorage } from './storage.js';

/** What a dump is labelled with before its bytes are known. */
export type Label = Omit<BackupLabel, 'size_bytes' | 'sha256' | 'key_id'>;

/** What the storage holds. */
export interface ArchiveList {
  /** Whole ones, newest first. */
  backups: Manifest[];
  /** Dumps without a manifest: cut short, or being written. */
  unfinished: string[];
  /** Manifests that are not as they were written: file and why. */
  damaged: { file: string; why: string }[];
}

/** Told how many bytes have gone through so far. */
export type OnBytes = (bytes: number) => void;

/**
 * Backups in a storage: each a dump, sealed when there is a key, its checksum, and its manifest, which is written last, once the
 * dump was read back and is what was written. What has no manifest is no backup.
 */
export class BackupArchive {
  constructor(
    readonly storage: BackupStorage,
    readonly keys: BackupKeys,
    private readonly log: Log,
  ) {}

  /** Writes a dump. Leaves nothing when it fails. */
  async write(
    dump: Readable,
    label: Label,
    contents: BackupContents,
    signal: AbortSignal,
    onBytes: OnBytes = () => {},
  ): Promise<Manifest> {
    const { storage, keys, log } = this;
    const { file } = label;
    const written = new Tally(onBytes);
    let failure: Error | null = null;
    dump.once('error', (error) => {
      failure ??= error;
    });
    // Ends the dump when the storage fails, and the storage when the dump does.
    const parts = keys.current === null ? [dump, written] : [dump, new Seal(keys.current), written];
    pipeline(parts, () => {});
    // The storage may not read it yet when pg_dump fails: an error that nobody hears would end the process.
    written.on('error', () => {});
    try {
      await storage.put(file, written, signal);
    } catch (error) {
      dump.destroy();
      // The storage says itself what kept it from writing, and the dump hears of that as an error, too.
      throw error instanceof BackupFailed ? error : (failure ?? error);
    }
    try {
      const stored = await this.#tally(file, signal);
      if (stored.sizeBytes !== written.sizeBytes || stored.sha256 !== written.sha256)
        throw new BackupFailed(
          'backup_not_verified',
          `${written.sizeBytes} bytes were written, ${stored.sizeBytes} others read back`,
        );
      const whole: BackupLabel = {
        ...label,
        size_bytes: stored.sizeBytes,
        sha256: stored.sha256,
        key_id: keys.current?.id ?? null,
      };
      await this.#putText(checksumOf(file), `${stored.sha256}  ${file}\n`, signal);
      await this.#putText(manifestOf(file), writeManifest(whole, contents, keys), signal);
      return { ...whole, contents };
    } catch (error) {
      await this.#removeAll(file).catch((removal: unknown) =>
        log.warn({ file, err: removal }, 'backup_not_removed'),
      );
      throw error;
    }
  }

  /** Everything of ours in the storage. */
  async list(): Promise<ArchiveList> {
    const found = (await this.storage.list()).flatMap((name) => kindOfFile(name) ?? []);
    const whole = new Set(found.filter(({ kind }) => kind === 'manifest').map(({ file }) => file));
    const list: ArchiveList = { backups: [], unfinished: [], damaged: [] };
    for (const { kind, file } of found) {
      if (kind === 'dump') {
        if (!whole.has(file)) list.unfinished.push(file);
        continue;
      }
      try {
        list.backups.push(await this.#manifest(file));
      } catch (error) {
        if (!(error instanceof BackupFailed) || error.code !== 'backup_damaged') throw error;
        list.damaged.push({ file, why: error.message });
      }
    }
    list.backups.sort((a, b) => (a.made_at < b.made_at ? 1 : -1));
    return list;
  }

  /** The manifest of a backup, or (null) of the newest. Throws `backup_not_found`, `backup_damaged`. */
  async find(file: string | null): Promise<Manifest> {
    if (file === null) {
      const [newest] = (await this.list()).backups;
      if (newest === undefined)
        throw new BackupFailed('backup_not_found', 'There is no backup in the storage.');
      return newest;
    }
    if (kindOfFile(file)?.kind !== 'dump')
      throw new BackupFailed('backup_not_found', `${file} is no name of a backup: see --list.`);
    return this.#manifest(file);
  }

  /**
   * Reads a backup from end to end: it is as long as its manifest says, has its checksum, and opens with its key to the last
   * chunk. Throws `backup_damaged`, `backup_key_missing`, `backup_not_found`.
   */
  async verify(manifest: Manifest, signal: AbortSignal, onBytes: OnBytes = () => {}): Promise<void> {
    const { file, size_bytes, sha256 } = manifest;
    const dump = await this.open(
      manifest,
      (tally) => {
        const same = tally.sizeBytes === size_bytes && tally.sha256 === sha256;
        return same
          ? null
          : new BackupFailed(
              'backup_damaged',
              `${file} has ${tally.sizeBytes} bytes that are not the ${size_bytes} of its manifest.`,
            );
      },
      onBytes,
    );
    await drained(dump, signal);
  }

  /**
   * The dump as pg_dump made it. The stream fails with `backup_damaged` where it is not what was written, before any of that is
   * given. `judge` sees size and checksum of the stored file before the stream ends.
   */
  async open(
    manifest: Manifest,
    judge: (tally: { sizeBytes: number; sha256: string }) => Error | null = () => null,
    onBytes: OnBytes = () => {},
  ): Promise<Readable> {
    const { file, key_id } = manifest;
    if (key_id !== null) keyOf(this.keys, key_id);
    const source = await this.storage.read(file);
    const tally = new Tally(onBytes, judge);
    const parts = key_id === null ? [source, tally] : [source, tally, new Unseal(this.keys)];
    const last = parts.at(-1) as Transform;
    last.on('error', () => {}); // whoever reads it hears of it
    pipeline(parts, () => {});
    return last;
  }

  /**
   * Removes what is past its time; resolves to the names. Only what a manifest names is touched, and of sealed ones only those
   * of our keys.
   */
  async prune(retention: Retention, nowMs: number): Promise<string[]> {
    const { backups } = await this.list();
    const ours = backups.filter(({ contents }) => contents !== null);
    const removed = outlived(ours, retention, nowMs).map(({ file }) => file);
    for (const file of removed) {
      await this.#removeAll(file);
      this.log.info({ file }, 'backup_removed');
    }
    return removed;
  }

  /** The manifest goes last: a removal that was cut short is seen by the next one. */
  async #removeAll(file: string): Promise<void> {
    for (const name of [file, checksumOf(file), manifestOf(file)]) await this.storage.remove(name);
  }

  async #manifest(file: string): Promise<Manifest> {
    return readManifest(file, await text(await this.storage.read(manifestOf(file))), this.keys);
  }

  #putText(file: string, content: string, signal: AbortSignal): Promise<void> {
    return this.storage.put(file, Readable.from([Buffer.from(content)]), signal);
  }

  async #tally(file: string, signal: AbortSignal): Promise<{ sizeBytes: number; sha256: string }> {
    const tally = new Tally();
    try {
      const source = await this.storage.read(file);
      tally.on('error', () => {});
      pipeline(source, tally, () => {});
      await drained(tally, signal);
    } catch (cause) {
      signal.throwIfAborted();
      throw new BackupFailed('backup_not_verified', 'what was stored can not be read back', { cause });
    }
    return { sizeBytes: tally.sizeBytes, sha256: tally.sha256 };
  }
}

/** Reads a stream to its end, and away. */
async function drained(stream: Readable, signal: AbortSignal): Promise<void> {
  try {
    const end = once(stream, 'end', { signal });
    stream.resume();
    await end;
  } finally {
    stream.destroy();
  }
}

/** Passes bytes on and takes their size and checksum; at the end `judge` may refuse them. */
class Tally extends Transform {
  readonly #hash = createHash('sha256');
  readonly #onBytes: OnBytes;
  readonly #judge: (tally: Tally) => Error | null;
  sizeBytes = 0;
  /** Hexadecimal; empty before the end. */
  sha256 = '';

  constructor(onBytes: OnBytes = () => {}, judge: (tally: Tally) => Error | null = () => null) {
    super();
    this.#onBytes = onBytes;
    this.#judge = judge;
  }

  override _transform(piece: Buffer, _encoding: string, done: (error: null, piece: Buffer) => void): void {
    this.sizeBytes += piece.length;
    this.#hash.update(piece);
    this.#onBytes(this.sizeBytes);
    done(null, piece);
  }

  override _flush(done: (error: Error | null) => void): void {
    this.sha256 = this.#hash.digest('hex');
    done(this.#judge(this));
  }
}
