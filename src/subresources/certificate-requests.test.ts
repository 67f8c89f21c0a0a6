// Both sides of a node's certificate, with a fake API server between them that notes who asks as the real one does.
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import type { StoredObject } from '../api/meta.ts';
import { systemClock } from '../controller/clock.ts';
import { silentLog } from '../controller/log.ts';
import { createAuthority } from '../network/intercept/certificates.ts';
import type { MutualTls } from '../server/mutual-tls.ts';
import type { ApiClient, ApiRequest } from '../store/cluster/api-client.ts';
import { keepAgentCertificate } from './agent-certificate.ts';
import type { Authorities } from './authorities.ts';
import { NODE_SIGNER, NODE_USAGES, NodeCertificateReconciler } from './certificate-requests.ts';

const AGENT = 'system:serviceaccount:sys:bulkhead-node';
const NODE_NAME = 'authentication.kubernetes.io/node-name';

interface RequestObject {
  spec: Record<string, unknown>;
  status: { certificate?: string; conditions?: { type: string; message: string }[] };
}

class FakeRequests {
  readonly objects = new Map<string, RequestObject>();
  /** Who asks, as the API server finds out. */
  asker: Record<string, unknown> = { username: AGENT, extra: { [NODE_NAME]: ['node-a'] } };
  /** Told of each new request, and of each that changed. */
  onChange: (name: string) => Promise<unknown> = async () => undefined;

  readonly client = {
    send: async ({ method, path, body }: ApiRequest) => {
      if (method === 'POST') {
        const { metadata, spec } = body as { metadata: { name: string }; spec: Record<string, unknown> };
        this.objects.set(metadata.name, { spec: { ...spec, ...this.asker }, status: {} });
        await this.onChange(metadata.name);
        return {};
      }
      const [name = '', sub] = path.split('/').slice(5);
      const object = this.objects.get(name);
      assert.ok(object, path);
      if (method === 'PATCH') {
        assert.ok(sub === 'approval' || sub === 'status', path);
        Object.assign(object.status, (body as { status: object }).status);
      }
      return structuredClone(object);
    },
  } as unknown as ApiClient;

  readonly informer = {
    get: (_namespace: string, name: string) => this.objects.get(name) as unknown as StoredObject | undefined,
  };
}

async function start() {
  const now = Date.now();
  const authorities: Authorities = {
    serving: await createAuthority('a', now, 'serving'),
    nodes: await createAuthority('a', now, 'nodes'),
  };
  const requests = new FakeRequests();
  const reconciler = new NodeCertificateReconciler({
    ...{ client: requests.client, requests: requests.informer, agentUser: AGENT, now: Date.now },
    authorities: () => authorities,
  });
  const answer = (name: string) =>
    reconciler.reconcile({ kind: 'CertificateSigningRequest', namespace: '', name });
  requests.onChange = answer;
  return { authorities, requests, answer };
}

/** The certificate that an agent gets, or why it does not. */
async function asAgent(requests: FakeRequests, ca: () => string): Promise<MutualTls> {
  const stop = new AbortController();
  const { promise, resolve, reject } = Promise.withResolvers<MutualTls>();
  const done = keepAgentCertificate(
    {
      client: requests.client,
      followed: { get: async () => ({ data: { 'ca.crt': ca() } }) as unknown as StoredObject },
      ...{ namespace: 'sys', nodeName: 'a lie', clock: systemClock },
      log: { ...silentLog, warn: ({ error }) => reject(error) },
      changed: async (tls) => resolve(tls),
    },
    stop.signal,
  );
  try {
    return await promise;
  } finally {
    stop.abort();
    await done;
  }
}

test('an agent gets a certificate for the node that the API server saw, whatever it says itself', async () => {
  const { authorities, requests } = await start();
  const { cert, key, ca } = await asAgent(requests, () => authorities.nodes.certificate);
  const leaf = new X509Certificate(cert);
  assert.equal(leaf.subjectAltName, 'DNS:node-a');
  assert.deepEqual(leaf.keyUsage, ['1.3.6.1.5.5.7.3.1']);
  assert.ok(leaf.checkPrivateKey((await import('node:crypto')).createPrivateKey(key)));
  assert.ok(leaf.verify(new X509Certificate(ca).publicKey));
});

test('a certificate of another authority than the published one is not used', async () => {
  const { requests, authorities } = await start();
  await assert.rejects(
    asAgent(requests, () => authorities.serving.certificate),
    { code: 'CONFLICT' },
  );
});

test('whoever is no agent of a node is denied', async () => {
  const { requests } = await start();
  const { authorities, requests: good } = await start();
  await asAgent(good, () => authorities.nodes.certificate);
  const [asked] = good.objects.values();
  assert.ok(asked);
  const of = (change: Record<string, unknown>) => ({ ...asked.spec, ...change });
  const wrong: Record<string, Record<string, unknown>> = {
    account: of({ username: 'system:serviceaccount:sys:bulkhead-controller' }),
    admin: of({ username: 'admin' }),
    'no node': of({ extra: {} }),
    'two nodes': of({ extra: { [NODE_NAME]: ['a', 'b'] } }),
    signer: of({ signerName: 'kubernetes.io/kubelet-serving' }),
    client: of({ usages: ['digital signature', 'client auth'] }),
    'more usages': of({ usages: [...NODE_USAGES, 'client auth'] }),
    'no request': of({ request: 'AAAA' }),
    long: of({ request: 'A'.repeat(20_000) }),
    'another key': of({ request: tampered(String(asked.spec.request)) }),
  };
  for (const [name, spec] of Object.entries(wrong)) {
    requests.objects.set(name, { spec, status: {} });
    await requests.onChange(name);
    const { status } = requests.objects.get(name) as RequestObject;
    assert.deepEqual([status.certificate, status.conditions?.[0]?.type], [undefined, 'Denied'], name);
  }
  requests.asker = { username: AGENT, extra: {} };
  await assert.rejects(
    asAgent(requests, () => authorities.nodes.certificate),
    { code: 'FORBIDDEN' },
  );
});

test('what was answered is left alone', async () => {
  const { requests, answer } = await start();
  for (const status of [{ certificate: 'x' }, { conditions: [{ type: 'Denied', message: '' }] }]) {
    requests.objects.set('old', { spec: { signerName: NODE_SIGNER }, status: { ...status } });
    await answer('old');
    assert.deepEqual(requests.objects.get('old')?.status, status);
  }
  assert.deepEqual(await answer('gone'), { type: 'done' });
});

/** The last bytes, of its signature, are others. */
function tampered(request: string): string {
  const pem = Buffer.from(request, 'base64').toString();
  const der = Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ''), 'base64');
  der[der.length - 1] = (der.at(-1) ?? 0) ^ 1;
  const body = `-----BEGIN CERTIFICATE REQUEST-----\n${der.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`;
  return Buffer.from(body).toString('base64');
}
