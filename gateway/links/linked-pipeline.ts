/** The pipeline of a gateway that has links: what no device here can do, one of another gateway may. */
import { bridgeSocket } from '../../agent-protocol/bridge.js';
import { openOnLink } from '../../agent-protocol/control.js';
import { ResetCode } from '../../agent-protocol/frame.js';
import type { MuxStream } from '../../agent-protocol/stream.js';
import { Verdict } from '../../agent-protocol/verdict.js';
import { ALONE, wishOf } from '../attempts.js';
import type { ProxyErrorCode, ProxyFailure } from '../errors.js';
import type {
  AskedLogin,
  Associated,
  Attempts,
  Authenticated,
  Connected,
  EchoAnswer,
  ProxyPipeline,
} from '../listeners/connect-pipeline.js';
import type { AssociationPlaces } from '../relay/association-places.js';
import { StreamDuplex, type UncountedStream } from '../relay/stream-duplex.js';
import type { Clock } from '../runtime/clock.js';
import { type Soon, soon } from '../runtime/soon.js';
import type { HeldStream } from '../tunnels/held-stream.js';
import { type Asked, Asking } from './ask.js';
import type { Homes } from './homes.js';
import type { LinkClient } from './link-client.js';
import { LinkedAssociation, type LinkedAssociationDeps } from './linked-association.js';
import {
  decodeConnectAnswer,
  decodeEchoAnswer,
  encodeRequest,
  type LinkRefusal,
  type LinkRequest,
  networkOf,
  versionOf,
} from './messages.js';
import type { PeerDirectory } from './peer-directory.js';

/** Gateways asked for one request because they may have a device, beside the one that its session or package is at. */
const PEERS_ASKED_MAX = 4;
/** Beside the time its devices have to dial, what another gateway has for an answer, ms. */
const ANSWER_GRACE_MS = 5_000;
const DEVICES_MAX = 3;

/** This gateway's own pipeline. */
export interface OwnPipeline extends ProxyPipeline {
  associate: NonNullable<ProxyPipeline['associate']>;
  /** Shared by associations through devices here and those of clients here through others. */
  readonly associationPlaces: AssociationPlaces;
  /** Nobody could serve a request that was refused here with `elsewhere`: it counts as refused now. */
  gaveUp(auth: Authenticated, failure: ProxyFailure, tookMs: number): void;
}

export interface LinkedPipelineDeps {
  own: OwnPipeline;
  directory: Pick<PeerDirectory, 'get' | 'candidates' | 'lookAgain'>;
  homes: Pick<Homes, 'homeOf' | 'served'>;
  client: Pick<LinkClient, 'to' | 'isResting' | 'doubt' | 'versionOf'>;
  clock: Clock;
  associations: LinkedAssociationDeps;
  requestBytesMax: number;
  dialTimeoutMs: number;
  /**
   * Of each gateway that was asked: `OK` or a code; `elsewhere`: it has no device; `away`: no answer; `unspoken`: it is of
   * a version in which this can not be asked.
   */
  onAsked: (outcome: ProxyErrorCode | 'OK' | 'elsewhere' | 'away' | 'unspoken') => void;
}

/** Why it is not served there. null: it could not be asked. */
type NotThere = LinkRefusal | 'unspoken' | null;

/** What is left to be tried, and what has been. */
interface Search<T> {
  auth: Authenticated;
  attempts: Attempts;
  here: (attempts: Attempts) => Soon<T | ProxyFailure>;
  there: (
    gatewayId: string,
    left: Pick<LinkRequest, 'devicesLeft' | 'stays' | 'exact'>,
  ) => Promise<T | NotThere>;
  asked: Set<string>;
  /** Those of them that understood. */
  heard: number;
  /** What one of them said that tried devices in vain. */
  refusal: ProxyErrorCode | null;
  devicesLeft: number | undefined;
  stays: boolean | undefined;
  startMs: number;
}

/**
 * Devices here come first; then gateways that say they have one that may do. A named session or a pulled package goes to
 * the gateway that has its device. Each gateway is asked once for a request; one that has no device, is draining or away
 * costs the buyer nothing but time.
 */
export class LinkedPipeline implements ProxyPipeline {
  constructor(private readonly deps: LinkedPipelineDeps) {}

  authenticate(login: AskedLogin): Soon<Authenticated | ProxyFailure> {
    return this.deps.own.authenticate(login);
  }

