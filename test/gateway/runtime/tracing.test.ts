import t from 'tap';
import { readEnvironment } from '../../../gateway/runtime/environment.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { type EndedSpan, spanEnded } from '../../../gateway/runtime/spans.js';
import { startTracing, tracingSettings } from '../../../gateway/runtime/tracing.js';
import { startTraceCollector } from '../../helpers/trace-collector.js';

const TRACE_ID = '0af7651916cd43dd8448eb211c80319c';
const SPAN_ID = 'b7ad6b7169203331';

const configOf = (env: Record<string, string>) => readEnvironment(tracingSettings, env);

const span = (over: Partial<EndedSpan> = {}): EndedSpan => ({
  name: 'GET /api/users/:id',
  kind: 'server',
  durationMs: 25,
  attributes: { 'http.response.status_code': 200 },
  failed: false,
  ...over,
});

t.test('without a collector nobody listens, and spans are not even made', async (t) => {
  const stop = await startTracing(configOf({}), 'gateway', silentLog);
  let made = 0;
  const tell = () => {
    made++;
    return span();
  };
  spanEnded(tell);
  t.equal(made, 0);
  await stop();
});

t.test('spans come to the collector, in the trace of the caller', async (t) => {
  const collector = await startTraceCollector(t);
  const stop = await startTracing(
    configOf({
      OTEL_EXPORTER_OTLP_ENDPOINT: `${collector.url}/`,
      OTEL_EXPORTER_OTLP_HEADERS: 'authorization=Bearer%20abc,x-plain=100%',
      OTEL_TRACES_SAMPLER_ARG: '1',
      OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment=test',
    }),
    'control-plane',
    silentLog,
  );
  spanEnded(() => span());
  spanEnded(() =>
    span({ name: 'job x', kind: 'internal', failed: true, traceparent: `00-${TRACE_ID}-${SPAN_ID}-01` }),
  );
  spanEnded(() => span({ name: 'not sampled by the caller', traceparent: `00-${TRACE_ID}-${SPAN_ID}-00` }));
  spanEnded(() => span({ name: 'no traceparent', traceparent: 'rubbish' }));
  await stop();
  spanEnded(() => t.fail('heard after the end') as never);

  t.same(
    collector.spans.map(({ name }) => name),
    ['GET /api/users/:id', 'job x', 'no traceparent'],
  );
  const [request, job, rubbish] = collector.spans;
  t.match(request, { service: 'control-plane', kind: 2, status: 0, durationMs: 25 });
  t.same(request?.attributes, { 'http.response.status_code': 200 });
  t.match(job, { kind: 1, status: 2, traceId: TRACE_ID, parentSpanId: SPAN_ID });
  t.match(rubbish?.traceId, /^(?!0af76)[0-9a-f]{32}$/, 'a trace of its own');
  const [delivery] = collector.deliveries;
  t.equal(delivery?.path, '/v1/traces');
  t.match(delivery?.headers, { authorization: 'Bearer abc', 'x-plain': '100%' });
});

t.test('a share of what begins here; the decision of a caller counts more', async (t) => {
  const collector = await startTraceCollector(t);
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_TRACES_SAMPLER_ARG: '0' };
  const stop = await startTracing(configOf(env), 'gateway', silentLog);
  for (let i = 0; i < 50; i++) spanEnded(() => span());
  spanEnded(() => span({ name: 'asked for', traceparent: `00-${TRACE_ID}-${SPAN_ID}-01` }));
  await stop();
  t.same(
    collector.spans.map(({ name }) => name),
    ['asked for'],
  );
  t.throws(
    () => configOf({ OTEL_TRACES_SAMPLER_ARG: '1.5' }),
    /OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1/,
  );
  t.throws(() => configOf({ OTEL_TRACES_SAMPLER_ARG: 'half' }), /a number from 0 to 1/);
});

t.test('a collector that refuses or is away costs spans and one line of the log', async (t) => {
  const collector = await startTraceCollector(t);
  const events: string[] = [];
  const log = {
    ...silentLog,
    warn: (_fields: object, event: string) => events.push(event),
    info: (_fields: object, event: string) => events.push(event),
  };
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_TRACES_SAMPLER_ARG: '1' };
  const stop = await startTracing(configOf(env), 'gateway', log);
  const send = async (answer: number, name: string) => {
    const before = collector.deliveries.length;
    collector.answerWith(answer);
    // A whole batch goes at once.
    for (let i = 0; i < 512; i++) spanEnded(() => span({ name }));
    while (collector.deliveries.length === before) await new Promise((resolve) => setTimeout(resolve, 10));
  };
  await send(400, 'lost');
  await send(400, 'lost as well');
  await send(200, 'taken');
  await stop();
  t.same(events, ['tracing', 'traces_not_sent', 'traces_sent_again']);
  t.same([...new Set(collector.spans.map(({ name }) => name))], ['taken']);
  t.equal(collector.spans.length, 512);
});
