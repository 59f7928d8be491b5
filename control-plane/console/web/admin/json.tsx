import { Scroll } from '../parts/scroll.js';

/** A value as JSON, for those who know what it is about. */
export function Json({ label, value }: { label: string; value: unknown }) {
  return (
    <Scroll class="json" label={label}>
      <pre>{JSON.stringify(value, null, 2)}</pre>
    </Scroll>
  );
}
