import assert from 'node:assert/strict';
import { test } from 'node:test';
import { manifestOf, type SandboxConfig } from './config.ts';

const specOf = (config: Record<string, unknown>) =>
  manifestOf({ image: 'busybox', ...config } as SandboxConfig, 'default', false).spec;

test('a setting that nothing acts on is refused, so that no sandbox is more open than was asked', () => {
  for (const field of ['network', 'secrets', 'stopSignal', 'logLevel', 'quietLogs'])
    assert.throws(() => specOf({ [field]: {} }), { code: 'NOT_SUPPORTED', message: new RegExp(field) });
  assert.throws(() => specOf({ memory: 512 }), { code: 'INVALID', message: /memory/ });
});

test('ports are published by their number on the host', () => {
  assert.deepEqual(specOf({ ports: { 8080: 80 }, network: undefined }).ports, [
    { name: 'port-8080', port: 80, hostPort: 8080 },
  ]);
});
