// Health, readiness and metrics: the paths that monitoring asks for, on the socket and on the TCP listener alike.
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { HealthCheck, ServerDependencies } from './contracts.ts';
import { HEALTH_CHECK_TIMEOUT_MS } from './limits.ts';
import { boolean, type Query } from './query.ts';

interface CheckResult {
  name: string;
  error?: string;
}

async function runCheck({ name, check }: HealthCheck): Promise<CheckResult> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error('no answer in time')), HEALTH_CHECK_TIMEOUT_MS);
  try {
    await Promise.race([check(), late]);
    return { name };
  } catch (error) {
    return { name, error: error instanceof Error ? error.message : String(error) };
  } finally {
    clearTimeout(timer);
  }
}

/** Text in the form of Kubernetes' own health endpoints. */
function report(results: CheckResult[], path: string): string {
  const lines = results.map(({ name, error }) =>
    error === undefined ? `[+]${name} ok` : `[-]${name} failed: ${error}`,
  );
  const verdict = results.some(({ error }) => error !== undefined) ? 'failed' : 'passed';
  return `${lines.join('\n')}\n${path} check ${verdict}\n`;
}

/** Registers /healthz, /livez, /readyz (`?verbose`) and /metrics. */
export function registerHealth(
  app: FastifyInstance,
  deps: Pick<ServerDependencies, 'healthChecks' | 'metrics'>,
): void {
  const live = deps.healthChecks.filter((check) => check.kind === 'live');
  const paths: [string, readonly HealthCheck[]][] = [
    ['healthz', live],
    ['livez', live],
    ['readyz', deps.healthChecks],
  ];
  for (const [path, checks] of paths) {
    app.get(`/${path}`, async (request: FastifyRequest, reply) => {
      const results = await Promise.all(checks.map(runCheck));
      const failed = results.some(({ error }) => error !== undefined);
      const verbose = failed || boolean(request.query as Query, 'verbose');
      void reply.code(failed ? 503 : 200).type('text/plain; charset=utf-8');
      return verbose ? report(results, path) : 'ok';
    });
  }
  app.get('/metrics', async (request, reply) => {
    const { contentType, body } = await deps.metrics(request.headers.accept);
    void reply.header('content-type', contentType).header('vary', 'accept');
    return body;
  });
}
