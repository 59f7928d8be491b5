import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes } from 'node:crypto';
import { Transform, type TransformCallback } from 'node:stream';
import { BackupFailed } from './storage.js';

/*
 * A sealed file: a header (magic, version, id of the key, salt), then chunks of AES-256-GCM, each 64 KiB of content and its
 * tag, the last one shorter or as long. The key of a file is HKDF-SHA256 of the operator's key and the salt, so that
 * no two files share one. A chunk's nonce is its number and whether it is the last (STREAM, Hoang et al. 2015); the header is
 * authenticated with each. So a file that was changed, cut, lengthened, or whose chunks changed places does not open, and
 * nothing is given on before its chunk is known to be right.
 */
const MAGIC = Buffer.from('TSBACKUP\x01', 'latin1');
const KEY_ID_BYTES = 8;
const SALT_BYTES = 32;
const HEADER_BYTES = MAGIC.length + KEY_ID_BYTES + SALT_BYTES;
const CHUNK_BYTES = 65_536;
const TAG_BYTES = 16;
const SEALED_CHUNK_BYTES = CHUNK_BYTES + TAG_BYTES;
const NONCE_BYTES = 12;
/** 256 TiB: the number must not come round. */
const CHUNKS_MAX = 0xffff_ffff;

/** A key of 32 bytes with the name that files carry of it. */
export class BackupKey {
  /** 16 hexadecimal digits; says nothing about the key. */
  readonly id: string;
  readonly #bytes: Buffer;

