import type { FastifyRequest } from 'fastify';
import type pg from 'pg';
import type { Clock } from '../../gateway/runtime/clock.js';
import { BUYER_TOKEN_PREFIX } from '../buyers/secrets.js';
import { Problem } from '../errors.js';
import type { Actor } from '../http/actor.js';
import { clientAddress } from '../http/client-address.js';
import type { Authenticate } from '../http/roles.js';
import type { AcceptedTokens } from './accepted-tokens.js';
import { verifyAccessToken } from './access-token.js';
import { secretsEqual, sha256 } from './secrets.js';
import type { TelegramSignIn } from './telegram-sign-in.js';

/** Checks a buyer's token; provided by the buyers domain. */
export type VerifyBuyerToken = (
  token: string,
  ip: string,
) => Promise<
  | { ok: true; buyerId: string; tokenId: string; scopes: string[] }
  | { ok: false; code: 'invalid_token' | 'ip_not_allowed' }
>;

export interface AuthenticateDeps {
  pool: pg.Pool;
  clock: Clock;
  jwtSecret: string;
  /** Spares looking up tokens that were good a moment ago. */
  accepted: AcceptedTokens;
  botSecret: string | null;
  internalSecret: string | null;
  /** Whether an admin may come from this address. */
  adminIpAllowed: (ip: string) => boolean;
  telegramSignIn: TelegramSignIn;
  verifyBuyerToken: VerifyBuyerToken;
  /** Whom the ticket of an event stream was given to, once; null: nobody, or not any more. */
  takeStreamTicket: (ticket: string) => Promise<Actor | null>;
}

/** A device key, as registration gives it out. */
export const DEVICE_KEY_PREFIX = 'tsd_';

/** Reads whatever credentials a request carries: at most one kind, and if it is no good the answer is 401. */
export function createAuthenticate(deps: AuthenticateDeps): Authenticate {
  const { pool, clock, accepted } = deps;

  async function byAccessToken(token: string, ip: string): Promise<Actor> {
    const claims = await verifyAccessToken(deps.jwtSecret, token, clock.nowMs());
    if (claims === null) throw new Problem('invalid_token');
    const { userId, loginId, expiresAtMs } = claims;
    const { rows } = await pool.query<{ is_admin: boolean }>({
      name: 'login-of-token',
      text: `SELECT u.is_admin FROM logins l JOIN users u ON u.id = l.user_id
              WHERE l.id = $1 AND u.id = $2 AND l.revoked_at IS NULL AND u.status <> 'deleted'`,
      values: [loginId, userId],
    });
    const user = rows[0];
    if (user === undefined) throw new Problem('invalid_token');
    if (claims.role === 'admin' && !user.is_admin) throw new Problem('invalid_token');
    if (claims.role === 'admin' && !deps.adminIpAllowed(ip)) throw new Problem('ip_not_allowed');
    const actor: Actor = { role: claims.role, userId, loginId, expiresAtMs };
    accepted.accept(token, ip, actor, expiresAtMs - clock.nowMs());
    return actor;
  }

  async function byDeviceKey(key: string): Promise<Actor> {
    const { rows } = await pool.query<{ id: string; user_id: string }>(
      `SELECT d.id, d.user_id FROM devices d JOIN users u ON u.id = d.user_id
       WHERE d.key_hash = $1 AND d.removed_at IS NULL AND u.status <> 'deleted'`,
      [sha256(key)],
    );
    const device = rows[0];
    if (device === undefined) throw new Problem('invalid_token');
    return { role: 'device', userId: device.user_id, deviceId: device.id };
  }

  async function byBearer(token: string, request: FastifyRequest): Promise<Actor> {
    const ip = clientAddress(request);
    const known = accepted.get(token, ip);
    if (known !== null) return known;
    if (token.startsWith(DEVICE_KEY_PREFIX)) return byDeviceKey(token);
    if (!token.startsWith(BUYER_TOKEN_PREFIX)) return byAccessToken(token, ip);
    const result = await deps.verifyBuyerToken(token, ip);
    if (!result.ok) throw new Problem(result.code);
    const { buyerId, tokenId, scopes } = result;
    const actor: Actor = { role: 'buyer', buyerId, tokenId, scopes };
    accepted.accept(token, ip, actor, null);
    return actor;
  }

  function bySharedSecret(given: string, secret: string | null, actor: Actor): Actor {
    if (secret === null || !secretsEqual(given, secret)) throw new Problem('invalid_secret');
    return actor;
  }

  async function byStreamTicket(ticket: string, request: FastifyRequest): Promise<Actor> {
    const actor = await deps.takeStreamTicket(ticket);
    if (actor === null) throw new Problem('invalid_token', 'The ticket is wrong, was used or has expired.');
    if (actor.role === 'admin' && !deps.adminIpAllowed(clientAddress(request)))
      throw new Problem('ip_not_allowed');
    return actor;
  }

  return async (request) => {
    const { authorization } = request.headers;
    const { ticket } = request.query as { ticket?: unknown };
    if (request.routeOptions.config.eventStream === true && typeof ticket === 'string')
      return byStreamTicket(ticket, request);
    if (authorization !== undefined) {
      const token = /^Bearer +(\S+)$/i.exec(authorization)?.[1];
      if (token === undefined) throw new Problem('invalid_token', 'Use Authorization: Bearer <token>.');
      return byBearer(token, request);
    }
    const initData = request.headers['x-telegram-init-data'];
    if (typeof initData === 'string') {
      const signedIn = await deps.telegramSignIn.withInitData(initData);
      return { role: 'user', userId: signedIn.user.id, loginId: null };
    }
    const botSecret = request.headers['x-bot-secret'];
    if (typeof botSecret === 'string') return bySharedSecret(botSecret, deps.botSecret, { role: 'bot' });
    const internalSecret = request.headers['x-internal-secret'];
    if (typeof internalSecret === 'string')
      return bySharedSecret(internalSecret, deps.internalSecret, { role: 'internal' });
    return { role: 'none' };
  };
}
