// A progress bar on a terminal; nothing elsewhere, so that logs and pipes stay clean.
import type { ImageProgress } from '../../api/wire.ts';
import { formatBytes } from './bytes.ts';

export interface ProgressView {
  update(progress: ImageProgress): void;
  stop(): void;
}

/** On stderr: stdout carries results. */
export async function progressView(name: string): Promise<ProgressView> {
  if (!process.stderr.isTTY) return { update() {}, stop() {} };
  const { SingleBar } = await import('cli-progress');
  const bar = new SingleBar({
    format: `${name} {phase} [{bar}] {done}/{total}, {layers}`,
    stream: process.stderr,
    clearOnComplete: true,
    hideCursor: true,
    barsize: 30,
  });
  const payload = ({ phase, layersDone, layersTotal, bytesDone, bytesTotal }: ImageProgress) => ({
    phase,
    layers: `${layersDone} of ${layersTotal} layers`,
    done: formatBytes(bytesDone),
    total: formatBytes(bytesTotal),
  });
  let started = false;
  return {
    update(progress) {
      const { bytesDone, bytesTotal } = progress;
      if (!started) bar.start(Math.max(bytesTotal, 1), bytesDone, payload(progress));
      started = true;
      bar.setTotal(Math.max(bytesTotal, 1));
      bar.update(bytesDone, payload(progress));
    },
    stop() {
      if (started) bar.stop();
    },
  };
}
