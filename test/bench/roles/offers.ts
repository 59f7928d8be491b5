/** Requests at a fixed rate, far more than are answered perhaps, from a process of its own. */
import type { TimedRequest } from '../load/statistics.js';
import { type Endpoint, REQUEST, RESPONSE, type Route } from '../protocol.js';
import { dial } from './dial.js';
import { serveCalls } from './serve-calls.js';

export interface Offer {
  perSecond: number;
  durationMs: number;
  /** Requests under way at once; above it those that come due are not begun. */
  openMax: number;
}

/** What came of an offer; times in ms, `dueMs` from its start. */
export interface OfferResult {
  due: number;
  /** Of those, begun before the offer's time was over. */
  begun: number;
  /** Due in time, but not begun: `openMax` were open. */
  heldBack: number;
  /** Answered wholly before the offer's time was over. */
  doneInTime: number;
  done: number;
  /** Turned away, ended by the other side without an answer: from dialling to the end, of each. */
  refusalMs: number[];
  /** How many of them there were by what they were told. */
  refusals: Record<string, number>;
  /** No answer and no end in time, or it could not be dialled. */
  lost: number;
  firstLoss: string | null;
  requests: TimedRequest[];
}

export interface OffersCalls {
  offer(route: Route, origin: Endpoint, offer: Offer): Promise<OfferResult>;
}

/** Without an answer for this long a request is lost. */
const PATIENCE_MS = 10_000;
const scratch = Buffer.alloc(1 << 16);
/** What happens at this side, or at nobody's: no sign that somebody turned the request away. */
const OWN_FAILURES = new Set(['EADDRNOTAVAIL', 'EMFILE', 'ENFILE', 'ETIMEDOUT']);

const offer: OffersCalls['offer'] = (route, origin, { perSecond, durationMs, openMax }) =>
  new Promise((resolve) => {
    const result: OfferResult = {
      due: 0,
      begun: 0,
      heldBack: 0,
      doneInTime: 0,
      done: 0,
      refusalMs: [],
      refusals: {},
      lost: 0,
      firstLoss: null,
      requests: [],
    };
    const startMs = performance.now();
    const count = Math.round((perSecond * durationMs) / 1_000);
    let open = 0;

    const begin = (dueMs: number): void => {
      const begunMs = performance.now();
      let received = 0;
      let answeredMs: number | null = null;
      open++;
      result.begun++;
      const wire = dial(route, origin, scratch, () => wire.socket.write(REQUEST));
      wire.socket.setTimeout(PATIENCE_MS, () => wire.socket.destroy(new Error('no answer')));
      wire.onBytes = (n) => {
        received += n;
        if (received === RESPONSE.length) answeredMs = performance.now();
      };
      wire.onClose = (error) => {
        open--;
        const code = (error as NodeJS.ErrnoException | null)?.code;
        if (answeredMs !== null) {
          result.done++;
          if (answeredMs - startMs <= durationMs) result.doneInTime++;
        } else if (error?.message === 'no answer' || (code !== undefined && OWN_FAILURES.has(code))) {
          result.lost++;
          result.firstLoss ??= error?.message ?? '';
        } else {
          result.refusalMs.push(performance.now() - begunMs);
          const why = error?.message ?? 'closed without a word';
          result.refusals[why] = (result.refusals[why] ?? 0) + 1;
        }
        const tookMs = answeredMs === null ? null : answeredMs - startMs - dueMs;
        result.requests.push({ dueMs, tookMs });
        finishWhenDone();
      };
    };
    const finishWhenDone = (): void => {
      if (result.due >= count && open === 0) resolve(result);
    };
    const tick = (): void => {
      const nowMs = performance.now() - startMs;
      for (; result.due < count; result.due++) {
        const dueMs = (result.due * 1_000) / perSecond;
        if (dueMs > nowMs) break;
        if (nowMs > durationMs) continue; // too late: this process did not keep up
        if (open >= openMax) result.heldBack++;
        else begin(dueMs);
      }
      if (result.due < count) setTimeout(tick, 1);
      else finishWhenDone();
    };
    tick();
  });

const calls: OffersCalls = { offer };
serveCalls({ ...calls });
