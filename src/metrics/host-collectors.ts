// Figures of the daemon's other parts, read at each scrape.
import type { Metrics } from './registry.ts';

/** What the folder source tells of itself. */
export interface SourceFigures {
  /** By state. */
  objects: Readonly<Record<string, number>>;
  /** Since the daemon started, by result. */
  syncs: Readonly<Record<string, number>>;
  lastSuccessTimestampSeconds?: number;
  invalidDocuments: number;
}

export function collectSource(metrics: Metrics, read: () => SourceFigures): void {
  metrics.onScrape(() => {
    const { objects, syncs, lastSuccessTimestampSeconds, invalidDocuments } = read();
    const byState = metrics.gauge('source_objects');
    byState.reset();
    for (const [state, count] of Object.entries(objects)) byState.set({ state }, count);
    const byResult = metrics.counter('source_sync_total');
    byResult.reset();
    for (const [result, count] of Object.entries(syncs)) byResult.inc({ result }, count);
    metrics.gauge('source_invalid_documents').set(invalidDocuments);
    if (lastSuccessTimestampSeconds !== undefined) {
      metrics.gauge('source_last_success_timestamp_seconds').set(lastSuccessTimestampSeconds);
    }
  });
}

/** `list` gives the images in the cache. */
export function collectImageCache(
  metrics: Metrics,
  list: () => Promise<readonly { sizeBytes: number }[]>,
): void {
  metrics.onScrape(async () => {
    const images = await list();
    metrics.gauge('image_cache_images').set(images.length);
    metrics.gauge('image_cache_bytes').set(images.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0));
  });
}

/** Counts requests to the API server of a cluster, as they end. */
export function countRequests(
  metrics: Metrics,
): (told: { code: string; method: string; host: string }) => void {
  const requests = metrics.counter('rest_client_requests_total');
  return ({ code, method, host }) => requests.inc({ code, method, host });
}

export function reportBuild(metrics: Metrics, version: string): void {
  metrics.gauge('bulkhead_build_info').set({ version, node_version: process.versions.node }, 1);
}
