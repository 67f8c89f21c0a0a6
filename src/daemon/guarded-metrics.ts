// /metrics of a part of a cluster for the cluster's Prometheus, beside what it serves on its own node.
import { createHash, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import type { Logger } from 'pino';
import { type Clock, sleep } from '../controller/clock.ts';
import type { Runnable } from '../controller/manager.ts';
import { createAuthority, LeafIssuer } from '../network/intercept/certificates.ts';
import {
  createGuardedMonitoring,
  type GuardedMonitoringOptions,
  type ServingCertificate,
} from '../server/guarded-monitoring.ts';
import { AccessReviews } from '../store/cluster/access-reviews.ts';
import { ApiClient } from '../store/cluster/api-client.ts';
import { type ClusterOptions, findApiServer } from '../store/cluster/kube-config.ts';

export interface GuardedMetricsOptions {
  /** HOST:PORT. */
  address: string;
  /** PEM files, read anew when they change. Absent: a certificate is made, which nobody can verify. */
  certificate?: { certFile: string; keyFile: string };
}

interface Parts extends Pick<GuardedMonitoringOptions, 'metrics' | 'healthChecks'> {
  clock: Clock;
  log: Logger;
}

/** Kubelets bring new versions of mounted Secrets about once a minute. */
const CERTIFICATE_CHECK_MS = 60_000;
/** Made certificates are replaced when so much of their life is left: a third. */
const MADE_LEFT_MS = 10 * 86_400_000;

/** Serves `metrics` to those who may get /metrics by the cluster's RBAC. */
export function guardedMetrics(
  options: GuardedMetricsOptions,
  cluster: ClusterOptions,
  { clock, log, ...served }: Parts,
): Runnable {
  const stop = new AbortController();
  let running: Promise<void> = Promise.resolve();
  return {
    name: 'guarded metrics',
    async start() {
      const client = new ApiClient(await findApiServer(cluster));
      const asked = { path: '/metrics', verb: 'get' };
      const reviews = new AccessReviews(client, asked, () => clock.monotonic());
      const certificate = certificateSource(options.certificate, clock);
      const tls = await certificate();
      const check = (token: string) => reviews.check(token);
      const monitoring = createGuardedMonitoring({ ...served, logger: log, check, tls });
      await monitoring.listen(options.address);
      running = keepRenewed(tls, certificate, (renewed) => monitoring.renew(renewed)).finally(() =>
        monitoring.close(),
      );
    },
    async stop() {
      stop.abort();
      await running;
    },
  };

  async function keepRenewed(
    first: ServingCertificate,
    read: () => Promise<ServingCertificate>,
    renew: (tls: ServingCertificate) => void,
  ): Promise<void> {
    let served = digest(first);
    while (!stop.signal.aborted) {
      await sleep(clock, CERTIFICATE_CHECK_MS, stop.signal);
      try {
        const tls = await read();
        if (digest(tls) === served) continue;
        renew(tls);
        served = digest(tls);
      } catch (error) {
        // Half of a pair that is being replaced, for one: the former one is served on.
        log.warn({ error }, 'the certificate of the metrics cannot be renewed');
      }
    }
  }
}

function digest({ cert, key }: ServingCertificate): string {
  return createHash('sha256').update(cert).update(key).digest('base64');
}

function certificateSource(
  files: GuardedMetricsOptions['certificate'],
  clock: Clock,
): () => Promise<ServingCertificate> {
  if (files !== undefined)
    return async () => ({
      cert: await readFile(files.certFile, 'utf8'),
      key: await readFile(files.keyFile, 'utf8'),
    });
  let made: { tls: ServingCertificate; expiresAt: number } | undefined;
  return async () => {
    if (made !== undefined && made.expiresAt - clock.now() > MADE_LEFT_MS) return made.tls;
    const now = () => clock.now();
    const authority = await createAuthority(`metrics ${randomBytes(4).toString('hex')}`, now());
    const { chain, key, expiresAt } = await new LeafIssuer(authority, now).issue(hostname().toLowerCase());
    made = { tls: { cert: chain, key }, expiresAt };
    return made.tls;
  };
}
