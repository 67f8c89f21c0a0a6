// A gateway for one namespace that no VM has, under the policy that holds where nobody wrote one.
import type { Clock } from '../src/controller/clock.ts';
import { Gateway } from '../src/network/gateway/gateway.ts';
import { compilePolicies } from '../src/network/policy/compile.ts';
import { loadHostLibrary } from '../src/vmm/ffi.ts';

export const GatewayBench = {
  /** Serves the namespace of a process until this one ends. */
  async open(buildDir: string, pid: number, clock: Clock): Promise<void> {
    const library = loadHostLibrary(buildDir);
    await new Gateway(library, clock).handle({
      ...{ method: 'attach', uid: 'bench', ports: [], interception: { secrets: [] } },
      holder: { pid, startTime: String(library.processStartTime(pid)) },
      policy: compilePolicies([], { namespace: 'default', labels: undefined }),
    });
  },
};
