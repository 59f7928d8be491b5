import type { FastifyRequest } from 'fastify';

/**
 * The address the request was seen to come from: the socket's, or what a trusted proxy says in X-Forwarded-For
 * (TS_TRUSTED_PROXIES). An IPv4 address mapped into IPv6 is given as IPv4.
 */
export function clientAddress(request: Pick<FastifyRequest, 'ip'>): string {
  const address = request.ip.replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i, '');
  const zone = address.indexOf('%'); // link-local IPv6 carries an interface name, which Postgres' inet refuses
  return zone === -1 ? address : address.slice(0, zone);
}
