/**
 * Text about a place or network in the one form in which it is compared: lower case, without accents, whatever is
 * neither letter nor digit a single blank. A username can hold little more than letters and digits, so `sao_paulo` has
 * to mean São Paulo, and `saint_denis` Saint-Denis. Empty when nothing is left.
 */
export function placeWords(text: string): string {
  return text
    .normalize('NFKD')
    .replace(/\p{M}+/gu, '')
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, ' ')
    .trim();
}
