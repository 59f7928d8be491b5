import { type ApiClient, createApiClient } from '../../../client/client.js';
import { currentToken } from '../session/refresh.js';
import { forgetSession, type Role } from '../session/session.js';
import { keyOfAct } from './act-keys.js';
import { apiErrorOf } from './problem.js';

/** The API for anyone. */
export const openApi: ApiClient = createApiClient({ url: location.origin });

/**
 * The API as the role: each call with its token, renewed in time; each POST with a key, so that trying again does nothing
 * twice. When the session is over, the 401 comes through and the session is forgotten, which shows the sign-in page.
 */
function clientOf(role: Role): ApiClient {
  return createApiClient({
    url: location.origin,
    fetch: async (request) => {
      if (request.method !== 'POST') return sendAs(role, request);
      const act = await keyOfAct(request);
      request.headers.set('idempotency-key', act.key);
      const answer = await sendAs(role, request);
      act.answered(answer);
      return answer;
    },
  });
}

async function sendAs(role: Role, request: Request): Promise<Response> {
  const again = request.clone();
  const token = await currentToken(role);
  const answer = await send(request, token);
  if (answer.status !== 401) return answer;
  const renewed = token === null ? null : await currentToken(role, token);
  if (renewed !== null) return send(again, renewed);
  forgetSession(role);
  return answer;
}

function send(request: Request, token: string | null): Promise<Response> {
  if (token !== null) request.headers.set('authorization', `Bearer ${token}`);
  return fetch(request);
}

const clients = new Map<Role, ApiClient>();

/** The role's client; the same one each time. */
export function apiOf(role: Role): ApiClient {
  const client = clients.get(role) ?? clientOf(role);
  clients.set(role, client);
  return client;
}

/** The data of a call. Throws ApiError with a sentence for people and errors by field. */
export async function ask<Data>(
  call: Promise<{ data?: Data; error?: unknown; response: Response }>,
): Promise<NonNullable<Data>> {
  const { data, error, response } = await call;
  if (response.ok) return (data ?? {}) as NonNullable<Data>;
  throw apiErrorOf(response.status, error);
}
