// The rules of the folder, one by one, on a real store.
import assert from 'node:assert/strict';
import { access, mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { REQUESTED_AT_ANNOTATION } from '../api/annotations.ts';
import { hookedFs, permissionDenied } from './testing/folder.ts';
import { documents, SourceHarness, sandboxYaml } from './testing/harness.ts';

const BROKEN = sandboxYaml('web').replace('"image"', '"imge"');
const FINALIZER = { finalizers: ['bulkhead.dev/vm'] };

/** Cpus of the stored sandbox. */
async function cpus(harness: SourceHarness, name: string): Promise<unknown> {
  const { spec } = await harness.must(name);
  return (spec as { resources: { cpus: unknown } }).resources.cpus;
}

function withCpus(name: string, count: number): string {
  return sandboxYaml(name, { resources: { cpus: count } });
}

test('a document becomes an object with defaults, our mark and its path; its file gone, the object goes', async () => {
  await using h = await SourceHarness.create();
  await h.folder.write('team/web.yaml', sandboxYaml('web', {}, { labels: { a: 'b' } }));
  assert.equal((await h.pass()).result, 'success');
  const { metadata, spec } = await h.must('web');
  assert.deepEqual(metadata.labels, { a: 'b', 'bulkhead.dev/managed-by': 'folder' });
  assert.deepEqual(metadata.annotations, {
    'bulkhead.dev/source-path': join(h.folder.root, 'team/web.yaml'),
  });
  assert.equal((spec as { operatingMode: unknown }).operatingMode, 'Running');

  await h.folder.write('other.yaml', sandboxYaml('other'));
  await h.folder.remove('team/web.yaml');
  await h.settle();
  assert.deepEqual(await h.names(), ['other']);
});

test('an unchanged folder writes nothing', async () => {
  await using h = await SourceHarness.create();
  await h.folder.write('web.yaml', sandboxYaml('web'));
  await h.pass();
  const before = await h.must('web');
  await h.pass();
  h.daemon();
  await h.pass();
  assert.deepEqual(await h.must('web'), before);
});

test('several documents, Lists, yml and json are accepted', async () => {
  await using h = await SourceHarness.create();
  await h.folder.write('two.yml', documents(sandboxYaml('a'), sandboxYaml('b')));
  const items = [JSON.parse(sandboxYaml('c')), JSON.parse(sandboxYaml('d'))];
  await h.folder.write('list.json', JSON.stringify({ apiVersion: 'v1', kind: 'List', items }));
  await h.pass();
  assert.deepEqual(await h.names(), ['a', 'b', 'c', 'd']);
});

test('a bad document is its own failure: the others of its file apply, and it keeps its last good version', async () => {
  await using h = await SourceHarness.create();
  await h.folder.write('all.yaml', documents(withCpus('a', 1), sandboxYaml('web')));
  await h.pass();
  const { generation } = (await h.must('web')).metadata;
  await h.folder.write('all.yaml', documents(withCpus('a', 2), BROKEN));
  assert.equal((await h.settle()).result, 'partial');
  assert.equal(await cpus(h, 'a'), 2);
  const web = await h.must('web');
  assert.equal(web.metadata.generation, generation);
  const text = web.metadata.annotations?.['bulkhead.dev/source-problem'] ?? '';
  assert.match(text, /^SourceInvalid: .*all\.yaml:3:\d+: document 2: spec\.imge: .*did you mean image/);
  assert.deepEqual(h.states(), { a: 'synced', web: 'invalid' });
  assert.equal(h.status().invalidDocuments, 1);

  await h.folder.write('all.yaml', documents(withCpus('a', 2), withCpus('web', 3)));
  assert.equal((await h.pass()).result, 'success');
  assert.equal(await cpus(h, 'web'), 3);
  assert.equal((await h.must('web')).metadata.annotations?.['bulkhead.dev/source-problem'], undefined);
});

test('all errors of a pass are told, once, with the same text in log, event and status', async () => {
  await using h = await SourceHarness.create();
  await h.folder.write('ok.yaml', sandboxYaml('web'));
  await h.pass();
  await h.folder.write('ok.yaml', BROKEN);
  await h.folder.write('syntax.yaml', 'kind: [');
  await h.folder.write('dup.yaml', 'kind: Sandbox\nkind: Sandbox\n');
  await h.pass();
  await h.pass();
  const told = h.status().problems.map(({ message }) => message);
  for (const file of ['ok.yaml', 'syntax.yaml', 'dup.yaml']) {
    assert.ok(
      told.some((text) => text.startsWith(`${file}:`)),
      `${file} is named in ${told.join('\n')}`,
    );
  }
  const events = await h.events();
  for (const text of told) {
    assert.equal(h.logged.filter((line) => line === text).length, 1, 'said once in the log');
    assert.equal(events.find(({ message }) => message === text)?.count, 1, 'and once as an event');
  }
  const own = events.find(({ message }) => message.startsWith('ok.yaml'));
  assert.equal(own?.regarding.uid, (await h.must('web')).metadata.uid, 'the event regards the object');
});

test('a file broken as a whole keeps all its objects, also against drift and deletion', async () => {
  await using h = await SourceHarness.create();
  await h.folder.write('all.yaml', documents(withCpus('a', 2), withCpus('b', 2)));
  await h.pass();
  await h.folder.write('all.yaml', '{ not yaml');
  await h.settle();
  assert.deepEqual(h.states(), { a: 'invalid', b: 'invalid' });
  await h.store.patch(
    { kind: 'Sandbox', namespace: 'default', name: 'a' },
    { spec: { resources: { cpus: 9 } } },
  );
  await h.store.delete({ kind: 'Sandbox', namespace: 'default', name: 'b' });
  await h.settle();
  assert.equal(await cpus(h, 'a'), 2);
  assert.equal(await cpus(h, 'b'), 2);
});

test('an edit broken while the daemon was down keeps the last good version', async () => {
  await using h = await SourceHarness.create();
  await h.folder.write('web.yaml', withCpus('web', 2));
  await h.pass();
  const before = await h.must('web');
  await h.folder.write('web.yaml', BROKEN);
  h.daemon();
  await h.settle();
  const { metadata, spec } = await h.must('web');
  assert.equal(metadata.uid, before.metadata.uid);
  assert.deepEqual(spec, before.spec);
});

test('a file removed while the daemon was down is pruned at its next start', async () => {
  await using h = await SourceHarness.create();
  for (const name of ['a', 'b']) await h.folder.write(`${name}.yaml`, sandboxYaml(name));
  await h.pass();
  await h.folder.remove('a.yaml');
  h.daemon();
  await h.settle();
  assert.deepEqual(await h.names(), ['b']);
});

test('a rename of the file, within the folder or across directories, changes no spec and restarts nothing', async () => {
  await using h = await SourceHarness.create();
  await h.folder.write('z.yaml', sandboxYaml('web'));
  await h.pass();
  const before = (await h.must('web')).metadata;
  await h.folder.write('a/b.yaml', sandboxYaml('web'));
  await h.pass();
  await h.folder.remove('z.yaml');
  await h.settle();
  const after = (await h.must('web')).metadata;
  assert.deepEqual([after.uid, after.generation], [before.uid, before.generation]);
  assert.equal(after.annotations?.['bulkhead.dev/source-path'], join(h.folder.root, 'a/b.yaml'));
  assert.deepEqual(h.states(), { web: 'synced' });
});

test('a file caught empty between truncation and write deletes nothing', async () => {
  await using h = await SourceHarness.create();
  for (const name of ['a', 'b']) await h.folder.write(`${name}.yaml`, sandboxYaml(name));
  await h.pass();
  await h.folder.write('a.yaml', '');
  await h.pass();
  assert.deepEqual(h.states(), { a: 'held', b: 'synced' });
  await h.clock.advance(900);
  await h.folder.write('a.yaml', sandboxYaml('a'));
  await h.settle();
  assert.deepEqual(await h.names(), ['a', 'b']);
});

test('a file that cannot be read stops all pruning, and its own objects stay', async () => {
  await using h = await SourceHarness.create();
  for (const name of ['a', 'b', 'c']) await h.folder.write(`${name}.yaml`, sandboxYaml(name));
  await h.pass();
  await h.folder.remove('b.yaml');
  const fs = hookedFs((call, path) => {
    if (call === 'read' && path.endsWith('c.yaml')) throw permissionDenied(path);
  });
  h.daemon({ fs });
  await h.settle();
  await h.clock.advance(60_000);
  assert.equal((await h.settle()).result, 'partial');
  assert.deepEqual(h.states(), { a: 'synced', b: 'held', c: 'invalid' });
  h.daemon();
  await h.settle();
  assert.deepEqual(await h.names(), ['a', 'c']);
});

test('an unreadable directory keeps everything below it', async () => {
  await using h = await SourceHarness.create();
  for (const path of ['a.yaml', 'team/b.yaml', 'team/c.yaml']) {
    await h.folder.write(path, sandboxYaml(path.replace(/.*(.)\.yaml/, '$1')));
  }
  await h.pass();
  const fs = hookedFs((call, path) => {
    if (call === 'names' && path.endsWith('/team')) throw permissionDenied(path);
  });
  h.daemon({ fs });
  await h.settle();
  await h.clock.advance(60_000);
  await h.settle();
  assert.deepEqual(await h.names(), ['a', 'b', 'c']);
});

test('an object moved into a file with a mistake is not deleted for it', async () => {
  await using h = await SourceHarness.create();
  for (const name of ['web', 'other']) await h.folder.write(`${name}.yaml`, sandboxYaml(name));
  await h.pass();
  await h.folder.write('team.yaml', BROKEN);
  await h.folder.remove('web.yaml');
  await h.settle();
  await h.clock.advance(60_000);
  await h.settle();
  assert.equal(h.state('web'), 'held');
  await h.folder.write('team.yaml', sandboxYaml('web'));
  await h.settle();
  assert.equal(h.state('web'), 'synced');
});

test('a broken file elsewhere does not keep objects that it does not name', async () => {
  await using h = await SourceHarness.create();
  for (const name of ['a', 'b']) await h.folder.write(`${name}.yaml`, sandboxYaml(name));
  await h.folder.write('team.yaml', BROKEN);
  await h.pass();
  await h.folder.remove('b.yaml');
  await h.settle();
  assert.deepEqual(await h.names(), ['a']);
});

test('a missing root is unavailable and deletes nothing, however long; it goes on when the root is back', async () => {
  await using h = await SourceHarness.create();
  await h.folder.write('a.yaml', sandboxYaml('a'));
  await h.pass();
  await rename(h.folder.root, `${h.folder.root}.away`);
  for (let minute = 0; minute < 5; minute++) {
    assert.equal((await h.pass()).result, 'error');
    await h.clock.advance(60_000);
  }
  assert.equal(h.status().available, false);
  assert.match(h.problems()[0] ?? '', /^SourceUnavailable: .*does not exist/);
  assert.deepEqual(await h.names(), ['a']);
  await mkdir(h.folder.root);
  await h.folder.write('a.yaml', withCpus('a', 4));
  assert.equal((await h.pass()).result, 'success');
  assert.equal(await cpus(h, 'a'), 4);
});

test('an emptied root is held as unavailable, and believed when it stays empty', async () => {
  await using h = await SourceHarness.create();
  await h.folder.write('a.yaml', sandboxYaml('a'));
  await h.pass();
  await h.folder.remove('a.yaml');
  const outcome = await h.pass();
  assert.equal(outcome.checkAfterMs, 10_000);
  assert.equal(h.status().available, false);
  assert.match(h.problems()[0] ?? '', /^SourceUnavailable/);
  await h.clock.advance(9_999);
  await h.pass();
  assert.deepEqual(await h.names(), ['a']);
  await h.clock.advance(1);
  await h.pass();
  assert.deepEqual(await h.names(), []);
  assert.equal((await h.pass()).result, 'success');
});

test('the prune fuse holds a large deletion, and forgets it when the files come back', async () => {
  await using h = await SourceHarness.create();
  for (let index = 0; index < 10; index++) await h.folder.write(`s${index}.yaml`, sandboxYaml(`s${index}`));
  await h.pass();
  await mkdir(join(h.folder.base, 'away'));
  const move = async (from: string, to: string): Promise<void> => {
    for (let index = 0; index < 6; index++)
      await rename(join(from, `s${index}.yaml`), join(to, `s${index}.yaml`));
  };
  await move(h.folder.root, join(h.folder.base, 'away'));
  await h.pass();
  await h.clock.advance(9_000);
  await h.pass();
  assert.equal((await h.names()).length, 10);
  assert.match(h.problems().join(), /SourcePruneHeld: .*6 of 10 objects/);
  await move(join(h.folder.base, 'away'), h.folder.root);
  await h.clock.advance(2_000);
  await h.pass();
  assert.deepEqual(h.problems(), []);
  await move(h.folder.root, join(h.folder.base, 'away'));
  await h.pass();
  await h.clock.advance(10_000);
  await h.pass();
  assert.equal((await h.names()).length, 4);
});

test('the same name twice: what is applied stays in force, the other is a duplicate, and takes over later', async () => {
  await using h = await SourceHarness.create();
  await h.folder.write('m.yaml', withCpus('web', 1));
  await h.pass();
  await h.folder.write('a.yaml', withCpus('web', 2));
  assert.equal((await h.settle()).result, 'partial');
  assert.equal(await cpus(h, 'web'), 1);
  assert.match(h.problems()[0] ?? '', /^SourceDuplicate: a\.yaml:1:1: document 1: .* declared in m\.yaml/);
  assert.equal(h.status().objects.duplicate, 1);
  h.daemon();
  await h.settle();
  assert.equal(await cpus(h, 'web'), 1, 'a restart does not change the winner');
  await h.folder.remove('m.yaml');
  await h.settle();
  assert.equal(await cpus(h, 'web'), 2);
  assert.deepEqual(h.problems(), []);
});

test('a duplicate does not take over from a document that is only broken', async () => {
  await using h = await SourceHarness.create();
  await h.folder.write('m.yaml', sandboxYaml('web'));
  await h.pass();
  await h.folder.write('m.yaml', BROKEN);
  await h.folder.write('a.yaml', withCpus('web', 2));
  await h.settle();
  assert.equal(await cpus(h, 'web'), 1);
  assert.deepEqual(
    h
      .status()
      .reports.map(({ state }) => state)
      .sort(),
    ['duplicate', 'invalid'],
  );
});

test('the same name twice within one file: the applied document stays', async () => {
  await using h = await SourceHarness.create();
  await h.folder.write('m.yaml', documents(withCpus('web', 1), withCpus('web', 2)));
  await h.settle();
  assert.equal(await cpus(h, 'web'), 1);
  assert.equal(h.status().objects.duplicate, 1);
});

test('an object that someone else made is left alone, until it is handed over', async () => {
  await using h = await SourceHarness.create();
  await h.store.create(JSON.parse(withCpus('web', 7)));
  await h.folder.write('web.yaml', withCpus('web', 2));
  assert.equal((await h.settle()).result, 'partial');
  assert.equal(await cpus(h, 'web'), 7);
  assert.match(h.problems()[0] ?? '', /^SourceConflict: web\.yaml:1:1: document 1: /);
  await h.folder.write('other.yaml', sandboxYaml('other'));
  await h.folder.remove('web.yaml');
  await h.settle();
  assert.equal(await cpus(h, 'web'), 7, 'nor is it deleted with the file');

  await h.folder.write('web.yaml', withCpus('web', 2));
  await h.store.patch(
    { kind: 'Sandbox', namespace: 'default', name: 'web' },
    { metadata: { labels: { 'bulkhead.dev/managed-by': 'folder' } } },
  );
  await h.settle();
  assert.equal(await cpus(h, 'web'), 2);
});

test('an object that was deleted and made anew by someone else is not pruned', async () => {
  await using h = await SourceHarness.create();
  await h.folder.write('web.yaml', sandboxYaml('web'));
  await h.folder.write('other.yaml', sandboxYaml('other'));
  await h.pass();
  await h.folder.remove('web.yaml');
  const key = { kind: 'Sandbox', namespace: 'default', name: 'web' };
  await h.store.delete(key);
  await h.store.create(JSON.parse(sandboxYaml('web')));
  await h.settle();
  assert.deepEqual(await h.names(), ['other', 'web']);
});

test('a copy of a folder object under another name, mark and all, is never pruned', async () => {
  await using h = await SourceHarness.create();
  await h.folder.write('web.yaml', sandboxYaml('web'));
  await h.pass();
  const { labels, annotations } = (await h.must('web')).metadata;
  await h.store.create(JSON.parse(sandboxYaml('copy', {}, { labels, annotations })));
  await h.settle();
  await h.clock.advance(60_000);
  await h.settle();
  assert.deepEqual(await h.names(), ['copy', 'web']);
  assert.equal(h.state('copy'), 'orphaned');
});

test('drift is put back and told; what others added beside the document stays', async () => {
  await using h = await SourceHarness.create();
  await h.folder.write('web.yaml', sandboxYaml('web', {}, { labels: { team: 'a' } }));
  await h.pass();
  const key = { kind: 'Sandbox', namespace: 'default', name: 'web' };
  await h.store.patch(key, {
    metadata: {
      labels: { team: 'b', extra: 'x', 'bulkhead.dev/managed-by': null },
      annotations: { [REQUESTED_AT_ANNOTATION]: 'now' },
      ...FINALIZER,
    },
    spec: { resources: { cpus: 8 } },
  });
  await h.store.updateStatus(key, { phase: 'Running' });
  await h.pass();
  const { metadata, status } = await h.must('web');
  assert.deepEqual(metadata.labels, { team: 'a', extra: 'x', 'bulkhead.dev/managed-by': 'folder' });
  assert.equal(metadata.annotations?.[REQUESTED_AT_ANNOTATION], 'now');
  assert.deepEqual(metadata.finalizers, FINALIZER.finalizers);
  assert.deepEqual(status, { phase: 'Running' });
  assert.equal(await cpus(h, 'web'), 1);
  assert.equal((await h.events()).filter(({ reason }) => reason === 'SourceDriftCorrected').length, 1);
});

test('a label or annotation that the document no longer has is removed, also across a restart', async () => {
  await using h = await SourceHarness.create();
  await h.folder.write(
    'web.yaml',
    sandboxYaml('web', {}, { labels: { once: 'x' }, annotations: { n: 'y' } }),
  );
  await h.pass();
  await h.folder.write('web.yaml', sandboxYaml('web'));
  h.daemon();
  await h.pass();
  const { labels, annotations } = (await h.must('web')).metadata;
  assert.deepEqual(Object.keys(labels ?? {}), ['bulkhead.dev/managed-by']);
  assert.deepEqual(Object.keys(annotations ?? {}), ['bulkhead.dev/source-path']);
});

test('a folder object deleted through the API is made again, after its deletion has ended', async () => {
  await using h = await SourceHarness.create();
  await h.folder.write('web.yaml', sandboxYaml('web'));
  await h.pass();
  const key = { kind: 'Sandbox', namespace: 'default', name: 'web' };
  const { uid } = (await h.must('web')).metadata;
  await h.store.patch(key, { metadata: FINALIZER });
  await h.store.delete(key);
  await h.pass();
  assert.equal(h.state('web'), 'terminating');
  await h.store.patch(key, { metadata: { finalizers: null } });
  await h.pass();
  assert.notEqual((await h.must('web')).metadata.uid, uid);
});

test('prune: disabled keeps the object when its file goes, and the file takes it up again', async () => {
  await using h = await SourceHarness.create();
  const annotations = { 'bulkhead.dev/prune': 'disabled' };
  await h.folder.write('keep.yaml', sandboxYaml('keep', {}, { annotations }));
  await h.folder.write('other.yaml', sandboxYaml('other'));
  await h.pass();
  await h.folder.remove('keep.yaml');
  await h.settle();
  assert.equal(h.state('keep'), 'orphaned');
  assert.deepEqual(await h.names(), ['keep', 'other']);
  assert.deepEqual(h.problems(), []);
  await h.folder.write('keep.yaml', withCpus('keep', 3));
  await h.settle();
  assert.equal(await cpus(h, 'keep'), 3);
});

test('reconcile: disabled on the object stops changes and deletion; on the document, creation too', async () => {
  await using h = await SourceHarness.create();
  const annotations = { 'bulkhead.dev/reconcile': 'disabled' };
  await h.folder.write('web.yaml', sandboxYaml('web'));
  await h.folder.write('never.yaml', sandboxYaml('never', {}, { annotations }));
  await h.pass();
  assert.equal(await h.get('never'), undefined);
  const key = { kind: 'Sandbox', namespace: 'default', name: 'web' };
  await h.store.patch(key, { metadata: { annotations }, spec: { resources: { cpus: 8 } } });
  await h.settle();
  assert.equal(await cpus(h, 'web'), 8);
  await h.folder.remove('web.yaml');
  await h.settle();
  assert.deepEqual(await h.names(), ['web']);
});

test('what others refer to is written first, and deleted last', async () => {
  await using h = await SourceHarness.create();
  const order: string[] = [];
  const store = new Proxy(h.store, {
    get(target, property) {
      const value: unknown = Reflect.get(target, property, target);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]) => {
        const kind = (args[0] as { kind?: string } | undefined)?.kind;
        if (property === 'create' || property === 'delete') order.push(`${property} ${kind}`);
        return value.apply(target, args);
      };
    },
  });
  const meta = { apiVersion: 'bulkhead.dev/v1alpha1', metadata: { name: 'x' } };
  await h.folder.write('a.json', sandboxYaml('x'));
  await h.folder.write('b.json', JSON.stringify({ ...meta, kind: 'Volume', spec: { capacity: '1Gi' } }));
  await h.folder.write(
    'c.json',
    JSON.stringify({ ...meta, kind: 'NetworkPolicy', spec: { sandboxSelector: {} } }),
  );
  await h.folder.write(
    'd.json',
    JSON.stringify({ ...meta, apiVersion: 'v1', kind: 'Secret', stringData: { k: 'v' } }),
  );
  h.daemon({ store });
  assert.equal((await h.pass()).result, 'success', h.problems().join('\n'));
  const created = order.splice(0);
  assert.equal(created.at(-1), 'create Sandbox');
  assert.equal(created.length, 4);
  await h.folder.write('e.json', sandboxYaml('stays'));
  for (const name of ['a', 'b', 'c', 'd']) await h.folder.remove(`${name}.json`);
  await h.settle();
  assert.deepEqual(
    order.filter((call) => call.startsWith('delete')),
    created.map((call) => call.replace('create', 'delete')).reverse(),
  );
});

