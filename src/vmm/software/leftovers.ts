// What a killed daemon left of the software driver: beside what every driver may leave, the machines that made templates.
import { join } from 'node:path';
import { removeVmLeftovers } from '../leftovers.ts';
import type { SoftwareHost } from './host.ts';
import { isMaker } from './template-maker.ts';

export async function removeLeftovers(host: SoftwareHost, warn: (message: string) => void): Promise<void> {
  await removeVmLeftovers(host, { parent: join(host.stateDir, 'templates'), isOwn: isMaker }, warn);
}
