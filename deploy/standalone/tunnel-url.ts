import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';

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