  connect(
    auth: Authenticated,
    destination: { host: string; port: number },
    attempts = ALONE,
  ): Soon<Connected | ProxyFailure> {
    const { host, port } = destination;
    return this.#placed<Connected>(
      auth,
      attempts,
      (attempts) => this.deps.own.connect(auth, destination, attempts),
      (gatewayId, left) =>
        this.#connectAt(gatewayId, { ...this.#request(auth, left), asks: { connect: { host, port } } }),
    );
  }

  associate(auth: Authenticated, attempts = ALONE): Soon<Associated | ProxyFailure> {
    return this.#placed<Associated>(
      auth,
      attempts,
      (attempts) => this.deps.own.associate(auth, attempts),
      (gatewayId, left) =>
        this.#associateAt(gatewayId, { ...this.#request(auth, left), asks: { associate: true } }),
    );
  }

  async echo(auth: Authenticated, attempts = ALONE): Promise<EchoAnswer | ProxyFailure> {
    return this.#placed<EchoAnswer>(
      auth,
      attempts,
      (attempts) => this.deps.own.echo(auth, attempts),
      (gatewayId, left) => this.#echoAt(gatewayId, { ...this.#request(auth, left), asks: { echo: true } }),
    );
  }

  #request(
    auth: Authenticated,
    left: Pick<LinkRequest, 'devicesLeft' | 'stays' | 'exact'>,
  ): Omit<LinkRequest, 'asks'> {
    const { username, password, clientAddress } = auth.asked;
    return { login: { username, password, clientAddress }, ...left };
  }

  // ---- whom to ask ------------------------------------------------------------------------------------------------

  /** What is wanted, wherever it is, before what `fallback` allows. A session stays where it was put. */
  #placed<T extends { ok: true }>(
    auth: Authenticated,
    attempts: Attempts,
    here: Search<T>['here'],
    there: Search<T>['there'],
  ): Soon<T | ProxyFailure> {
    const { country, state, city, asn, isp, fallback, session, packageId } = auth.params;
    const place = country ?? state ?? city ?? asn ?? isp;
    const mayWiden = fallback !== 'none' && place !== null && (session ?? packageId) === null;
    if (!mayWiden || attempts.goesOn) return this.#anywhere(auth, attempts, here, there);
    return soon(this.#anywhere(auth, { ...attempts, exact: true }, here, there), (outcome) =>
      outcome.ok || outcome.code !== 'NO_PEER' ? outcome : this.#anywhere(auth, attempts, here, there),
    );
  }

  #anywhere<T extends { ok: true }>(
    auth: Authenticated,
    attempts: Attempts,
    here: Search<T>['here'],
    there: Search<T>['there'],
  ): Soon<T | ProxyFailure> {
    const { homes, clock } = this.deps;
    const startMs = clock.monotonicMs();
    const search = (): Search<T> => ({
      auth,
      attempts,
      here,
      there,
      asked: new Set(),
      heard: 0,
      refusal: null,
      devicesLeft: attempts.devicesMax,
      stays: attempts.stays,
      startMs,
    });
    return soon(attempts.stays === true ? null : homes.homeOf(auth), (home) => {
      if (home !== null) return this.#search(search(), home, null);
      return soon(here({ ...attempts, goesOn: true }), (outcome) => {
        if (outcome.ok) homes.served(auth, null);
        if (outcome.ok || outcome.elsewhere === undefined) return outcome;
        return this.#search(search(), null, outcome);
      });
    });
  }

  /** `home`: who is to be asked before anything is tried here; `failed`: how it went here. */
  async #search<T extends { ok: true }>(
    search: Search<T>,
    home: string | null,
    failed: ProxyFailure | null,
  ): Promise<T | ProxyFailure> {
    let holder = home;
    let here: ProxyFailure | null = failed;
    for (;;) {
      // Who was asked may name another one, to whom the device has moved.
      while (holder !== null) {
        const answer = await this.#askOne(search, holder);
        if (isEnd(answer)) return answer;
        holder = this.#usable(search, answer?.elsewhere?.gateway);
      }
      if (here === null) {
        const outcome = await this.#tryHere(search);
        if (outcome.ok) return outcome;
        here = outcome;
      }
      if (here.elsewhere === undefined || here.elsewhere.worker !== null) return here;
      search.devicesLeft = here.elsewhere.devicesLeft;
      const { gateway = null } = here.elsewhere;
      if (gateway === null) break;
      // What can not have its device back may still have another one, here or there.
      search.stays = true;
      holder = this.#usable(search, gateway);
      here = null;
    }
    if (search.attempts.goesOn) return here;
    return this.#askOthers(search, here);
  }

  /** Those that may have a device; then it has failed. */
  async #askOthers<T extends { ok: true }>(
    search: Search<T>,
    failed: ProxyFailure,
  ): Promise<T | ProxyFailure> {
    const { own, directory, clock } = this.deps;
    const { auth, asked } = search;
    search.stays = true;
    const { packageId } = auth.params;
    const { exact } = search.attempts;
    const mayHave = (but: ReadonlySet<string>) =>
      packageId === null ? directory.candidates(wishOf(auth, { exact, goesOn: false }), but) : [];
    const others = mayHave(asked);
    let answer = await this.#askEach(search, others);
    const isLeft = () =>
      (search.refusal ?? failed.code) === 'NO_PEER' && exact !== true && search.devicesLeft !== 0;
    if (answer === null && isLeft() && packageId === null) {
      // The device that would do may have moved a moment ago, to a gateway that was not known to have any.
      const known = new Set([...asked, ...others]);
      if (await directory.lookAgain()) answer = await this.#askEach(search, mayHave(known));
    }
    if (answer !== null) return answer;
    if (isLeft()) {
      // While others were asked a device may have come from there; and what is about to come free is waited for.
      const last = await this.#tryHere(search, true);
      if (last.ok || last.elsewhere === undefined) return last;
    }
    const failure: ProxyFailure = search.refusal === null ? failed : { ok: false, code: search.refusal };
    const { elsewhere: _, ...refusal } = failure;
    // Where it was to be exact, what else is allowed comes next.
    if (exact !== true || refusal.code !== 'NO_PEER')
      own.gaveUp(auth, refusal, clock.monotonicMs() - search.startMs);
    return refusal;
  }

  /** Asks one after the other until one serves it or says no for good; null: none did, and `refusal` may say why. */
  async #askEach<T extends { ok: true }>(
    search: Search<T>,
    gatewayIds: readonly string[],
  ): Promise<T | ProxyFailure | null> {
    const heardBefore = search.heard;
    for (const gatewayId of gatewayIds.filter((id) => !this.deps.client.isResting(id))) {
      if (search.heard - heardBefore === PEERS_ASKED_MAX || search.devicesLeft === 0) return null;
      const answer = await this.#askOne(search, gatewayId);
      if (isEnd(answer)) return answer;
      if (answer !== null && answer.code !== 'NO_PEER' && answer.elsewhere !== undefined)
        search.refusal = answer.code;
    }
    return null;
  }

  async #tryHere<T extends { ok: true }>(search: Search<T>, isLast = false): Promise<T | ProxyFailure> {
    const { attempts, devicesLeft: devicesMax, stays } = search;
    const outcome = await search.here({ ...attempts, devicesMax, stays, goesOn: true, isLast });
    if (outcome.ok) this.deps.homes.served(search.auth, null);
    return outcome;
  }

  /** Null: it could not be asked. */
  async #askOne<T extends { ok: true }>(
    search: Search<T>,
    gatewayId: string,
  ): Promise<T | LinkRefusal | null> {
    const { devicesLeft, stays, asked, auth, attempts } = search;
    asked.add(gatewayId);
    const answer = await search.there(gatewayId, { devicesLeft, stays, exact: attempts.exact });
    if (answer === 'unspoken') {
      // As one whose devices will not do: what else it serves of a session stays there.
      this.deps.onAsked(answer);
      const elsewhere = { devicesLeft: devicesLeft ?? DEVICES_MAX, gateway: null };
      return { ok: false, code: 'NO_PEER', elsewhere };
    }
    search.heard++;
    this.deps.onAsked(
      answer === null ? 'away' : answer.ok ? 'OK' : answer.elsewhere ? 'elsewhere' : answer.code,
    );
    if (answer?.ok === false && answer.elsewhere) search.devicesLeft = answer.elsewhere.devicesLeft;
    if (answer?.ok === true) this.deps.homes.served(auth, gatewayId);
    else if (answer === null) this.deps.homes.served(auth, null);
    return answer;
  }

  #usable({ asked }: Pick<Search<unknown>, 'asked'>, gatewayId: string | null | undefined): string | null {
    if (gatewayId == null || asked.has(gatewayId)) return null;
    return this.deps.directory.get(gatewayId) === null ? null : gatewayId;
  }

  // ---- asking -----------------------------------------------------------------------------------------------------

  async #connectAt(gatewayId: string, request: LinkRequest): Promise<Connected | NotThere> {
    const asked = await this.#ask(gatewayId, request);
    if (asked === null || asked === 'unspoken') return asked;
    const { stream, held } = asked;
    const answer = decodeConnectAnswer(asked.line);
    if (answer?.ok !== true) {
      stream.reset(ResetCode.CANCELLED);
      return answer;
    }
    return {
      ok: true,
      exit: answer.exit,
      splice: (socket, head) => {
        bridgeSocket(socket, stream, undefined, head);
        held.replay(stream);
      },
      duplex: (buyer) => {
        const duplex = new StreamDuplex(stream, UNCOUNTED, buyer);
        held.replay(stream);
        return duplex;
      },
      abandon: () => stream.reset(ResetCode.CANCELLED),
    };
  }

  /** Its place is of this gateway: the client's UDP socket is here. */
  async #associateAt(gatewayId: string, request: LinkRequest): Promise<Associated | NotThere> {
    const leave = this.deps.own.associationPlaces.take();
    if (leave === null) return { ok: false, code: 'CONN_LIMIT' };
    const asked = await this.#ask(gatewayId, request);
    if (asked === null || asked === 'unspoken') {
      leave();
      return asked;
    }
    const { stream, held } = asked;
    const answer = decodeConnectAnswer(asked.line);
    if (answer?.ok !== true) {
      leave();
      stream.reset(ResetCode.CANCELLED);
      return answer;
    }
    return {
      ok: true,
      exit: answer.exit,
      start: (client) => {
        const association = new LinkedAssociation(stream, client, this.deps.associations, leave);
        held.replay(stream);
        return association;
      },
      abandon: () => {
        leave();
        stream.reset(ResetCode.CANCELLED);
      },
    };
  }

  async #echoAt(gatewayId: string, request: LinkRequest): Promise<EchoAnswer | NotThere> {
    const asked = await this.#ask(gatewayId, request);
    if (asked === null || asked === 'unspoken') return asked;
    asked.stream.reset(ResetCode.CANCELLED);
    return decodeEchoAnswer(asked.line);
  }

  async #ask(
    gatewayId: string,
    request: LinkRequest,
  ): Promise<{ stream: MuxStream; line: string; held: HeldStream } | 'unspoken' | null> {
    const { directory, client, requestBytesMax, dialTimeoutMs } = this.deps;
    const place = directory.get(gatewayId);
    const text = encodeRequest(request);
    if (place === null || Buffer.byteLength(text) > requestBytesMax) return null;
    const link = client.to(place);
    const mux = link instanceof Promise ? await link : link;
    if (mux === null || !mux.canOpen) return null;
    if (client.versionOf(gatewayId) < versionOf(request)) return 'unspoken';
    const timeoutMs = dialTimeoutMs * (request.devicesLeft ?? DEVICES_MAX) + ANSWER_GRACE_MS;
    return new Promise((resolve) => {
      const answered = (asked: Asked) => {
        if (!asked.ok && asked.why === 'silent') client.doubt(gatewayId);
        if (asked.ok) resolve({ ...asked, stream });
        else resolve(asked.why === 'unspoken' ? asked.why : null);
      };
      const open = openOnLink(text, networkOf(request));
      const stream: MuxStream = mux.open(open, new Asking(answered, timeoutMs, () => stream));
    });
  }
}

/** Whether nobody else is to be asked. */
function isEnd<T extends { ok: true }>(
  answer: T | LinkRefusal | null,
): answer is T | (LinkRefusal & { elsewhere?: undefined }) {
  if (answer === null) return false;
  return answer.ok || (answer.elsewhere === undefined && answer.code !== 'DRAINING');
}

/** The gateway with the device counts. */
const UNCOUNTED: UncountedStream = {
  onBytesOut: () => Verdict.GO,
  onBytesIn: () => Verdict.GO,
  onEnd: () => {},
  onCut: () => {},
  onRetry: () => {},
};
