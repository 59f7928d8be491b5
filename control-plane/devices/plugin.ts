import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import type { LiveRedis } from '../../gateway/live/connection.js';
import { auditContext, recordAudit } from '../audit/audit.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { pageOfAll } from '../http/pagination.js';
import { actorOf, subjectUserId } from '../http/roles.js';
import { IpAddress, Nullable, Ok, pageOf, pageQuery, problemResponses, Uuid } from '../http/schemas.js';
import { setPushToken } from '../push/push-tokens.js';
import type { SettingsStore } from '../settings/settings.js';
import { CLIENT_VERSION_PATTERN } from '../system/version.js';
import { announceStops, type StopChannel, stopSessions } from '../traffic/stop.js';
import { findUser } from '../users/users.js';
import { DeviceId, DeviceSchema, readDevices } from './device-list.js';
import { registerDevice, removeDevice } from './registration.js';

export interface DevicesDeps {
  pool: pg.Pool;
  redis: LiveRedis;
  live: StopChannel;
  settings: { devicesPerUserMax: number };
  /** Terms and oldest version in force. */
  rules: Pick<SettingsStore, 'read'>;
}

/** As Firebase gives it to the app. */
const PushToken = Type.String({ minLength: 1, maxLength: 4_096, pattern: '^[A-Za-z0-9:_-]+$' });

/** Devices of a provider: `/api/user/device*`. */
export const devicesPlugin: FastifyPluginAsyncTypebox<DevicesDeps> = async (app, deps) => {
  const { pool } = deps;

  app.post(
    '/api/user/device/register',
    {
      config: {
        roles: ['user'],
        rateLimit: { max: 60, timeWindow: 60_000 },
        idempotency: { omit: ['device_key'] },
      },
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
            push_token: Type.Optional(PushToken),
          },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({
            device_id: DeviceId,
            device_key: Nullable(Type.String({ description: 'shown once: null in a replay' })),
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
      const { push_token: pushToken } = request.body;
      const max = deps.settings.devicesPerUserMax;
      const made = await withTransaction(pool, async (client) => {
        const device = { userId, deviceId, os, model: model ?? null, clientVersion, claimedIp: ip ?? null };
        const registered = await registerDevice(client, device, max);
        if (!registered.ok)
          throw new Problem(
            registered.code,
            registered.code === 'too_many_devices' ? `At most ${max}.` : undefined,
          );
        if (pushToken !== undefined) await setPushToken(client, { userId, deviceId }, pushToken);
        await recordAudit(client, {
          ...auditContext(request),
          action: 'device_registered',
          objectType: 'device',
          objectId: deviceId,
          after: { os, model: model ?? null, client_version: clientVersion, again: registered.again },
        });
        return registered;
      });
      return { device_id: deviceId, device_key: made.deviceKey, session_id: made.sessionId };
    },
  );

  app.post(
    '/api/user/device/push_token',
    {
      config: { roles: ['user', 'device'], rateLimit: { max: 60, timeWindow: 60_000 } },
      schema: {
        tags: ['User'],
        summary: 'Where notices are pushed to',
        description:
          'The device’s token of Firebase Cloud Messaging, which changes now and then; null: push nothing there. What ' +
          'comes into the inbox is pushed to it, unless `settings.notifications` is false. A device names itself.',
        body: Type.Object(
          { device_id: Type.Optional(DeviceId), push_token: Nullable(PushToken) },
          { additionalProperties: false },
        ),
        response: { 200: Ok, ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => {
      const actor = actorOf(request, 'user', 'device');
      const own = actor.role === 'device' ? actor.deviceId : null;
      const deviceId = request.body.device_id ?? own;
      if (deviceId === null)
        throw new Problem('validation_failed', undefined, {
          errors: [{ path: '/body/device_id', message: 'is required for a user' }],
        });
      if (own !== null && own !== deviceId) throw new Problem('forbidden');
      await withTransaction(pool, async (client) => {
        const { rows } = await client.query<{ user_id: string }>(
          'SELECT user_id FROM devices WHERE id = $1 AND removed_at IS NULL FOR UPDATE',
          [deviceId],
        );
        if (rows[0] === undefined) throw new Problem('not_found');
        if (rows[0].user_id !== actor.userId) throw new Problem('forbidden');
        await setPushToken(client, { userId: actor.userId, deviceId }, request.body.push_token);
      });
      return { ok: true as const };
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
        querystring: Type.Object(
          { user_id: Type.Optional(Uuid), ...pageQuery },
          { additionalProperties: false },
        ),
        response: { 200: pageOf(DeviceSchema), ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const user = await findUser(pool, subjectUserId(request, request.query.user_id));
      const devices = user === null ? [] : await readDevices(deps, user, await deps.rules.read());
      return pageOfAll(devices, request.query);
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
        const removed = await removeDevice(client, userId, id);
        if (!removed.ok) throw new Problem(removed.code);
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
