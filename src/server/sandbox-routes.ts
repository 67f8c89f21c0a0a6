// What can be read of a sandbox that runs, or ran: its log and its figures.
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { asBulkheadError, BulkheadError } from '../api/errors.ts';
import { GROUP_VERSION } from '../api/meta.ts';
import type { FlowList, SandboxStats } from '../api/wire.ts';
import type { LogEntry, LogOptions, ServerDependencies } from './contracts.ts';
import { GUEST_STATS_TIMEOUT_MS } from './limits.ts';
import { openLineStream } from './line-stream.ts';
import { logFormat } from './log-format.ts';
import { boolean, integer, type Query, single } from './query.ts';
import { admitFollower, type WatchHost } from './watch.ts';

const ITEM = `/apis/${GROUP_VERSION}/namespaces/:namespace/sandboxes/:name`;

function nameOf(request: FastifyRequest): { namespace: string; name: string } {
  return request.params as { namespace: string; name: string };
}

function sinceOf(query: Query): Date | undefined {
  const seconds = integer(query, 'sinceSeconds', 1);
  const time = single(query, 'sinceTime');
  if (seconds !== undefined && time !== undefined) {
    throw new BulkheadError('BAD_REQUEST', 'give sinceSeconds or sinceTime, not both');
  }
  if (seconds !== undefined) return new Date(Date.now() - seconds * 1000);
  if (time === undefined) return undefined;
  const parsed = new Date(time);
  if (Number.isNaN(parsed.getTime())) {
    throw new BulkheadError('BAD_REQUEST', `query parameter sinceTime: expected RFC 3339, found "${time}"`);
  }
  return parsed;
}

type Dependencies = Pick<ServerDependencies, 'store' | 'sandboxes' | 'holds' | 'policies'>;

/** Registers `/log`, `/stats`, `/effectivepolicy`, `/flows` and `/hold`. */
export function registerSandboxRoutes(app: FastifyInstance, deps: Dependencies, host: WatchHost): void {
  const { store, sandboxes, holds, policies } = deps;
  app.get(`${ITEM}/log`, async (request, reply) => {
    const { namespace, name } = nameOf(request);
    const query = request.query as Query;
    const tailLines = integer(query, 'tailLines');
    const since = sinceOf(query);
    const leave = new AbortController();
    const options: LogOptions = {
      follow: boolean(query, 'follow'),
      previous: boolean(query, 'previous'),
      signal: leave.signal,
      ...(tailLines === undefined ? {} : { tailLines }),
      ...(since === undefined ? {} : { since }),
    };
    const format = logFormat(boolean(query, 'timestamps'));
    const done = admitFollower(host);
    try {
      const entries = await sandboxes.openLog(namespace, name, options);
      await sendLog(reply, entries, format, host, leave);
    } finally {
      leave.abort();
      done();
    }
  });

  app.get(`${ITEM}/stats`, async (request): Promise<SandboxStats> => {
    const { namespace, name } = nameOf(request);
    const sandbox = await sandboxes.live(namespace, name);
    const [vm, guest] = await Promise.all([
      sandbox.vmStats(),
      sandbox.agent.stats(AbortSignal.timeout(GUEST_STATS_TIMEOUT_MS)).catch(() => undefined),
    ]);
    return {
      timestamp: new Date().toISOString(),
      startedAt: sandbox.startedAt.toISOString(),
      vm,
      ...(guest === undefined ? {} : { guest }),
    };
  });

  app.get(`${ITEM}/effectivepolicy`, (request) => {
    const { namespace, name } = nameOf(request);
    return policies.ofSandbox(namespace, name);
  });

  app.get(`${ITEM}/flows`, async (request): Promise<FlowList> => {
    const { namespace, name } = nameOf(request);
    return { items: await policies.log(namespace, name) };
  });

  app.get(`${ITEM}/hold`, async (request, reply) => {
    const { namespace, name } = nameOf(request);
    const object = await store.get({ kind: 'Sandbox', namespace, name });
    if (object === undefined)
      throw new BulkheadError('NOT_FOUND', `sandboxes.bulkhead.dev "${name}" not found`);
    const { uid } = object.metadata;
    const done = admitFollower(host);
    const release = holds.hold({ namespace, name, uid });
    const stream = openLineStream(reply, 'application/x-ndjson', host.closing);
    const leave = (): void => {
      release();
      done();
      stream.end();
    };
    if (stream.signal.aborted) return leave();
    stream.signal.addEventListener('abort', leave, { once: true });
    await stream.write(`${JSON.stringify({ uid })}\n`);
  });

  for (const verb of ['exec', 'attach', 'portforward']) {
    app.get(`${ITEM}/${verb}`, () => {
      throw new BulkheadError('BAD_REQUEST', `${verb} needs a WebSocket: send an Upgrade request`);
    });
  }
}

async function sendLog(
  reply: FastifyReply,
  entries: AsyncIterable<LogEntry>,
  format: (entry: LogEntry) => Iterable<Uint8Array>,
  host: WatchHost,
  leave: AbortController,
): Promise<void> {
  const stream = openLineStream(reply, 'text/plain; charset=utf-8', host.closing);
  stream.signal.addEventListener('abort', () => leave.abort(), { once: true });
  try {
    for await (const entry of entries) {
      for (const piece of format(entry)) await stream.write(piece);
      if (stream.signal.aborted) break;
    }
    stream.end();
  } catch (error) {
    if (stream.signal.aborted) return;
    // The headers are out: a broken connection is the only honest way left to say that the log is not whole.
    reply.log.error({ err: error }, 'reading a log failed');
    reply.raw.destroy(asBulkheadError(error));
  }
}
