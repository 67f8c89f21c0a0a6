import { FakeClock } from '../../controller/testing/fake-clock.ts';
import { volumesContract } from '../../volumes/volumes.contract.ts';
import { FakeDisks, FakeVolumes } from './fake-volumes.ts';
import { Faults } from './faults.ts';
import { FakeProcess } from './process.ts';

volumesContract(
  'fake',
  async () => new FakeVolumes(new FakeDisks(new Faults(new FakeClock())), new FakeProcess()),
);