test('a Secret keeps its data in the store, and the inventory is for its owner alone', async () => {
  await using h = await SourceHarness.create();
  const secret = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 's' }, stringData: { k: 'v' } };
  await h.folder.write('s.json', JSON.stringify(secret));
  await h.pass();
  const before = await h.must('s', 'Secret');
  assert.deepEqual(before.data, { k: Buffer.from('v').toString('base64') });
  await h.pass();
  assert.equal((await h.must('s', 'Secret')).metadata.resourceVersion, before.metadata.resourceVersion);
});

test('an edited Secret is taken over', async () => {
  await using h = await SourceHarness.create();
  const secret = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 's' }, stringData: { k: 'old' } };
  await h.folder.write('s.json', JSON.stringify(secret));
  await h.pass();
  await h.folder.write('s.json', JSON.stringify({ ...secret, stringData: { k: 'new' } }));
  assert.equal((await h.pass()).result, 'success', h.problems().join('\n'));
  assert.deepEqual((await h.must('s', 'Secret')).data, { k: Buffer.from('new').toString('base64') });
});

test('a change that the kind forbids is refused with the field, and the running version kept', async () => {
  await using h = await SourceHarness.create();
  await h.folder.write('web.yaml', sandboxYaml('web'));
  await h.pass();
  await h.folder.write('web.yaml', sandboxYaml('web', { image: 'docker.io/library/other:2' }));
  assert.equal((await h.pass()).result, 'partial');
  const { spec } = await h.must('web');
  assert.equal((spec as { image: string }).image, 'docker.io/library/busybox:1');
  assert.match(h.problems()[0] ?? '', /^SourceInvalid: web\.yaml:1:1: document 1: spec.*image/);
  assert.equal(h.state('web'), 'invalid');
});

