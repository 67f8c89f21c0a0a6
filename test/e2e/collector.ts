// A small receiver of OpenTelemetry traces (OTLP over HTTP, JSON) on the loopback.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { text } from 'node:stream/consumers';
import { eventually } from './daemon-observations.ts';

export interface Span {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  attributes: { key: string; value: { stringValue?: string } }[];
  status: { code?: number; message?: string };
}

interface Export {
  resourceSpans: { scopeSpans: { spans: Span[] }[] }[];
}

export class Collector implements AsyncDisposable {
  readonly url: string;
  /** Everything that came, as it came. */
  readonly bodies: string[] = [];
  /** Does it answer? One that does not keeps who asks waiting. */
  answers = true;
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
    const address = server.address();
    assert.ok(typeof address === 'object' && address !== null);
    this.url = `http://127.0.0.1:${address.port}`;
    server.on('request', (request, response) => {
      void text(request).then((body) => {
        this.bodies.push(body);
        if (this.answers) response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
      });
    });
  }

  static async start(): Promise<Collector> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new Collector(server);
  }

  /** The trace of the only start of a sandbox: its whole, then its stages. */
  async traceOf(name: string): Promise<{ whole: Span; stages: Span[] }> {
    return eventually(
      `the trace of ${name}`,
      async () => {
        const spans = this.bodies.flatMap((body) =>
          (JSON.parse(body) as Export).resourceSpans.flatMap(({ scopeSpans }) =>
            scopeSpans.flatMap((scope) => scope.spans),
          ),
        );
        const whole = spans.find((span) =>
          span.attributes.some(
            ({ key, value }) => key === 'bulkhead.sandbox.name' && value.stringValue === name,
          ),
        );
        if (whole === undefined) return undefined;
        return { whole, stages: spans.filter(({ parentSpanId }) => parentSpanId === whole.spanId) };
      },
      async () => this.bodies.join('\n').slice(-4000),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
