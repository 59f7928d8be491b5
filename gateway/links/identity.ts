import { readFile } from 'node:fs/promises';
import { createSecureContext, type PeerCertificate } from 'node:tls';
import type { Log } from '../runtime/logging.js';
import { TLS_VERSION_MIN, TlsCertificate } from '../runtime/tls-certificate.js';
import type { LinkConfig } from './settings.js';

/** What this gateway proves itself with on links, at either end, and by whom others are known. */
export interface LinkIdentity {
  readonly certificate: TlsCertificate;
  /** PEM. */
  readonly ca: string;
}

/** Reads the files; rejects, saying what is wrong with which, when they can not be used. */
export async function openIdentity(config: LinkConfig, log: Log): Promise<LinkIdentity> {
  const { linkCert: certPath, linkKey: keyPath, linkCa: caPath } = config;
  if (certPath === null || keyPath === null || caPath === null) throw new Error('no certificate for links');
  let ca: string;
  try {
    ca = await readFile(caPath, 'utf8');
  } catch (error) {
    throw new Error(`${caPath} cannot be read: ${(error as NodeJS.ErrnoException).code}`);
  }
  try {
    if (!ca.includes('-----BEGIN CERTIFICATE-----')) throw new Error('no certificate in it');
    createSecureContext({ ca, minVersion: TLS_VERSION_MIN });
  } catch (error) {
    throw new Error(`${caPath} is no certificate in PEM: ${(error as Error).message}`);
  }
  return { certificate: await TlsCertificate.open({ certPath, keyPath }, log), ca };
}

/** Whether a certificate, which the CA has signed, is that gateway's, or of the gateway whose worker it is. */
export function vouchesFor(certificate: Pick<PeerCertificate, 'subjectaltname'>, gatewayId: string): boolean {
  const names = dnsNames(certificate.subjectaltname ?? '');
  return [gatewayId, gatewayId.replace(/-w\d+$/, '')].some((id) => names.has(id.toLowerCase()));
}

/** As node:tls writes them: `DNS:a, IP Address:…`; names with odd characters are quoted there, and no gateway's. */
function dnsNames(subjectAltName: string): Set<string> {
  const names = new Set<string>();
  for (const [, name] of subjectAltName.matchAll(/(?:^|, )DNS:([A-Za-z0-9.-]+)(?=, |$)/g))
    names.add((name as string).toLowerCase());
  return names;
}