test('a source of some kinds reads and writes no others, and says which documents it leaves out', async () => {
  await using h = await SourceHarness.create();
  const reads: string[] = [];
  const store = new Proxy(h.store, {
    get: (target, name) => {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]) => {
        if (name === 'list') reads.push(String(args[0]));
        return value.apply(target, args);
      };
    },
  });
  h.daemon({ kinds: ['Sandbox'], store });
  await h.folder.write('a.yaml', sandboxYaml('a'));
  await h.folder.write('key.yaml', '{ apiVersion: v1, kind: Secret, metadata: { name: key } }\n');
  assert.equal((await h.pass()).result, 'partial');
  assert.deepEqual(await h.names(), ['a']);
  assert.deepEqual(await h.names('Secret'), []);
  assert.equal(h.state('key', 'Secret'), 'invalid');
  assert.match(
    h.problems()[0] ?? '',
    /^SourceInvalid: key\.yaml.*kind Secret are not applied from this folder, only Sandbox\.$/,
  );
  assert.ok(!reads.includes('Secret'), 'nothing needs the right to read them');
});

test('strict mode changes nothing while anything is wrong, and everything when it is mended', async () => {
  await using h = await SourceHarness.create();
  h.daemon({ strict: true });
  await h.folder.write('a.yaml', withCpus('a', 1));
  await h.folder.write('gone.yaml', sandboxYaml('gone'));
  await h.pass();
  await h.folder.write('a.yaml', withCpus('a', 2));
  await h.folder.write('bad.yaml', BROKEN);
  await h.folder.remove('gone.yaml');
  await h.settle();
  await h.clock.advance(60_000);
  await h.settle();
  assert.equal(await cpus(h, 'a'), 1);
  assert.deepEqual(await h.names(), ['a', 'gone']);
  await h.folder.write('bad.yaml', sandboxYaml('web'));
  await h.settle();
  assert.equal(await cpus(h, 'a'), 2);
  assert.deepEqual(await h.names(), ['a', 'web']);
});

