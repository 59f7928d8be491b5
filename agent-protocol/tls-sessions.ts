/** Sites whose sessions are kept at once; the one heard of longest ago goes first. */
const SITES_MAX = 16;
/** Sessions kept of a site. OpenSSL gives two with each full handshake, and through node:tls none with a resumed one. */
const SESSIONS_MAX = 4;

/**
 * TLS sessions for dialling the same gateways again: a handshake by a session ticket needs no certificate and no
 * signature (RFC 8446 section 2.2). A gateway that does not know the ticket any more, since it was started again or
 * has another certificate, shakes hands in full instead. Sessions are of connections whose certificate was verified.
 */
export class TlsSessions {
  readonly #bySite = new Map<string, Buffer[]>();

  /**
   * The newest session of a site, each one once: a ticket used twice would tell whoever watches two networks that the same
   * device is on both (RFC 8446 appendix C.4). Without any left the next handshake is in full, and brings more.
   */
  take(site: string): Buffer | undefined {
    return this.#bySite.get(site)?.pop();
  }

  keep(site: string, session: Buffer): void {
    const sessions = this.#bySite.get(site) ?? [];
    sessions.push(session);
    if (sessions.length > SESSIONS_MAX) sessions.shift();
    this.#bySite.delete(site);
    this.#bySite.set(site, sessions);
    const [oldest] = this.#bySite.keys();
    if (this.#bySite.size > SITES_MAX) this.#bySite.delete(oldest as string);
  }
}
