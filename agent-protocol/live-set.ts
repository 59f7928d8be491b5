/**
 * Collections for what comes and goes by the thousand: connections, streams, splices.
 *
 * V8 rebuilds the table of a Set or Map after so many deletions, and the old table keeps its entries and points at the new
 * one. Once an old table has reached the old generation, where it lies until the next full collection, all that was in
 * any later table at its rebuilding is reachable from it: every connection then outlives the young generation and is
 * copied twice, with all its objects. These leave nothing behind of what was taken out.
 */

/** Where an item is in a LiveSet: what `add` gives and `remove` takes. */
export interface Place<T> {
  readonly item: T;
  /** @internal Its index; -1 when it was taken out. */
  at: number;
}

/** Items in no order; each may be in it more than once. `add` and `remove` take constant time. */
export class LiveSet<T> {
  /** Never shortened, so that it is never made anew for the same number: what it was would be as an old table. */
  readonly #places: (Place<T> | null)[] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(item: T): Place<T> {
    const place = { item, at: this.#size };
    this.#places[this.#size++] = place;
    return place;
  }

  /** False: it was taken out before. */
  remove(place: Place<T>): boolean {
    const { at } = place;
    if (at < 0) return false;
    place.at = -1;
    const last = this.#places[--this.#size] as Place<T>;
    this.#places[this.#size] = null;
    if (last !== place) {
      this.#places[at] = last;
      last.at = at;
    }
    return true;
  }

  /**
   * Items may come and go meanwhile: what is there from beginning to end is given at least once, what comes is not.
   */
  *[Symbol.iterator](): Generator<T, void> {
    for (let at = this.#size - 1; at >= 0; at = Math.min(at, this.#size) - 1)
      yield (this.#places[at] as Place<T>).item;
  }
}

/** A Map whose tables hold no values of keys that were deleted. */
export class LiveMap<K, V> {
  readonly #cells = new Map<K, { value: V | undefined }>();

  get size(): number {
    return this.#cells.size;
  }

  get(key: K): V | undefined {
    return this.#cells.get(key)?.value;
  }

  set(key: K, value: V): void {
    const cell = this.#cells.get(key);
    if (cell === undefined) this.#cells.set(key, { value });
    else cell.value = value;
  }

  delete(key: K): void {
    const cell = this.#cells.get(key);
    if (cell === undefined) return;
    cell.value = undefined;
    this.#cells.delete(key);
  }

  /** A copy. */
  values(): V[] {
    return Array.from(this.#cells.values(), ({ value }) => value as V);
  }
}