test('a lost inventory deletes nothing, takes up what the folder declares, and keeps what a broken file declared', async () => {
  await using h = await SourceHarness.create();
  for (const name of ['a', 'gone', 'web']) await h.folder.write(`${name}.yaml`, sandboxYaml(name));
  await h.pass();
  const before = await h.must('web');
  await h.corruptInventory();
  await h.folder.write('web.yaml', BROKEN);
  await h.folder.remove('gone.yaml');
  h.daemon();
  await h.settle();
  await h.clock.advance(60_000);
  await h.settle();
  assert.deepEqual(h.states(), { a: 'synced', gone: 'orphaned', web: 'invalid' });
  assert.deepEqual((await h.must('web')).spec, before.spec);
  assert.match(h.problems().join('\n'), /SourceOrphaned: .*gone/);
  await access(`${h.inventoryPath}.corrupt-aside`);

  await h.folder.write('web.yaml', sandboxYaml('web'));
  await h.folder.remove('a.yaml');
  await h.settle();
  assert.deepEqual(await h.names(), ['gone', 'web'], 'what was taken up is pruned again as usual');
});

test('a git-sync style flip of the root changes to the new version as one', async () => {
  await using h = await SourceHarness.create();
  for (const [version, count] of [
    ['v1', 1],
    ['v2', 2],
  ] as const) {
    await mkdir(join(h.folder.base, version));
    for (const name of ['a', 'b'])
      await writeFile(join(h.folder.base, version, `${name}.yaml`), withCpus(name, count));
  }
  const link = join(h.folder.base, 'current');
  await symlink('v1', link);
  h.daemon({ root: link });
  await h.pass();
  const before = await h.must('a');
  await symlink('v2', `${link}.new`);
  await rename(`${link}.new`, link);
  await rm(join(h.folder.base, 'v1'), { recursive: true });
  await h.settle();
  const after = await h.must('a');
  assert.deepEqual([await cpus(h, 'a'), await cpus(h, 'b')], [2, 2]);
  assert.equal(after.metadata.uid, before.metadata.uid);
  assert.equal(after.metadata.annotations?.['bulkhead.dev/source-path'], join(link, 'a.yaml'));
});

