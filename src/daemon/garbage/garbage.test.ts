import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StoredObject } from '../../api/meta.ts';
import { silentLog } from '../../controller/log.ts';
import { FakeClock } from '../../controller/testing/fake-clock.ts';
import type { VolumeDisk } from '../../volumes/volumes.ts';
import { GarbageCollector } from './collector.ts';
import { type GarbageParts, garbageSources } from './sources.ts';

const COPIED = `sha256:${'c'.repeat(64)}`;

function sandbox(uid: string, patches: unknown[] = []): StoredObject {
  const metadata = { uid, name: uid, namespace: 'default', resourceVersion: '1', generation: 1 };
  return {
    apiVersion: 'bulkhead.dev/v1alpha1',
    kind: 'Sandbox',
    metadata: { ...metadata, creationTimestamp: '' },
    spec: { patches },
  };
}

/** A host on which `alive` has an object, `left` a directory alone, and `gone` nothing. */
class Host implements GarbageParts {
  readonly removed: string[] = [];
  readonly named: string[] = [];
  fails = '';
  readonly #remove = (what: string) => async (): Promise<void> => {
    if (what === this.fails) throw new Error('busy');
    this.removed.push(what);
  };
  sandboxes = async () => [sandbox('alive', [{ copy: { from: 'x', path: '/x', digest: COPIED } }])];
  hasDirectory = async (uid: string) => uid === 'left';
  orphans = async () => [{ uid: 'left', remove: this.#remove('orphan left') }];
  lostVms = async () => [{ id: 'gone', uid: 1_900_000_001, remove: this.#remove('vm gone') }];
  images = {
    leases: () => ['alive', 'left', 'gone'].map((holder) => ({ holder, digest: 'sha256:1' })),
    releaseLease: (holder: string) => this.#remove(`lease ${holder}`)(),
  };
  volumes = {
    list: async () => [
      {
        ...{ uid: 'v', namespace: 'default', name: 'data' },
        claims: ['alive', 'gone'].map((uid) => ({ sandbox: uid, name: `default/${uid}`, mode: 'ReadOnly' })),
      } as unknown as VolumeDisk,
    ],
    release: (_volume: string, uid: string) => this.#remove(`claim ${uid}`)(),
  };
  copies = {
    unused: async (named: ReadonlySet<string>) => {
      this.named.push(...named);
      return [{ digest: 'sha256:d', sizeBytes: 7 }];
    },
    remove: (digest: string) => this.#remove(`copy ${digest}`)(),
  };
}

const collectorOf = (host: Host) => new GarbageCollector(garbageSources(host), silentLog, new FakeClock());

test('a dry run tells what has no owner and why, and removes nothing', async () => {
  const host = new Host();
  const items = await collectorOf(host).collect({ dryRun: true });
  assert.deepEqual(
    items.map(({ kind, name }) => `${kind} ${name}`),
    [
      'SandboxDirectory left',
      'Vm gone',
      'ImageLease gone',
      'VolumeClaim default/data',
      'CopyContent sha256:d',
    ],
  );
  for (const { reason } of items) assert.match(reason, /^[A-Z].*\.$/);
  assert.deepEqual(host.removed, []);
  assert.deepEqual(host.named, [COPIED], 'what a patch names stays');
});

test('a store that does not answer is no empty one: nothing is removed', async () => {
  const host = new Host();
  host.orphans = async () => [];
  host.lostVms = async () => [];
  host.sandboxes = () => Promise.reject(new Error('no answer'));
  await assert.rejects(collectorOf(host).collect({ dryRun: false }), /no answer/);
  assert.deepEqual(host.removed, []);
});

test('what has an owner stays, and one failure holds up nothing else', async () => {
  const host = new Host();
  host.fails = 'vm gone';
  const items = await collectorOf(host).collect({ dryRun: false });
  assert.deepEqual(host.removed, ['orphan left', 'lease gone', 'claim gone', 'copy sha256:d']);
  assert.deepEqual(
    items.filter(({ error }) => error !== undefined).map(({ kind, error }) => [kind, error]),
    [['Vm', 'busy']],
  );
});