  /** `hex`: 64 hexadecimal digits. */
  constructor(hex: string) {
    this.#bytes = Buffer.from(hex, 'hex');
    if (this.#bytes.length !== 32) throw new Error('a backup key is 64 hexadecimal digits');
    this.id = createHash('sha256')
      .update('traffic-share backup key id')
      .update(this.#bytes)
      .digest('hex')
      .slice(0, KEY_ID_BYTES * 2);
  }

  /** Another key for each use and salt. */
  derive(use: 'file' | 'manifest', salt: Buffer): Buffer {
    return Buffer.from(hkdfSync('sha256', this.#bytes, salt, `traffic-share backup ${use}`, 32));
  }
}

/** The key that dumps are sealed with, and those that they may have been sealed with. */
export interface BackupKeys {
  /** Null: dumps are not encrypted. */
  current: BackupKey | null;
  old: readonly BackupKey[];
}

/** The key of this id. Throws `backup_key_missing`. */
export function keyOf(keys: BackupKeys, id: string): BackupKey {
  const key = [keys.current, ...keys.old].find((known) => known?.id === id);
  if (key == null)
    throw new BackupFailed(
      'backup_key_missing',
      `It is sealed with key ${id}, which is neither TS_BACKUP_KEY nor one of TS_BACKUP_OLD_KEYS.`,
    );
  return key;
}

function nonceOf(number: number, last: boolean): Buffer {
  const nonce = Buffer.alloc(NONCE_BYTES);
  nonce.writeUInt32BE(number, NONCE_BYTES - 5);
  nonce[NONCE_BYTES - 1] = last ? 1 : 0;
  return nonce;
}

/** Bytes that come in pieces of any size, to be taken in pieces of one size. */
class Pieces {
  #parts: Buffer[] = [];
  length = 0;

  add(piece: Buffer): void {
    this.#parts.push(piece);
    this.length += piece.length;
  }

  take(bytes: number): Buffer {
    const all = this.#parts.length === 1 ? (this.#parts[0] as Buffer) : Buffer.concat(this.#parts);
    const taken = all.subarray(0, bytes);
    this.#parts = all.length > bytes ? [all.subarray(bytes)] : [];
    this.length = all.length - taken.length;
    return taken;
  }
}

/** Seals what is written to it. */
export class Seal extends Transform {
  readonly #header: Buffer;
  readonly #key: Buffer;
  readonly #pieces = new Pieces();
  #number = 0;

  constructor(key: BackupKey) {
    super();
    const salt = randomBytes(SALT_BYTES);
    this.#key = key.derive('file', salt);
    this.#header = Buffer.concat([MAGIC, Buffer.from(key.id, 'hex'), salt]);
    this.push(this.#header);
  }

  override _transform(piece: Buffer, _encoding: string, done: TransformCallback): void {
    this.#pieces.add(piece);
    // One byte more than a chunk: then it is not the last one.
    while (this.#pieces.length > CHUNK_BYTES) this.#chunk(this.#pieces.take(CHUNK_BYTES), false);
    done(this.#number > CHUNKS_MAX ? new BackupFailed('backup_failed', 'more than 256 TiB') : null);
  }

  override _flush(done: TransformCallback): void {
    this.#chunk(this.#pieces.take(CHUNK_BYTES), true);
    done();
  }

  #chunk(content: Buffer, last: boolean): void {
    const cipher = createCipheriv('aes-256-gcm', this.#key, nonceOf(this.#number++, last));
    cipher.setAAD(this.#header);
    this.push(Buffer.concat([cipher.update(content), cipher.final(), cipher.getAuthTag()]));
  }
}

/**
 * Opens what `Seal` made. Fails with `backup_damaged` at the first chunk that is not as it was written, and at the end of a
 * file that was cut; with `backup_key_missing` when none of the keys is its key.
 */
export class Unseal extends Transform {
  readonly #keys: BackupKeys;
  readonly #pieces = new Pieces();
  #header: Buffer | null = null;
  #key: Buffer = Buffer.alloc(0);
  #number = 0;

  constructor(keys: BackupKeys) {
    super();
    this.#keys = keys;
  }

  override _transform(piece: Buffer, _encoding: string, done: TransformCallback): void {
    try {
      this.#pieces.add(piece);
      if (this.#header === null && this.#pieces.length >= HEADER_BYTES)
        this.#open(this.#pieces.take(HEADER_BYTES));
      if (this.#header !== null)
        while (this.#pieces.length > SEALED_CHUNK_BYTES)
          this.#chunk(this.#pieces.take(SEALED_CHUNK_BYTES), false);
      done();
    } catch (error) {
      done(error as Error);
    }
  }

  override _flush(done: TransformCallback): void {
    try {
      if (this.#header === null) throw damaged('it ends within its header');
      this.#chunk(this.#pieces.take(SEALED_CHUNK_BYTES), true);
      done();
    } catch (error) {
      done(error as Error);
    }
  }

  #open(header: Buffer): void {
    if (!header.subarray(0, MAGIC.length).equals(MAGIC)) throw damaged('it is no sealed dump');
    const id = header.subarray(MAGIC.length, MAGIC.length + KEY_ID_BYTES).toString('hex');
    this.#key = keyOf(this.#keys, id).derive('file', header.subarray(-SALT_BYTES));
    this.#header = header;
  }

  #chunk(sealed: Buffer, last: boolean): void {
    const content = openChunk(this.#key, nonceOf(this.#number++, last), this.#header as Buffer, sealed);
    if (content === null)
      throw damaged(
        last ? `it was cut or changed in chunk ${this.#number}` : `it was changed in chunk ${this.#number}`,
      );
    this.push(content);
  }
}

const damaged = (how: string) => new BackupFailed('backup_damaged', `The dump can not be trusted: ${how}.`);

/** Null: it is not what was sealed. */
function openChunk(key: Buffer, nonce: Buffer, header: Buffer, sealed: Buffer): Buffer | null {
  if (sealed.length < TAG_BYTES) return null;
  const decipher = createDecipheriv('aes-256-gcm', key, nonce);
  decipher.setAAD(header);
  decipher.setAuthTag(sealed.subarray(-TAG_BYTES));
  const content = decipher.update(sealed.subarray(0, -TAG_BYTES));
  try {
    decipher.final();
  } catch {
    return null;
  }
  return content;
}

/** Seals a short text that goes with `bound`, which is not secret and must not change; base64. */
export function sealText(key: BackupKey, content: string, bound: string): string {
  const salt = randomBytes(SALT_BYTES);
  const cipher = createCipheriv('aes-256-gcm', key.derive('manifest', salt), nonceOf(0, true));
  cipher.setAAD(Buffer.from(bound));
  return Buffer.concat([salt, cipher.update(content), cipher.final(), cipher.getAuthTag()]).toString(
    'base64',
  );
}

/** What `sealText` sealed; null: it, or what it is bound to, is another. */
export function unsealText(key: BackupKey, sealed: string, bound: string): string | null {
  const bytes = Buffer.from(sealed, 'base64');
  const salt = bytes.subarray(0, SALT_BYTES);
  const content = openChunk(
    key.derive('manifest', salt),
    nonceOf(0, true),
    Buffer.from(bound),
    bytes.subarray(SALT_BYTES),
  );
  return content?.toString('utf8') ?? null;
}
