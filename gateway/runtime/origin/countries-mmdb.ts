import { open as openMmdb, type Response } from 'maxmind';

/** Where an address is. */
export interface Location {
  /** ISO 3166 alpha-2, upper case. */
  country: string;
  /** null: the database has no cities, or none for this address. */
  city: string | null;
}

export interface LocationTable {
  find(address: string): Location | null;
}

/**
 * Opens a GeoIP database: flat records as in `@ip-location-db` (`country_code`, `city`) and MaxMind's nested ones
 * (`country.iso_code`, `city.names.en`; GeoLite2 Country and City). Rejects when it cannot be read.
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
  const nested = asObject(asObject(row?.city)?.names)?.en;
  const city = typeof row?.city === 'string' ? row.city : nested;
  return { country: code.toUpperCase(), city: typeof city === 'string' && city !== '' ? city : null };
}

function asObject(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
}
