/**
 * Every limit and time of the wire, with its unit and what happens at it. The first block is told to the agent in
 * WELCOME and holds for both ends; the others are each end's own and listed in SPEC.md "Limits".
 */

/** The limits of one tunnel, fixed by the gateway's WELCOME; they bind both ends in both directions. */
export interface SessionLimits {
  /** Bytes either end may send on a new stream before the first CREDIT. More is a protocol error. */
  readonly streamWindowBytes: number;
  /** Most bytes a stream's send window may ever hold; a CREDIT beyond it is a protocol error. */
  readonly streamWindowBytesMax: number;
  /**
   * Most bytes by which the windows of a tunnel may have grown together, first windows left out; at it they stop growing.
   * So many streams that stall can not keep the others at a first window, and an end holds at most this and a first
   * window a stream.
   */
  readonly tunnelWindowBytesMax: number;
  /** Streams at once; an OPEN above it is a protocol error. */
  readonly streamsMax: number;
  /** Most payload bytes of one DATA frame; more is a protocol error. */
  readonly frameBytesMax: number;
}

export const defaultLimits: SessionLimits = {
  streamWindowBytes: 128 * 1024,
  streamWindowBytesMax: 16 * 1024 * 1024,
  tunnelWindowBytesMax: 16 * 1024 * 1024,
  streamsMax: 1_000,
  frameBytesMax: 256 * 1024,
};

/** Returns what is wrong with these limits taken together, or null. */
export function limitsProblem(limits: SessionLimits): string | null {
  if (limits.streamWindowBytes < 16 * 1024) return 'stream_window_bytes below 16384';
  if (limits.streamWindowBytesMax < limits.streamWindowBytes)
    return 'stream_window_bytes_max below stream_window_bytes';
  if (limits.streamWindowBytesMax > 0x7fffffff) return 'stream_window_bytes_max above 2147483647';
  if (limits.tunnelWindowBytesMax < limits.streamWindowBytesMax)
    return 'tunnel_window_bytes_max below stream_window_bytes_max';
  if (limits.streamsMax < 1) return 'streams_max below 1';
  if (limits.frameBytesMax < 1_024) return 'frame_bytes_max below 1024';
  if (limits.frameBytesMax > MESSAGE_BYTES_MAX - 5) return 'frame_bytes_max above the largest message';
  return null;
}

/** Times of a tunnel in ms; the first two are told in WELCOME, the others follow from them. */
export interface SessionTimings {
  /** A PING goes out this often while streams live; silence of twice as long ends the tunnel. */
  readonly pingLiveMs: number;
  /** A PING goes out this often without streams; silence of 2.4 times as long ends the tunnel. */
  readonly pingIdleMs: number;
  /** Time the peer has for HELLO or WELCOME after the WebSocket is up; then the tunnel is closed. */
  readonly greetingTimeoutMs: number;
  /** Time a closing tunnel has to deliver its last frames; then the socket is destroyed. */
  readonly closeTimeoutMs: number;
}

export const defaultTimings: SessionTimings = {
  pingLiveMs: 5_000,
  pingIdleMs: 25_000,
  greetingTimeoutMs: 10_000,
  closeTimeoutMs: 2_000,
};

/** Silence that means a dead peer while streams live, in units of `pingLiveMs` (10 s by default). */
export const DEAD_AFTER_LIVE_PINGS = 2;
/** Silence that means a dead peer without streams, in units of `pingIdleMs` (60 s by default). */
export const DEAD_AFTER_IDLE_PINGS = 2.4;

/** WebSocket message, bytes; a longer one ends the tunnel with close code 1009. */
export const MESSAGE_BYTES_MAX = 1024 * 1024;
/** WebSocket fragments of one message; more end the tunnel with close code 1008. */
export const MESSAGE_FRAGMENTS_MAX = 4_096;
/** Payload of a frame that carries msgpack, bytes; a longer one is a protocol error before it is collected. */
export const CONTROL_PAYLOAD_BYTES_MAX = 16 * 1024;
/** Request of an OPEN on a link between gateways, UTF-16 units; the whole OPEN keeps to CONTROL_PAYLOAD_BYTES_MAX as well. */
export const LINK_REQUEST_CHARS_MAX = 16_000;
/** Payload of a DATAGRAM frame, bytes: the longest address and the longest UDP payload. */
export const DATAGRAM_PAYLOAD_BYTES_MAX = 1 + 1 + 255 + 2 + 65_507;

/**
 * Payload bytes of one `udp` stream's datagrams that wait in the tunnel's socket; a datagram that would make them more
 * is dropped.
 */
export const STREAM_DATAGRAM_BYTES_MAX = 64 * 1024;
/**
 * The same over all streams of a tunnel, headers included. Apart from the bytes of `tcp` streams that wait there, so
 * that a download does not take a DNS answer's place.
 */
export const TUNNEL_DATAGRAM_BYTES_MAX = 256 * 1024;

/** OPEN frames accepted within one beat (1 s); more are a protocol error. */
export const OPENS_PER_BEAT_MAX = 20_000;
/** RESET frames accepted within one beat (1 s); more are a protocol error. */
export const RESETS_PER_BEAT_MAX = 20_000;
/** Frames of stream 0 and WebSocket pings accepted within one beat (1 s); more are a protocol error. */
export const SESSION_FRAMES_PER_BEAT_MAX = 200;

