// A gateway for one namespace that no VM has, under the policy that holds where nobody wrote one.
import type { Clock } from '../src/controller/clock.ts';
import { Gateway } from '../src/network/gateway/gateway.ts';
import { createAuthority } from '../src/network/intercept/certificates.ts';
import { compilePolicies } from '../src/network/policy/compile.ts';
import { loadHostLibrary } from '../src/vmm/ffi.ts';

/** Where the server of the bench has TLS. */
const TLS_PORT = 9001;
const NAME_SERVER = '20.0.0.10';

export const GatewayBench = {
  /** Serves the namespace of a process until this one ends; with `intercepts` it opens TLS. */
  async open(buildDir: string, pid: number, clock: Clock, intercepts: boolean): Promise<void> {
    const library = loadHostLibrary(buildDir);
    const policy = compilePolicies([], { namespace: 'default', labels: undefined });
    const interceptions = [{ policy: 'default/bench', ports: [TLS_PORT], bypass: [] }];
    await new Gateway(library, clock).handle({
      ...{ method: 'attach', uid: 'bench', ports: [] },
      interception: { secrets: [], authority: await createAuthority('bench', clock.now()) },
      holder: { pid, startTime: String(library.processStartTime(pid)) },
      policy: {
        ...policy,
        dns: { ...policy.dns, nameservers: [NAME_SERVER] },
        tls: { ...policy.tls, verifyUpstream: false, interceptions: intercepts ? interceptions : [] },
      },
    });
  },
};
