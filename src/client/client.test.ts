import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { kubeconfigOf, startClusterFront } from '../server/testing/cluster-front.ts';
import { startHarness } from '../server/testing/harness.ts';
import { BulkheadClient } from './client.ts';
import { ClusterEndpoint } from './cluster-endpoint.ts';
import { describeClient } from './testing/client-contract.ts';

describeClient('a daemon', async () => {
  const harness = await startHarness();
  const { client, sandboxes } = harness;
  return { client, sandboxes, [Symbol.asyncDispose]: () => harness[Symbol.asyncDispose]() };
});

describeClient('a cluster', async () => {
  const harness = await startHarness();
  const front = await startClusterFront(harness.socketPath);
  const kubeconfig = join(harness.dir, 'kubeconfig');
  await writeFile(kubeconfig, kubeconfigOf(front, { token: front.token }));
  const client = new BulkheadClient({ endpoint: await ClusterEndpoint.open({ kubeconfig }) });
  return {
    ...{ client, sandboxes: harness.sandboxes },
    async [Symbol.asyncDispose]() {
      client.close();
      await front[Symbol.asyncDispose]();
      await harness[Symbol.asyncDispose]();
      await rm(kubeconfig, { force: true });
    },
  };
});
