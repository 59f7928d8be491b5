import { randomBytes, randomUUID } from 'node:crypto';
import type pg from 'pg';
import type { LiveRedis } from '../../gateway/live/connection.js';
import type { TicketRecord } from '../../gateway/live/records.js';
import { writeTicket } from '../../gateway/live/store.js';
import { sha256 } from '../auth/secrets.js';
import { withTransaction } from '../db/pool.js';
import { live } from '../db/redis.js';
import { Problem, type ProblemCode } from '../errors.js';
import { offerPackage } from '../packages/offer.js';
import type { SettingsStore } from '../settings/settings.js';
import { isOlder } from '../system/version.js';
import { findConsent } from '../users/consent.js';
import { type OwnerRules, readOwnerRules } from '../users/owner-rules.js';
import type { ProviderSettings } from '../users/provider-settings.js';
import { announceStops, type StopChannel, stopSessions } from './stop.js';

interface Place extends Pick<TicketRecord, 'country' | 'city' | 'asn' | 'state' | 'stateCode'> {
  asOrganisation?: string | null | undefined;
}

/** What is known of an address a device was seen to come from. */
export type Origin =
  | ({ ok: true } & Place)
  /** `rule`: for people, which rule said no. */
  | {
      ok: false;
      code: Extract<ProblemCode, 'region_not_allowed' | 'vpn_detected' | 'denylisted'>;
      rule: string;
    };

export interface OriginCheck {
  check(address: string): Origin | Promise<Origin>;
}

export interface StartDeps {
  pool: pg.Pool;
  redis: LiveRedis;
  live: StopChannel;
  settings: SettingsStore;
  originCheck: OriginCheck;
  ticketTtlS: number;
}

export interface StartRequest {
  userId: string;
  deviceId: string;
  /** The address the request was seen to come from. */
  exitIp: string;
  clientVersion: string;
  networkType: TicketRecord['networkType'] | null;
  /** Advice only. */
  localIp: string | null;
  claimedPublicIp: string | null;
}

export interface Started {
  sessionId: string;
  /** Shown once; opens one tunnel. */
  ticket: string;
  /** What the owner set for all devices. */
  rules: OwnerRules;
}

interface LiveSessionRow {
  id: string;
  same_ip: boolean;
  country: string;
  city: string | null;
  asn: bigint | null;
  network_type: TicketRecord['networkType'];
}

/**
 * Starts sharing on a device: a traffic session with its offer, and a ticket for the tunnel. A device that shares
 * already from the same address gets a new ticket for its session; from another address the old session is stopped
 * first. Throws a Problem for each refusal (API.md, `traffic/start`), `live_state_unavailable` when the ticket
 * cannot be kept; then nothing has changed.
 */
