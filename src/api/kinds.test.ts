import assert from 'node:assert/strict';
import { test } from 'node:test';
import { apiVersionOf, KINDS, kindNamed, resolveKind, SANDBOX_KIND, SECRET_KIND } from './kinds.ts';

test('a kind is found by every name that people type', () => {
  for (const word of [
    'Sandbox',
    'sandbox',
    'SANDBOXES',
    'sbx',
    'sandboxes.bulkhead.dev',
    'sbx.bulkhead.dev',
  ]) {
    assert.equal(resolveKind(word)?.kind, 'Sandbox', word);
  }
  assert.equal(resolveKind('sbxvol')?.kind, 'Volume');
  assert.equal(resolveKind('sbxnp')?.kind, 'NetworkPolicy');
  assert.equal(resolveKind('cm')?.kind, 'ConfigMap');
});

test('what is no kind is none', () => {
  for (const word of ['', 'pod', 'sandboxs', 'sandboxes.example.com', 'secrets.', '__proto__']) {
    assert.equal(resolveKind(word), undefined, word);
    assert.equal(kindNamed(word), undefined, word);
  }
});

test('no two kinds share a name', () => {
  const names = KINDS.flatMap((kind) => [kind.plural, kind.singular, ...kind.shortNames]);
  assert.equal(new Set(names).size, names.length);
});

test('documents say group and version, the core group its version alone', () => {
  assert.equal(apiVersionOf(SANDBOX_KIND), 'bulkhead.dev/v1alpha1');
  assert.equal(apiVersionOf(SECRET_KIND), 'v1');
});

test('what a Sandbox refers to comes before it', () => {
  assert.equal(KINDS.at(-1)?.kind, 'Sandbox');
});
