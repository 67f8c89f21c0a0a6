// Inside the lab: starts, alternating. Usage: node bench/kvm/inside-start.ts ROUNDS
import { floorToFirstOutput, Ours, Peer } from './contenders.ts';
import { printFigure } from './figures.ts';

const rounds = Number(process.argv[2]);
await using ours = await Ours.open();
const peer = Peer.install();
/** The first of each reads its programs from disk, and ours makes its empty disk. */
const WARM_UP_ROUNDS = 1;
for (let round = -WARM_UP_ROUNDS; round < rounds; round++) {
  const name = `start-${round + WARM_UP_ROUNDS}`;
  const floor = await floorToFirstOutput();
  const own = await ours.toFirstOutput(name);
  await ours.remove(name);
  const other = await peer.toFirstOutput();
  if (round < 0) continue;
  printFigure('start: floor', floor);
  printFigure('start: ours', own);
  printFigure('start: peer', other);
  printFigure("start: the peer's bare command", peer.timed('--version'));
}