/**
 * Most bytes of a stream, both directions together, that are counted and not yet with the operating system: bytes are
 * offered to the observer in pieces, and a piece only when those before it in its direction have left. So this is what
 * a killed gateway may have counted too much.
 */
export const COUNT_BYTES_MAX = 64 * 1024;
/**
 * What of COUNT_BYTES_MAX a direction leaves to the other, so that a peer that reads only after its writes were taken
 * is never waited for in vain. A piece has at most COUNT_BYTES_MAX less this.
 */
export const COUNT_BYTES_KEPT = 4 * 1024;
/**
 * Payload bytes of DATA of one tunnel that wait for the end of a turn of the event loop to leave in one write; what is
 * more leaves at once. They count against COUNT_BYTES_MAX of each of its streams: below COUNT_BYTES_KEPT.
 */
export const HELD_DATA_BYTES_MAX = 3 * 1024;

/**
 * Bytes waiting in the tunnel's socket above which streams that stopped are not woken. A stream whose own bytes are
 * among them has stopped anyway, so the backlog stays below this plus about one piece a stream.
 */
export const BACKLOG_HIGH_WATER_BYTES = 256 * 1024;
/** Streams woken at a time after a drain; more follow in the next turn of the event loop while there is room. */
export const WAKE_STREAMS_MAX = 4;

/**
 * Blocks of 64 KiB in the process that are kept for further use by streams whose reader is the slower side; more are left
 * to the garbage collector.
 */
export const SPARE_BLOCKS_MAX = 512;
/**
 * Writes in a row that the operating system took at once before a stream's bytes are written right out of the tunnel's
 * read buffer: more than its socket buffers hold for a reader that never reads. Until then they are copied, so that
 * a stream that stalls holds its own bytes and not the buffer they came in.
 */
export const DIRECT_WRITES_AFTER = 64;
/** Read buffers of a tunnel that stalled streams may hold; with so many held, bytes are copied. */
export const KEPT_READ_BUFFERS_MAX = 16;

/** First read buffer of a socket, shared by all sockets of the process that have little to read. */
export const READ_BUFFER_BYTES = 8 * 1024;
/** Largest read buffer of one socket: what fills it is counted in whole pieces. */
export const READ_BUFFER_BYTES_MAX = 4 * (COUNT_BYTES_MAX - COUNT_BYTES_KEPT);
/** Own read buffers of all sockets together; at it sockets keep what they have and grow no more. */
export const READ_BUFFERS_TOTAL_BYTES_MAX = 512 * 1024 * 1024;

/**
 * Round trip that windows are sized for when that of the way is shorter, ms: event loops answer no faster under load.
 */
export const WINDOW_ROUND_MS_MIN = 5;
/**
 * Most bytes of a window that are there for that alone and not for the way. A faster stream gains nothing by more: whenever
 * its reader is busy for a moment, all of a window comes meanwhile, and is copied to wait.
 */
export const WINDOW_LOOPS_BYTES_MAX = 4 * 1024 * 1024;
/**
 * While a small stream shares a tunnel whose way is shorter than WINDOW_ROUND_MS_MIN, the windows of the others hold what they
 * take in so long, ms. The small one waits for about that and the first windows to be moved.
 */
export const WINDOW_ROUND_SHARED_MS = 1;
/** As WINDOW_SHRINK_AFTER_MS, then. */
export const WINDOW_SHRINK_AFTER_SHARED_MS = 200;
/** A small stream is one whose bytes come in pieces of at most so many, */
export const SMALL_PIECE_BYTES_MAX = 16 * 1024;
/** at least so many pieces in a row: the first reads of a bulk stream are as small, and its turns may be far apart, */
export const SMALL_PIECES_MIN = 8;
/** for at least so long, ms, */
export const SMALL_MS_MIN = 50;
/** which carry at most so many bytes together. */
export const SMALL_BYTES_MAX = 64 * 1024;
/** Time after its last piece for which a small stream shares the tunnel, ms. */
export const SMALL_LASTS_MS = 1_000;
/**
 * Shortest time over which the rate of a stream is measured, ms: an event loop reads one stream's bytes in a burst and then
 * those of the others.
 */
export const RATE_MEASURE_MS_MIN = 20;
/** Time in which no round asked for its size after which a window shrinks, ms. */
export const WINDOW_SHRINK_AFTER_MS = 5_000;
/** Of windows between twice and four times this, credit is given in steps of this: bytes. */
export const CREDIT_STEP_BYTES = 256 * 1024;
/**
 * Most of what the other windows of a tunnel leave to grow by that one window may take: a stream which was fast and then
 * stalls leaves something to those that come after it.
 */
export const WINDOW_BUDGET_SHARE_MAX = 0.8;
/** A PING between which and its PONG no more bytes than this were moved has met no queue: bytes, both directions. */
export const QUIET_PING_BYTES_MAX = 64 * 1024;

/** Body of a refused handshake that is read for its error code, bytes; the rest is ignored. */
export const REFUSAL_BODY_BYTES_MAX = 16 * 1024;
