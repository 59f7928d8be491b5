/** The European Union's members, ISO 3166 alpha-2. */
const EU = 'AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK'.split(' ');

/** The countries a region means: a code in any case, `uk` for GB, `eu` for the European Union. */
export function countriesOf(region: string): string[] {
  const code = region.toUpperCase();
  if (code === 'EU') return EU;
  return [code === 'UK' ? 'GB' : code];
}
