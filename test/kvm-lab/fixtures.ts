// The images that tests in the lab pull: made outside, where there is a network, and carried in.
import { busyboxImage, debianImage, nodeImage, pythonImage } from '../fixtures/images.ts';
import { fixturesDisk } from './disks.ts';

/** The disk /carried with all of them as the build cache that the tests look in. Needs root the first time. */
export async function fixturesForLab(): Promise<string> {
  const debian = await debianImage();
  return fixturesDisk([debian, await nodeImage(), await pythonImage(), await busyboxImage()]);
}
