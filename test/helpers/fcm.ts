import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { importSPKI, jwtVerify } from 'jose';

/** One message that the server was asked to send. */
export interface SentPush {
  token: string;
  notification: { title: string; body: string };
  data: Record<string, string>;
  android?: { notification?: { tag?: string } };
}

export interface FcmReply {
  status: number;
  headers?: Record<string, string>;
  body?: object;
}

const PROJECT = 'share-test';
const SCOPE = 'https://www.googleapis.com/auth/firebase.messaging';

/** An error as FCM's documents say. */
export const fcmError = (status: number, general: string, code: string | null, headers = {}): FcmReply => ({
  status,
  headers,
  body: {
    error: {
      code: status,
      message: 'as the test says',
      status: general,
      ...(code !== null && {
        details: [{ '@type': 'type.googleapis.com/google.firebase.fcm.v1.FcmError', errorCode: code }],
      }),
    },
  },
});

/**
 * Google's token endpoint and FCM's HTTP v1 on one port. Assertions are verified (RS256, issuer, audience, scope, times,
 * key id), calls need a token that was given out; messages are checked against the documented form. `reply` answers a
 * call instead, when it gives something.
 */
export async function startFcm(t: { teardown(fn: () => unknown): unknown }) {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  const verifyKey = await importSPKI(publicKey, 'RS256');
  let tokens = 0;
  const server = createServer(async (request, response) => {
    let text = '';
    for await (const chunk of request) text += chunk;
    const answer = ({ status, headers, body }: FcmReply) => {
      response.writeHead(status, { 'content-type': 'application/json', connection: 'close', ...headers });
      response.end(JSON.stringify(body ?? {}));
    };
    if (request.url === '/token') return answer(await giveToken(text));
    if (request.url !== `/v1/projects/${PROJECT}/messages:send` || request.method !== 'POST')
      return answer(fcmError(404, 'NOT_FOUND', null));
    fcm.authorizations.push(request.headers.authorization ?? '');
    if (!fcm.valid.has(request.headers.authorization?.replace('Bearer ', '') ?? ''))
      return answer(fcmError(401, 'UNAUTHENTICATED', null));
    const { message } = JSON.parse(text) as { message: SentPush };
    const forced = fcm.reply(message);
    if (forced !== null) return answer(forced);
    const strings = Object.values(message.data ?? {}).every((value) => typeof value === 'string');
    if (typeof message.token !== 'string' || typeof message.notification?.title !== 'string' || !strings)
      return answer(fcmError(400, 'INVALID_ARGUMENT', 'INVALID_ARGUMENT'));
    fcm.sent.push(message);
    answer({ status: 200, body: { name: `projects/${PROJECT}/messages/${fcm.sent.length}` } });
  });
  async function giveToken(text: string): Promise<FcmReply> {
    fcm.tokenCalls++;
    if (fcm.tokenReply !== null) return fcm.tokenReply;
    const form = new URLSearchParams(text);
    try {
      if (form.get('grant_type') !== 'urn:ietf:params:oauth:grant-type:jwt-bearer') throw new Error('grant');
      const { payload, protectedHeader } = await jwtVerify(form.get('assertion') ?? '', verifyKey, {
        algorithms: ['RS256'],
        issuer: 'push@share-test.iam.gserviceaccount.com',
        audience: fcm.account.token_uri,
        requiredClaims: ['iat', 'exp'],
      });
      if (payload.scope !== SCOPE || protectedHeader.kid !== 'key-1') throw new Error('scope or key');
      if ((payload.exp as number) - (payload.iat as number) > 3_600) throw new Error('too long');
    } catch (error) {
      return { status: 400, body: { error: 'invalid_grant', error_description: String(error) } };
    }
    const token = `ya29.${++tokens}`;
    fcm.valid.add(token);
    return { status: 200, body: { access_token: token, expires_in: fcm.expiresIn, token_type: 'Bearer' } };
  }
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const fcm = {
    url,
    /** JSON of the service account's key file. */
    account: {
      type: 'service_account',
      project_id: PROJECT,
      private_key_id: 'key-1',
      private_key: privateKey,
      client_email: 'push@share-test.iam.gserviceaccount.com',
      token_uri: `${url}/token`,
    },
    /** Access tokens that are good; take one out, and it is no more. */
    valid: new Set<string>(),
    expiresIn: 3_600,
    tokenCalls: 0,
    tokenReply: null as FcmReply | null,
    reply: (_message: SentPush): FcmReply | null => null,
    authorizations: [] as string[],
    sent: [] as SentPush[],
  };
  return fcm;
}
