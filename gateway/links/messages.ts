/**
 * What gateways ask and answer each other on a link: JSON, the same in all versions but for what may be asked. Unknown fields
 * are ignored, so newer ones may say more.
 */
import { encodeDatagramHead } from '../../agent-protocol/datagram.js';
import { type ProxyErrorCode, type ProxyFailure, proxyErrors } from '../errors.js';
import type { EchoAnswer, Exit } from '../listeners/connect-pipeline.js';
import {
  type Check,
  isBoolean,
  isCount,
  isMissingOr,
  isNullOr,
  isRecordOf,
  isString,
  parseJson,
} from '../live/validation.js';

/** A request with all that another gateway needs to serve it: it checks the login again. */
export interface LinkRequest {
  readonly asks:
    | { readonly connect: { readonly host: string; readonly port: number } }
    /** The facts of the echo page. */
    | { readonly echo: true }
    /** An association: from version 2 on. */
    | { readonly associate: true };
  readonly login: {
    readonly username: string;
    readonly password: string | null;
    readonly clientAddress: string;
  };
  /** Devices that may still be dialled for it; left out: none was. */
  readonly devicesLeft?: number | undefined;
  /** Who has its session's device was asked already, or nobody has it. */
  readonly stays?: boolean | undefined;
  /** Only devices where the username wants them, whatever its `fallback` allows. */
  readonly exact?: boolean | undefined;
}

/** Why not. `elsewhere`: no (further) device here will do; who asked may ask another gateway. */
export interface LinkRefusal extends Omit<ProxyFailure, 'elsewhere'> {
  readonly elsewhere?: { readonly devicesLeft: number; readonly gateway: string | null };
}

/** The answer to a connection or an association: after a yes its bytes, or datagrams, follow on the stream. */
export type ConnectAnswer = { ok: true; exit: Exit } | LinkRefusal;
export type EchoLinkAnswer = EchoAnswer | LinkRefusal;

/** An answer is no longer than this, bytes, its line end included. */
export const ANSWER_BYTES_MAX = 16_384;

/** In front of an answer that is a datagram, which comes from nowhere: 0.0.0.0, port 1. */
export const ANSWER_HEAD: Buffer = encodeDatagramHead('0.0.0.0', 1);

const isRequest = isRecordOf<LinkRequest>({
  asks: ((asks) => isConnect(asks) || isEcho(asks) || isAssociate(asks)) as Check<LinkRequest['asks']>,
  login: isRecordOf<LinkRequest['login']>({
    username: isString,
    password: isNullOr(isString),
    clientAddress: isString,
  }),
  devicesLeft: isMissingOr(isCount),
  stays: isMissingOr(isBoolean),
  exact: isMissingOr(isBoolean),
});
const isConnect = isRecordOf<{ connect: { host: string; port: number } }>({
  connect: isRecordOf<{ host: string; port: number }>({
    host: isString,
    port: (port): port is number => isCount(port) && port >= 1 && port <= 65_535,
  }),
});
const isTrue: Check<true> = (value): value is true => value === true;
const isEcho = isRecordOf<{ echo: true }>({ echo: isTrue });
const isAssociate = isRecordOf<{ associate: true }>({ associate: isTrue });

const isExit = isRecordOf<Exit>({ id: isString, country: isString, session: isNullOr(isString) });
const isYes = isRecordOf<{ ok: true; exit: Exit }>({ ok: isTrue, exit: isExit });
const isEchoAnswer = isRecordOf<EchoAnswer>({
  ok: isTrue,
  exit: isExit,
  city: isNullOr(isString),
  asn: isNullOr(isCount),
  bytesLeft: isNullOr((bytes): bytes is number => typeof bytes === 'number'),
});
const isRefusal = isRecordOf<LinkRefusal>({
  ok: (value): value is false => value === false,
  code: isString as Check<unknown> as Check<ProxyErrorCode>,
  detail: isMissingOr(isString),
  retryAfterSeconds: isMissingOr(isCount),
  elsewhere: isMissingOr(
    isRecordOf<NonNullable<LinkRefusal['elsewhere']>>({ devicesLeft: isCount, gateway: isNullOr(isString) }),
  ),
});

/** The text of an OPEN's `request`. */
export function encodeRequest(request: LinkRequest): string {
  return JSON.stringify(request);
}

/** The version of links from which on it may be asked. */
export function versionOf({ asks }: Pick<LinkRequest, 'asks'>): number {
  return 'associate' in asks ? 2 : 1;
}

/** The network of its stream. */
export function networkOf({ asks }: Pick<LinkRequest, 'asks'>): 'tcp' | 'udp' {
  return 'associate' in asks ? 'udp' : 'tcp';
}

/** Null: it is none, or none of the version in use. */
export function decodeRequest(text: string, version: number): LinkRequest | null {
  const request = parseJson(text, isRequest);
  return request !== undefined && versionOf(request) <= version ? request : null;
}

/** One line. Without `worker` of a failure's `elsewhere`: it means nothing outside that gateway. */
export function encodeAnswer(answer: { ok: true } | ProxyFailure): Buffer {
  if (answer.ok || answer.elsewhere === undefined) return Buffer.from(`${JSON.stringify(answer)}\n`);
  const { devicesLeft, gateway = null } = answer.elsewhere;
  return Buffer.from(`${JSON.stringify({ ...answer, elsewhere: { devicesLeft, gateway } })}\n`);
}

/** Null: it is no answer to a connection or an association. A code that is not known here counts as INTERNAL. */
export function decodeConnectAnswer(line: string): ConnectAnswer | null {
  return parseJson(line, isYes) ?? decodeRefusal(line);
}

/** As `decodeConnectAnswer`, of the echo page. */
export function decodeEchoAnswer(line: string): EchoLinkAnswer | null {
  return parseJson(line, isEchoAnswer) ?? decodeRefusal(line);
}

function decodeRefusal(line: string): LinkRefusal | null {
  const refusal = parseJson(line, isRefusal);
  if (refusal === undefined) return null;
  const { code, detail, retryAfterSeconds, elsewhere } = refusal;
  return {
    ok: false,
    code: Object.hasOwn(proxyErrors, code) ? code : 'INTERNAL',
    ...(detail !== undefined && { detail }),
    ...(retryAfterSeconds !== undefined && { retryAfterSeconds }),
    ...(elsewhere !== undefined && { elsewhere }),
  };
}
