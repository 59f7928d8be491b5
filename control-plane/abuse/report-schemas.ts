import { type Static, Type } from 'typebox';
import { IpAddress, Nullable, Timestamp, Uuid } from '../http/schemas.js';
import { REPORT_OUTCOMES, REPORT_STATES, type Report } from './reports.js';

const text = (minLength: number, maxLength: number, description: string, example: string) =>
  Type.String({ minLength, maxLength, description, examples: [example] });

/** What anybody may report. */
export const NewReportBody = Type.Object(
  {
    exit_ip: Type.Union([Type.String({ format: 'ipv4' }), Type.String({ format: 'ipv6' })], {
      description: 'the address that the traffic came from',
    }),
    happened_at: Type.String({ format: 'date-time', description: 'when, as exactly as you know' }),
    port: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535, description: 'of your server' })),
    destination: Type.Optional(text(1, 253, 'your server: a name or an address', 'www.example.com')),
    description: text(10, 4_000, 'what happened; a few lines of your log', 'Many failed logins to our shop.'),
    contact: Type.Optional(text(1, 200, 'how to reach you, if you want to be reached', 'abuse@example.com')),
  },
  { additionalProperties: false },
);

export const StatusBody = Type.Object(
  {
    reference: Type.String({ minLength: 1, maxLength: 40, examples: ['AR-7K2m9QXa'] }),
    secret: Type.String({ minLength: 1, maxLength: 100, examples: ['q7Zr2mXc9vLk4tWb8nYp3s4u'] }),
  },
  { additionalProperties: false },
);

export const ReceiptSchema = Type.Object({
  reference: Type.String({ examples: ['AR-7K2m9QXa'] }),
  secret: Type.String({
    description: 'shown once: with it you see what became of it',
    examples: ['q7Zr2mXc9vLk4tWb8nYp3s4u'],
  }),
  received_at: Timestamp,
});

const State = Type.Enum([...REPORT_STATES], { description: 'open: waits for an answer' });
const Outcome = Type.Enum([...REPORT_OUTCOMES]);
const Answer = Nullable(Type.String({ examples: ['The account behind it has been suspended.'] }));

export const StatusSchema = Type.Object({
  reference: Type.String({ examples: ['AR-7K2m9QXa'] }),
  state: State,
  outcome: Nullable(Outcome),
  answer: Answer,
  received_at: Timestamp,
  answered_at: Nullable(Timestamp),
});

export const ReportSchema = Type.Object({
  id: Uuid,
  ...StatusSchema.properties,
  exit_ip: Nullable(IpAddress),
  happened_at: Timestamp,
  port: Nullable(Type.Integer()),
  destination: Nullable(Type.String({ examples: ['www.example.com'] })),
  description: Nullable(Type.String({ examples: ['Many failed logins to our shop.'] })),
  contact: Nullable(Type.String({ examples: ['abuse@example.com'] })),
  reporter_ip: Nullable(IpAddress),
  answered_by: Nullable(Uuid),
  closed_at: Nullable(Timestamp),
  finding_id: Nullable(Uuid),
  forgotten_at: Nullable(
    Type.String({ format: 'date-time', description: 'addresses and texts were deleted' }),
  ),
});

export const OutcomeSchema = Outcome;
export const StateSchema = State;

type Status = Pick<Report, 'reference' | 'state' | 'outcome' | 'answer' | 'received_at' | 'answered_at'>;

/** What the reporter may know. */
export const statusJson = (r: Status): Static<typeof StatusSchema> => ({
  reference: r.reference,
  state: r.state,
  outcome: r.outcome,
  answer: r.answer,
  received_at: r.received_at.toISOString(),
  answered_at: r.answered_at?.toISOString() ?? null,
});

export const reportJson = (r: Report): Static<typeof ReportSchema> => ({
  id: r.id,
  ...statusJson(r),
  exit_ip: r.exit_ip,
  happened_at: r.happened_at.toISOString(),
  port: r.port,
  destination: r.destination,
  description: r.description,
  contact: r.contact,
  reporter_ip: r.reporter_ip,
  answered_by: r.answered_by,
  closed_at: r.closed_at?.toISOString() ?? null,
  finding_id: r.finding_id,
  forgotten_at: r.forgotten_at?.toISOString() ?? null,
});
