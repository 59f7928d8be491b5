/**
 * What is simulated: the project as it is, or with one thing broken that its design forbids. The simulator must catch
 * each of them; nothing of this exists outside of it.
 *
 * - `no-epoch`: every run of a gateway counts under the same epoch;
 * - `mark-per-session`: settlement remembers one mark for each session, not one for each meter;
 * - `set-instead-of-max`: a report replaces what is in Redis and what is marked, newer or not;
 * - `freed-on-redis-ack`: a gateway frees a slot when Redis has the report, not when Postgres has committed it;
 * - `lease-freed-by-time`: a hold is given back when its run was silent for a while.
 */
export const VARIANTS = [
  'good',
  'no-epoch',
  'mark-per-session',
  'set-instead-of-max',
  'freed-on-redis-ack',
  'lease-freed-by-time',
] as const;
export type Variant = (typeof VARIANTS)[number];
