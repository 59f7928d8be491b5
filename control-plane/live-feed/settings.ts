import { integer } from '../../gateway/runtime/environment.js';

/** Bounds of /api/live, as the operator sets them. */
export const liveFeedSettings = {
  liveIntervalMs: integer(
    'TS_LIVE_INTERVAL_MS',
    'how often listeners of /api/live are told what has changed',
    {
      default: 1_000,
      min: 50,
      max: 60_000,
    },
  ),
  liveHeartbeatMs: integer(
    'TS_LIVE_HEARTBEAT_MS',
    'a comment is sent to a listener of /api/live that was told nothing for this long',
    { default: 15_000, min: 100, max: 120_000 },
  ),
  liveStallMs: integer(
    'TS_LIVE_STALL_MS',
    'a listener of /api/live that takes nothing for this long is cut',
    {
      default: 30_000,
      min: 100,
      max: 600_000,
    },
  ),
  liveLifeS: integer(
    'TS_LIVE_LIFE_S',
    'life of a stream of /api/live, seconds; then it is ended, and its client connects again',
    { default: 3_600, min: 1, max: 86_400 },
  ),
  liveStreamsMax: integer(
    'TS_LIVE_STREAMS_MAX',
    'streams of /api/live at once, of one control plane; above it 429',
    { default: 2_000, min: 1, max: 100_000 },
  ),
  liveStreamsPerActorMax: integer(
    'TS_LIVE_STREAMS_PER_ACTOR_MAX',
    'streams of /api/live at once of one user, buyer or admin; above it 429',
    { default: 5, min: 1, max: 1_000 },
  ),
  liveTicketTtlS: integer('TS_LIVE_TICKET_TTL_S', 'time a ticket for /api/live is good, seconds', {
    default: 30,
    min: 1,
    max: 600,
  }),
};
