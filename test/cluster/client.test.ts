// The client's contract for objects, against a real API server.
import { BulkheadClient } from '../../src/client/client.ts';
import { ClusterEndpoint } from '../../src/client/cluster-endpoint.ts';
import { describeObjects } from '../../src/client/testing/client-contract.ts';
import { ApiServer } from './api-server.ts';

describeObjects('an API server', async () => {
  const server = await ApiServer.start();
  await server.applyCrds();
  const kubeconfig = await server.kubeconfig();
  const client = new BulkheadClient({ endpoint: await ClusterEndpoint.open({ kubeconfig }) });
  return {
    client,
    async [Symbol.asyncDispose]() {
      client.close();
      await server[Symbol.asyncDispose]();
    },
  };
});
