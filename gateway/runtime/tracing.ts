import type { Attributes, Context } from '@opentelemetry/api';
import type { SpanExporter } from '@opentelemetry/sdk-trace-base';
import { list, type Setting, secret, text, type Values } from './environment.js';
import type { Log } from './logging.js';
import { onSpanEnded } from './spans.js';

/** A share from 0 to 1, written as a decimal number. */
function share(name: string, help: string, fallback: number): Setting<number> {
  return {
    name,
    help,
    takes: 'number, 0 to 1',
    default: fallback,
    parse(value) {
      const n = Number(value);
      if (!/^\d*\.?\d+$/.test(value) || n > 1) throw new Error('a number from 0 to 1');
      return n;
    },
  };
}

/** Settings of traces, by the names that OpenTelemetry gives them. */
export const tracingSettings = {
  tracesEndpoint: text(
    'OTEL_EXPORTER_OTLP_ENDPOINT',
    'root of an OpenTelemetry collector that takes OTLP over HTTP, such as http://127.0.0.1:4318; unset: no traces',
    null,
  ),
  tracesHeaders: secret(
    'OTEL_EXPORTER_OTLP_HEADERS',
    'headers for it, as name=value,name=value with values URL-encoded',
    null,
  ),
  tracesShare: share(
    'OTEL_TRACES_SAMPLER_ARG',
    "share of what begins here that is traced; a caller's own decision (traceparent) is kept to",
    0.01,
  ),
  tracesAttributes: list(
    'OTEL_RESOURCE_ATTRIBUTES',
    'facts about this process that go with each span, as name=value,name=value',
  ),
};

export type TracingConfig = Values<typeof tracingSettings>;

/** Spans that wait to be sent; above it new ones are dropped. */
const SPANS_WAITING_MAX = 2_048;
/** Time the collector has for one delivery; then its spans are dropped. */
const EXPORT_TIMEOUT_MS = 5_000;

/**
 * Sends spans of this process to the collector of the settings until the function that it resolves to is called, which
 * sends the rest in one time limit. Without a collector nothing is loaded and nothing done. A collector that is away
 * costs spans and one line of the log, never work.
 */
export async function startTracing(
  config: TracingConfig,
  service: string,
  log: Log,
): Promise<() => Promise<void>> {
  const { tracesEndpoint: endpoint, tracesShare, tracesHeaders, tracesAttributes } = config;
  if (endpoint === null) return async () => {};
  // Only now: half of Node's start would be spent on modules that most never need.
  const [api, core, base, { OTLPTraceExporter }, { resourceFromAttributes }] = await Promise.all([
    import('@opentelemetry/api'),
    import('@opentelemetry/core'),
    import('@opentelemetry/sdk-trace-base'),
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/resources'),
  ]);
  const { ROOT_CONTEXT, SpanKind, SpanStatusCode, defaultTextMapGetter } = api;
  const exporter = new OTLPTraceExporter({
    url: `${endpoint.replace(/\/+$/, '')}/v1/traces`,
    headers: pairs(tracesHeaders?.split(',') ?? []),
    timeoutMillis: EXPORT_TIMEOUT_MS,
  });
  const provider = new base.BasicTracerProvider({
    resource: resourceFromAttributes({
      'service.name': service,
      'process.pid': process.pid,
      ...pairs(tracesAttributes),
    }),
    sampler: new base.ParentBasedSampler({ root: new base.TraceIdRatioBasedSampler(tracesShare) }),
    spanProcessors: [
      new base.BatchSpanProcessor(tellingFailures(exporter, log), {
        maxQueueSize: SPANS_WAITING_MAX,
        exportTimeoutMillis: EXPORT_TIMEOUT_MS,
      }),
    ],
  });
  const tracer = provider.getTracer('traffic-share');
  const propagator = new core.W3CTraceContextPropagator();
  const contextOf = (traceparent: string | undefined): Context =>
    traceparent === undefined
      ? ROOT_CONTEXT
      : propagator.extract(ROOT_CONTEXT, { traceparent }, defaultTextMapGetter);
  const unsubscribe = onSpanEnded(({ name, kind, durationMs, attributes, failed, traceparent }) => {
    const endMs = Date.now();
    const span = tracer.startSpan(
      name,
      {
        kind: kind === 'server' ? SpanKind.SERVER : SpanKind.INTERNAL,
        startTime: endMs - durationMs,
        attributes: attributes as Attributes,
      },
      contextOf(traceparent),
    );
    if (failed) span.setStatus({ code: SpanStatusCode.ERROR });
    span.end(endMs);
  });
  log.info({ endpoint, share: tracesShare }, 'tracing');
  return async () => {
    unsubscribe();
    await provider.shutdown().catch(() => {}); // the log has been told by the exporter
  };
}

/** The exporter, whose first failure of an outage is logged. */
function tellingFailures(exporter: SpanExporter, log: Log): SpanExporter {
  let away = false;
  return {
    export(spans, done) {
      exporter.export(spans, (result) => {
        const failed = result.error !== undefined;
        if (failed && !away) log.warn({ error: result.error?.message }, 'traces_not_sent');
        else if (away && !failed) log.info({}, 'traces_sent_again');
        away = failed;
        done(result);
      });
    },
    forceFlush: async () => exporter.forceFlush?.(),
    shutdown: () => exporter.shutdown(),
  };
}

/** Of `name=value` each, values URL-encoded; what has no `=` is left out. */
function pairs(items: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    items.flatMap((item) => {
      const at = item.indexOf('=');
      return at < 1 ? [] : [[item.slice(0, at).trim(), decoded(item.slice(at + 1).trim())]];
    }),
  );
}

/** As it is when it is not URL-encoded. */
function decoded(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}
