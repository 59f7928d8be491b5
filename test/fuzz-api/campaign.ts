import { Agent, request as httpRequest } from 'node:http';
import { problems } from '../../control-plane/errors.js';
import { answerProblem } from '../helpers/openapi.js';
import { draw, type Request } from './draw.js';
import { FuzzWorld } from './world.js';

/** Requests that are sent among the same people; batches begin at its multiples. */
export const BATCH_REQUESTS = 500;
/** Requests at once. */
const IN_FLIGHT = 8;
/** An answer that takes longer is none. */
const ANSWER_TIMEOUT_MS = 10_000;

/** Something that must not be. */
export interface Violation {
  request: Request;
  what: string;
}

/** What was seen of the requests so far. */
export class Findings {
  readonly byStatus = new Map<number, number>();
  readonly violations: Violation[] = [];
  /** Times to the whole answer, ms. */
  readonly refusedMs: number[] = [];
  readonly acceptedMs: number[] = [];
  /** Calls that were answered with success at least once. */
  readonly accepted = new Set<string>();
  count = 0;

  add(request: Request, status: number, ms: number): void {
    this.count++;
    this.byStatus.set(status, (this.byStatus.get(status) ?? 0) + 1);
    (status < 400 ? this.acceptedMs : this.refusedMs).push(ms);
    if (status < 400) this.accepted.add(request.operation.call);
  }
}

/** The value that this share of the list does not exceed; 0 of an empty one. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

/** Sends drawn requests at one control plane and looks at the answers. */
export class Campaign {
  readonly findings = new Findings();
  readonly #agent = new Agent({ keepAlive: true, maxSockets: IN_FLIGHT });

  private constructor(readonly world: FuzzWorld) {}

  static async start(preload: string | null = null): Promise<Campaign> {
    return new Campaign(await FuzzWorld.start(preload));
  }

  /** Sends the requests of these seeds, which must be of one batch. */
  async run(first: number, end: number): Promise<void> {
    const known = await this.world.people();
    let next = first;
    const client = async () => {
      while (next < end) await this.#send(draw(next++, this.world.operations, known));
    };
    await Promise.all(Array.from({ length: IN_FLIGHT }, client));
  }

  async #send(request: Request): Promise<void> {
    const beganMs = performance.now();
    const violation = (what: string) => this.findings.violations.push({ request, what });
    try {
      const { status, type, text } = await this.#ask(request);
      this.findings.add(request, status, performance.now() - beganMs);
      let body: unknown = text;
      if (type?.includes('json') && text !== '') body = JSON.parse(text);
      const problem = answerProblem(request.operation, { status, type, body }) ?? unknownCode(status, body);
      if (problem !== null) violation(problem);
    } catch (error) {
      violation(`no answer: ${(error as Error).message}`);
    }
  }

  #ask({ operation, target, headers, body }: Request) {
    return new Promise<{ status: number; type: string | null; text: string }>((resolve, reject) => {
      const sent = httpRequest(
        {
          host: '127.0.0.1',
          port: this.world.port,
          agent: this.#agent,
          method: operation.method,
          path: target,
          headers: body === null ? headers : { ...headers, 'content-length': Buffer.byteLength(body) },
          timeout: ANSWER_TIMEOUT_MS,
        },
        (response) => {
          const status = response.statusCode ?? 0;
          const type = response.headers['content-type'] ?? null;
          // Events without end: the head is the answer.
          if (type?.startsWith('text/event-stream')) {
            response.on('error', () => {});
            response.destroy();
            resolve({ status, type, text: '' });
            return;
          }
          let text = '';
          response.setEncoding('utf8');
          response.on('data', (part: string) => {
            text += part;
          });
          response.on('error', reject);
          response.on('end', () => resolve({ status, type, text }));
        },
      );
      sent.on('timeout', () => sent.destroy(new Error(`none within ${ANSWER_TIMEOUT_MS} ms`)));
      sent.on('error', reject);
      sent.end(body ?? undefined);
    });
  }

  /** Ends the server; to what went wrong: it had ended by itself, or the books do not add up. */
  async stop(): Promise<string[]> {
    this.#agent.destroy();
    const wrong: string[] = [];
    try {
      if (!this.world.program.running) wrong.push(`the server ended:\n${this.world.log()}`);
      wrong.push(...(await this.world.books()));
    } finally {
      await this.world.stop();
    }
    return wrong;
  }
}

/** A refusal tells one of the codes of the table, with its status. */
function unknownCode(status: number, body: unknown): string | null {
  if (status < 400) return null;
  const { code } = body as { code?: unknown };
  const known = Object.entries(problems).find(([name]) => name === code);
  return known?.[1].status === status ? null : `${status} with the code ${JSON.stringify(code)}`;
}
