import assert from 'node:assert/strict';
import { test } from 'node:test';
import { subresourceTarget, subresourceUrl } from './subresources.ts';

const GROUP = 'some.group/v1';
const ROOT = `/apis/${GROUP}/namespaces`;

test('a path of a subresource is the same below another group', () => {
  for (const rest of ['', '?command=a&command=%2Fb', '/content?path=%2Fetc', '/']) {
    const target = subresourceTarget(
      `${ROOT}/ns%41/sandboxes/a.b/${rest.startsWith('/') ? 'files' : 'exec'}${rest}`,
      GROUP,
    );
    assert.deepEqual([target?.namespace, target?.name, target?.rest], ['ns%41', 'a.b', rest]);
    if (target === undefined) continue;
    assert.equal(
      subresourceUrl(target, 'o/v2'),
      `/apis/o/v2/namespaces/ns%41/sandboxes/a.b/${target.subresource}${rest}`,
    );
  }
});

test('nothing else counts as one', () => {
  const others = [
    `${ROOT}/a/sandboxes/b`,
    `${ROOT}/a/sandboxes/b/status`,
    `${ROOT}/a/sandboxes/b/constructor`,
    `${ROOT}/a/sandboxes/b/%65xec`,
    `${ROOT}/a/sandboxes//exec`,
    `${ROOT}/a/volumes/b/exec`,
    `${ROOT}/a#/sandboxes/b/exec`,
    `${ROOT}/a?/sandboxes/b/exec`,
    `${ROOT}/a/sandboxes/b/exec?x#y`,
    `/apis/${GROUP}x/namespaces/a/sandboxes/b/exec`,
    '/apis/other/v1/namespaces/a/sandboxes/b/exec',
  ];
  for (const url of others) assert.equal(subresourceTarget(url, GROUP), undefined, url);
});
