import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';

/** A span as it came, OTLP in JSON (opentelemetry.proto.trace.v1). */
export interface CollectedSpan {
  service: string;
  name: string;
  /** 1 internal, 2 server. */
  kind: number;
  traceId: string;
  parentSpanId?: string;
  durationMs: number;
  attributes: Record<string, string | number>;
  /** 0 unset, 2 error. */
  status: number;
}

interface Pair {
  key: string;
  value: { stringValue?: string; intValue?: number; doubleValue?: number };
}

interface Wire {
  resourceSpans: {
    resource: { attributes: Pair[] };
    scopeSpans: {
      spans: (Omit<CollectedSpan, 'service' | 'durationMs' | 'attributes' | 'status'> & {
        startTimeUnixNano: string;
        endTimeUnixNano: string;
        attributes: Pair[];
        status: { code?: number };
      })[];
    }[];
  }[];
}

const valuesOf = (pairs: Pair[]) =>
  Object.fromEntries(
    pairs.map(({ key, value }) => [key, value.stringValue ?? value.intValue ?? value.doubleValue ?? '']),
  );

/** A collector of OpenTelemetry on loopback: takes spans at `/v1/traces` and keeps them. */
export async function startTraceCollector(t: { teardown(step: () => unknown): unknown }) {
  const spans: CollectedSpan[] = [];
  const deliveries: { path: string; headers: IncomingHttpHeaders }[] = [];
  let status = 200;
  const server = createServer(async (request, response) => {
    const body = (await json(request)) as Wire;
    deliveries.push({ path: request.url ?? '', headers: request.headers });
    if (status === 200)
      for (const { resource, scopeSpans } of body.resourceSpans)
        for (const span of scopeSpans.flatMap((scope) => scope.spans))
          spans.push({
            ...span,
            service: String(valuesOf(resource.attributes)['service.name']),
            durationMs: Number(BigInt(span.endTimeUnixNano) - BigInt(span.startTimeUnixNano)) / 1e6,
            attributes: valuesOf(span.attributes),
            status: span.status.code ?? 0,
          });
    response.writeHead(status, { 'content-type': 'application/json' }).end('{}');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    deliveries,
    /** From now on deliveries are answered with this status, and their spans lost when it is not 200. */
    answerWith: (code: number) => {
      status = code;
    },
  };
}
