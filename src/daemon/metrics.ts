// Connects the metric definitions to the parts that know the figures.
import { ERRORS } from '../api/errors.ts';
import { parseBytes } from '../api/quantity.ts';
import type { DefaultedSandbox } from '../api/sandbox.ts';
import type { Informer } from '../controller/informer.ts';
import type { Images } from '../images/images.ts';
import { ControllerMetricsRecorder, QueueMetricsRecorder } from '../metrics/controller-metrics.ts';
import { type Format, formatFor } from '../metrics/formats.ts';
import { collectGateway } from '../metrics/gateway-collector.ts';
import { collectImageCache, collectSource, countRequests, reportBuild } from '../metrics/host-collectors.ts';
import { LifecycleMetrics } from '../metrics/lifecycle-metrics.ts';
import { collectNode } from '../metrics/node-collector.ts';
import { type Exposition, Metrics } from '../metrics/registry.ts';
import { collectSandboxes, type SandboxFigures } from '../metrics/sandbox-collector.ts';
import { collectVolumes, type VolumeFigures, VolumeMetricsRecorder } from '../metrics/volume-collector.ts';
import { type GatewayCounters, refusals } from '../network/gateway/flow-log.ts';
import type { LiveSandboxes } from '../reconcilers/sandbox/runtime/live-sandboxes.ts';
import type { FolderSource } from '../source/source.ts';
import { guestFigures } from './guest-figures.ts';
import { type MeasuredNode, nodeFigures } from './node-figures.ts';
import { SharedScrape } from './shared-scrape.ts';
import { timely } from './timely.ts';
import { PRODUCT_VERSION } from './version.ts';
import { VmSamples } from './vm-samples.ts';

/** A gateway that is slower than this has no figures in this scrape: it must not hold it up. */
const GATEWAY_TIMEOUT_MS = 1_000;

export interface MeasuredParts {
  live: LiveSandboxes;
  sandboxes: Informer;
  images: Images;
  /** Undefined while no gateway serves. */
  gateway?: () => Promise<GatewayCounters | undefined>;
  /** Absent where no volumes are kept. */
  volumes?: () => Iterable<VolumeFigures>;
  /** Absent when no folder is watched. */
  source?: FolderSource;
  node: MeasuredNode;
}

/** What a guest cannot have more of, by the spec. */
interface Given {
  memoryBytes: number;
  diskBytes: number;
}

/** Quantities are exact and slow to read; an object that changes is another one. */
const given = new WeakMap<object, Given>();

function givenBy(object: DefaultedSandbox): Given {
  const known = given.get(object);
  if (known !== undefined) return known;
  const { memory, disk } = object.spec.resources;
  const read = { memoryBytes: parseBytes(memory), diskBytes: parseBytes(disk) };
  given.set(object, read);
  return read;
}

export class DaemonMetrics {
  readonly lifecycle: LifecycleMetrics;
  readonly volumes: VolumeMetricsRecorder;
  readonly #metrics = new Metrics();
  readonly #node: string;
  readonly #detail: boolean;
  readonly #samples = new VmSamples();
  #parts: MeasuredParts | undefined;
  #egress: GatewayCounters | undefined;
  /** Each is written once for each format that somebody asks for. */
  readonly #shared = new SharedScrape<Map<Format, Promise<Exposition>>>(
    () => this.#collect(),
    () => performance.now(),
  );

  /** `detail`: more series of each sandbox, see sandbox-collector.ts. */
  constructor(node: string, { detail = false }: { detail?: boolean } = {}) {
    this.#node = node;
    this.#detail = detail;
    this.lifecycle = new LifecycleMetrics(this.#metrics);
    this.volumes = new VolumeMetricsRecorder(this.#metrics);
    this.#metrics.collectProcessMetrics();
    reportBuild(this.#metrics, PRODUCT_VERSION);
  }

  ofController(name: string): { metrics: ControllerMetricsRecorder; queueMetrics: QueueMetricsRecorder } {
    return {
      metrics: new ControllerMetricsRecorder(this.#metrics, name),
      queueMetrics: new QueueMetricsRecorder(this.#metrics, name),
    };
  }

  readonly observeRequest = countRequests(this.#metrics);

  /** To be called once, when the parts exist. */
  observe(parts: MeasuredParts): void {
    this.#parts = parts;
    const { source } = parts;
    collectSandboxes(this.#metrics, () => this.#figures(), { detail: this.#detail });
    collectNode(this.#metrics, () => {
      const running = parts.sandboxes.list().filter(({ metadata }) => parts.live.has(metadata.uid));
      const allocated = { memoryBytes: 0, vcpus: 0 };
      for (const object of running as DefaultedSandbox[]) {
        allocated.memoryBytes += givenBy(object).memoryBytes;
        allocated.vcpus += object.spec.resources.cpus;
      }
      return nodeFigures(parts.node, allocated);
    });
    if (parts.gateway !== undefined) collectGateway(this.#metrics, () => this.#egress?.total);
    if (parts.volumes !== undefined) collectVolumes(this.#metrics, parts.volumes);
    collectImageCache(this.#metrics, () => parts.images.list());
    if (source !== undefined) collectSource(this.#metrics, () => source.status());
  }

  /** What the metrics are now, or were a moment ago. `accept`: of the request. */
  async scrape(accept?: string): Promise<Exposition> {
    const written = await this.#shared.get();
    const format = formatFor(accept);
    const text = written.get(format) ?? this.#metrics.write(format);
    written.set(format, text);
    return text;
  }

  async #collect(): Promise<Map<Format, Promise<Exposition>>> {
    const asked = this.#parts?.gateway?.().catch(() => undefined);
    await this.#samples.read(this.#parts?.live.list() ?? []);
    this.#egress = await timely(asked ?? Promise.resolve(undefined), GATEWAY_TIMEOUT_MS);
    await this.#metrics.collect();
    return new Map();
  }

  *#figures(): Generator<SandboxFigures> {
    const now = Date.now();
    for (const object of this.#parts?.sandboxes.list() ?? []) {
      const { metadata, spec, status } = object as DefaultedSandbox;
      const { memoryBytes, diskBytes } = givenBy(object as DefaultedSandbox);
      const vm = this.#samples.get(metadata.uid);
      const live = this.#parts?.live.get(metadata.uid);
      const stall = live?.handle.stall;
      const bounds = {
        // A change of the spec waits for the next start: the VM may have more than it says.
        memoryBytes: Math.max(memoryBytes, vm?.memoryLimitBytes ?? 0),
        diskBytes,
      };
      const egress = this.#egress?.sandboxes[metadata.uid];
      const guest = guestFigures(live?.lastGuestStats, bounds, now);
      yield {
        namespace: metadata.namespace,
        name: metadata.name,
        node: this.#node,
        image: spec.image,
        driver: status?.vm?.driver ?? '',
        phase: status?.phase ?? 'Pending',
        conditions: status?.conditions ?? [],
        restarts: status?.restarts ?? 0,
        ...(vm === undefined ? {} : { vm }),
        ...(live === undefined ? {} : { vmStartSeconds: live.startedAt.getTime() / 1000 }),
        ...(guest === undefined ? {} : { guest }),
        ...(egress === undefined ? {} : { egress: { ...egress, denied: refusals(egress.decisions) } }),
        ...(stall === undefined ? {} : { stalledFor: ERRORS[stall.code].reason }),
      };
    }
  }
}
