/**
 * Every Redis key of the live state, in one place: name, type, owner (who writes), lifetime, readers.
 *
 * Redis may vanish and come back empty at any moment (DESIGN.md, "Three states"): nothing here is the only copy
 * of anything that matters for long. Each Lua script touches the keys of one hash tag only, so Redis Cluster works.
 */

/** Common prefix: one Redis may be shared with other software. */
const PREFIX = 'ts:';

export const liveKeys = {
  /**
   * STRING `AccountSnapshot`. Owner: control plane (`buyers/`), on every change and at each rebuild. No expiry.
   * Readers: gateways (`buyers/directory`).
   */
  account: (account: string) => `${PREFIX}account:{${account}}`,

  /**
   * HASH account → JSON list of the CIDRs that open it without a password; accounts that have none are not in it.
   * Owner: control plane, with `account`. No expiry. Readers: gateways, for clients that name no account.
   */
  passwordless: () => `${PREFIX}passwordless`,

  /**
   * STRING `TicketRecord`. Owner: control plane at traffic start. Expires with the ticket (default 60 s).
   * Taken (GETDEL) by the gateway that the device connects to: a ticket opens one tunnel.
   */
  ticket: (ticketSha256Hex: string) => `${PREFIX}ticket:{${ticketSha256Hex}}`,

  /**
   * STRING `DevicePresence`. Owner: the gateway that holds the device's newest tunnel (script `keepDevice`). Expires after
   * PRESENCE_TTL_MS, refreshed at a third of it. Readers: control plane (device lists, locations), gateways.
   */
  device: (deviceId: string) => `${PREFIX}device:{${deviceId}}`,

  /** ZSET deviceId → presence expiry (ms since epoch). Owner: gateways. Trimmed by readers. Readers: control plane. */
  devicesOnline: () => `${PREFIX}devices-online`,

  /**
   * STRING `GatewayPresence`. Owner: that gateway, of two with the same id the one that began last (script `keepGateway`).
   * Expires after PRESENCE_TTL_MS, refreshed at a third of it. Readers: control plane.
   */
  gateway: (gatewayId: string) => `${PREFIX}gateway:{gw:${gatewayId}}`,

  /**
   * HASH gatewayId → `GatewayBeat`. Owner: that gateway, every BEAT_INTERVAL_MS. No expiry: readers judge by their own clock how
   * long a beat stands still, and remove it after SUMMARY_KEPT_MS. One key, so that all are read in one round trip.
   */
  gatewayBeats: () => `${PREFIX}gateway-beats`,

  /**
   * HASH gatewayId → `GatewaySummary`: what other gateways may ask it for. Owner: that gateway, where links are on: once a
   * second when it has changed, and every third of PRESENCE_TTL_MS. No expiry: readers take one that has not changed for
   * PRESENCE_TTL_MS for gone, and remove it after SUMMARY_KEPT_MS. One key, so that all are read in one round trip.
   */
  gatewaySummaries: () => `${PREFIX}gateway-summaries`,

  /**
   * STRING gatewayId: at which gateway a provider's devices at that address were last. Owner: that gateway, where links
   * are on. Expires after EXIT_TTL_MS, refreshed at a third of it. Readers: gateways, for pulled packages.
   */
  exit: (providerId: string, exitIp: string) => `${PREFIX}exit:{${providerId}|${exitIp}}`,

  /**
   * SET of gateway ids that were ever present or reported meters. Owner: gateways (SADD with presence and every
   * delivery). Never removed by them: settlement removes an id when its meters hash is gone and its presence too.
   * Readers: settlement, and the control plane for its list of gateways.
   */
  gateways: () => `${PREFIX}gateways`,

  /**
   * STRING `ClaimRecord`: the exclusive hold of one allocation on a provider + exit IP. Owner: whoever allocates
   * (gateway or control plane), through the claim scripts only. Expires after its holder's ttl unless renewed.
   */
  claim: (providerId: string, exitIp: string) => `${PREFIX}claim:{${providerId}|${exitIp}}`,

  /**
   * STRING `PackageRoute`: where a pulled package leads. Owner: control plane at pull. Expires with the allocation.
   * Readers: gateways (`package-` in the username).
   */
  packageRoute: (packageId: string) => `${PREFIX}package:{${packageId}}`,

  /**
   * STRING `StickyRecord`: which allocation a named proxy session of an account is bound to. Owner: gateways.
   * Expires after the session's idle ttl, renewed on use.
   */
  sticky: (account: string, session: string) => `${PREFIX}sticky:{${account}}:${session}`,

  /**
   * HASH meter key → `MeterReport`. Owner: that gateway's delivery (max semantics, script `reportMeters`);
   * settlement deletes a FINAL field once Postgres has committed it. No expiry.
   */
  meters: (gatewayId: string) => `${PREFIX}meters:{gw:${gatewayId}}`,

  /** SET of meter keys of `meters` that grew since settlement last booked them. Same script, same tag. No expiry. */
  dirtyMeters: (gatewayId: string) => `${PREFIX}meters-dirty:{gw:${gatewayId}}`,

  /**
   * HASH meter key → `SettledMark` of what Postgres has **committed**. Owner: settlement. The gateway deletes the
   * field once it has freed the meter's journal slot. No expiry.
   */
  settled: (gatewayId: string) => `${PREFIX}meters-settled:{gw:${gatewayId}}`,

  /**
   * HASH `walletField` → `WalletRecord`: what Postgres has set aside for runs of that gateway. Owner: control plane
   * (`wallets/`), after each commit and at each rebuild; removed once the hold is closed. No expiry. Readers: that
   * gateway.
   */
  wallets: (gatewayId: string) => `${PREFIX}wallets:{gw:${gatewayId}}`,

  /**
   * HASH `walletField` → `WalletAsk`. Owner: that gateway (script `askWallets`, nothing in it ever falls); the control
   * plane deletes a field once its hold is closed. No expiry. Readers: control plane.
   */
  walletAsks: (gatewayId: string) => `${PREFIX}wallet-asks:{gw:${gatewayId}}`,

  /**
   * STREAM of `{g: gatewayId, w: walletField}`: rings when an ask wants an answer now. Owner: gateways. Trimmed to about
   * WALLET_BELL_KEPT entries. Readers: control planes, with a blocking XREAD; what is missed is found by their sweep.
   */
  walletBell: () => `${PREFIX}wallet-bell`,

  /**
   * HASH `run.seq` → JSON of `UsageEntry[]`: usage and refusals that are not booked yet. Owner: that gateway, which keeps no
   * more than `usageBatchesMax` of a run waiting; the control plane removes a field once Postgres has committed it.
   * No expiry. Readers: control plane (`usage/`).
   */
  usage: (gatewayId: string) => `${PREFIX}usage:{gw:${gatewayId}}`,

  /**
   * HASH run → JSON of `SeqRange[]`: the batches Postgres has **committed**. Owner: control plane (`usage/`). The
   * gateway's next run removes the fields of earlier ones. No expiry. Readers: that gateway.
   */
  usageBooked: (gatewayId: string) => `${PREFIX}usage-booked:{gw:${gatewayId}}`,

  /**
   * SET of ids of gateways that may have usage waiting. Owner: gateways (SADD after each batch). The control plane
   * removes an id when nothing waits and the gateway's presence is gone. Readers: control plane (`usage/`).
   */
  usageGateways: () => `${PREFIX}usage-gateways`,

  /** STRING `ProviderPrice` in force now. Owner: control plane (`pricing`), at each change and rebuild. No expiry. */
  providerPrice: () => `${PREFIX}price:provider`,

  /** STRING `LiveSettings` (policy lists, terms version…). Owner: control plane. No expiry. Readers: gateways. */
  liveSettings: () => `${PREFIX}settings`,

  /**
   * STRING, another random one after each write of `liveSettings`: gateways look at it every second, and read the
   * settings, which may be large lists, only when it has changed. Owner: control plane. No expiry. Readers: gateways.
   */
  liveSettingsMarker: () => `${PREFIX}settings-marker`,

  /**
   * STREAM of `GatewayCommand` (field `c`). Owner: control plane. Trimmed to about COMMANDS_KEPT entries.
   * Readers: every gateway, with a blocking XREAD from its own last id.
   */
  commands: () => `${PREFIX}commands`,

  /**
   * STRING, set by the control plane after it has rebuilt the live state. Missing means Redis came back empty: the
   * control plane rebuilds, and a gateway must not call an unknown account a wrong one. In a cluster each master has one,
   * with a hash tag (`LiveRedis.primaryTags`) that is the master's: any of them may come back empty by itself.
   */
  /** One rebuild that is under way, on the server of that tag. */
  rebuilding: (tag: string, rebuild: string) =>
    tag === '' ? `${PREFIX}rebuilding:${rebuild}` : `${PREFIX}rebuilding:{${tag}}:${rebuild}`,
  ready: (tag = '') => (tag === '' ? `${PREFIX}ready` : `${PREFIX}ready:{${tag}}`),

  /**
   * STRING `Actor` of the control plane: whom a ticket for an event stream was given to. Owner: control plane
   * (`live-feed/`). Taken (GETDEL) by the control plane that the stream is opened at; expires after TS_LIVE_TICKET_TTL_S.
   */
  streamTicket: (ticketSha256Hex: string) => `${PREFIX}stream-ticket:{${ticketSha256Hex}}`,

  /**
   * HASH gatewayId → text of `shareLimits`: what each gateway does of an owner's limits, and its portion of them. Owner: each
   * gateway its field (script `shareLimits`, which drops fields that have expired by Redis's clock). Expires with its last
   * field. `owner`: a buyer's id, or the account of a sub-user that has limits of its own. Readers: gateways, by the script.
   */
  limitUse: (owner: string) => `${PREFIX}limit-use:{${owner}}`,

  /** Rate limit counters of the control plane's API (`@fastify/rate-limit`'s name space). */
  apiRateLimit: () => `${PREFIX}rl:`,
} as const;

