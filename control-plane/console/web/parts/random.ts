/** Random text of lower-case hexadecimal digits; also on pages that are not secure, where there is no `randomUUID`. */
export function randomHex(bytes: number): string {
  const drawn = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(drawn, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