export async function startSession(deps: StartDeps, request: StartRequest): Promise<Started> {
  const settings = await deps.settings.read();
  await refuseUnfit(deps.pool, request, settings);
  const origin = await deps.originCheck.check(request.exitIp);
  if (!origin.ok) {
    await noteRefusal(deps.pool, request.deviceId, origin);
    throw new Problem(origin.code, origin.rule);
  }

  const { started, replaced } = await withTransaction(deps.pool, async (client) => {
    // Starts of one device queue here; the checks are repeated under the lock, since a ban or withdrawal may have
    // come in between and must find this session, or be seen.
    await client.query('SELECT 1 FROM devices WHERE id = $1 FOR UPDATE', [request.deviceId]);
    const capBytesPerDay = await refuseUnfit(client, request, settings, true);
    const existing = await findLiveSession(client, request);
    const replaced =
      existing !== null && !existing.same_ip
        ? await stopSessions(client, { sessionId: existing.id }, 'stopped', 'ip_changed')
        : [];
    const kept = existing?.same_ip ? existing : null;
    const networkType = request.networkType ?? kept?.network_type ?? 'unknown';
    // A kept session keeps its place: it was bought as such, whatever the database says by now.
    const place = kept === null ? origin : { ...kept, asn: kept.asn === null ? null : Number(kept.asn) };
    const sessionId = kept?.id ?? randomUUID();
    if (kept === null) {
      await client.query(
        `INSERT INTO traffic_sessions
           (id, user_id, device_id, exit_ip, country, city, asn, network_type, client_version, local_ip, claimed_public_ip)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
        [
          sessionId,
          request.userId,
          request.deviceId,
          request.exitIp,
          origin.country,
          origin.city,
          origin.asn,
          networkType,
          request.clientVersion,
          request.localIp,
          request.claimedPublicIp,
        ],
      );
      const { userId, exitIp } = request;
      const { country, city, asn } = origin;
      await offerPackage(client, {
        sessionId,
        userId,
        exitIp,
        country,
        city,
        asn,
        sizeBytes: settings.offerBytes,
      });
    }
    await client.query(
      `UPDATE devices SET last_ip = $2, last_country = $3, last_seen_at = now(), client_version = $4,
         refused_code = NULL, refused_rule = NULL, refused_at = NULL WHERE id = $1`,
      [request.deviceId, request.exitIp, place.country, request.clientVersion],
    );
    // Last, and before the commit: without a ticket there must be no session. A ticket whose session was then not
    // committed leads nowhere, and nobody has it.
    const ticket = randomBytes(32).toString('base64url');
    const record: TicketRecord = {
      sessionId,
      deviceId: request.deviceId,
      providerId: request.userId,
      exitIp: request.exitIp,
      country: place.country,
      city: place.city,
      asn: place.asn,
      ...(place.country === origin.country
        ? { state: origin.state, stateCode: origin.stateCode, isp: origin.asOrganisation }
        : {}),
      networkType,
      offerBytes: settings.offerBytes,
      capBytesPerDay,
      termsVersion: settings.termsVersion,
      clientVersion: request.clientVersion,
    };
    await live(writeTicket(deps.redis, sha256(ticket).toString('hex'), record, deps.ticketTtlS * 1000));
    const rules = await readOwnerRules(client, request.userId);
    if (rules === null) throw new Error('the user is locked, and gone');
    return { started: { sessionId, ticket, rules }, replaced };
  });
  await announceStops(deps.live, replaced, 'stopped');
  return started;
}

/**
 * Throws the refusals that have nothing to do with the address. Returns the owner's daily cap. `lock` keeps user and
 * consent as they are until the transaction ends.
 */
async function refuseUnfit(
  client: Pick<pg.ClientBase, 'query'>,
  request: StartRequest,
  settings: { minClientVersion: string; termsVersion: string },
  lock = false,
): Promise<number | null> {
  const { rows } = await client.query<{
    status: string;
    settings: ProviderSettings;
    owner: string;
    removed: boolean;
  }>(
    `SELECT u.status, u.settings, d.user_id AS owner, d.removed_at IS NOT NULL AS removed
     FROM devices d JOIN users u ON u.id = $1 WHERE d.id = $2 ${lock ? 'FOR SHARE OF u' : ''}`,
    [request.userId, request.deviceId],
  );
  const row = rows[0];
  if (row === undefined) throw new Problem('not_found', 'This device is not registered.');
  if (row.owner !== request.userId) throw new Problem('forbidden');
  if (row.removed) throw new Problem('not_found', 'This device is not registered any more.');
  if (row.status !== 'active') throw new Problem('banned');
  if (isOlder(request.clientVersion, settings.minClientVersion))
    throw new Problem('client_too_old', `At least ${settings.minClientVersion} is needed.`, {
      min_client_version: settings.minClientVersion,
    });
  const consent = await findConsent(client, request.userId, lock);
  if (consent?.terms_version !== settings.termsVersion)
    throw new Problem('consent_required', undefined, { terms_version: settings.termsVersion });
  return row.settings.cap_bytes_per_day ?? null;
}

/** Kept so that its owner is told later why the device does not earn (`devices/states.ts`). */
async function noteRefusal(
  client: Pick<pg.ClientBase, 'query'>,
  deviceId: string,
  refusal: Extract<Origin, { ok: false }>,
): Promise<void> {
  await client.query(
    'UPDATE devices SET refused_code = $2, refused_rule = $3, refused_at = now() WHERE id = $1',
    [deviceId, refusal.code, refusal.rule],
  );
}

async function findLiveSession(
  client: Pick<pg.ClientBase, 'query'>,
  request: StartRequest,
): Promise<LiveSessionRow | null> {
  const { rows } = await client.query<LiveSessionRow>(
    `SELECT id, exit_ip = $2::inet AS same_ip, country, city, asn, network_type
     FROM traffic_sessions WHERE device_id = $1 AND status = 'active' FOR UPDATE`,
    [request.deviceId, request.exitIp],
  );
  return rows[0] ?? null;
}