test('hundreds of broken documents make a bounded status and a bounded number of events', async () => {
  await using h = await SourceHarness.create();
  const bad = documents(...Array.from({ length: 1500 }, (_, index) => `kind: Nope${index}`));
  await h.folder.write('bad.yaml', bad);
  await h.pass();
  assert.ok(h.status().problemCount >= 1500);
  assert.equal(h.status().invalidDocuments, 1500);
  assert.equal(h.status().problems.length, 1000);
  assert.ok((await h.events()).length <= 101);
});

test('a clock that jumps neither shortens a hold nor loses one', async () => {
  await using h = await SourceHarness.create();
  await h.folder.write('a.yaml', sandboxYaml('a'));
  await h.pass();
  await h.folder.remove('a.yaml');
  await h.pass();
  h.clock.step(3_600_000);
  await h.pass();
  assert.deepEqual(await h.names(), ['a']);
  h.clock.step(-7_200_000);
  await h.clock.advance(10_000);
  await h.pass();
  assert.deepEqual(await h.names(), []);
});

test('an inventory that cannot be opened fails the pass and deletes nothing; the next pass tries again', async () => {
  await using h = await SourceHarness.create();
  for (const name of ['a', 'b']) await h.folder.write(`${name}.yaml`, sandboxYaml(name));
  await h.pass();
  await h.folder.remove('a.yaml');
  await rename(h.inventoryPath, `${h.inventoryPath}.away`);
  await mkdir(h.inventoryPath);
  h.daemon();
  assert.deepEqual(await h.pass(), { result: 'error', retry: true });
  assert.match(h.problems()[0] ?? '', /^SourceApplyFailed: .*EISDIR/);
  await rm(h.inventoryPath, { recursive: true });
  await rename(`${h.inventoryPath}.away`, h.inventoryPath);
  await h.settle();
  assert.deepEqual(await h.names(), ['b']);
});
