import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { actorOf } from '../http/roles.js';
import { Nullable, problemResponses, Timestamp } from '../http/schemas.js';
import { countriesOf } from '../packages/regions.js';
import type { LocationBoard } from './board.js';

export interface LocationsDeps {
  board: LocationBoard;
}

const Country = Type.String({ description: 'ISO 3166 alpha-2', examples: ['DE'] });
const Name = Type.Optional(Type.String({ minLength: 1, maxLength: 100 }));
const counts = {
  online: Type.Integer({ description: 'exits that share now' }),
  available: Type.Integer({ description: 'of these, free or in your hands' }),
};
const LocationsSchema = Type.Object(
  {
    read_at: Timestamp,
    total: Type.Object(counts),
    countries: Type.Array(Type.Object({ country: Country, ...counts })),
    cities: Type.Array(
      Type.Object({ country: Country, state: Nullable(Type.String()), city: Type.String(), ...counts }),
    ),
    asns: Type.Array(
      Type.Object({ country: Country, asn: Type.Integer(), isp: Nullable(Type.String()), ...counts }),
    ),
    truncated: Type.Boolean({ description: 'a list has more than `limit` entries' }),
  },
  {
    examples: [
      {
        read_at: '2026-11-26T12:00:00.000Z',
        total: { online: 12, available: 9 },
        countries: [{ country: 'DE', online: 12, available: 9 }],
        cities: [{ country: 'DE', state: 'Berlin', city: 'Berlin', online: 5, available: 4 }],
        asns: [{ country: 'DE', asn: 3320, isp: 'Deutsche Telekom AG', online: 7, available: 6 }],
        truncated: false,
      },
    ],
  },
);

/** Where there are devices: `/api/buyer/locations`. */
export const locationsPlugin: FastifyPluginAsyncTypebox<LocationsDeps> = async (app, { board }) => {
  app.get(
    '/api/buyer/locations',
    {
      config: { roles: ['buyer'] },
      schema: {
        tags: ['Buyers and packages'],
        summary: 'Where devices are online',
        description:
          'Countries, cities and networks (ASNs) with exits that share now, most available first. An exit is one address ' +
          'of one provider and serves one buyer at a time. As of `read_at`, which is seconds ago. Filters narrow all ' +
          'lists; names are compared as in proxy usernames (`sao_paulo` is São Paulo). Cities and states are told where ' +
          'the platform has a database of them.',
        querystring: Type.Object(
          {
            region: Type.Optional(
              Type.String({
                pattern: '^[A-Za-z]{2}$',
                description: 'a country code, or EU',
                examples: ['DE'],
              }),
            ),
            state: Name,
            city: Name,
            asn: Type.Optional(Type.Integer({ minimum: 1, maximum: 4_294_967_295 })),
            isp: Name,
            limit: Type.Integer({ minimum: 1, maximum: 200, default: 50, description: 'of each list' }),
          },
          { additionalProperties: false },
        ),
        response: { 200: LocationsSchema, ...problemResponses(401, 403) },
      },
    },
    async (request) => {
      const { region, state = null, city = null, asn = null, isp = null, limit } = request.query;
      const countries = region === undefined ? null : countriesOf(region);
      const { buyerId } = actorOf(request, 'buyer');
      const found = await board.find(buyerId, { countries, state, city, asn, isp });
      const lists = [found.countries, found.cities, found.asns];
      return {
        read_at: new Date(found.readAtMs).toISOString(),
        total: found.total,
        countries: found.countries.slice(0, limit),
        cities: found.cities.slice(0, limit) as Array<(typeof found.cities)[number] & { city: string }>,
        asns: found.asns.slice(0, limit) as Array<(typeof found.asns)[number] & { asn: number }>,
        truncated: lists.some((list) => list.length > limit),
      };
    },
  );
};
