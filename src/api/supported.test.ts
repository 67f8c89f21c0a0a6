import assert from 'node:assert/strict';
import { test } from 'node:test';
import { unsupportedFields } from './supported.ts';

test('a plain sandbox asks for nothing that is not there', () => {
  assert.deepEqual(unsupportedFields({ image: 'busybox', volumes: [], updateStrategy: 'Refuse' }), []);
});

test('private images and values from Secrets and ConfigMaps are acted on', () => {
  const key = { name: 'keys', key: 'token' };
  assert.deepEqual(
    unsupportedFields({
      image: 'busybox',
      imagePullSecrets: [{ name: 'registry' }],
      env: [
        { name: 'A', valueFrom: { secretKeyRef: key } },
        { name: 'B', valueFrom: { configMapKeyRef: key } },
      ],
    }),
    [],
  );
});

test('every field without effect is named by its path', () => {
  assert.deepEqual(
    unsupportedFields({
      image: 'busybox',
      volumes: [
        { name: 'data', volume: { name: 'data' } },
        { name: 'host', hostPath: { path: '/srv' } },
        { name: 'config', configMap: { name: 'config' } },
        { name: 'keys', secret: { name: 'keys' } },
        { name: 'scratch', tmpfs: { size: '1Mi' } },
      ],
      volumeMounts: [{ name: 'data', mountPath: '/data' }],
      patches: [{ mkdir: { path: '/app' } }, { copy: { from: 'scripts', path: '/app' } }],
      updateStrategy: 'Recreate',
    }),
    ['spec.patches[1].copy (without its content, which `bulkhead apply` and the SDK bring)'],
  );
});
