import { type Static, Type } from 'typebox';
import { Problem } from '../errors.js';

const Port = Type.Integer({ minimum: 1, maximum: 65_535 });
/** An address or a range in CIDR notation; Postgres and the gateways check it further. */
export const CidrText = Type.String({
  minLength: 2,
  maxLength: 49,
  pattern: '^[0-9a-fA-F:.]+(/[0-9]{1,3})?$',
});

/** Limits of one buyer, as the API and column `buyers.limits` hold them. What is left out has its default. */
export const BuyerLimits = Type.Object(
  {
    streams_max: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 1_000_000, description: 'streams open at once; then CONN_LIMIT' }),
    ),
    connections_per_second_max: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 100_000,
        description: 'new connections a second; then RATE_LIMIT',
      }),
    ),
    extra_ports: Type.Optional(
      Type.Array(Port, { maxItems: 100, description: 'allowed beside 80 and 443, for UDP 53 and 443' }),
    ),
    granted_ports: Type.Optional(
      Type.Array(Port, { maxItems: 100, description: 'of the never-allowed ports, granted by an admin' }),
    ),
    udp: Type.Optional(
      Type.Boolean({
        description: 'UDP through SOCKS5 ASSOCIATE, granted by an admin; without it UDP_NOT_ALLOWED',
      }),
    ),
    passwordless_ips: Type.Optional(
      Type.Array(CidrText, { maxItems: 100, description: 'client addresses that need no password' }),
    ),
  },
  { additionalProperties: false },
);
export type BuyerLimits = Static<typeof BuyerLimits>;

/** What holds for a buyer without a limit of their own. */
export const BUYER_LIMIT_DEFAULTS: Required<BuyerLimits> = {
  streams_max: 2_000,
  connections_per_second_max: 500,
  extra_ports: [],
  granted_ports: [],
  udp: false,
  passwordless_ips: [],
};

const INVALID_TEXT_REPRESENTATION = '22P02';

/** A bad address in a list of CIDRs is the caller's mistake, found by Postgres; anything else stays what it is. */
export function asCidrProblem(error: unknown): unknown {
  return (error as { code?: unknown } | null)?.code === INVALID_TEXT_REPRESENTATION
    ? new Problem('validation_failed', undefined, {
        errors: [{ path: '/body/allowed_ips', message: 'must be networks such as 192.0.2.0/24' }],
      })
    : error;
}
