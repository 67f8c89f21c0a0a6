import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TemplateSpec } from './template-key.ts';

export async function prepareGuest(
  dial: (signal: AbortSignal) => Promise<Duplex>,
  spec: TemplateSpec,
  signal: AbortSignal,
): Promise<void> {
  const socket = await dial(signal);
  await sleep(3000);
  socket.destroy();
}
