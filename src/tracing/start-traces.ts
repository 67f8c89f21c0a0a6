// A trace of each start of a sandbox, with a span for each stage, for an OpenTelemetry collector (OTLP over HTTP). Spans are made
// when a start is over, from the same figures that status and `describe` show, so nothing of it touches the start itself.
// Loaded only where an endpoint is given: the SDK takes 20 MiB.
import { type Attributes, type HrTime, ROOT_CONTEXT, SpanStatusCode, trace } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor, type SpanExporter, TracerProvider } from '@opentelemetry/sdk-trace';

/** Spans that wait for the collector, about 1 KiB each: some 600 starts. Beyond it spans are dropped, the new ones first. */
const MAX_QUEUED_SPANS = 8_192;
/** In one request; half a MiB. */
const MAX_BATCH_SPANS = 512;
/** Until a start is seen in the collector. */
const BATCH_DELAY_MS = 1_000;
/** Of one request, retries included; meanwhile spans queue. The SDK cannot end it sooner, so the daemon's process stays for it. */
const EXPORT_TIMEOUT_MS = 5_000;
/** For what is left when the daemon stops. */
const CLOSE_TIMEOUT_MS = 2_000;
/** Of names and image references, which come from manifests. */
const MAX_ATTRIBUTE_LENGTH = 512;
/** Where a collector takes traces when the endpoint has no path of its own, by OTLP's convention. */
const DEFAULT_PATH = '/v1/traces';

/** The SDK's codes of how an export ended. */
const [SUCCESS, FAILURE] = [0, 1];

/** One start that is over. Nothing in it is secret: no command, no environment, no message. */
export interface FinishedStart {
  namespace: string;
  name: string;
  uid: string;
  /** As in the spec. */
  image: string;
  /** Absent where none was chosen. */
  driver?: string;
  launch?: 'cold' | 'warm';
  /** Which start of the sandbox it is; absent where it came to none. */
  run?: number;
  /** Milliseconds by stage, which follow one another. */
  stages: Readonly<Record<string, number>>;
  /** Unix time, milliseconds. */
  endedAt: number;
  /** Of a start that failed: the reason of the error, from a fixed list. */
  failure?: string;
}

export interface StartTraces {
  /** Gives the id of the trace. Never throws and never waits. */
  record(start: FinishedStart): string;
  /** Sends what is left, as long as that takes little time. */
  close(): Promise<void>;
}

export interface StartTracesOptions {
  /** http or https. Headers, such as a token, come from the variable OTEL_EXPORTER_OTLP_HEADERS. */
  endpoint: URL;
  version: string;
  /** Name of the host. */
  node: string;
  /** Told once when the collector stops taking traces, and once when it takes them again (`undefined`). */
  onState(problem: Error | undefined): void;
}

export function openStartTraces({ endpoint, version, node, onState }: StartTracesOptions): StartTraces {
  const url = new URL(endpoint);
  if (url.pathname === '/') url.pathname = DEFAULT_PATH;
  const closed = new AbortController();
  const exporter = telling(
    new OTLPTraceExporter({ url: url.href, timeoutMillis: EXPORT_TIMEOUT_MS }),
    onState,
    closed.signal,
  );
  const provider = new TracerProvider({
    resource: resourceFromAttributes({
      'service.name': 'bulkhead',
      'service.version': version,
      'host.name': node,
    }),
    spanLimits: { attributeValueLengthLimit: MAX_ATTRIBUTE_LENGTH },
    spanProcessors: [
      new BatchSpanProcessor({
        exporter,
        maxQueueSize: MAX_QUEUED_SPANS,
        maxExportBatchSize: MAX_BATCH_SPANS,
        scheduledDelayMillis: BATCH_DELAY_MS,
        exportTimeoutMillis: EXPORT_TIMEOUT_MS,
      }),
    ],
  });
  const tracer = provider.getTracer('bulkhead', version);
  return {
    record(start) {
      const total = Object.values(start.stages).reduce((sum, milliseconds) => sum + milliseconds, 0);
      const began = start.endedAt - total;
      const options = { startTime: time(began), attributes: attributesOf(start) };
      const whole = tracer.startSpan('sandbox start', options, ROOT_CONTEXT);
      const context = trace.setSpan(ROOT_CONTEXT, whole);
      let at = began;
      for (const [stage, milliseconds] of Object.entries(start.stages)) {
        const span = tracer.startSpan(stage, { startTime: time(at) }, context);
        at += milliseconds;
        span.end(time(at));
      }
      if (start.failure !== undefined)
        whole.setStatus({ code: SpanStatusCode.ERROR, message: start.failure });
      whole.end(time(start.endedAt));
      return whole.spanContext().traceId;
    },
    async close() {
      const late = Promise.withResolvers<void>();
      const timer = setTimeout(late.resolve, CLOSE_TIMEOUT_MS);
      // What could not be sent was told by `onState`.
      await Promise.race([provider.shutdown().catch(() => {}), late.promise]);
      clearTimeout(timer);
      closed.abort(new Error('The daemon stops.'));
    },
  };
}

function attributesOf({
  namespace,
  name,
  uid,
  image,
  driver,
  launch,
  run,
  failure,
}: FinishedStart): Attributes {
  return {
    'bulkhead.sandbox.namespace': namespace,
    'bulkhead.sandbox.name': name,
    'bulkhead.sandbox.uid': uid,
    'bulkhead.sandbox.image': image,
    ...(driver === undefined ? {} : { 'bulkhead.vm.driver': driver }),
    ...(launch === undefined ? {} : { 'bulkhead.vm.launch': launch }),
    ...(run === undefined ? {} : { 'bulkhead.sandbox.run': run }),
    ...(failure === undefined ? {} : { 'error.type': failure }),
  };
}

/** Seconds and nanoseconds: stages are told in parts of a millisecond. */
function time(milliseconds: number): HrTime {
  const seconds = Math.floor(milliseconds / 1000);
  return [seconds, Math.round((milliseconds - seconds * 1000) * 1e6)];
}

/**
 * The same exporter, which tells of the first failure after a success and of the first success after a failure, and sends nothing
 * once `closed`.
 */
function telling(
  exporter: SpanExporter,
  onState: StartTracesOptions['onState'],
  closed: AbortSignal,
): SpanExporter {
  let failing = false;
  return {
    export(spans, done) {
      if (closed.aborted) return done({ code: FAILURE, error: closed.reason as Error });
      exporter.export(spans, (result) => {
        const failed = result.code !== SUCCESS;
        if (failed !== failing) onState(failed ? (result.error ?? new Error('no reason given')) : undefined);
        failing = failed;
        done(result);
      });
    },
    shutdown: () => exporter.shutdown(),
  };
}
