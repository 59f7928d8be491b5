import { readFileSync } from 'node:fs';

/** Who this server is at Google: what matters of a service account's JSON key file. */
export interface ServiceAccount {
  projectId: string;
  clientEmail: string;
  /** PEM, PKCS #8. */
  privateKey: string;
  privateKeyId: string | null;
  /** Where assertions are traded for access tokens. */
  tokenUrl: string;
}

/**
 * Reads a service account from a setting: the JSON itself, or the path of the file. Throws, without a word of the
 * content, when it is none.
 */
export function readServiceAccount(setting: string): ServiceAccount {
  const isJson = setting.trimStart().startsWith('{');
  let json: Record<string, unknown>;
  try {
    json = JSON.parse(isJson ? setting : readFileSync(setting, 'utf8'));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Error(`TS_FCM_SERVICE_ACCOUNT can not be read (${code ?? 'it is not JSON'})`);
  }
  const text = (name: string) => {
    const value = json[name];
    if (typeof value !== 'string' || value === '')
      throw new Error(`TS_FCM_SERVICE_ACCOUNT is no service account: ${name} is missing`);
    return value;
  };
  if (json.type !== 'service_account')
    throw new Error('TS_FCM_SERVICE_ACCOUNT is no service account: type is not service_account');
  return {
    projectId: text('project_id'),
    clientEmail: text('client_email'),
    privateKey: text('private_key'),
    privateKeyId: typeof json.private_key_id === 'string' ? json.private_key_id : null,
    tokenUrl: text('token_uri'),
  };
}
