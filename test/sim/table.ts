/**
 * Rows by two keys, the second within the first, in the order in which they were made. A key put together of both
 * would have to be built and hashed anew for every look.
 */
export class Table<Row> {
  readonly #groups = new Map<string, Map<string, Row>>();

  get(first: string, second: string): Row | undefined {
    return this.#groups.get(first)?.get(second);
  }
  set(first: string, second: string, row: Row): void {
    const group = this.#groups.get(first);
    if (group === undefined) this.#groups.set(first, new Map([[second, row]]));
    else group.set(second, row);
  }
  /** All with this first key. */
  of(first: string): Iterable<Row> {
    return this.#groups.get(first)?.values() ?? [];
  }
  *values(): Generator<Row, void> {
    for (const group of this.#groups.values()) yield* group.values();
  }
}
