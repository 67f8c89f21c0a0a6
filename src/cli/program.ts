// As what this program was started: on its own, or by kubectl for `kubectl bulkhead`.
import { USUAL_KUBECONFIG } from '../client/settings.ts';

let invocation = 'bulkhead';

/** As its users write it. */
export function programName(): string {
  return invocation;
}

/** kubectl's plugin talks to the cluster that kubectl talks to. */
export function actAsKubectlPlugin(): void {
  invocation = 'kubectl bulkhead';
  process.env.BULKHEAD_KUBECONFIG ||= USUAL_KUBECONFIG;
}
