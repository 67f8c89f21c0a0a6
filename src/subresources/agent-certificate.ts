// An agent's side of its certificate: asks for one, renews it in time, and asks anew when the cluster has another authority.
import 'reflect-metadata'; // which the container of @peculiar/x509 needs before it is loaded
import { KeyObject, randomBytes, webcrypto, X509Certificate } from 'node:crypto';
import { Pkcs10CertificateRequestGenerator } from '@peculiar/x509';
import { BulkheadError } from '../api/errors.ts';
import { type Clock, sleep } from '../controller/clock.ts';
import type { Log } from '../controller/log.ts';
import type { MutualTls } from '../server/mutual-tls.ts';
import type { ApiClient } from '../store/cluster/api-client.ts';
import type { FollowedObjects } from '../store/cluster/followed-objects.ts';
import { isJsonObject } from '../store/merge-patch.ts';
import { NODE_AUTHORITY_CONFIG_MAP, NODE_AUTHORITY_KEY } from './api-service.ts';
import { NODE_SIGNER, NODE_USAGES } from './certificate-requests.ts';
import {
  AGENT_CHECK_MS,
  LEAF_RENEWED_BEFORE_MS,
  REQUEST_POLL_MAX_MS,
  REQUEST_POLL_MIN_MS,
  REQUEST_RETRY_MS,
  REQUEST_WAIT_MS,
} from './limits.ts';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const REQUESTS = '/apis/certificates.k8s.io/v1/certificatesigningrequests';

export interface AgentCertificateOptions {
  /** The agent's own way to the API server: who asks is seen by it. */
  client: ApiClient;
  /** The authority's ConfigMap, followed by name. */
  followed: Pick<FollowedObjects, 'get'>;
  namespace: string;
  nodeName: string;
  clock: Clock;
  log: Log;
  changed(tls: MutualTls): Promise<void>;
}

/** Keeps a certificate until `signal` aborts. */
export async function keepAgentCertificate(
  options: AgentCertificateOptions,
  signal: AbortSignal,
): Promise<void> {
  const { followed, namespace, clock, log, changed } = options;
  const key = { kind: 'ConfigMap', namespace, name: NODE_AUTHORITY_CONFIG_MAP };
  let present: { tls: MutualTls; renewAt: number } | undefined;
  let delivered: MutualTls | undefined;
  let told: string | undefined;
  while (!signal.aborted) {
    let pause = AGENT_CHECK_MS;
    try {
      const ca = (await followed.get(key))?.data?.[NODE_AUTHORITY_KEY];
      if (ca !== undefined && (present?.tls.ca !== ca || clock.now() >= present.renewAt)) {
        const made = await requestCertificate(options, signal);
        const leaf = new X509Certificate(made.cert);
        if (!leaf.checkIssued(new X509Certificate(ca)))
          throw new BulkheadError('CONFLICT', 'The certificate of this node is of another authority.');
        present = { tls: { ...made, ca }, renewAt: leaf.validToDate.getTime() - LEAF_RENEWED_BEFORE_MS };
      }
      if (present !== undefined && delivered !== present.tls) {
        await changed(present.tls);
        delivered = present.tls;
        log.info(
          { renewAt: new Date(present.renewAt) },
          'the controllers of the cluster can reach this node',
        );
      }
      told = undefined;
    } catch (error) {
      if (signal.aborted) return;
      const { message } = error as Error;
      if (message !== told)
        log.warn({ error }, 'this node has no certificate for the controllers of the cluster');
      told = message;
      pause = REQUEST_RETRY_MS;
    }
    await sleep(clock, pause, signal);
  }
}

async function requestCertificate(
  { client, nodeName, clock }: AgentCertificateOptions,
  signal: AbortSignal,
): Promise<{ cert: string; key: string }> {
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const request = await Pkcs10CertificateRequestGenerator.create(
    { name: [{ CN: [nodeName.slice(0, 64)] }], keys, signingAlgorithm: ALGORITHM },
    webcrypto,
  );
  const name = `bulkhead-node-${randomBytes(8).toString('hex')}`;
  await client.send({
    ...{ method: 'POST', path: REQUESTS, signal },
    body: {
      ...{ apiVersion: 'certificates.k8s.io/v1', kind: 'CertificateSigningRequest' },
      metadata: { name, labels: { 'app.kubernetes.io/managed-by': 'bulkhead' } },
      spec: {
        ...{ signerName: NODE_SIGNER, usages: NODE_USAGES },
        request: Buffer.from(`${request.toString('pem')}\n`).toString('base64'),
      },
    },
  });
  const key = KeyObject.from(keys.privateKey).export({ type: 'pkcs8', format: 'pem' }).toString();
  return { cert: await answerOf(client, name, clock, signal), key };
}

async function answerOf(client: ApiClient, name: string, clock: Clock, signal: AbortSignal): Promise<string> {
  const until = clock.monotonic() + REQUEST_WAIT_MS;
  for (
    let pause = REQUEST_POLL_MIN_MS;
    clock.monotonic() < until;
    pause = Math.min(2 * pause, REQUEST_POLL_MAX_MS)
  ) {
    await sleep(clock, pause, signal);
    signal.throwIfAborted();
    const answer = await client.send({ method: 'GET', path: `${REQUESTS}/${name}`, signal });
    const status = isJsonObject(answer) && isJsonObject(answer.status) ? answer.status : {};
    if (typeof status.certificate === 'string')
      return Buffer.from(status.certificate, 'base64').toString('latin1');
    const conditions = Array.isArray(status.conditions) ? status.conditions.filter(isJsonObject) : [];
    const denied = conditions.find(({ type }) => type === 'Denied' || type === 'Failed');
    if (denied !== undefined)
      throw new BulkheadError('FORBIDDEN', `The request was denied: ${denied.message}`);
  }
  throw new BulkheadError('TIMEOUT', `No controller answered the request ${name} in time.`);
}
