import type { FastifyInstance, FastifyRequest } from 'fastify';
import { Problem } from '../errors.js';
import type { Actor, ActorOf, Role } from './actor.js';

/** Finds out who a request comes from; throws a 401 Problem when it carries credentials that are no good. */
export type Authenticate = (request: FastifyRequest) => Promise<Actor>;

const NOBODY: Actor = Object.freeze({ role: 'none' });

/**
 * Every route declares who may call it (`config.roles`); the hook authenticates, sets `request.actor` and refuses
 * the rest. It runs after the rate limit, so guessing credentials is limited too. Call before registering routes
 * and after the rate limit.
 */
export function installRoles(app: FastifyInstance, authenticate: Authenticate): void {
  app.addHook('onRoute', (route) => {
    const roles: readonly Role[] | undefined = route.config?.roles;
    if (roles === undefined || roles.length === 0)
      throw new Error(`${String(route.method)} ${route.url} declares no roles`);
    const open = roles.includes('none');
    const hook = async (request: FastifyRequest) => {
      // A route for everyone does not look at credentials: a stale token must not keep anyone from signing in.
      if (open && roles.length === 1) return;
      const actor = await authenticate(request);
      if (!open && actor.role === 'none') throw new Problem('unauthenticated');
      if (!open && !roles.includes(actor.role))
        throw new Problem('forbidden', `This call is for: ${roles.join(', ')}.`);
      request.actor = actor;
    };
    const hooks = route.onRequest === undefined ? [] : [route.onRequest].flat();
    route.onRequest = [...hooks, hook] as typeof route.onRequest;
  });
}

/** Gives every request an actor, nobody at first. Call before any other hook. */
export function installNobody(app: FastifyInstance): void {
  app.decorateRequest('actor');
  app.addHook('onRequest', async (request) => {
    request.actor = NOBODY;
  });
}

/** The actor, known to have one of the roles the route declares; anything else is a mistake in the route. */
export function actorOf<R extends Role>(request: FastifyRequest, ...roles: R[]): ActorOf<R> {
  const { actor } = request;
  if (!(roles as Role[]).includes(actor.role)) throw new Error(`the route let ${actor.role} in`);
  return actor as ActorOf<R>;
}

/**
 * Whose things a USER / ADMIN route is about: a user's or device's own; an admin names the user with `?user_id=`.
 * Throws 403 when a user names another, 400 when an admin names none.
 */
export function subjectUserId(request: FastifyRequest, queried: string | undefined): string {
  const actor = actorOf(request, 'user', 'device', 'admin');
  if (actor.role === 'admin') {
    if (queried === undefined)
      throw new Problem('validation_failed', undefined, {
        errors: [{ path: '/querystring/user_id', message: 'is required for an admin' }],
      });
    return queried;
  }
  if (queried !== undefined && queried !== actor.userId) throw new Problem('forbidden');
  return actor.userId;
}
