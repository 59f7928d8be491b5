import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import { auditContext, recordAudit } from '../audit/audit.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { cursorPart, cutPage, dayNumber, dayOfNumber, decodeCursor } from '../http/pagination.js';
import { actorOf } from '../http/roles.js';
import { IpAddress, pageOf, pageQuery, problemResponses, Uuid } from '../http/schemas.js';
import { notTooMuch } from '../usage/answer.js';
import { destinationRowJson, searchDestinations } from '../usage/destinations.js';
import { DestinationRowSchema } from '../usage/schemas.js';
import { keepFinding, readFinding } from './findings.js';
import { OutcomeSchema, ReportSchema, reportJson, StateSchema } from './report-schemas.js';
import { answerReport, linkReport, listReports, type Report, readReport } from './reports.js';

export interface ReportsDeps {
  pool: pg.Pool;
}

const Params = Type.Object({ id: Uuid }, { additionalProperties: false });
const MINUTE_MS = 60_000;

/** Abuse reports, for admins: `/api/admin/abuse/reports`. */
export const reportsPlugin: FastifyPluginAsyncTypebox<ReportsDeps> = async (app, { pool }) => {
  async function answer(id: string) {
    const report = await readReport(pool, id);
    if (report === null) throw new Problem('not_found');
    return reportJson(report);
  }

  app.get(
    '/api/admin/abuse/reports',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Abuse reports',
        description: 'Those received last first; `state=open` are those that wait for an answer.',
        querystring: Type.Object(
          {
            state: Type.Optional(StateSchema),
            exit_ip: Type.Optional(IpAddress),
            finding_id: Type.Optional(Uuid),
            ...pageQuery,
          },
          { additionalProperties: false },
        ),
        response: { 200: pageOf(ReportSchema), ...problemResponses(401, 403) },
      },
    },
    async ({ query }) => {
      const filter = { state: query.state, exitIp: query.exit_ip, findingId: query.finding_id };
      const page = await listReports(pool, filter, query);
      return { items: page.rows.map(reportJson), next_cursor: page.nextCursor };
    },
  );

  app.get(
    '/api/admin/abuse/reports/:id',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'One abuse report',
        description: 'With what its sender was answered.',
        params: Params,
        response: { 200: ReportSchema, ...problemResponses(401, 403, 404) },
      },
    },
    ({ params }) => answer(params.id),
  );

  app.get(
    '/api/admin/abuse/reports/:id/streams',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Whose traffic an abuse report is about',
        description:
          'Connection records of the exit address around the time of the report, latest day first: who sent what where. With ' +
          '`destination` only what went to the server that the report names. Each look is in the audit log.',
        params: Params,
        querystring: Type.Object(
          {
            minutes: Type.Integer({
              minimum: 1,
              maximum: 1_440,
              default: 60,
              description: 'before and after',
            }),
            destination: Type.Boolean({ default: false }),
            ...pageQuery,
          },
          { additionalProperties: false },
        ),
        response: { 200: pageOf(DestinationRowSchema), ...problemResponses(401, 403, 404, 409, 422) },
      },
    },
    async (request) => {
      const { minutes, destination, limit, cursor } = request.query;
      const { id } = request.params;
      const [day = '', last = ''] =
        cursor === undefined ? [] : decodeCursor(cursor, [cursorPart.day, cursorPart.integer]);
      const report = await readReport(pool, id);
      if (report === null) throw new Problem('not_found');
      if (report.exit_ip === null) throw new Problem('report_forgotten');
      const [from, to] = [-minutes, minutes].map((n) =>
        new Date(report.happened_at.getTime() + n * MINUTE_MS).toISOString(),
      ) as [string, string];
      const host = destination ? (report.destination?.toLowerCase() ?? undefined) : undefined;
      await recordAudit(pool, {
        ...auditContext(request),
        action: 'destinations_searched',
        objectType: 'abuse_report',
        objectId: id,
        after: { exit_ip: report.exit_ip, host: host ?? null, from, to },
      });
      const rows = await notTooMuch(
        searchDestinations(
          pool,
          { exitIp: report.exit_ip, host, from, to },
          cursor === undefined ? null : { day: dayOfNumber(day), id: last },
          limit + 1,
        ),
      );
      const page = cutPage(rows, limit, (r) => [dayNumber(r.day), r.id]);
      return { items: page.rows.map(destinationRowJson), next_cursor: page.nextCursor };
    },
  );

  app.post(
    '/api/admin/abuse/reports/:id/link',
    {
      config: { roles: ['admin'], idempotency: {} },
      schema: {
        tags: ['Admin'],
        summary: 'Link an abuse report to a finding',
        description:
          '`finding_id`: to this one, null: to none any more. `buyer_id`: to the open finding `reported` of this buyer, which ' +
          'is opened when there is none.',
        params: Params,
        body: Type.Union(
          [
            Type.Object({ finding_id: Type.Union([Uuid, Type.Null()]) }, { additionalProperties: false }),
            Type.Object({ buyer_id: Uuid }, { additionalProperties: false }),
          ],
          { examples: [{ buyer_id: '7b0c2f4e-3c58-4a39-9d0f-0f6a5a0d4a11' }] },
        ),
        response: { 200: ReportSchema, ...problemResponses(401, 403, 404, 409) },
      },
    },
    async (request) => {
      const { id } = request.params;
      const { body } = request;
      await withTransaction(pool, async (client) => {
        const report = await workable(await readReport(client, id, true));
        const findingId =
          'buyer_id' in body ? await reportedFinding(client, report, body.buyer_id) : body.finding_id;
        if (findingId !== null && (await readFinding(client, findingId)) === null)
          throw new Problem('not_found');
        await linkReport(client, id, findingId);
        await recordAudit(client, {
          ...auditContext(request),
          action: 'abuse_report_linked',
          objectType: 'abuse_report',
          objectId: id,
          before: { finding_id: report.finding_id },
          after: { finding_id: findingId, ...body },
        });
      });
      return answer(id);
    },
  );

  app.post(
    '/api/admin/abuse/reports/:id/answer',
    {
      config: { roles: ['admin'], idempotency: {} },
      schema: {
        tags: ['Admin'],
        summary: 'Answer or close an abuse report',
        description:
          'The sender sees `answer` with the reference and secret: name no buyer and no provider there. With `outcome` the ' +
          'report is closed.',
        params: Params,
        body: Type.Object(
          {
            answer: Type.Optional(Type.String({ minLength: 1, maxLength: 4_000 })),
            outcome: Type.Optional(OutcomeSchema),
          },
          {
            additionalProperties: false,
            minProperties: 1,
            examples: [{ answer: 'The account behind it has been suspended.', outcome: 'acted' }],
          },
        ),
        response: { 200: ReportSchema, ...problemResponses(401, 403, 404, 409) },
      },
    },
    async (request) => {
      const { userId: adminId } = actorOf(request, 'admin');
      const { id } = request.params;
      const { answer: text = null, outcome = null } = request.body;
      await withTransaction(pool, async (client) => {
        const report = workable(await readReport(client, id, true));
        await answerReport(client, id, { answer: text, outcome, adminId });
        await recordAudit(client, {
          ...auditContext(request),
          action: outcome === null ? 'abuse_report_answered' : 'abuse_report_closed',
          objectType: 'abuse_report',
          objectId: id,
          before: { state: report.state },
          after: { ...(text !== null && { answer: text }), ...(outcome !== null && { outcome }) },
        });
      });
      return answer(id);
    },
  );
};

/** A report that something can be done with; throws what keeps one from it. */
function workable(report: Report | null): Report {
  if (report === null) throw new Problem('not_found');
  if (report.state === 'closed') throw new Problem('report_closed');
  return report;
}

/** The finding that reports about this buyer belong to. */
async function reportedFinding(client: pg.PoolClient, report: Report, buyerId: string): Promise<string> {
  const { rowCount } = await client.query('SELECT 1 FROM buyers WHERE id = $1', [buyerId]);
  if (rowCount === 0) throw new Problem('not_found');
  const finding = {
    rule: 'reported' as const,
    subject: buyerId,
    buyerId,
    host: null,
    measured: 1,
    threshold: 1,
  };
  const evidence = { report: report.reference, destination: report.destination };
  const kept = await keepFinding(client, { ...finding, evidence }, 0);
  return (kept as { id: string }).id;
}
