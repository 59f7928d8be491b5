/** What a client version must look like: x.y.z, maybe with a suffix (-beta.1, +build) that does not count. */
export const CLIENT_VERSION_PATTERN = '^\\d{1,5}\\.\\d{1,5}\\.\\d{1,5}([-+][0-9A-Za-z.+-]{1,40})?$';

/** Whether version `a` comes before `b`, by their three numbers. Both must fit CLIENT_VERSION_PATTERN. */
export function isOlder(a: string, b: string): boolean {
  const numbers = (version: string) => version.split(/[-+]/, 1)[0]?.split('.').map(Number) ?? [];
  const left = numbers(a);
  const right = numbers(b);
  for (let i = 0; i < 3; i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return false;
}
