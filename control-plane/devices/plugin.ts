import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import type { LiveRedis } from '../../gateway/live/connection.js';
import { auditContext, recordAudit } from '../audit/audit.js';
import { DEVICE_KEY_PREFIX } from '../auth/authenticate.js';
import { randomSecret, sha256 } from '../auth/secrets.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { actorOf, subjectUserId } from '../http/roles.js';
import { IpAddress, Nullable, Ok, pageOf, problemResponses, Uuid } from '../http/schemas.js';
import type { SettingsStore } from '../settings/settings.js';
import { CLIENT_VERSION_PATTERN } from '../system/version.js';
import { announceStops, type StopChannel, stopSessions } from '../traffic/stop.js';
import { findUser } from '../users/users.js';
import { DeviceId, DeviceSchema, readDevices } from './device-list.js';

export interface DevicesDeps {
  pool: pg.Pool;
  redis: LiveRedis;
  live: StopChannel;
  settings: { devicesPerUserMax: number };
  /** Terms and oldest version in force. */
  rules: Pick<SettingsStore, 'read'>;
}

/** Devices of a provider: `/api/user/device*`. */
export const devicesPlugin: FastifyPluginAsyncTypebox<DevicesDeps> = async (app, deps) => {
  const { pool } = deps;

  app.post(
    '/api/user/device/register',
    {
      config: { roles: ['user'], rateLimit: { max: 60, timeWindow: 60_000 } },
      schema: {
        tags: ['User'],
        summary: 'Register a device',
        description:
          'Gives the device a key of its own, shown once. Registering it again gives a new key and ends the old one; ' +
          'its session goes on. `ip` is advice.',
        body: Type.Object(
          {
            device_id: DeviceId,
            os: Type.String({ minLength: 1, maxLength: 60 }),
            model: Type.Optional(Type.String({ minLength: 1, maxLength: 120 })),
            client_version: Type.String({ pattern: CLIENT_VERSION_PATTERN }),
            ip: Type.Optional(IpAddress),
          },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({
            device_id: DeviceId,
            device_key: Type.String({ description: 'shown once' }),
            session_id: Nullable(
              Type.String({ format: 'uuid', description: 'of the traffic session it shares in now' }),
            ),
          }),
          ...problemResponses(401, 403, 409),
        },
      },
    },
    async (request) => {
      const { userId } = actorOf(request, 'user');
      const { device_id: deviceId, os, model, client_version: clientVersion, ip } = request.body;
      const key = randomSecret(DEVICE_KEY_PREFIX);
      const sessionId = await withTransaction(pool, async (client) => {
        await client.query('SELECT 1 FROM users WHERE id = $1 FOR UPDATE', [userId]);
        const { rows: known } = await client.query<{ user_id: string; removed: boolean }>(
          'SELECT user_id, removed_at IS NOT NULL AS removed FROM devices WHERE id = $1 FOR UPDATE',
          [deviceId],
        );
        const device = known[0];
        // A removed device may have a new owner; the sessions of the old one stay theirs.
        if (device !== undefined && device.user_id !== userId && !device.removed)
          throw new Problem('forbidden');
        if (device === undefined || device.removed) {
          const { rows } = await client.query<{ n: number }>(
            'SELECT count(*)::int AS n FROM devices WHERE user_id = $1 AND removed_at IS NULL',
            [userId],
          );
          if ((rows[0]?.n ?? 0) >= deps.settings.devicesPerUserMax)
            throw new Problem('too_many_devices', `At most ${deps.settings.devicesPerUserMax}.`);
        }
        const { rowCount } = await client.query(
          `INSERT INTO devices AS d (id, user_id, key_hash, os, model, client_version, claimed_ip)
           VALUES ($1, $2, $3, $4, $5, $6, $7)
           ON CONFLICT (id) DO UPDATE SET user_id = EXCLUDED.user_id, key_hash = EXCLUDED.key_hash, os = EXCLUDED.os,
             model = EXCLUDED.model, client_version = EXCLUDED.client_version, claimed_ip = EXCLUDED.claimed_ip,
             removed_at = NULL
           WHERE d.user_id = EXCLUDED.user_id OR d.removed_at IS NOT NULL`,
          [deviceId, userId, sha256(key), os, model ?? null, clientVersion, ip ?? null],
        );
        if (rowCount === 0) throw new Problem('forbidden'); // another user registered it a moment ago
        await recordAudit(client, {
          ...auditContext(request),
          action: 'device_registered',
          objectType: 'device',
          objectId: deviceId,
          after: { os, model: model ?? null, client_version: clientVersion, again: device !== undefined },
        });
        const { rows } = await client.query<{ id: string }>(
          "SELECT id FROM traffic_sessions WHERE device_id = $1 AND user_id = $2 AND status = 'active'",
          [deviceId, userId],
        );
        return rows[0]?.id ?? null;
      });
      return { device_id: deviceId, device_key: key, session_id: sessionId };
    },
  );

  app.get(
    '/api/user/devices',
    {
      config: { roles: ['user', 'device', 'admin'] },
      schema: {
        tags: ['User'],
        summary: 'Devices',
        description:
          'Mine; for an admin those of `user_id`. With their online state, and in `state` why each earns or not and ' +
          'what its owner can do.',
        querystring: Type.Object({ user_id: Type.Optional(Uuid) }, { additionalProperties: false }),
        response: { 200: pageOf(DeviceSchema), ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const user = await findUser(pool, subjectUserId(request, request.query.user_id));
      if (user === null) return { items: [], next_cursor: null };
      return { items: await readDevices(deps, user, await deps.rules.read()), next_cursor: null };
    },
  );

  app.delete(
    '/api/user/devices/:id',
    {
      config: { roles: ['user', 'admin'] },
      schema: {
        tags: ['User'],
        summary: 'Remove a device',
        description: 'Stops its session and ends its key at once. Its history stays.',
        params: Type.Object({ id: DeviceId }),
        querystring: Type.Object({ user_id: Type.Optional(Uuid) }, { additionalProperties: false }),
        response: { 200: Ok, ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => {
      const userId = subjectUserId(request, request.query.user_id);
      const { id } = request.params;
      const stopped = await withTransaction(pool, async (client) => {
        const { rows } = await client.query<{ user_id: string }>(
          'SELECT user_id FROM devices WHERE id = $1 AND removed_at IS NULL FOR UPDATE',
          [id],
        );
        if (rows[0] === undefined) throw new Problem('not_found');
        if (rows[0].user_id !== userId) throw new Problem('forbidden');
        await client.query('UPDATE devices SET removed_at = now() WHERE id = $1', [id]);
        await recordAudit(client, {
          ...auditContext(request),
          action: 'device_removed',
          objectType: 'device',
          objectId: id,
        });
        return stopSessions(client, { deviceId: id }, 'stopped', 'device_removed');
      });
      await announceStops(deps.live, stopped, 'stopped');
      return { ok: true as const };
    },
  );
};
