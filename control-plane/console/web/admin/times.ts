const DAY_MS = 86_400_000;

/** Each UTC day from the one to the other, both included. */
export function daysBetween(from: string, to: string): string[] {
  const days: string[] = [];
  for (let atMs = Date.parse(from); atMs <= Date.parse(to); atMs += DAY_MS)
    days.push(new Date(atMs).toISOString().slice(0, 10));
  return days;
}

/** A moment as a `datetime-local` field shows it, in the viewer's zone. */
export function localInput(at: string | null): string {
  if (at === null) return '';
  const date = new Date(at);
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** What such a field holds, as the API takes it; null: nothing. */
export function fromLocalInput(text: string): string | null {
  return text === '' ? null : new Date(text).toISOString();
}
