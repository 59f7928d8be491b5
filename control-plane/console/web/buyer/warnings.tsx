import { ask } from '../api/client.js';
import { useLoad } from '../api/use-load.js';
import { Time } from '../parts/figures.js';
import { Notice } from './parts.js';

/** Warnings of the last so many days are shown, ms. */
const SHOWN_MS = 30 * 86_400_000;

/** What the buyer was told lately about how they use the network. */
export function Warnings() {
  const warnings = useLoad((api, signal) => ask(api.GET('/api/buyer/me/warnings', { signal })));
  const lately = warnings.data?.items.filter(({ at }) => Date.now() - Date.parse(at) < SHOWN_MS) ?? [];
  return (
    <>
      {lately.map(({ id, text, at }) => (
        <Notice key={id}>
          <Time at={at} />: {text}
        </Notice>
      ))}
    </>
  );
}
