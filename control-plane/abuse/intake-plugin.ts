import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type pg from 'pg';
import { type Static, Type } from 'typebox';
import { Compile } from 'typebox/compile';
import { addressGroup } from '../../gateway/runtime/addresses.js';
import type { Clock } from '../../gateway/runtime/clock.js';
import { Problem } from '../errors.js';
import { clientAddress } from '../http/client-address.js';
import { limitBy } from '../http/rate-limit.js';
import { problemResponses } from '../http/schemas.js';
import { languageOf } from '../users/users.js';
import { type FieldError, IntakePages, PAGE_POLICY } from './intake-page.js';
import { NewReportBody, ReceiptSchema, StatusBody, StatusSchema, statusJson } from './report-schemas.js';
import { addReport, newReceipt, type ReportReceipt, readReportStatus } from './reports.js';

export interface IntakeDeps {
  pool: pg.Pool;
  clock: Clock;
  /** Reports from one address (IPv6: one /64), and from everywhere, in an hour; above it 429. */
  perAddressPerHour: number;
  perHour: number;
}

const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;
/** Size of a report, bytes; above it 413. */
const REPORT_BYTES_MAX = 16_384;
/** Questions for a report's status from one address in an hour. */
const STATUS_PER_HOUR = 60;
/** Filled in by programs alone: people are not shown it. */
const TRAP = 'website';

const reportCheck = Compile(NewReportBody);
const statusCheck = Compile(StatusBody);
type Fields = Record<string, string>;

/** Abuse reports from anybody: JSON at `/api/abuse_reports`, a page without script at `/abuse`, in each language. */
export const intakePlugin: FastifyPluginAsyncTypebox<IntakeDeps> = async (app, deps) => {
  const { pool, clock } = deps;
  const byAddress = (request: FastifyRequest) => addressGroup(clientAddress(request));
  const limits = [
    limitBy(app, { name: 'abuse_report', max: deps.perAddressPerHour, windowMs: HOUR_MS, key: byAddress }),
    limitBy(app, { name: 'abuse_reports', max: deps.perHour, windowMs: HOUR_MS, key: () => 'all' }),
  ];
  const statusLimit = limitBy(app, {
    name: 'abuse_status',
    max: STATUS_PER_HOUR,
    windowMs: HOUR_MS,
    key: byAddress,
  });

  async function take(body: Static<typeof NewReportBody>, request: FastifyRequest): Promise<ReportReceipt> {
    const happenedAt = new Date(body.happened_at);
    if (happenedAt.getTime() > clock.nowMs() + DAY_MS)
      throw new Problem('validation_failed', undefined, {
        errors: [{ path: '/body/happened_at', message: 'must not be in the future' }],
      });
    return addReport(pool, {
      exitIp: body.exit_ip,
      happenedAt,
      port: body.port ?? null,
      destination: body.destination ?? null,
      description: body.description,
      contact: body.contact ?? null,
      reporterIp: clientAddress(request),
    });
  }

  app.post(
    '/api/abuse_reports',
    {
      bodyLimit: REPORT_BYTES_MAX,
      config: { roles: ['none'] },
      preHandler: limits,
      schema: {
        tags: ['System'],
        summary: 'Report abuse',
        description:
          'For everybody whom traffic from one of our exit addresses harmed. The answer has a reference, and a secret with which ' +
          '`POST /api/abuse_reports/status` tells what became of it. `/abuse` is a page for the same. Texts and addresses ' +
          'are deleted TS_ABUSE_KEPT_DAYS after the report is closed.',
        body: NewReportBody,
        response: { 201: ReceiptSchema, ...problemResponses(413) },
      },
    },
    async (request, reply) => {
      const { reference, secret, receivedAt } = await take(request.body, request);
      return reply.code(201).send({ reference, secret, received_at: receivedAt.toISOString() });
    },
  );

  app.post(
    '/api/abuse_reports/status',
    {
      bodyLimit: REPORT_BYTES_MAX,
      config: { roles: ['none'] },
      preHandler: statusLimit,
      schema: {
        tags: ['System'],
        summary: 'What became of my abuse report',
        description: 'By its reference and secret; 404 when one of them is wrong.',
        body: StatusBody,
        response: { 200: StatusSchema, ...problemResponses(404, 413) },
      },
    },
    async ({ body }) => {
      const report = await readReportStatus(pool, body.reference, body.secret);
      if (report === null) throw new Problem('not_found');
      return statusJson(report);
    },
  );

  await app.register(async (pages) => {
    pages.addContentTypeParser(
      'application/x-www-form-urlencoded',
      { parseAs: 'string', bodyLimit: REPORT_BYTES_MAX },
      (_request, text, done) => done(null, Object.fromEntries(new URLSearchParams(String(text)))),
    );
    const page = (reply: FastifyReply, html: string, status = 200) =>
      reply
        .code(status)
        .header('content-security-policy', PAGE_POLICY)
        .header('cache-control', 'no-store')
        .header('referrer-policy', 'no-referrer')
        .type('text/html; charset=utf-8')
        .send(html);
    // People on a page are told in a page; all else is the API's to answer.
    pages.setErrorHandler((error, request, reply) => {
      const { statusCode = 500 } = error as { statusCode?: number };
      if (statusCode !== 413 && statusCode !== 429) throw error;
      const code = statusCode === 413 ? 'body_too_large' : 'rate_limited';
      reply.problemCode = code;
      return page(reply, pagesFor(request).refusal(code), statusCode);
    });

    const options = {
      bodyLimit: REPORT_BYTES_MAX,
      config: { roles: ['none'] as const },
      schema: { hide: true, body: Type.Unknown() },
    };

    pages.get('/abuse', { config: { roles: ['none'] }, schema: { hide: true } }, (request, reply) =>
      page(reply, pagesFor(request).form({}, {})),
    );

    pages.post('/abuse', { ...options, preHandler: limits }, async (request, reply) => {
      const fields = request.body as Fields;
      const say = pagesFor(request);
      const body = reportOf(fields);
      const errors = fieldErrors(reportCheck, body);
      if (Object.keys(errors).length > 0) return page(reply, say.form(fields, errors), 400);
      // Told nothing, a program does not try another way.
      if ((fields[TRAP] ?? '') !== '') return page(reply, say.receipt(newReceipt()));
      try {
        return page(reply, say.receipt(await take(body as Static<typeof NewReportBody>, request)), 201);
      } catch (error) {
        if (!(error instanceof Problem) || error.code !== 'validation_failed') throw error;
        return page(reply, say.form(fields, { happened_at: 'future' }), 400);
      }
    });

    pages.post('/abuse/status', { ...options, preHandler: statusLimit }, async (request, reply) => {
      const { reference = '', secret = '' } = request.body as Fields;
      const body = { reference: reference.trim(), secret: secret.trim() };
      const report = statusCheck.Check(body)
        ? await readReportStatus(pool, body.reference, body.secret)
        : null;
      return page(reply, pagesFor(request).status(report && statusJson(report)), report === null ? 404 : 200);
    });
  });
};