/** About how many rings the wallet bell keeps. */
export const WALLET_BELL_KEPT = 10_000;
/** How long a device or gateway counts as present without a sign of life. */
export const PRESENCE_TTL_MS = 15_000;
/** How often a gateway says that it is there. */
export const BEAT_INTERVAL_MS = 1_000;
/** How long a summary or beat that does not change any more is left in the hash. */
export const SUMMARY_KEPT_MS = 60_000;
/** How long it is known which gateway an exit was at. Longer than presence: it costs a key each, and a wrong one a question. */
export const EXIT_TTL_MS = 600_000;
/** About how many commands the stream keeps: a gateway away for longer re-reads all snapshots instead. */
export const COMMANDS_KEPT = 10_000;

/**
 * Patterns (of SCAN) of what the control plane has written and can write anew from Postgres: what Postgres has committed of meters
 * and usage, wallets, accounts, prices, settings, routes, tickets. To go in this order, the mark that it is complete first; and last
 * the rebuilds that are under way, which have written what is gone by then, and a mark that one of them has set meanwhile.
 */
export function controlPlaneKeyPatterns(): string[] {
  return [
    liveKeys.ready(),
    liveKeys.ready('*'),
    liveKeys.settled('*'),
    liveKeys.usageBooked('*'),
    liveKeys.wallets('*'),
    liveKeys.account('*'),
    liveKeys.passwordless(),
    liveKeys.ticket('*'),
    liveKeys.packageRoute('*'),
    liveKeys.providerPrice(),
    liveKeys.liveSettings(),
    liveKeys.liveSettingsMarker(),
    liveKeys.streamTicket('*'),
    liveKeys.rebuilding('', '*'),
    liveKeys.ready(),
    liveKeys.ready('*'),
  ];
}
