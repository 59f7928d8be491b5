import { integer, list, text, type Values } from '../../gateway/runtime/environment.js';
import type { DetectionSettings } from './detection.js';

/** Part of the control plane's settings: what is taken for abuse, and what becomes of it and of reports. */
export const abuseSettings = {
  abuseWindowHours: integer(
    'TS_ABUSE_WINDOW_HOURS',
    'what rules on a buyer look at: the UTC hour under way and so many before it',
    { default: 1, max: 24 },
  ),
  abuseFanOutHostsMin: integer(
    'TS_ABUSE_FAN_OUT_HOSTS_MIN',
    'different hosts that one buyer reached in the window; from here a finding `fan_out` is opened, 0: never',
    { default: 5_000, max: 1_000_000_000 },
  ),
  abuseFailedDialsMin: integer(
    'TS_ABUSE_FAILED_DIALS_MIN',
    'connections of one buyer that failed at the destination in the window; from here, and with the two below, a ' +
      'finding `failed_dials` is opened, 0: never',
    { default: 500, max: 1_000_000_000 },
  ),
  abuseFailedDialsPercentMin: integer(
    'TS_ABUSE_FAILED_DIALS_PERCENT_MIN',
    'part of the connections that must have failed for `failed_dials`, percent',
    { default: 50, max: 100 },
  ),
  abuseFailedTargetsMin: integer(
    'TS_ABUSE_FAILED_TARGETS_MIN',
    'different hosts and ports that must have failed for `failed_dials`: trying one again and again is no scan',
    { default: 100, max: 1_000_000_000 },
  ),
  abuseBlockedAttemptsMin: integer(
    'TS_ABUSE_BLOCKED_ATTEMPTS_MIN',
    'connections of one buyer to denied destinations and ports in the window; from here a finding `blocked_targets` is ' +
      'opened, 0: never',
    { default: 200, max: 1_000_000_000 },
  ),
  abuseTargetStreamsMin: integer(
    'TS_ABUSE_TARGET_STREAMS_MIN',
    'connections to one host in this UTC day; from here, and with those below, a finding `target_by_devices` or ' +
      '`target_by_buyers` is opened, 0: never',
    { default: 10_000, max: 1_000_000_000 },
  ),
  abuseTargetDevicesMin: integer(
    'TS_ABUSE_TARGET_DEVICES_MIN',
    'exit addresses from which one buyer must reach the host for `target_by_devices`',
    { default: 50, min: 2, max: 1_000_000 },
  ),
  abuseTargetBuyersMin: integer(
    'TS_ABUSE_TARGET_BUYERS_MIN',
    'buyers that must reach the host for `target_by_buyers`',
    { default: 5, min: 2, max: 1_000_000 },
  ),
  abuseTargetBytesPerStreamMax: integer(
    'TS_ABUSE_TARGET_BYTES_PER_STREAM_MAX',
    'bytes a connection to the host, in the middle, above which it is use and no attack, for both of these',
    { default: 20_000, max: 1_000_000_000 },
  ),
  abuseThrottleRules: list(
    'TS_ABUSE_THROTTLE_RULES',
    'rules whose buyer is held to TS_ABUSE_THROTTLE_CONNECTIONS_PER_SECOND at once, without an admin; unset: none, a ' +
      'finding only warns',
  ),
  abuseSuspendRules: list(
    'TS_ABUSE_SUSPEND_RULES',
    'rules whose buyer is suspended at once, without an admin; unset: none',
  ),
  abuseThrottleConnectionsPerSecond: integer(
    'TS_ABUSE_THROTTLE_CONNECTIONS_PER_SECOND',
    'new connections a second left to a buyer of TS_ABUSE_THROTTLE_RULES; further ones get RATE_LIMIT',
    { default: 5, min: 1, max: 100_000 },
  ),
  abuseContact: text(
    'TS_ABUSE_CONTACT',
    'how buyers who are warned, throttled or suspended reach you, such as an address for mail; their notice says it; unset: ' +
      'the notice says "your contact at Traffic Share"',
    '',
  ),
  abuseQuietHours: integer(
    'TS_ABUSE_QUIET_HOURS',
    'hours after a decision in which the same rule opens no finding of the same buyer or host',
    { default: 24, max: 8_760 },
  ),
  abuseLateHours: integer(
    'TS_ABUSE_LATE_HOURS',
    'hours a report may wait for its first answer before admins are warned',
    { default: 24, min: 1, max: 8_760 },
  ),
  abuseKeptDays: integer(
    'TS_ABUSE_KEPT_DAYS',
    'days that texts, addresses and evidence of closed reports and decided findings are kept; then they are deleted, ' +
      'and what is left is counted in the transparency figures',
    { default: 365, min: 1, max: 3_650 },
  ),
  abuseReportsPerIpPerHour: integer(
    'TS_ABUSE_REPORTS_PER_IP_PER_HOUR',
    'abuse reports from one address (IPv6: one /64) in an hour; above it 429',
    { default: 10, min: 1, max: 1_000_000 },
  ),
  abuseReportsPerHour: integer(
    'TS_ABUSE_REPORTS_PER_HOUR',
    'abuse reports from everywhere in an hour; above it 429',
    { default: 500, min: 1, max: 1_000_000 },
  ),
  legalHoldConfirmDays: integer(
    'TS_LEGAL_HOLD_CONFIRM_DAYS',
    'days a legal hold that one admin asked for keeps records while it waits for the second; then it lapses',
    { default: 7, min: 1, max: 90 },
  ),
};

/** What detection goes by. */
export function detectionSettingsOf(config: Values<typeof abuseSettings>): DetectionSettings {
  return {
    thresholds: {
      fanOutHostsMin: config.abuseFanOutHostsMin,
      failedDialsMin: config.abuseFailedDialsMin,
      failedDialsPercentMin: config.abuseFailedDialsPercentMin,
      failedTargetsMin: config.abuseFailedTargetsMin,
      blockedAttemptsMin: config.abuseBlockedAttemptsMin,
      targetStreamsMin: config.abuseTargetStreamsMin,
      targetDevicesMin: config.abuseTargetDevicesMin,
      targetBuyersMin: config.abuseTargetBuyersMin,
      targetBytesPerStreamMax: config.abuseTargetBytesPerStreamMax,
    },
    windowHours: config.abuseWindowHours,
    throttleRules: config.abuseThrottleRules,
    suspendRules: config.abuseSuspendRules,
    throttleConnectionsPerSecond: config.abuseThrottleConnectionsPerSecond,
    quietHours: config.abuseQuietHours,
    contact: config.abuseContact || null,
  };
}
