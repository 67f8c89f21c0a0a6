import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { type FinishedStart, openStartTraces, type StartTraces } from './start-traces.ts';

interface Attribute {
  key: string;
  value: { stringValue?: string; intValue?: number | string };
}

interface Span {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes: Attribute[];
  status: { code?: number; message?: string };
}

interface Export {
  resourceSpans: { resource: { attributes: Attribute[] }; scopeSpans: { spans: Span[] }[] }[];
}

const START: FinishedStart = {
  namespace: 'default',
  name: 'apple',
  uid: '01234567-89ab-4cde-8f01-23456789abcd',
  image: 'docker.io/library/busybox:1',
  driver: 'software',
  launch: 'warm',
  run: 3,
  stages: { image: 0.25, restore: 30, connect: 20.5 },
  endedAt: 1_767_225_600_000,
};

/** Bytes of the heap that are in use, without garbage. */
function heapInUse(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  return process.memoryUsage().heapUsed;
}

/** A collector on the loopback. `answer` gives the status of its response; none is ever sent where it gives none. */
async function collector(answer: (path: string, body: string) => number | undefined) {
  const server = createServer((request, response) => {
    void text(request).then((body) => {
      const status = answer(request.url ?? '', body);
      if (status !== undefined) response.writeHead(status, { 'content-type': 'application/json' }).end('{}');
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  return {
    endpoint: new URL(`http://127.0.0.1:${address.port}`),
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

function open(endpoint: URL, states: (Error | undefined)[] = []): StartTraces {
  return openStartTraces({ endpoint, version: '1.2.3', node: 'n1', onState: (state) => states.push(state) });
}

function valuesOf(attributes: readonly Attribute[]): Record<string, unknown> {
  return Object.fromEntries(
    attributes.map(({ key, value }) => [key, value.stringValue ?? Number(value.intValue)]),
  );
}

test('a start is one trace with a span for each stage, one after another', async () => {
  const got = Promise.withResolvers<{ path: string; body: Export }>();
  await using server = await collector((path, body) => {
    got.resolve({ path, body: JSON.parse(body) as Export });
    return 200;
  });
  const traces = open(server.endpoint);
  const traceId = traces.record(START);
  assert.match(traceId, /^[0-9a-f]{32}$/);
  await traces.close();
  const { path, body } = await got.promise;
  assert.equal(path, '/v1/traces');
  const [resourceSpans] = body.resourceSpans;
  const resource = valuesOf(resourceSpans?.resource.attributes ?? []);
  assert.deepEqual(resource, { 'service.name': 'bulkhead', 'service.version': '1.2.3', 'host.name': 'n1' });
  const spans = resourceSpans?.scopeSpans.flatMap((scope) => scope.spans) ?? [];
  const whole = spans.find(({ name }) => name === 'sandbox start');
  assert.ok(whole !== undefined);
  assert.ok(!whole.parentSpanId);
  assert.deepEqual(valuesOf(whole.attributes), {
    'bulkhead.sandbox.namespace': 'default',
    'bulkhead.sandbox.name': 'apple',
    'bulkhead.sandbox.uid': START.uid,
    'bulkhead.sandbox.image': START.image,
    'bulkhead.vm.driver': 'software',
    'bulkhead.vm.launch': 'warm',
    'bulkhead.sandbox.run': 3,
  });
  const microseconds = ({ startTimeUnixNano, endTimeUnixNano }: Span) => {
    const base = BigInt(START.endedAt - 1000) * 1_000_000n;
    return [startTimeUnixNano, endTimeUnixNano].map((at) => Number((BigInt(at) - base) / 1000n));
  };
  const stages = spans.filter((span) => span !== whole);
  for (const span of spans) assert.equal(span.traceId, traceId);
  for (const span of stages) assert.equal(span.parentSpanId, whole.spanId);
  assert.deepEqual(Object.fromEntries(spans.map((span) => [span.name, microseconds(span)])), {
    'sandbox start': [949_250, 1_000_000],
    image: [949_250, 949_500],
    restore: [949_500, 979_500],
    connect: [979_500, 1_000_000],
  });
});

test('a start that failed says so, by its reason alone', async () => {
  const got = Promise.withResolvers<Export>();
  await using server = await collector((_path, body) => {
    got.resolve(JSON.parse(body) as Export);
    return 200;
  });
  const traces = open(server.endpoint);
  const { launch: _launch, ...start } = START;
  traces.record({ ...start, failure: 'DriverUnavailable' });
  await traces.close();
  const spans = (await got.promise).resourceSpans.flatMap(({ scopeSpans }) =>
    scopeSpans.flatMap((scope) => scope.spans),
  );
  const whole = spans.find(({ name }) => name === 'sandbox start');
  assert.deepEqual(whole?.status, { code: 2, message: 'DriverUnavailable' });
});

test('an endpoint with a path of its own is asked at that path', async () => {
  const got = Promise.withResolvers<string>();
  await using server = await collector((path) => {
    got.resolve(path);
    return 200;
  });
  const traces = open(new URL('/collect/here', server.endpoint));
  traces.record(START);
  await traces.close();
  assert.equal(await got.promise, '/collect/here');
});

test('a collector that hangs costs a bounded queue and a bounded close', async () => {
  const asked = Promise.withResolvers<void>();
  await using server = await collector(() => {
    asked.resolve();
    return undefined;
  });
  const traces = open(server.endpoint);
  for (let start = 0; start < 1_000; start += 1) traces.record(START);
  await asked.promise;
  const before = heapInUse();
  for (let start = 0; start < 50_000; start += 1) traces.record(START);
  const grownMiB = (heapInUse() - before) / 2 ** 20;
  // All 200,000 spans would be some 200 MiB.
  assert.ok(grownMiB < 60, `the queue grew by ${grownMiB} MiB`);
  // Would wait for as long as the collector is given, were it not bounded.
  await traces.close();
});

test('a collector that is not there, or refuses, is told of once, and once more when it is back', async () => {
  let refuse = true;
  const states: (Error | undefined)[] = [];
  const arrived: (() => void)[] = [];
  await using server = await collector(() => {
    arrived.shift()?.();
    return refuse ? 400 : 200;
  });
  const traces = open(server.endpoint, states);
  const exported = () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    arrived.push(resolve);
    traces.record(START);
    return promise;
  };
  await exported();
  await exported();
  refuse = false;
  await exported();
  await exported();
  await traces.close();
  assert.deepEqual(
    states.map((state) => state instanceof Error),
    [true, false],
  );

  const nobody = open(new URL('http://127.0.0.1:1/'), states);
  assert.match(nobody.record(START), /^[0-9a-f]{32}$/);
  await nobody.close();
});
