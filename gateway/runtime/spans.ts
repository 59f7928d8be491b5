import { channel } from 'node:diagnostics_channel';

/** Work that took time and is over. */
export interface EndedSpan {
  /** What kind of work it was, one of few: `proxy.connect`, `GET /api/users/:id`; never an id. */
  name: string;
  /** `server`: somebody outside this process waited for it. */
  kind: 'server' | 'internal';
  durationMs: number;
  /** Of few values each: codes, statuses, counts. Nothing that tells of a person. */
  attributes: Readonly<Record<string, string | number>>;
  /** Whether it went wrong for a reason of ours; a refusal that the caller brought about is none. */
  failed: boolean;
  /** The caller's `traceparent` header (W3C Trace Context), where one came. */
  traceparent?: string | undefined;
}

const spans = channel('traffic-share:span-ended');

/** Tells whoever listens (`tracing.ts`) of work that has just ended. `tell` is not called when nobody does. */
export function spanEnded(tell: () => EndedSpan): void {
  if (spans.hasSubscribers) spans.publish(tell());
}

/** Hears of every span of this process from now on; the answer ends that. */
export function onSpanEnded(listener: (span: EndedSpan) => void): () => void {
  const heard = (span: unknown) => listener(span as EndedSpan);
  spans.subscribe(heard);
  return () => spans.unsubscribe(heard);
}
