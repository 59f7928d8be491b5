import { randomUUID } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import type { Log } from '../../gateway/runtime/logging.js';
import { isDatabaseAway } from '../db/pool.js';
import { LiveStateUnavailable } from '../db/redis.js';
import { Problem, type ProblemCode, problems } from '../errors.js';

declare module 'fastify' {
  interface FastifyReply {
    /** Of the problem that is the answer; null: it is none. */
    problemCode: ProblemCode | null;
  }
}

/** One finding of the schema validator (the shape ajv and typebox share). */
interface Finding {
  keyword?: string;
  instancePath?: string;
  message?: string;
  params?: { additionalProperties?: string[]; requiredProperties?: string[] };
}

/** Codes of Fastify's own errors that are the caller's fault (Fastify, docs/Reference/Errors.md). */
const fastifyCodes: Record<string, ProblemCode> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'body_too_large',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported_media_type',
  FST_ERR_CTP_EMPTY_TYPE: 'unsupported_media_type',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'malformed_request',
  FST_ERR_CTP_INVALID_JSON_BODY: 'malformed_request',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'malformed_request',
  FST_ERR_BAD_URL: 'malformed_request',
  FST_ERR_MAX_PARAM_LENGTH: 'malformed_request',
  FST_ERR_NOT_FOUND: 'not_found',
};

/**
 * SQLSTATEs of values that fit their schema and no column: a year 0, a 31st of February in a cursor, an integer too
 * large, text that is not text. The caller's fault, found late; the transaction is rolled back.
 */
const UNWRITABLE = new Set(['22003', '22007', '22008', '22021', '22P05']);

/** Every field that does not fit, once each: `{path: '/body/x/0', message}` with the part it is in. */
function fieldErrors(findings: readonly Finding[], part: string): { path: string; message: string }[] {
  const fields = new Map<string, string>();
  const base = `/${part}`;
  for (const { keyword, instancePath = '', message = 'does not fit', params } of findings) {
    if (keyword === 'boolean') continue; // said again, and better, by additionalProperties
    if (keyword === 'additionalProperties')
      for (const name of params?.additionalProperties ?? [])
        fields.set(`${base}${instancePath}/${name}`, 'is not known');
    else if (keyword === 'required')
      for (const name of params?.requiredProperties ?? [])
        fields.set(`${base}${instancePath}/${name}`, 'is required');
    else {
      const path = `${base}${instancePath}`;
      if (!fields.has(path)) fields.set(path, message);
    }
  }
  return [...fields].map(([path, message]) => ({ path, message }));
}

/** The problem an error is to the caller; anything unexpected is `internal` without a word about it. */
function toProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  const e = error as Partial<FastifyError> & { validation?: Finding[]; validationContext?: string };
  if (e.validation !== undefined)
    return new Problem('validation_failed', undefined, {
      errors: fieldErrors(e.validation, e.validationContext ?? 'body'),
    });
  const known = fastifyCodes[e.code ?? ''];
  if (known !== undefined) return new Problem(known);
  if (UNWRITABLE.has(e.code ?? ''))
    return new Problem('validation_failed', 'A value is out of range.', {}, { cause: error });
  if (isDatabaseAway(error)) return new Problem('database_unavailable', undefined, {}, { cause: error });
  if (error instanceof LiveStateUnavailable)
    return new Problem('live_state_unavailable', undefined, {}, { cause: error });
  if (error instanceof SyntaxError && e.statusCode === 400) return new Problem('malformed_request');
  return new Problem('internal', undefined, {}, { cause: error });
}

/** Sends the problem document. A 503 says when to come back, a 401 how to sign in. */
export function sendProblem(reply: FastifyReply, problem: Problem): FastifyReply {
  const { status, title } = problems[problem.code];
  reply.problemCode = problem.code;
  if (status === 503 && !reply.hasHeader('retry-after')) reply.header('retry-after', '2');
  if (status === 401 && !reply.hasHeader('www-authenticate')) reply.header('www-authenticate', 'Bearer');
  return reply
    .code(status)
    .type('application/problem+json')
    .serializer((body: unknown) => JSON.stringify(body))
    .send({
      type: 'about:blank',
      title,
      status,
      ...(problem.detail === undefined ? {} : { detail: problem.detail }),
      code: problem.code,
      request_id: reply.request.id,
      ...problem.extra,
    });
}

/** What Node's parser makes of bytes that are no request (`http`, event `clientError`). */
const parserCodes: Record<string, ProblemCode> = {
  ERR_HTTP_REQUEST_TIMEOUT: 'request_timeout',
  HPE_HEADER_OVERFLOW: 'head_too_large',
};

/** Answers what never became a request with a problem document, too, and ends the connection. */
export function answerUnreadable(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed) return;
  const code = parserCodes[error.code ?? ''] ?? 'malformed_request';
  const { status, title } = problems[code];
  const requestId = randomUUID();
  const body = JSON.stringify({ type: 'about:blank', title, status, code, request_id: requestId });
  if (socket.writable)
    socket.write(
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nX-Request-ID: ${requestId}\r\n` +
        `Content-Type: application/problem+json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    );
  socket.destroy(error);
}

/** The error handler of the app, also given to Fastify as `frameworkErrors`. */
export function problemHandler(log: Log) {
  return (error: unknown, request: FastifyRequest, reply: FastifyReply) => {
    const problem = toProblem(error);
    if (problem.statusCode >= 500) {
      const cause = (problem.cause ?? error) as { name?: string; code?: string; stack?: string };
      log.error(
        {
          request_id: request.id,
          route: request.routeOptions?.url,
          problem: problem.code,
          error: cause.name,
          error_code: cause.code,
          stack: cause.stack,
        },
        'request_failed',
      );
    }
    return sendProblem(reply, problem);
  };
}
