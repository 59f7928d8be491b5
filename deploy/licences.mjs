// Licences of everything that is shipped, from package-lock.json: `npm run licences`, with `--json` for programs. Ends with 1
// when one is not on the list below. `npm run sbom` is the same as a CycloneDX document, with checksums.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/**
 * Licences that what we ship may have: none asks for our own source. CC-BY-4.0 wants its makers named (RouteViews and DB-IP, for
 * the table of networks), MPL-2.0 the source of its own files, which npm has.
 */
export const ALLOWED = new Set([
  '0BSD',
  'Apache-2.0',
  'BlueOak-1.0.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'CC0-1.0',
  'ISC',
  'MIT',
  'MPL-2.0',
  'Python-2.0',
  'SEE LICENSE IN ROUTEVIEWS-LICENSE and DBIP-LICENSE (CC-BY-4.0)',
]);

/** Packages whose entries in the lock were made by hand (complete-lock.mjs) and have the licence of their family. */
const FAMILIES = { '@msgpackr-extract/': 'MIT' };

/** Packages of a lock that are shipped: `{ name, version, licence, allowed }`, by name. */
export function shippedLicences(lock) {
  const known = new Map();
  for (const [path, { dev, devOptional, version, license }] of Object.entries(lock.packages)) {
    if (path === '' || dev || devOptional) continue;
    const name = path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
    const family = Object.keys(FAMILIES).find((prefix) => name.startsWith(prefix));
    const licence = license ?? (family === undefined ? null : FAMILIES[family]);
    known.set(`${name}@${version}`, { name, version, licence, allowed: ALLOWED.has(licence) });
  }
  return [...known.keys()].toSorted().map((key) => known.get(key));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const lock = JSON.parse(
    readFileSync(fileURLToPath(new URL('../package-lock.json', import.meta.url)), 'utf8'),
  );
  const list = shippedLicences(lock);
  const refused = list.filter(({ allowed }) => !allowed);
  if (process.argv.includes('--json')) process.stdout.write(`${JSON.stringify(list, null, 2)}\n`);
  else
    for (const { name, version, licence, allowed } of list)
      process.stdout.write(
        `${allowed ? '' : 'NOT ALLOWED '}${licence ?? 'no licence'}  ${name} ${version}\n`,
      );
  if (refused.length > 0) {
    process.stderr.write(`${refused.length} of ${list.length} have a licence that is not on the list\n`);
    process.exitCode = 1;
  }
}
