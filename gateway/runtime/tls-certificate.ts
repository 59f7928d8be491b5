import { constants, X509Certificate } from 'node:crypto';
import { type FSWatcher, watch } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { createSecureContext, DEFAULT_CIPHERS, type SecureContext } from 'node:tls';
import type { Log } from './logging.js';

/** Where a certificate (with its chain) and its key are: PEM files. */
export interface CertificateFiles {
  certPath: string;
  keyPath: string;
}

/** A pair that fits, as read. `context` is ready for handshakes. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
  readonly context: SecureContext;
  /** Wall clock, ms. */
  readonly expiresAtMs: number;
}

export interface TlsCertificateSettings {
  /** How often the files are looked at where the system does not tell of changes (network folders), ms. */
  pollMs: number;
  /** Time from a change to reading the files, ms: two files are rarely replaced at once. */
  settleMs: number;
}

export const tlsCertificateDefaults: TlsCertificateSettings = { pollMs: 5_000, settleMs: 200 };

/** The oldest version of TLS that is spoken; RFC 8996 forbids those before it. */
export const TLS_VERSION_MIN = 'TLSv1.2';

/**
 * For what devices and gateways carry. AES-128 first: Node puts AES-256, which costs more and is no safer here. A client that
 * prefers ChaCha20, as phones without AES in hardware do, gets that.
 */
export const BULK_TLS = {
  minVersion: TLS_VERSION_MIN,
  ciphers: `TLS_AES_128_GCM_SHA256:${DEFAULT_CIPHERS}`,
  secureOptions: constants.SSL_OP_PRIORITIZE_CHACHA,
} as const;

/**
 * A certificate and its key in two files that may be replaced while the process runs: read again within moments of a
 * change. A pair that can not be read, is cut short or does not fit together is reported and the last good one stays;
 * connections that are open go on with what they began with.
 */
export class TlsCertificate {
  #current: Certificate;
  #seen: string;
  #checking: Promise<void> = Promise.resolve();
  #settling: NodeJS.Timeout | null = null;
  #closed = false;
  readonly #watchers: FSWatcher[] = [];
  readonly #listeners: Array<(certificate: Certificate) => void> = [];
  readonly #timer: NodeJS.Timeout;

  private constructor(
    readonly files: CertificateFiles,
    private readonly log: Log,
    private readonly settings: TlsCertificateSettings,
    first: { certificate: Certificate; seen: string },
  ) {
    this.#current = first.certificate;
    this.#seen = first.seen;
    this.#timer = setInterval(() => void this.check(), settings.pollMs).unref();
    // The folders, not the files: a new file is often renamed over the old one, or a link above it is turned.
    for (const folder of new Set([dirname(files.certPath), dirname(files.keyPath)])) {
      try {
        const watcher = watch(folder, { persistent: false }, () => this.#checkSoon());
        watcher.on('error', () => watcher.close());
        this.#watchers.push(watcher);
      } catch {
        // No watches left on this machine: the poll finds changes.
      }
    }
  }

  /** Rejects, saying what is wrong with which file, when there is no good pair yet. */
  static async open(
    files: CertificateFiles,
    log: Log,
    settings: Partial<TlsCertificateSettings> = {},
  ): Promise<TlsCertificate> {
    const seen = await signature(files);
    const certificate = await readCertificate(files);
    return new TlsCertificate(files, log, { ...tlsCertificateDefaults, ...settings }, { certificate, seen });
  }

  /** The last good pair: for the next handshake. */
  get current(): Certificate {
    return this.#current;
  }

  /** Calls with each further good pair. */
  onChange(listener: (certificate: Certificate) => void): void {
    this.#listeners.push(listener);
  }

  /** Reads the files again if one of them changed; never rejects. */
  check(): Promise<void> {
    this.#checking = this.#checking.then(() => this.#checkOnce());
    return this.#checking;
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    if (this.#settling) clearTimeout(this.#settling);
    for (const watcher of this.#watchers) watcher.close();
  }

  /** Other files of the folder may change all the time: that neither puts it off nor costs more than one look. */
  #checkSoon(): void {
    this.#settling ??= setTimeout(() => {
      this.#settling = null;
      void this.check();
    }, this.settings.settleMs).unref();
  }

  async #checkOnce(): Promise<void> {
    const { files, log } = this;
    const seen = await signature(files);
    if (seen === this.#seen || this.#closed) return;
    this.#seen = seen;
    try {
      this.#current = await readCertificate(files);
    } catch (error) {
      const problem = (error as Error).message;
      log.error({ ...files, problem }, 'tls_certificate_unusable_last_good_kept');
      return;
    }
    const expiresAt = new Date(this.#current.expiresAtMs).toISOString();
    log.info({ ...files, expiresAt }, 'tls_certificate_reloaded');
    for (const listener of this.#listeners) listener(this.#current);
  }
}

/** Reads a pair; rejects with a sentence that names the file and what is wrong, and holds nothing of the key. */
export async function readCertificate({ certPath, keyPath }: CertificateFiles): Promise<Certificate> {
  const cert = await readText(certPath);
  const key = await readText(keyPath);
  let leaf: X509Certificate;
  try {
    leaf = new X509Certificate(cert);
    createSecureContext({ cert, minVersion: TLS_VERSION_MIN });
  } catch (error) {
    throw new Error(`${certPath} is no certificate in PEM: ${(error as Error).message}`);
  }
  try {
    createSecureContext({ key });
  } catch (error) {
    throw new Error(`${keyPath} is no private key in PEM without a passphrase: ${(error as Error).message}`);
  }
  try {
    // A renegotiation costs the server much and the client nothing.
    const secureOptions = constants.SSL_OP_NO_RENEGOTIATION;
    const context = createSecureContext({ cert, key, minVersion: TLS_VERSION_MIN, secureOptions });
    return { cert, key, context, expiresAtMs: Date.parse(leaf.validTo) };
  } catch (error) {
    throw new Error(`${keyPath} is not the key of ${certPath}: ${(error as Error).message}`);
  }
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new Error(`${path} cannot be read: ${(error as NodeJS.ErrnoException).code}`);
  }
}

/** Changes whenever one of the files does. */
async function signature({ certPath, keyPath }: CertificateFiles): Promise<string> {
  const parts = await Promise.all(
    [certPath, keyPath].map((path) =>
      stat(path).then(
        ({ mtimeMs, size, ino }) => `${mtimeMs} ${size} ${ino}`,
        () => 'gone',
      ),
    ),
  );
  return parts.join(' ');
}
