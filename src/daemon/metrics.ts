// Connects the metric definitions to the parts that know the figures.
import { ERRORS } from '../api/errors.ts';
import type { DefaultedSandbox } from '../api/sandbox.ts';
import type { VmFigures } from '../api/wire.ts';
import type { Informer } from '../controller/informer.ts';
import type { Images } from '../images/images.ts';
import { ControllerMetricsRecorder, QueueMetricsRecorder } from '../metrics/controller-metrics.ts';
import { collectImageCache, collectSource, reportBuild } from '../metrics/host-collectors.ts';
import { LifecycleMetrics } from '../metrics/lifecycle-metrics.ts';
import { Metrics } from '../metrics/registry.ts';
import { collectSandboxes, type SandboxFigures } from '../metrics/sandbox-collector.ts';
import { collectVolumes, type VolumeFigures, VolumeMetricsRecorder } from '../metrics/volume-collector.ts';
import type { LiveSandboxes } from '../reconcilers/sandbox/runtime/live-sandboxes.ts';
import type { FolderSource } from '../source/source.ts';
import { type Scrape, SharedScrape } from './shared-scrape.ts';
import { PRODUCT_VERSION } from './version.ts';

/** Reading one VM's figures is a few small files of /proc; one that takes longer keeps its former sample. */
const SAMPLE_TIMEOUT_MS = 1_000;

export interface MeasuredParts {
  live: LiveSandboxes;
  sandboxes: Informer;
  images: Images;
  /** Absent where no volumes are kept. */
  volumes?: () => Iterable<VolumeFigures>;
  /** Absent when no folder is watched. */
  source?: FolderSource;
}

export class DaemonMetrics {
  readonly lifecycle: LifecycleMetrics;
  readonly volumes: VolumeMetricsRecorder;
  readonly #metrics = new Metrics();
  readonly #node: string;
  /** Last sample by uid; those of VMs that are gone are dropped at the next scrape. */
  #samples = new Map<string, VmFigures>();
  #parts: MeasuredParts | undefined;
  readonly #shared = new SharedScrape(
    () => this.#scrape(),
    () => performance.now(),
  );

  constructor(node: string) {
    this.#node = node;
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

  /** To be called once, when the parts exist. */
  observe(parts: MeasuredParts): void {
    this.#parts = parts;
    const { source } = parts;
    collectSandboxes(this.#metrics, () => this.#figures());
    if (parts.volumes !== undefined) collectVolumes(this.#metrics, parts.volumes);
    collectImageCache(this.#metrics, () => parts.images.list());
    if (source !== undefined) collectSource(this.#metrics, () => source.status());
  }

  /** What the metrics are now, or were a moment ago. */
  scrape(): Promise<Scrape> {
    return this.#shared.get();
  }

  async #scrape(): Promise<Scrape> {
    await this.#sample();
    return { contentType: this.#metrics.contentType, body: await this.#metrics.scrape() };
  }

  async #sample(): Promise<void> {
    const live = this.#parts?.live.list() ?? [];
    const samples = new Map<string, VmFigures>();
    const read = async ({ uid, handle }: (typeof live)[number]): Promise<void> => {
      const stats = await timely(handle.stats());
      const known = stats ?? this.#samples.get(uid);
      if (known !== undefined) samples.set(uid, known);
    };
    await Promise.all(live.map(read));
    this.#samples = samples;
  }

  *#figures(): Generator<SandboxFigures> {
    for (const object of this.#parts?.sandboxes.list() ?? []) {
      const { metadata, spec, status } = object as DefaultedSandbox;
      const vm = this.#samples.get(metadata.uid);
      const live = this.#parts?.live.get(metadata.uid);
      const memory = live?.lastGuestStats?.stats.memory;
      const stall = live?.handle.stall;
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
        ...(stall === undefined ? {} : { stalledFor: ERRORS[stall.code].reason }),
        ...(memory === undefined ? {} : { guestMemoryUsedBytes: memory.totalBytes - memory.availableBytes }),
      };
    }
  }
}

/** The result, or `undefined` when it failed (the VM ended meanwhile) or took too long. */
async function timely(stats: Promise<VmFigures>): Promise<VmFigures | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => resolve(undefined), SAMPLE_TIMEOUT_MS);
  try {
    return await Promise.race([stats, late]);
  } catch {
    return undefined;
  } finally {
    clearTimeout(timer);
  }
}
