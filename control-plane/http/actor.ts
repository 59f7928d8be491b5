/** Who a request comes from, as the roles hook found out. `expiresAtMs`: of the access token, ms since the Unix epoch. */
export type Actor =
  | { role: 'none' }
  /** A provider. `loginId` is null when the request carried Mini App init data instead of a token. */
  | { role: 'user'; userId: string; loginId: string | null; expiresAtMs?: number }
  | { role: 'device'; userId: string; deviceId: string }
  | { role: 'buyer'; buyerId: string; tokenId: string; scopes: string[] }
  | { role: 'admin'; userId: string; loginId: string; expiresAtMs?: number }
  | { role: 'bot' }
  | { role: 'internal' };

export type Role = Actor['role'];
export type ActorOf<R extends Role> = Extract<Actor, { role: R }>;

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Who may call the route. A route without roles does not register. `none` is everyone, signed in or not. */
    roles?: readonly Role[];
    /**
     * The answer is a stream of events. It is opened by a one-use ticket in the query as well, since a browser's EventSource
     * sends no header, and its time is not one of an answer.
     */
    eventStream?: boolean;
  }
  interface FastifyRequest {
    actor: Actor;
  }
}

/** The actor's own id, for audit and limits; null for those that have none. */
export function actorId(actor: Actor): string | null {
  switch (actor.role) {
    case 'user':
    case 'admin':
      return actor.userId;
    case 'device':
      return actor.deviceId;
    case 'buyer':
      return actor.buyerId;
    default:
      return null;
  }
}
