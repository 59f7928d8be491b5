/** Inputs for parsers that need no socket: what they may say, and what must hold of it whatever the bytes were. */
import { Random } from '../sim/random.js';
import type { ParserInput, ParserKind } from './input.js';
import { hostProblem, usernameProblem } from './name-checks.js';
import { headerProblem, httpProblem, socksProblem } from './proxy-checks.js';
import { controlProblem, datagramProblem, framesProblem, webSocketProblem } from './wire-checks.js';

/** What is wrong with what a parser made of a random input, or null. */
export type Check = (random: Random) => string | null;

export const CHECKS: Readonly<Record<ParserKind, Check>> = {
  'parse-socks': socksProblem,
  'parse-http': httpProblem,
  'parse-proxy-header': headerProblem,
  'parse-username': usernameProblem,
  'parse-host': hostProblem,
  'parse-websocket': webSocketProblem,
  'parse-frames': framesProblem,
  'parse-control': controlProblem,
  'parse-datagram': datagramProblem,
};

/** Plays the input; a parser that throws is wrong: each of them has another way to say no. */
export function parserProblem(
  { seed, kind }: ParserInput,
  checks: Readonly<Record<ParserKind, Check>> = CHECKS,
): string | null {
  try {
    // Another sequence than the one the kind was drawn from.
    return checks[kind](new Random(seed + 2 ** 40));
  } catch (error) {
    return `thrown: ${(error as Error).stack ?? String(error)}`;
  }
}
