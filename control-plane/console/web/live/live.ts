import { effect, type Signal, signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { apiOf, ask } from '../api/client.js';
import { type Role, readSession } from '../session/session.js';

type Bytes = number | string;

export interface LiveSession {
  session_id: string;
  device_id: string;
  country: string;
  status: string;
  streams: number | null;
  bytes_up: Bytes;
  bytes_down: Bytes;
  earned: string;
  started_at: string;
}

interface Common {
  /** When the server looked. */
  at: string;
  bytes_per_second: number;
}

/** What `/api/live` tells each role (its description in the API's documents). */
export interface LiveStates {
  provider: Common & {
    status: string;
    balance: { available: string; pending: string; currency: string };
    today: { bytes_up: Bytes; bytes_down: Bytes; earned: string };
    sessions: LiveSession[];
  };
  buyer: Common & {
    status: string;
    balance: { balance: string; held: string; available: string; currency: string };
    today: { bytes_up: Bytes; bytes_down: Bytes; charged: string };
  };
  admin: Common & {
    fleet: {
      gateways: number;
      gateways_draining: number;
      tunnels: number;
      streams: number;
      devices_online: number;
    } | null;
    sessions_active: number;
    today: { bytes_up: Bytes; bytes_down: Bytes; charged: string; earned: string };
  };
}

/** `off`: nobody listens; `waiting`: the connection was lost and is being made anew. */
export type LiveLink = 'off' | 'connecting' | 'open' | 'waiting';

export interface Live<R extends Role> {
  /** Null until the first snapshot. */
  state: Signal<LiveStates[R] | null>;
  link: Signal<LiveLink>;
}

const RETRY_MS_MIN = 1_000;
const RETRY_MS_MAX = 30_000;
/** Time a stream stays open after the last listener has gone: the next page usually listens too. */
const LINGER_MS = 2_000;

class Feed<R extends Role> implements Live<R> {
  readonly state = signal<LiveStates[R] | null>(null);
  readonly link = signal<LiveLink>('off');
  #listeners = 0;
  #source: EventSource | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #failures = 0;
  #opening: AbortController | null = null;
  #following = false;

  constructor(readonly role: R) {}

  join(): () => void {
    this.#listeners++;
    this.#follow();
    clearTimeout(this.#timer);
    if (this.#source === null && this.#opening === null) void this.#open();
    return () => {
      if (--this.#listeners === 0) this.#after(LINGER_MS, () => this.#close());
    };
  }

  /** When nobody is signed in any more, nothing of theirs stays for who signs in next. */
  #follow(): void {
    if (this.#following) return;
    this.#following = true;
    effect(() => {
      if (readSession(this.role) !== null) return;
      clearTimeout(this.#timer);
      this.#close();
    });
  }

  async #open(): Promise<void> {
    this.link.value = this.#failures === 0 ? 'connecting' : 'waiting';
    const opening = new AbortController();
    this.#opening = opening;
    try {
      const { ticket } = await ask(apiOf(this.role).POST('/api/live/ticket', { signal: opening.signal }));
      if (opening.signal.aborted) return;
      this.#opening = null;
      this.#listen(new EventSource(`/api/live?ticket=${encodeURIComponent(ticket)}`));
    } catch {
      if (opening.signal.aborted) return;
      this.#opening = null;
      this.#again();
    }
  }

  #listen(source: EventSource): void {
    this.#source = source;
    source.addEventListener('snapshot', (event) => {
      this.#failures = 0;
      this.link.value = 'open';
      this.state.value = JSON.parse(event.data) as LiveStates[R];
    });
    source.addEventListener('change', (event) => {
      const before = this.state.peek();
      if (before !== null)
        this.state.value = { ...before, ...(JSON.parse(event.data) as Partial<LiveStates[R]>) };
    });
    // A ticket opens one stream: the browser's own reconnection would be refused.
    source.onerror = () => {
      if (this.#source !== source) return;
      source.close();
      this.#source = null;
      this.#again();
    };
  }

  #again(): void {
    this.link.value = 'waiting';
    if (this.#listeners === 0 || readSession(this.role) === null) {
      this.#close();
      return;
    }
    const waitMs = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** this.#failures++);
    // Spread, so that a restarted server is not met by everyone at once.
    this.#after(waitMs * (0.5 + Math.random() / 2), () => void this.#open());
  }

  #close(): void {
    this.#opening?.abort();
    this.#opening = null;
    this.#source?.close();
    this.#source = null;
    this.#failures = 0;
    this.state.value = null;
    this.link.value = 'off';
  }

  #after(ms: number, act: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(act, ms);
  }
}

const feeds: { [R in Role]: Feed<R> } = {
  provider: new Feed('provider'),
  buyer: new Feed('buyer'),
  admin: new Feed('admin'),
};

/** The role's live figures while the part that calls it is shown; all parts share one stream. */
export function useLive<R extends Role>(role: R): Live<R> {
  const feed = feeds[role] as unknown as Feed<R>;
  useEffect(() => feed.join(), [feed]);
  return feed;
}
