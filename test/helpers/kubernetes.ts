/** What every manifest has. */
export interface Manifest {
  apiVersion: string;
  kind: string;
}

/** Objects that a validator got, and what it looked at in each. */
class Watched {
  readonly #seen = new Map<object, Set<PropertyKey>>();

  /** The same to look at; what is looked at is noted. */
  wrap<T>(value: T): T {
    if (typeof value !== 'object' || value === null) return value;
    const seen = this.#seen.get(value) ?? new Set();
    this.#seen.set(value, seen);
    return new Proxy(value, {
      get: (target, key) => {
        seen.add(key);
        return this.wrap(Reflect.get(target, key));
      },
      ownKeys: (target) => {
        const keys = Reflect.ownKeys(target);
        for (const key of keys) seen.add(key);
        return keys;
      },
    });
  }

  /** Paths of members that were never looked at, below objects that were. */
  unseen(value: unknown, path = ''): string[] {
    if (typeof value !== 'object' || value === null) return [];
    const seen = this.#seen.get(value);
    if (seen === undefined) return [];
    return Object.entries(value).flatMap(([key, inner]) =>
      seen.has(key) ? this.unseen(inner, `${path}/${key}`) : [`${path}/${key}`],
    );
  }
}

/**
 * What Kubernetes's OpenAPI schemas (`kubernetes-models`) find wrong with a manifest; empty: nothing. Fields that they do not
 * know are faults as well: the compiled schemas look at every field they know, so the others are those never looked at.
 */
export async function problemsOfManifest(manifest: Manifest): Promise<string[]> {
  const { apiVersion, kind } = manifest;
  const models: Record<string, { prototype: { validate(): void } }> | null = await import(
    `kubernetes-models/${apiVersion}`
  ).catch(() => null);
  if (models === null) return [`no such API: ${apiVersion}`];
  const model = models[kind];
  if (model === undefined) return [`no such kind: ${apiVersion} ${kind}`];
  const watched = new Watched();
  try {
    model.prototype.validate.call(watched.wrap(manifest));
  } catch (error) {
    return [(error as Error).message];
  }
  return watched.unseen(manifest).map((path) => `unknown field ${path}`);
}
