import { open as openMmdb, type Response } from 'maxmind';

/** Where an address is. */
export interface Location {
  /** ISO 3166 alpha-2, upper case. */
  country: string;
  /** null: the database has no cities, or none for this address. */
  city: string | null;
  /** State, region or the like: its name in English; null: not known. */
  state: string | null;
  /** The part of ISO 3166-2 behind the country, such as `CA`; null: the database has no such codes. */
  stateCode: string | null;
}

export interface LocationTable {
  find(address: string): Location | null;
}

/**
 * Opens a GeoIP database: flat records as in `@ip-location-db` (`country_code`, `city`, `state1`) and MaxMind's nested
 * ones (`country.iso_code`, `city.names.en`, `subdivisions[0]`; GeoLite2 Country and City). Rejects when it cannot be
 * read.
 */
export async function openLocations(path: string): Promise<LocationTable> {
  const reader = await openMmdb<Response>(path);
  return { find: (address) => readLocation(reader.get(address)) };
}

/** The location in one record of either kind; null when it names no country. Exported for its test. */
export function readLocation(record: unknown): Location | null {
  const row = asObject(record);
  const code = row?.country_code ?? asObject(row?.country)?.iso_code;
  if (typeof code !== 'string' || !/^[A-Za-z]{2}$/.test(code)) return null;
  // The first subdivision is the largest: what an address in that country calls its state.
  const subdivision = asObject(Array.isArray(row?.subdivisions) ? row.subdivisions[0] : undefined);
  return {
    country: code.toUpperCase(),
    city: asName(row?.city) ?? asName(asObject(asObject(row?.city)?.names)?.en),
    state: asName(row?.state1) ?? asName(asObject(subdivision?.names)?.en),
    stateCode: asName(subdivision?.iso_code),
  };
}

function asName(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null;
}

function asObject(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
}
