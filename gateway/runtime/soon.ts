/**
 * A value that is there, or a promise of one. What memory answers is told at once: a promise for each of a dozen
 * look-ups would cost a new connection more than the look-ups do.
 */
export type Soon<T> = T | Promise<T>;

/** Goes on with the value now, or when it has come. */
export function soon<T, R>(value: Soon<T>, next: (value: T) => Soon<R>): Soon<R> {
  return value instanceof Promise ? value.then(next) : next(value);
}
