import { X509Certificate } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';

/**
 * Where devices of this machine dial, by a name that the tunnel port's certificate is for; without one, in plain.
 * Throws when the certificate can not be read or is for neither 127.0.0.1 nor localhost: then no device of this machine
 * could connect.
 */
export function tunnelUrlOf(certPath: string | null, port: number): string {
  if (certPath === null) return `ws://127.0.0.1:${port}/tunnel`;
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(readFileSync(certPath));
  } catch (error) {
    throw new Error(`TS_TUNNEL_TLS_CERT=${certPath} is no certificate in PEM: ${(error as Error).message}`);
  }
  if (certificate.checkIP('127.0.0.1') !== undefined) return `wss://127.0.0.1:${port}/tunnel`;
  if (certificate.checkHost('localhost') !== undefined) return `wss://localhost:${port}/tunnel`;
  throw new Error(
    `TS_TUNNEL_TLS_CERT=${certPath} is for neither 127.0.0.1 nor localhost, where devices dial the standalone system`,
  );
}

/**
 * Writes to `path` what a device of this machine is to trust beside Node's own authorities, and returns what
 * NODE_EXTRA_CA_CERTS is to be for it: the tunnel port's certificate, behind what whoever started us had there already
 * (`inherited`, a company's authority, say), as Node reads one file only. One that can not be read is left out, as Node
 * does.
 */
export function writeTrust(path: string, certPath: string, inherited: string | undefined): string {
  let others = '';
  try {
    if (inherited) others = `${readFileSync(inherited, 'utf8').trimEnd()}\n`;
  } catch {}
  writeFileSync(path, others + readFileSync(certPath, 'utf8'));
  return path;
}
