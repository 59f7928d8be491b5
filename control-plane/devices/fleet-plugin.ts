import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import type { LiveRedis } from '../../gateway/live/connection.js';
import { sendPersonalCsv } from '../audit/personal-csv.js';
import { columnsOf, csvResponse } from '../http/csv-export.js';
import { sortParameter } from '../http/list-order.js';
import { pageOf, pageQuery, problemResponses, Timestamp, Uuid } from '../http/schemas.js';
import type { LocationBoard } from '../locations/board.js';
import { FLEET_SORTS, FleetDeviceSchema, listFleet } from './fleet.js';

export interface FleetDeps {
  pool: pg.Pool;
  redis: LiveRedis;
  board: Pick<LocationBoard, 'countByCountry'>;
}

/** What the list and its export can be narrowed to and sorted by. */
const filters = {
  query: Type.Optional(
    Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$', description: 'how a device id begins' }),
  ),
  user_id: Type.Optional(Uuid),
  country: Type.Optional(Type.String({ pattern: '^[A-Z]{2}$', description: 'where it was seen last' })),
  sort: sortParameter(FLEET_SORTS, '-last_seen_at'),
};

const filterOf = (query: { query?: string; user_id?: string; country?: string }) => ({
  query: query.query,
  userId: query.user_id,
  country: query.country,
});

/** All devices, for admins: `/api/admin/devices`. */
export const fleetPlugin: FastifyPluginAsyncTypebox<FleetDeps> = async (app, deps) => {
  app.get(
    '/api/admin/devices',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Devices of all providers',
        description: 'Those that are not removed. `DELETE /api/user/devices/{id}?user_id=` removes one.',
        querystring: Type.Object({ ...filters, ...pageQuery }, { additionalProperties: false }),
        response: { 200: pageOf(FleetDeviceSchema), ...problemResponses(401, 403) },
      },
    },
    ({ query }) => listFleet(deps, filterOf(query), query),
  );

  app.get(
    '/api/admin/export/devices',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Devices as CSV',
        description: 'All that the list would page through. Who took it is in the audit log.',
        querystring: Type.Object(filters, { additionalProperties: false }),
        response: csvResponse,
      },
    },
    ({ query }, reply) =>
      sendPersonalCsv(deps.pool, reply, 'devices', columnsOf(FleetDeviceSchema), (page) =>
        listFleet(deps, filterOf(query), { ...page, sort: query.sort }),
      ),
  );

  app.get(
    '/api/admin/devices/countries',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Where devices share now',
        description: 'Exits by country, most first, as of `read_at`, which is seconds ago.',
        response: {
          200: Type.Object({
            read_at: Timestamp,
            countries: Type.Array(
              Type.Object({
                country: Type.String({ description: 'ISO 3166 alpha-2', examples: ['DE'] }),
                online: Type.Integer({ description: 'exits that share' }),
                free: Type.Integer({ description: 'of these, held by no buyer' }),
              }),
            ),
          }),
          ...problemResponses(401, 403),
        },
      },
    },
    async () => {
      const { readAtMs, countries } = await deps.board.countByCountry();
      return { read_at: new Date(readAtMs).toISOString(), countries };
    },
  );
};
