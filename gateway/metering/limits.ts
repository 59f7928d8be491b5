/** Settings of the metering stage: unit in the name, what happens at each limit beside it. */
export interface MeteringSettings {
  /**
   * Slots the journal has from the start, rounded up to whole extents. One slot is one live or not yet settled
   * meter and 512 bytes of disk.
   */
  journalSlots: number;
  /**
   * Slots of one extent: the journal grows by this much, in one synchronous write (4 096 slots = 2 MiB, about a
   * millisecond). Fixed when the file is created; an existing journal keeps its own.
   */
  journalExtentSlots: number;
  /**
   * The journal never has more slots than this (1 048 576 = 512 MiB). At the limit: no new streams; open meters
   * go on, and the reserve below serves price changes.
   */
  journalSlotsMax: number;
  /**
   * Free slots below which the journal grows; when it cannot (disk full, limit above) no new streams are admitted
   * and what is left serves price changes of streams that are open.
   */
  journalReserveSlots: number;
  /** After the disk was found full, ms until growing is tried again. */
  journalGrowRetryMs: number;
  /** ms between two fdatasync calls: what a loss of the whole host may cost. */
  journalSyncIntervalMs: number;
  /** When written counts have been waiting longer than this for the disk, no new streams are admitted, ms. */
  journalSyncLagMsMax: number;
  /**
   * A lock left by another machine or container (same volume, other host name) is watched this long, ms: a
   * heartbeat means it lives and the journal is refused, silence means it may be taken over.
   */
  journalLockWatchMs: number;
  /** A living process of this machine that has the journal is waited for so long, ms; then it is refused. 0: at once. */
  journalLockWaitMs: number;
  /** ms between two deliveries of changed meters to the live state: new and FINAL ones wait no longer. */
  deliveryIntervalMs: number;
  /**
   * A meter that only grows is delivered this often, ms: each delivery costs Redis, settlement and Postgres as much as
   * any other. Balances and live figures are behind by so much, and `activeAtMs` may be. 0: with each tick.
   */
  deliveryGrowthMs: number;
  /** Every meter that is not settled is sent again at least this often, ms, so that a wiped Redis fills again. */
  deliveryResendMs: number;
  /** Meters in one call to the live state: one Lua script run, about half a kilobyte each. */
  deliveryBatchMeters: number;
  /** Calls to the live state in one tick; what is left over waits for the next tick. */
  deliveryBatchesPerTick: number;
  /** FINAL meters asked for their committed marks in one tick. */
  deliveryPollMeters: number;
  /** A call to the live state that takes longer than this counts as failed, ms; its meters are sent again. */
  deliveryTimeoutMs: number;
  /** Longest pause between attempts while the live state is away, ms (doubling from `deliveryIntervalMs`). */
  deliveryBackoffMsMax: number;
  /** Keys finalised under one epoch that are remembered; at the limit a new epoch is drawn and they are forgotten. */
  finalKeysRemembered: number;
}

/** The defaults of every metering setting. */
export const METERING_DEFAULTS: Readonly<MeteringSettings> = Object.freeze({
  journalSlots: 16_384,
  journalExtentSlots: 4_096,
  journalSlotsMax: 1_048_576,
  journalReserveSlots: 1_024,
  journalGrowRetryMs: 2_000,
  journalSyncIntervalMs: 1_000,
  journalSyncLagMsMax: 10_000,
  journalLockWatchMs: 3_500,
  journalLockWaitMs: 10_000,
  deliveryIntervalMs: 250,
  deliveryGrowthMs: 1_000,
  deliveryResendMs: 5_000,
  deliveryBatchMeters: 200,
  deliveryBatchesPerTick: 16,
  deliveryPollMeters: 1_000,
  deliveryTimeoutMs: 5_000,
  deliveryBackoffMsMax: 5_000,
  finalKeysRemembered: 65_536,
});

const MAY_BE_ZERO: ReadonlySet<string> = new Set([
  'journalReserveSlots',
  'journalLockWaitMs',
  'deliveryGrowthMs',
]);

/** The settings with defaults for what is left out. Throws RangeError when two of them contradict each other. */
export function meteringSettings(given: Partial<MeteringSettings> = {}): Readonly<MeteringSettings> {
  const settings = { ...METERING_DEFAULTS, ...given };
  for (const [name, value] of Object.entries(settings))
    if (!Number.isSafeInteger(value) || value < (MAY_BE_ZERO.has(name) ? 0 : 1))
      throw new RangeError(`${name} must be a positive whole number`);
  if (settings.journalSlotsMax < settings.journalSlots)
    throw new RangeError('journalSlotsMax must not be below journalSlots');
  if (settings.deliveryResendMs < settings.deliveryIntervalMs)
    throw new RangeError('deliveryResendMs must not be below deliveryIntervalMs');
  if (settings.journalLockWatchMs <= settings.journalSyncIntervalMs)
    throw new RangeError('journalLockWatchMs must be above journalSyncIntervalMs, the heartbeat of the lock');
  return Object.freeze(settings);
}
