import createClient, { type Client } from 'openapi-fetch';
import type { paths } from './schema.js';

/** The API with its types: `client.POST('/api/withdraw', { body })` knows the body and the answers of each call. */
export type ApiClient = Client<paths>;

export type { components, operations, paths } from './schema.js';

export interface ApiClientOptions {
  /** `http://host:port` or `https://…`, without a path. */
  url: string;
  /** Sent with each call: a bearer token, or headers that sign in otherwise (`X-Bot-Secret`, `X-Telegram-Init-Data`). */
  token?: string | undefined;
  headers?: Readonly<Record<string, string>> | undefined;
  /** Instead of the global `fetch`. */
  fetch?: ((request: Request) => Promise<Response>) | undefined;
}

/**
 * A client of the control plane whose types are generated from its OpenAPI document (`npm run client`). Calls resolve to
 * `{ data }` or, for a problem document, `{ error }`; they reject when nothing answered.
 */
export function createApiClient({ url, token, headers, fetch }: ApiClientOptions): ApiClient {
  return createClient<paths>({
    baseUrl: url,
    headers: { ...headers, ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) },
    ...(fetch === undefined ? {} : { fetch }),
  });
}

/** An answer that was not the one asked for. */
export class ApiProblem extends Error {
  constructor(
    readonly status: number,
    /** Stable; one of the codes of `errors.ts`. Empty when what answered was not the API. */
    readonly code: string,
    message: string,
  ) {
    super(message);
    this.name = 'ApiProblem';
  }
}

/** The data of a call, for those who can do nothing about a problem: then it throws ApiProblem. */
export async function must<Data>(
  call: Promise<{ data?: Data; error?: unknown; response: Response }>,
): Promise<NonNullable<Data>> {
  const { data, error, response } = await call;
  if (response.ok && data !== undefined && data !== null) return data;
  const problem = (error ?? {}) as { code?: unknown; title?: unknown; detail?: unknown };
  const path = URL.canParse(response.url) ? new URL(response.url).pathname : 'The server';
  const why = [problem.code, problem.detail ?? problem.title].filter((part) => part !== undefined).join(': ');
  throw new ApiProblem(
    response.status,
    String(problem.code ?? ''),
    `${path} answered ${response.status} ${why}`,
  );
}
