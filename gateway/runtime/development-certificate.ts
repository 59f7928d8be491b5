import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type CertificateFiles, readCertificate } from './tls-certificate.js';

const DAY_MS = 86_400_000;
/** Browsers and systems refuse server certificates that are valid for longer. */
const VALID_DAYS = 825;
/** With less time left a new one is drawn at the next start. */
const RENEW_DAYS = 30;

/** Where the development certificate of a data folder is; clients trust it by `certPath`. */
export function developmentCertificateFiles(folder: string): CertificateFiles {
  // A folder of its own: it is watched, and the journal beside it is written for every piece of bytes.
  return {
    certPath: join(folder, 'proxy-tls', 'cert.pem'),
    keyPath: join(folder, 'proxy-tls', 'key.pem'),
  };
}

/**
 * A certificate for localhost, 127.0.0.1 and ::1, signed by itself, for developing and trying: the one in the folder,
 * or a new one (ECDSA P-256) when there is none that fits or it is nearly over. Both files are readable by their owner
 * only.
 */
export async function developmentCertificate(folder: string, nowMs: number): Promise<CertificateFiles> {
  const files = developmentCertificateFiles(folder);
  const kept = await readCertificate(files).catch(() => null);
  if (kept !== null && kept.expiresAtMs - nowMs > RENEW_DAYS * DAY_MS) return files;
  // Only here: it brings an ASN.1 library along that production never needs.
  const { generate } = await import('selfsigned');
  const drawn = await generate([{ name: 'commonName', value: 'Traffic Share development' }], {
    keyType: 'ec',
    curve: 'P-256',
    algorithm: 'sha256',
    notBeforeDate: new Date(nowMs - DAY_MS),
    notAfterDate: new Date(nowMs + VALID_DAYS * DAY_MS),
    extensions: [
      { name: 'basicConstraints', cA: true, critical: true },
      { name: 'keyUsage', digitalSignature: true, keyCertSign: true, critical: true },
      { name: 'extKeyUsage', serverAuth: true },
      {
        name: 'subjectAltName',
        altNames: [
          { type: 2, value: 'localhost' },
          { type: 7, ip: '127.0.0.1' },
          { type: 7, ip: '::1' },
        ],
      },
    ],
  });
  mkdirSync(dirname(files.keyPath), { recursive: true });
  writePrivate(files.keyPath, drawn.private);
  writePrivate(files.certPath, drawn.cert);
  return files;
}

/** Whole or not at all, readable by the owner only. */
function writePrivate(path: string, text: string): void {
  writeFileSync(`${path}.new`, text, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}