/** The form's texts as the API takes them: what was left empty is left out, times without a zone are UTC. */
function reportOf(fields: Fields): Record<string, unknown> {
  const body: Record<string, unknown> = {};
  for (const name of Object.keys(NewReportBody.properties)) {
    const text = (fields[name] ?? '').replaceAll('\r\n', '\n').trim();
    if (text === '') continue;
    if (name === 'port') body.port = /^\d{1,5}$/.test(text) ? Number(text) : text;
    else if (name === 'happened_at') body.happened_at = utcOf(text);
    else body[name] = text;
  }
  return body;
}

/** `2026-11-27T14:05` of a time field, also with a blank and with seconds, as RFC 3339. */
function utcOf(text: string): string {
  const parts = /^(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2})(:\d{2})?Z?$/.exec(text);
  return parts === null ? text : `${parts[1]}T${parts[2]}${parts[3] ?? ':00'}Z`;
}

/** In the language chosen on a page, else the first one that the browser asks for. */
function pagesFor({ query, body, headers }: FastifyRequest): IntakePages {
  const of = (from: unknown) => (from as Fields | undefined)?.lang;
  return new IntakePages(languageOf(of(query) ?? of(body) ?? headers['accept-language']));
}

/** By field; what Postgres can not keep as well. */
function fieldErrors(check: typeof reportCheck, body: Record<string, unknown>): Record<string, FieldError> {
  const errors: Record<string, FieldError> = {};
  for (const [name, value] of Object.entries(body))
    if (typeof value === 'string' && (value.includes('\0') || /\p{Surrogate}/u.test(value)))
      errors[name] = 'invalid';
  if (check.Check(body)) return errors;
  for (const name of ['exit_ip', 'happened_at', 'description'])
    if (body[name] === undefined) errors[name] = 'missing';
  for (const { instancePath } of check.Errors(body)) {
    const name = instancePath.slice(1);
    if (name !== '') errors[name] ??= 'invalid';
  }
  return errors;
}
