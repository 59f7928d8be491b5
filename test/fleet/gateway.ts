import type { Open } from '../../agent-protocol/control.js';
import { ResetCode } from '../../agent-protocol/frame.js';
import type { MuxStream, StreamHandler } from '../../agent-protocol/stream.js';
import { Allocator } from '../../gateway/allocation/allocator.js';
import { CandidateIndex } from '../../gateway/allocation/candidate-index.js';
import type { Candidate } from '../../gateway/allocation/candidates.js';
import { exitKey } from '../../gateway/allocation/candidates.js';
import { ALONE, orElsewhere, wishOf } from '../../gateway/attempts.js';
import type { ProxyFailure } from '../../gateway/errors.js';
import { Homes } from '../../gateway/links/homes.js';
import { LinkedPipeline, type OwnPipeline } from '../../gateway/links/linked-pipeline.js';
import { decodeRequest, encodeAnswer } from '../../gateway/links/messages.js';
import { PeerDirectory } from '../../gateway/links/peer-directory.js';
import type { Attempts, Authenticated, Connected } from '../../gateway/listeners/connect-pipeline.js';
import { writePresences } from '../../gateway/live/presence.js';
import type { DevicePresence } from '../../gateway/live/records.js';
import { AssociationPlaces } from '../../gateway/relay/association-places.js';
import { DatagramTotals } from '../../gateway/relay/datagram-totals.js';
import type { Clock } from '../../gateway/runtime/clock.js';
import { silentLog } from '../../gateway/runtime/logging.js';
import { type Soon, soon } from '../../gateway/runtime/soon.js';
import type { TunnelRegistry } from '../../gateway/tunnels/registry.js';
import type { FleetRedis } from './redis.js';

/** A device as it hangs on one gateway. */
export interface SimTunnel extends Candidate {
  status: Candidate['status'];
  /** Connections of buyers that go through it. */
  streams: number;
  /** Asked to move, it leaves when nothing goes through it any more. */
  leaving: boolean;
}

/** As `TS_PROXY_DEVICES_MAX` of a connection. */
const DEVICES_MAX = 3;
/** Any: it is as long as a real one. */
const CONNECTED_AT_MS = 1_700_000_000_000;
/** As gateways write them. */
const PRESENCES_PER_BATCH = 500;

export interface FleetParts {
  clock: Clock;
  redis: FleetRedis;
  /** [0, 1). */
  random: () => number;
  /** Who a buyer is, by the name it logs in with. */
  logIn: (username: string) => Authenticated;
  /** The gateway of that id, while it runs. */
  gateway: (gatewayId: string) => SimGateway | undefined;
  /** Another gateway was asked for a connection; `OK`: it has served it. */
  onAsked: (outcome: string) => void;
}

/**
 * A gateway of the fleet: the project's allocator, directory of gateways and way to other gateways. Only sockets, dials and bytes
 * are left out.
 */
export class SimGateway {
  readonly tunnels = new Set<SimTunnel>();
  readonly pipeline: LinkedPipeline;
  readonly allocator: Allocator<SimTunnel>;
  readonly index: CandidateIndex<SimTunnel>;
  readonly directory: PeerDirectory;
  draining = false;
  readonly #epoch: string;

  constructor(
    readonly gatewayId: string,
    private readonly parts: FleetParts,
  ) {
    const { clock, random, gateway } = parts;
    const redis = parts.redis.client;
    this.#epoch = `${gatewayId}-${clock.nowMs()}`;
    this.index = new CandidateIndex(random);
    const isPeer = (id: string) => this.directory.get(id) !== null;
    const homes = new Homes({
      redis,
      log: silentLog,
      gatewayId,
      registry: this.#registry(),
      isPeer,
      hasExit: (exit) => this.index.byExit(exitKey(exit), new Set()) !== undefined,
    });
    homes.stop(); // real time means nothing here
    this.allocator = new Allocator<SimTunnel>({
      ...{ redis, index: this.index, clock, random, log: silentLog },
      gateway: { gatewayId, epoch: this.#epoch },
      onAllocationEnded: () => {},
      gatewayWith: (deviceId) => homes.gatewayWith(deviceId),
    });
    this.directory = new PeerDirectory({
      ...{ redis, clock, log: silentLog },
      gatewayId,
      describe: () => ({
        ...{ host: gatewayId, port: 1, draining: this.draining },
        devices: this.index.counts(),
      }),
      isSibling: () => false,
      isSilent: () => false,
      onRead: () => {},
    });
    this.pipeline = new LinkedPipeline({
      own: this.#own(),
      directory: {
        get: (id) => this.directory.get(id),
        candidates: (wish, but) => this.directory.candidates(wish, but),
        lookAgain: async () => false, // it waits in real time
      },
      homes,
      client: {
        to: (place) => linkTo(gateway(place.gatewayId)) as never,
        isResting: () => false,
        doubt: () => {},
        versionOf: () => 2,
      },
      clock,
      associations: { clock, totals: new DatagramTotals(), datagramsPerSecondMax: 1 },
      requestBytesMax: 4_096,
      dialTimeoutMs: 10_000,
      onAsked: parts.onAsked,
    });
  }

  /** What `Homes` looks at: the exits of devices that come are told by `attach`. */
  #registry(): TunnelRegistry {
    return { watch: () => {}, all: () => this.tunnels.values() } as unknown as TunnelRegistry;
  }

