// Brings into each sandbox's gateway what the policies say. Works by sandbox, since what holds in one comes of many policies.
import { isDeepStrictEqual } from 'node:util';
import { BulkheadError } from '../../api/errors.ts';
import type { DefaultedSandbox } from '../../api/sandbox.ts';
import type { Outcome, Reconciler, Request } from '../../controller/reconciler.ts';
import { type NetworkState, portProblem, type WantedPort } from '../../network/network-plane.ts';
import type { ProgrammerDeps } from './dependencies.ts';
import { readSecrets } from './secrets.ts';

function wantedPorts({ spec }: DefaultedSandbox): WantedPort[] {
  return (spec.ports ?? []).map(({ name, port, hostIP = '127.0.0.1', hostPort, protocol = 'TCP' }) => ({
    ...{ name, protocol, port, hostIP },
    ...(hostPort === undefined ? {} : { hostPort }),
  }));
}

/** All of them, as they are asked for now. */
function isPublished(state: NetworkState, wanted: readonly WantedPort[]): boolean {
  return isDeepStrictEqual(state.ports?.wanted ?? [], wanted) && portProblem(state) === undefined;
}

/** To be woken by changes of a Sandbox, of the policies that select it or did, and of what those refer to. */
export class PolicyProgrammer implements Reconciler {
  readonly name = 'policy-programmer';
  readonly kind = 'Sandbox';
  readonly #deps: ProgrammerDeps;
  /** By uid: whom the plane speaks of. */
  readonly #keys = new Map<string, Request>();
  readonly #uids = new Map<string, string>();
  readonly #endChanges: () => void;

  constructor(deps: ProgrammerDeps) {
    this.#deps = deps;
    this.#endChanges = deps.plane.onChange((uid) => {
      const key = this.#keys.get(uid);
      if (key !== undefined) deps.enqueuer.enqueue(key);
    });
  }

  async reconcile(request: Request): Promise<Outcome> {
    const { store, plane, book } = this.#deps;
    const sandbox = (await store.get(request)) as DefaultedSandbox | undefined;
    this.#remember(request, sandbox?.metadata.uid);
    if (sandbox === undefined) return { type: 'done' };
    const { uid } = sandbox.metadata;
    const state = plane.stateOf(uid);
    const effective = (await book.read()).effectiveOf(sandbox);
    const ports = wantedPorts(sandbox);
    const wake = () => {
      for (const { name } of effective.policies) this.#wakePolicy(name);
    };
    const secrets = await readSecrets(store, sandbox);
    const isDone =
      state?.acknowledged === effective.hash && state.secrets === secrets.digest && isPublished(state, ports);
    if (state === undefined || isDone) {
      wake();
      return { type: 'done' };
    }
    try {
      const acknowledged = await plane.program(uid, { effective, ports, secrets });
      if (acknowledged === effective.hash) {
        const problem = portProblem(plane.stateOf(uid));
        if (problem === undefined) return { type: 'done' };
        return { type: 'transient', error: new BulkheadError('PORT_UNAVAILABLE', problem) };
      }
      const message = `The gateway acknowledged policy ${acknowledged.slice(0, 12)}, not ${effective.hash.slice(0, 12)}.`;
      return { type: 'transient', error: new BulkheadError('NETWORK_UNAVAILABLE', message) };
    } finally {
      wake();
    }
  }

  /** Hears no more of the plane. */
  close(): void {
    this.#endChanges();
  }

  #wakePolicy(policy: string): void {
    const [namespace = '', name = ''] = policy.split('/');
    this.#deps.policies.enqueue({ kind: 'NetworkPolicy', namespace, name });
  }

  #remember(request: Request, uid: string | undefined): void {
    const id = `${request.namespace}/${request.name}`;
    const former = this.#uids.get(id);
    if (former === uid) return;
    if (former !== undefined) this.#keys.delete(former);
    if (uid === undefined) this.#uids.delete(id);
    else {
      this.#uids.set(id, uid);
      this.#keys.set(uid, request);
    }
  }
}
