import { DialCode, type Open, openAssociation } from '../../agent-protocol/control.js';
import type { MuxSession } from '../../agent-protocol/session.js';
import type { MuxStream } from '../../agent-protocol/stream.js';
import type { TicketRecord } from '../live/records.js';
import { HeldStream } from './held-stream.js';

/** A device's answer to OPEN; `lost`: the tunnel went before an answer; `timeout`: no answer in time. */
export type DialAnswer = DialCode | 'lost' | 'timeout';

/** What a device answered to OPEN. */
export type DialOutcome =
  | { ok: true; stream: MuxStream; held: HeldStream }
  | { ok: false; why: Exclude<DialAnswer, 0> };

/** Where the tunnel's address is, as the gateway looked it up when it was opened. */
export interface Origin {
  exitIp: string;
  country: string;
  city: string | null;
  state: string | null;
  stateCode: string | null;
  asn: number | null;
  isp: string | null;
}

/**
 * A device that is connected to this gateway. Its fields are what allocation may choose by.
 *
 * | status | new streams | left by |
 * |---|---|---|
 * | sharing | yes | STATUS paused, drain |
 * | paused | no; live ones go on | STATUS not paused |
 * | draining | no; live ones go on | close |
 */
export class Tunnel {
  readonly deviceId: string;
  readonly providerId: string;
  readonly sessionId: string;
  readonly exitIp: string;
  readonly country: string;
  readonly city: string | null;
  readonly state: string | null;
  readonly stateCode: string | null;
  readonly asn: number | null;
  readonly isp: string | null;
  readonly offerBytes: number;
  readonly connectedAtMs: number;
  /**
   * When it was opened by Redis's clock, which all gateways share, ms; raised by its presence where an earlier tunnel of the
   * device has as much. By this claims and presence tell which of two tunnels is the newest.
   */
  sinceMs: number;
  networkType: TicketRecord['networkType'];
  status: 'sharing' | 'paused' | 'draining' = 'sharing';
  /** Whether it may carry associations: false once its agent said no, in HELLO or to an OPEN. */
  udp: boolean;
  /** DRAIN went: its device is to open another tunnel. */
  isAskedToMove = false;
  /** Its device has another tunnel by now, and says so by a pause. Live streams go on. */
  hasLeft = false;
  /** Told how each dialling went. */
  onDialled: ((answer: DialAnswer) => void) | null = null;

  constructor(
    readonly mux: MuxSession,
    ticket: TicketRecord,
    origin: Origin,
    { nowMs, sinceMs }: { nowMs: number; sinceMs: number },
    udp = true,
  ) {
    this.udp = udp;
    this.sinceMs = sinceMs;
    this.deviceId = ticket.deviceId;
    this.providerId = ticket.providerId;
    this.sessionId = ticket.sessionId;
    this.exitIp = origin.exitIp;
    this.country = origin.country;
    // A control plane may have better tables: what it knew of the same address fills the gaps of this gateway's.
    const told = ticket.exitIp === origin.exitIp && ticket.country === origin.country ? ticket : null;
    this.city = origin.city ?? told?.city ?? null;
    this.state = origin.state ?? told?.state ?? null;
    this.stateCode = origin.stateCode ?? told?.stateCode ?? null;
    this.asn = origin.asn ?? told?.asn ?? null;
    this.isp = origin.isp ?? told?.isp ?? null;
    this.offerBytes = ticket.offerBytes;
    this.networkType = ticket.networkType;
    this.connectedAtMs = nowMs;
  }

  /** Asks its device to open another tunnel; live streams have so long. */
  askToMove(reason: string, deadlineMs: number): void {
    this.isAskedToMove = true;
    this.mux.drain({ reason, deadline_ms: deadlineMs });
  }

  /** As many streams as WELCOME allowed: another device is chosen. */
  get isFull(): boolean {
    return !this.mux.canOpen;
  }

  /** Opens a stream and waits for the device's dial; never throws. The caller owns the stream when ok. */
  dial(host: string, port: number, timeoutMs: number): Promise<DialOutcome> {
    return this.#open({ host, port, network: 'tcp' }, timeoutMs);
  }

  /**
   * Opens an association as `dial` opens a connection. An agent that can not do it is asked once: then `why` is
   * UNSUPPORTED at once.
   */
  async associate(timeoutMs: number): Promise<DialOutcome> {
    if (!this.udp) return { ok: false, why: DialCode.UNSUPPORTED };
    const outcome = await this.#open(openAssociation, timeoutMs);
    if (!outcome.ok && outcome.why === DialCode.UNSUPPORTED) this.udp = false;
    return outcome;
  }

  #open(request: Open, timeoutMs: number): Promise<DialOutcome> {
    return new Promise((settle) => {
      const resolve = (outcome: DialOutcome) => {
        this.onDialled?.(outcome.ok ? DialCode.OK : outcome.why);
        settle(outcome);
      };
      let timer: NodeJS.Timeout | null = null;
      const held = new HeldStream((code) => {
        if (timer) clearTimeout(timer);
        if (code === 0) resolve({ ok: true, stream, held });
        else resolve({ ok: false, why: code });
      });
      const stream = this.mux.open(request, held);
      timer = setTimeout(() => {
        resolve({ ok: false, why: 'timeout' });
        stream.reset(0);
      }, timeoutMs);
    });
  }
}
