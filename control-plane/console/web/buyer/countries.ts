const names = new Intl.DisplayNames(['en'], { type: 'region' });

/** `DE` as `Germany`; a code that nobody knows stays what it is. */
export function countryName(code: string): string {
  try {
    return names.of(code.toUpperCase()) ?? code;
  } catch {
    return code;
  }
}
