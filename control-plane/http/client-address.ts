import type { FastifyRequest } from 'fastify';
import { plainAddress } from '../../gateway/runtime/addresses.js';

/**
 * The address the request was seen to come from: the socket's, or what a trusted proxy says in X-Forwarded-For
 * (TS_TRUSTED_PROXIES). An IPv4 address mapped into IPv6 is given as IPv4. What is no address at all (a trusted proxy
 * that writes names) counts as 0.0.0.0: from nowhere, and nothing is allowed from there.
 */
export function clientAddress(request: Pick<FastifyRequest, 'ip'>): string {
  return plainAddress(request.ip) ?? '0.0.0.0';
}
