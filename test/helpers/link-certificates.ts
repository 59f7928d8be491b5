import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generate } from 'selfsigned';
import type { Test } from 'tap';

const EC = { keyType: 'ec', curve: 'P-256', algorithm: 'sha256' } as const;

/** A CA of its own that signs certificates for gateways, in a folder that goes with the test. */
export interface LinkCa {
  caPath: string;
  /** Settings of a gateway with links on a free port of loopback, with a certificate for that name. */
  settings: (name: string) => Promise<Record<string, string>>;
}

export async function startLinkCa(t: Pick<Test, 'teardown'>): Promise<LinkCa> {
  const folder = await mkdtemp(join(tmpdir(), 'ts-link-ca-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const ca = await generate([{ name: 'commonName', value: 'gateways' }], {
    ...EC,
    extensions: [
      { name: 'basicConstraints', cA: true, critical: true },
      { name: 'keyUsage', keyCertSign: true, critical: true },
    ],
  });
  const caPath = join(folder, 'ca.pem');
  await writeFile(caPath, ca.cert);
  return {
    caPath,
    settings: async (name) => {
      const own = await generate([{ name: 'commonName', value: name }], {
        ...EC,
        ca: { key: ca.private, cert: ca.cert },
        extensions: [
          { name: 'keyUsage', digitalSignature: true, critical: true },
          { name: 'extKeyUsage', serverAuth: true, clientAuth: true },
          { name: 'subjectAltName', altNames: [{ type: 2, value: name }] },
        ],
      });
      const [certPath, keyPath] = [join(folder, `${name}.pem`), join(folder, `${name}.key`)];
      await writeFile(certPath, own.cert);
      await writeFile(keyPath, own.private);
      return {
        TS_GATEWAY_LINK_HOST: '127.0.0.1',
        TS_GATEWAY_LINK_PORT: '0',
        TS_GATEWAY_LINK_TLS_CERT: certPath,
        TS_GATEWAY_LINK_TLS_KEY: keyPath,
        TS_GATEWAY_LINK_TLS_CA: caPath,
      };
    },
  };
}
