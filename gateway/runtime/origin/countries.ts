/**
 * Members of the EU, and of the EEA beside it (Iceland, Liechtenstein, Norway), ISO 3166 alpha-2. Overseas regions
 * with a code of their own (`GP`, `RE`, …) are not listed: operators name them.
 */
export const EU_EEA_COUNTRIES: ReadonlySet<string> = new Set(
  'AT BE BG HR CY CZ DK EE FI FR DE GR HU IE IT LV LT LU MT NL PL PT RO SK SI ES SE IS LI NO'.split(' '),
);

/** Where devices may share from unless an operator says otherwise (PRODUCT.md, "How it runs"). */
export const DEFAULT_COUNTRIES: ReadonlySet<string> = new Set(['US', ...EU_EEA_COUNTRIES]);