  #own(): OwnPipeline {
    const connect = (auth: Authenticated, attempts: Attempts): Soon<Connected | ProxyFailure> => {
      const devicesLeft = attempts.devicesMax ?? DEVICES_MAX;
      return soon(this.allocator.allocate(auth.buyer, wishOf(auth, attempts)), (found) => {
        if (!found.ok) return orElsewhere(found, found, devicesLeft);
        const { candidate, release } = found;
        candidate.streams++;
        return connected({ id: candidate.deviceId, country: candidate.country, session: null }, () => {
          candidate.streams--;
          release();
          if (candidate.leaving && candidate.streams === 0) this.detach(candidate);
        });
      });
    };
    return {
      authenticate: ({ username }) => this.parts.logIn(username),
      connect: (auth, _destination, attempts = ALONE) => connect(auth, attempts),
      associate: () => ({ ok: false, code: 'UDP_NOT_ALLOWED' }),
      associationPlaces: new AssociationPlaces(0),
      echo: async () => ({ ok: false, code: 'NO_PEER' }),
      gaveUp: () => {},
    };
  }

  /** Serves what another gateway asks; the answer and its end go by the stream. */
  async serve(stream: LinkStream, request: string): Promise<void> {
    const asked = decodeRequest(request, 2);
    if (asked === null) return stream.reset(ResetCode.INTERNAL);
    const { login, devicesLeft = DEVICES_MAX, stays, exact } = asked;
    const own = this.#own();
    const auth = (await own.authenticate(login)) as Authenticated;
    const attempts = { devicesMax: devicesLeft, stays, exact, goesOn: true };
    const outcome = await own.connect(auth, { host: 'example.com', port: 443 }, attempts);
    if (outcome.ok) stream.onCut = () => outcome.abandon();
    stream.answer(encodeAnswer(outcome.ok ? ({ ok: true, exit: outcome.exit } as { ok: true }) : outcome));
  }

  /** The device has its tunnel here now. */
  async attach(tunnel: SimTunnel): Promise<void> {
    this.tunnels.add(tunnel);
    this.allocator.deviceCame(tunnel);
    await this.#tell([tunnel], true);
  }

  /** Asked to move, it has its next tunnel: here it leaves when nothing goes through it any more. */
  moved(tunnel: SimTunnel): void {
    tunnel.status = 'paused';
    tunnel.leaving = true;
    this.index.changed(tunnel);
    this.allocator.deviceLeft(tunnel.deviceId);
    if (tunnel.streams === 0) this.detach(tunnel);
  }

  detach(tunnel: SimTunnel): void {
    if (!this.tunnels.delete(tunnel)) return;
    this.index.remove(tunnel);
    if (tunnel.leaving) void this.allocator.deviceMoved(tunnel.deviceId);
  }

  /** Writes the presence of every device, as each third of its time to live. */
  async refreshPresence(): Promise<void> {
    let batch: SimTunnel[] = [];
    for (const tunnel of this.tunnels) {
      batch.push(tunnel);
      if (batch.length < PRESENCES_PER_BATCH) continue;
      await this.#tell(batch);
      batch = [];
    }
    await this.#tell(batch);
  }

  async #tell(tunnels: readonly SimTunnel[], came = false): Promise<void> {
    const { redis, clock } = this.parts;
    await writePresences(
      redis.client,
      tunnels.map((tunnel) => this.#presence(tunnel)),
      clock.nowMs(),
      came,
    );
  }

  #presence(tunnel: SimTunnel): DevicePresence {
    const { sessionId, deviceId, providerId, exitIp, country, city, asn, isp = null } = tunnel;
    const { networkType, streams, status } = tunnel;
    return {
      sessionId,
      deviceId,
      providerId,
      country,
      city,
      asn,
      state: null,
      stateCode: null,
      isp,
      networkType,
      gatewayId: this.gatewayId,
      exitIp,
      connectedAtMs: CONNECTED_AT_MS,
      streams,
      rttMs: 48,
      status,
    };
  }
}

function connected(exit: Connected['exit'], abandon: () => void): Connected {
  const none = () => {
    throw new Error('no bytes are relayed here');
  };
  return { ok: true, exit, splice: none, duplex: none, abandon };
}

/** As far as a link is used: one that opens streams at the gateway. */
function linkTo(gateway: SimGateway | undefined): { canOpen: boolean; open: unknown } | null {
  if (gateway === undefined) return null;
  return {
    canOpen: true,
    open: (open: Open, handler: StreamHandler) => {
      const stream = new LinkStream(handler);
      void gateway.serve(stream, open.request ?? '');
      return stream;
    },
  };
}

/** A stream of a link whose other end is in this process, too. */
class LinkStream {
  state = 'open';
  onCut: () => void = () => {};

  constructor(public handler: StreamHandler) {}

  answer(line: Buffer): void {
    const stream = this as unknown as MuxStream;
    this.handler.onOpened?.(stream, 0);
    this.handler.onData(stream, line, 0, line.length);
  }
  consumed(): void {}
  reset(_code: number): void {
    if (this.state === 'closed') return;
    this.state = 'closed';
    this.onCut();
  }
}
