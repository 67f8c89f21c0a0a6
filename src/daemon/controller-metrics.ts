// The metrics of a cluster's controller: the machinery's, and whether it leads. Those of sandboxes come from their nodes.
import { ControllerMetricsRecorder, QueueMetricsRecorder } from '../metrics/controller-metrics.ts';
import { formatFor } from '../metrics/formats.ts';
import { countRequests, reportBuild } from '../metrics/host-collectors.ts';
import { type Exposition, Metrics } from '../metrics/registry.ts';
import { SharedScrape } from './shared-scrape.ts';
import { PRODUCT_VERSION } from './version.ts';

const OWN = /^(controller_runtime|workqueue|rest_client|leader_election|bulkhead_build)_/;

export class ControllerMetrics {
  readonly #metrics = new Metrics(OWN);
  readonly #lease: string;
  readonly #shared = new SharedScrape<void>(
    () => this.#metrics.collect(),
    () => performance.now(),
  );

  /** `lease`: the name of the one that the leader holds. */
  constructor(lease: string) {
    this.#lease = lease;
    this.#metrics.collectProcessMetrics();
    reportBuild(this.#metrics, PRODUCT_VERSION);
    this.leads(false);
  }

  ofController(name: string): { metrics: ControllerMetricsRecorder; queueMetrics: QueueMetricsRecorder } {
    return {
      metrics: new ControllerMetricsRecorder(this.#metrics, name),
      queueMetrics: new QueueMetricsRecorder(this.#metrics, name),
    };
  }

  leads(does: boolean): void {
    this.#metrics.gauge('leader_election_master_status').set({ name: this.#lease }, does ? 1 : 0);
  }

  readonly observeRequest = countRequests(this.#metrics);

  /** `accept`: of the request. */
  async scrape(accept?: string): Promise<Exposition> {
    await this.#shared.get();
    return this.#metrics.write(formatFor(accept));
  }
}
