/** What is looked for; the first three are of one buyer. */
export const DETECTION_RULES = [
  'fan_out',
  'failed_dials',
  'blocked_targets',
  'target_by_devices',
  'target_by_buyers',
] as const;
export type DetectionRule = (typeof DETECTION_RULES)[number];

/** Rules that name one buyer, who can be throttled or suspended. */
export const RULES_OF_BUYERS: readonly DetectionRule[] = DETECTION_RULES.filter(
  (r) => r !== 'target_by_buyers',
);

/** From where what buyers do is taken for abuse; 0 turns a rule off. Settings `TS_ABUSE_*`. */
export interface Thresholds {
  fanOutHostsMin: number;
  failedDialsMin: number;
  failedDialsPercentMin: number;
  failedTargetsMin: number;
  blockedAttemptsMin: number;
  targetStreamsMin: number;
  targetDevicesMin: number;
  targetBuyersMin: number;
  targetBytesPerStreamMax: number;
}

/** What one buyer did in the window. */
export interface BuyerFacts {
  buyerId: string;
  /** Connections that were opened. */
  streams: number;
  /** About how many hosts they reached. */
  hosts: number;
  /** Connections that failed at the destination, and about how many hosts and ports these were. */
  failed: number;
  failedTargets: number;
  /** Connections to what may not be reached. */
  blocked: number;
  /** By code of the refusal, of those two. */
  byCode: Readonly<Record<string, number>>;
  /** A few of the destinations, `host:port`. */
  failedSamples: readonly string[];
  blockedSamples: readonly string[];
}

/** What reached one host on this day: by one buyer, or by all. */
export interface TargetFacts {
  host: string;
  /** Null: of all. */
  buyerId: string | null;
  buyers: number;
  devices: number;
  streams: number;
  bytes: number;
  /** Those with most connections, at most ten. */
  topBuyerIds: readonly string[];
}

/** What a rule found. */
export interface Suspicion {
  rule: DetectionRule;
  /** What it is about: one finding each is open. */
  subject: string;
  buyerId: string | null;
  host: string | null;
  measured: number;
  threshold: number;
  /** JSON of bounded size. */
  evidence: Record<string, unknown>;
}

/** What of a buyer's doings is suspicious. */
export function judgeBuyer(facts: BuyerFacts, t: Thresholds): Suspicion[] {
  const { buyerId, streams, hosts, failed, failedTargets, blocked, byCode } = facts;
  const found: Suspicion[] = [];
  const add = (rule: DetectionRule, measured: number, threshold: number, samples: readonly string[]) =>
    found.push({
      rule,
      subject: buyerId,
      buyerId,
      host: null,
      measured,
      threshold,
      evidence: {
        connections: streams,
        hosts,
        failed,
        failed_targets: failedTargets,
        blocked,
        by_code: byCode,
        samples,
      },
    });
  if (t.fanOutHostsMin > 0 && hosts >= t.fanOutHostsMin) add('fan_out', hosts, t.fanOutHostsMin, []);
  const percent = failed === 0 ? 0 : (100 * failed) / (failed + streams);
  if (
    t.failedDialsMin > 0 &&
    failed >= t.failedDialsMin &&
    percent >= t.failedDialsPercentMin &&
    failedTargets >= t.failedTargetsMin
  )
    add('failed_dials', failed, t.failedDialsMin, facts.failedSamples);
  if (t.blockedAttemptsMin > 0 && blocked >= t.blockedAttemptsMin)
    add('blocked_targets', blocked, t.blockedAttemptsMin, facts.blockedSamples);
  return found;
}

/**
 * What of the way to a host is suspicious: many small connections, through many devices of one buyer (guessing passwords
 * from ever new addresses) or by many buyers (flooding).
 */
export function judgeTarget(facts: TargetFacts, t: Thresholds): Suspicion[] {
  const { host, buyerId, buyers, devices, streams, bytes, topBuyerIds } = facts;
  if (t.targetStreamsMin === 0 || streams < t.targetStreamsMin) return [];
  if (bytes / streams > t.targetBytesPerStreamMax) return [];
  const evidence = {
    connections: streams,
    bytes_per_connection: Math.round(bytes / streams),
    devices,
    buyers,
    ...(buyerId === null && { buyer_ids: topBuyerIds }),
  };
  const threshold = t.targetStreamsMin;
  if (buyerId === null)
    return buyers < t.targetBuyersMin
      ? []
      : [{ rule: 'target_by_buyers', subject: host, buyerId, host, measured: streams, threshold, evidence }];
  const subject = `${buyerId} ${host}`;
  return devices < t.targetDevicesMin
    ? []
    : [{ rule: 'target_by_devices', subject, buyerId, host, measured: streams, threshold, evidence }];
}
