import type { Caller, Cast } from '../../helpers/cast.js';

/** What a call is made of beside its method and path. */
export interface Ask {
  /** Values for `{…}` of the path. */
  path?: Record<string, string | number>;
  query?: Record<string, string | number | boolean>;
  /** JSON; a string goes as it is. Left out: no body. */
  body?: unknown;
  headers?: Record<string, string>;
}

/** Builds a good call out of a cast's things; `as`: who will make it. */
export type Asker = (cast: Cast, as: Caller) => Ask | Promise<Ask>;

/** Whose the thing is that the call names: `user`, `buyer`: another one's call of the same role is refused. */
export type Owner = 'user' | 'buyer';

export interface Row {
  /** `METHOD /path/{parameter}`, as in OpenAPI. */
  call: string;
  callers: readonly Caller[];
  ask: Asker;
  owner: Owner | null;
  /** Calls that carry a secret, code or signature which is wrong: 401. */
  wrong: readonly Asker[];
  /** Tables that refused calls may write: refusals are audited, tries are counted. */
  writes: readonly string[];
}

type More = Partial<Pick<Row, 'owner' | 'wrong' | 'writes'>>;

/** One row. `callers`: roles with blanks between; `user` is a token or a Mini App's init data. */
export function row(call: string, callers: string, ask: Asker | null = null, more: More = {}): Row {
  return {
    call,
    callers: callers.split(' ').flatMap((name) => (name === 'user' ? ['user', 'init'] : [name])) as Caller[],
    ask: ask ?? (() => ({})),
    owner: more.owner ?? null,
    wrong: more.wrong ?? [],
    writes: more.writes ?? [],
  };
}

type Made<T> = (cast: Cast) => T | Promise<T>;

/** A call with a body, the same for everyone who makes it. */
export const body =
  (make: Made<unknown>): Asker =>
  async (cast) => ({ body: await make(cast) });

/** A call about the thing with this id, as `{name}` in the path; with a body when there is one. */
export const on =
  (name: string, id: Made<string | number>, make: Made<unknown> | null = null): Asker =>
  async (cast) => ({
    path: { [name]: await id(cast) },
    ...(make === null ? {} : { body: await make(cast) }),
  });

/** A call about a provider: their own, or the one an admin names. */
export const ofUser: Asker = async (cast, as) =>
  as === 'admin' ? { query: { user_id: await cast.userId() } } : {};
