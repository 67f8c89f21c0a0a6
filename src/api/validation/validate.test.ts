import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { BulkheadError } from '../errors.ts';
import { formatFieldError } from './field-error.ts';
import { requireValid, validateObject } from './validate.ts';

function sandbox(spec: Record<string, unknown>): Record<string, unknown> {
  return {
    apiVersion: 'bulkhead.dev/v1alpha1',
    kind: 'Sandbox',
    metadata: { name: 'agent' },
    spec: { image: 'busybox', ...spec },
  };
}

function of(kind: string, spec: Record<string, unknown>): Record<string, unknown> {
  return { apiVersion: 'bulkhead.dev/v1alpha1', kind, metadata: { name: 'a' }, spec };
}

function problems(value: unknown, former?: Record<string, unknown>): string[] {
  const old = former === undefined ? undefined : { spec: former.spec };
  return validateObject(value, old).errors.map(formatFieldError);
}

/** Everything that the design shows. */
const FULL = sandbox({
  image: 'docker.io/library/python:3.13',
  imagePullPolicy: 'IfNotPresent',
  imagePullSecrets: [{ name: 'registry' }],
  operatingMode: 'Running',
  driver: 'Auto',
  resources: { cpus: 1, memory: '512Mi', disk: '4Gi' },
  main: { command: ['python3'], args: ['-m', 'http.server', '8000'] },
  env: [
    { name: 'MODE', value: 'test' },
    { name: 'TOKEN', valueFrom: { secretKeyRef: { name: 's', key: 'token' } } },
  ],
  workingDir: '/app',
  user: '1000:1000',
  hostname: 'agent',
  restartPolicy: 'Never',
  terminationGracePeriodSeconds: 10,
  activeDeadlineSeconds: 3600,
  idleTimeoutSeconds: 600,
  ttlSecondsAfterFinished: 300,
  shutdownTime: '2026-12-01T00:00:00Z',
  volumes: [
    { name: 'data', volume: { name: 'my-data' } },
    { name: 'src', hostPath: { path: '/srv/src', type: 'Directory' } },
    { name: 'scratch', tmpfs: { size: '64Mi' } },
    { name: 'conf', configMap: { name: 'conf' } },
    { name: 'keys', secret: { name: 'keys' } },
  ],
  volumeMounts: [{ name: 'data', mountPath: '/data', readOnly: false }],
  patches: [
    { text: { path: '/etc/greeting.txt', content: 'Hello!\n', mode: '0644' } },
    { mkdir: { path: '/app', mode: '0755' } },
    { copy: { from: './scripts', path: '/app/scripts' } },
    { append: { path: '/etc/hosts', content: '127.0.0.1 myapp.local\n' } },
    { symlink: { path: '/usr/local/bin/py', target: '/usr/bin/python3' } },
    { remove: { path: '/etc/motd' } },
  ],
  ports: [{ name: 'web', port: 8000, hostPort: 8080, hostIP: '127.0.0.1', protocol: 'TCP' }],
  secrets: [
    {
      env: 'OPENAI_API_KEY',
      valueFrom: { secretKeyRef: { name: 'keys', key: 'openai' } },
      allowHosts: ['api.openai.com'],
    },
  ],
});

describe('what is valid', () => {
  test('a Sandbox with every field', () => {
    assert.deepEqual(problems(FULL), []);
    assert.deepEqual(problems(FULL, FULL), []);
  });

  test('a Volume and a NetworkPolicy with every field', () => {
    assert.deepEqual(
      problems(of('Volume', { capacity: '1Gi', accessMode: 'ReadWriteOnce', reclaimPolicy: 'Retain' })),
      [],
    );
    const policy = of('NetworkPolicy', {
      sandboxSelector: { matchLabels: { team: 'research' } },
      egress: {
        mode: 'PublicOnly',
        rules: [
          { action: 'Deny', to: [{ group: 'Metadata' }, { domainSuffix: '.evil.com' }] },
          {
            action: 'Allow',
            to: [{ domain: 'api.openai.com' }, { cidr: '203.0.113.0/24' }],
            ports: [{ protocol: 'TCP', port: 443 }],
          },
        ],
      },
      dns: {
        blockDomains: ['blocked.example.com'],
        blockDomainSuffixes: ['.ads.example'],
        rebindProtection: true,
        nameservers: [],
        blockedAnswer: 'NXDOMAIN',
      },
      tls: {
        intercept: false,
        interceptedPorts: [443],
        bypass: ['*.googleapis.com'],
        verifyUpstream: true,
        blockQuic: true,
        upstreamCAs: [],
      },
      limits: { maxConnections: 256, egressBytesPerSecond: null },
    });
    assert.deepEqual(problems(policy), []);
  });

  test('a manifest as a server gave it out: its own metadata and status have no effect', () => {
    const exported = {
      ...sandbox({}),
      metadata: {
        name: 'agent',
        namespace: 'default',
        uid: '0b1f-1',
        resourceVersion: '7',
        generation: 3,
        creationTimestamp: '2026-01-01T00:00:00Z',
        managedFields: [{ manager: 'x' }],
        finalizers: ['bulkhead.dev/vm'],
      },
      status: { phase: 'Running', whatever: [1] },
    };
    const { manifest } = validateObject(exported);
    assert.deepEqual(manifest?.metadata, {
      name: 'agent',
      namespace: 'default',
      uid: '0b1f-1',
      resourceVersion: '7',
      finalizers: ['bulkhead.dev/vm'],
    });
    assert.equal('status' in (manifest ?? {}), false);
  });

  test('plain text of a Secret joins its data in base64, and wins', () => {
    const { manifest } = validateObject({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 's' },
      type: 'kubernetes.io/dockerconfigjson',
      data: { a: 'YQ==', '.dockerconfigjson': 'e30=' },
      stringData: { a: 'b' },
    });
    assert.deepEqual(manifest?.data, { a: 'Yg==', '.dockerconfigjson': 'e30=' });
    assert.equal(manifest?.spec, undefined);
  });

  test('nested keys of the JavaScript prototype are fields like others', () => {
    const labels = { constructor: 'a', toString: 'b', hasOwnProperty: 'c' };
    const { manifest } = validateObject({ ...sandbox({}), metadata: { name: 'a', labels } });
    assert.deepEqual(manifest?.metadata.labels, labels);
    assert.deepEqual(problems(sandbox({ constructor: {} })), [
      'spec.constructor: unknown field (expected one of image, imagePullPolicy, imagePullSecrets, operatingMode, driver, resources, main, env, workingDir, user, hostname, restartPolicy, ...)',
    ]);
  });
});

describe('probes and hooks', () => {
  const probes = { exec: { command: ['true'] } };
  for (const [what, spec, error] of [
    [
      'a probe that does nothing',
      { livenessProbe: { periodSeconds: 5 } },
      'spec.livenessProbe: Invalid value: livenessProbe must have exactly one of exec, httpGet, tcpSocket; keep one and remove the others',
    ],
    [
      'a hook that does two things',
      { lifecycle: { preStop: { ...probes, sleep: { seconds: 1 } } } },
      'spec.lifecycle.preStop: Invalid value: lifecycle.preStop must have exactly one of exec, httpGet, sleep; keep one and remove the others',
    ],
    [
      'several successes of a liveness probe',
      { livenessProbe: { ...probes, successThreshold: 2 } },
      'spec.livenessProbe.successThreshold: Invalid value: 2: spec.livenessProbe.successThreshold in body should be less than or equal to 1',
    ],
    [
      'a header that would end its line',
      { readinessProbe: { httpGet: { port: 80, httpHeaders: [{ name: 'A', value: 'b\r\nC: d' }] } } },
      `spec.readinessProbe.httpGet.httpHeaders[0].value: Invalid value: "b\\r\\nC: d": spec.readinessProbe.httpGet.httpHeaders[0].value in body should match '^[ -~]*$' (expected printable ASCII characters)`,
    ],
  ] as const) {
    test(`${what} is refused`, () => {
      assert.deepEqual(problems(sandbox(spec)), [error]);
    });
  }

  test('what a Pod has is taken', () => {
    const httpGet = {
      path: '/healthz?full',
      port: 8080,
      scheme: 'HTTPS',
      httpHeaders: [{ name: 'Host', value: 'a' }],
    };
    assert.deepEqual(
      problems(
        sandbox({
          readinessProbe: { httpGet, successThreshold: 3 },
          livenessProbe: { tcpSocket: { port: 22 }, terminationGracePeriodSeconds: 3 },
          startupProbe: { ...probes, failureThreshold: 30, periodSeconds: 10 },
          lifecycle: { postStart: { httpGet }, preStop: { sleep: { seconds: 5 } } },
        }),
      ),
      [],
    );
  });
});

describe('what may not change after creation', () => {
  const before = sandbox({ user: 'app', resources: { disk: '4Gi' }, patches: [{ mkdir: { path: '/a' } }] });
  const change = (spec: Record<string, unknown>) =>
    sandbox({ ...(before.spec as Record<string, unknown>), ...spec });
  const recreate = 'set updateStrategy: Recreate to get a new root file system';

  for (const [field, spec, error] of [
    [
      'image',
      { image: 'debian' },
      `spec.image: Invalid value: image cannot change after creation; ${recreate}, or create another Sandbox`,
    ],
    [
      'driver',
      { driver: 'Software' },
      `spec.driver: Invalid value: driver cannot change after creation; ${recreate}, or create another Sandbox`,
    ],
    [
      'user',
      { user: 'root' },
      `spec.user: Invalid value: user cannot change after creation; ${recreate}, or create another Sandbox`,
    ],
    [
      'the absence of user',
      { user: undefined },
      `spec.user: Invalid value: user cannot change after creation; ${recreate}, or create another Sandbox`,
    ],
    [
      'patches',
      { patches: [] },
      `spec.patches: Invalid value: patches cannot change after creation; ${recreate}, or create another Sandbox`,
    ],
    [
      'a smaller disk',
      { resources: { disk: '4095Mi' } },
      `spec.resources.disk: Invalid value: resources.disk cannot shrink; keep the size or grow it, or ${recreate}`,
    ],
  ] as const) {
    test(`${field} is refused with the field and the fix`, () => {
      assert.deepEqual(problems(change(spec), before), [error]);
    });
    test(`${field} is taken with updateStrategy Recreate`, () => {
      assert.deepEqual(problems(change({ ...spec, updateStrategy: 'Recreate' }), before), []);
    });
    test(`${field} is nothing to refuse at creation`, () => {
      assert.deepEqual(problems(change(spec)), []);
    });
  }

  test('saying a default is no change', () => {
    assert.deepEqual(problems(change({ driver: 'Auto' }), before), []);
    assert.deepEqual(problems(change({ patches: [{ mkdir: { path: '/a', mode: '0755' } }] }), before), []);
    assert.deepEqual(problems(change({ resources: { disk: '4096Mi' } }), before), []);
  });

  test('what applies live or at the next start is taken', () => {
    assert.deepEqual(
      problems(
        change({
          operatingMode: 'Suspended',
          activeDeadlineSeconds: 5,
          resources: { cpus: 8, memory: '2Gi', disk: '5Gi' },
          env: [{ name: 'A' }],
          main: { args: ['x'] },
          ports: [{ name: 'web', port: 80 }],
        }),
        before,
      ),
      [],
    );
  });

  test('a Volume grows and never shrinks', () => {
    const of1 = of('Volume', { capacity: '1Gi' });
    assert.deepEqual(problems(of('Volume', { capacity: '2Gi' }), of1), []);
    assert.deepEqual(problems(of('Volume', { capacity: '1023Mi' }), of1), [
      'spec.capacity: Invalid value: capacity cannot shrink; keep the size or grow it, or create another Volume',
    ]);
  });
});

describe('policies', () => {
  const rule = (to: unknown[]) => of('NetworkPolicy', { egress: { rules: [{ action: 'Deny', to }] } });

  test('a destination has exactly one form', () => {
    const error =
      'a destination must have exactly one of group, domain, domainSuffix, cidr; keep one and remove the others';
    assert.deepEqual(problems(rule([{}, { group: 'Host', domain: 'a.b' }, { group: 'Host' }])), [
      `spec.egress.rules[0].to[0]: Invalid value: ${error}`,
      `spec.egress.rules[0].to[1]: Invalid value: ${error}`,
    ]);
  });

  test('address ranges are those that Kubernetes takes', () => {
    const good = ['10.0.0.1/8', '0.0.0.0/0', '::/0', '2001:db8::/32', '1.2.3.4/32'];
    assert.deepEqual(problems(rule(good.map((cidr) => ({ cidr })))), []);
    for (const cidr of [
      '1.2.3.4',
      '1.2.3.4/33',
      '1.2.3.4/08',
      '1.2.3/24',
      '::/129',
      '::ffff:1.2.3.4/120',
      'host/8',
      '1.2.3.4/8/8',
    ]) {
      assert.deepEqual(
        problems(rule([{ cidr }])),
        [
          `spec.egress.rules[0].to[0].cidr: Invalid value: "${cidr}": cidr must be an address range, such as 203.0.113.0/24`,
        ],
        cidr,
      );
    }
  });

  test('a domain is a name that DNS can have, and no address', () => {
    const domain = (text: string) => problems(rule([{ domain: text }]));
    for (const text of ['api.example.com', '_dmarc.Example.com', 'x', `${'a'.repeat(63)}.example`])
      assert.deepEqual(domain(text), [], text);
    for (const text of [
      '*.example.com',
      'example.com.',
      '.example.com',
      'a..b',
      `${'a'.repeat(64)}.example`,
      'b\u00fccher.de',
    ])
      assert.match(
        domain(text)[0] ?? '',
        /expected a domain name, such as "api\.example\.com"; for all names/,
        text,
      );
    assert.deepEqual(domain('203.0.113.7'), [
      'spec.egress.rules[0].to[0].domain: Invalid value: "203.0.113.7": a domain must be a name; write an address as cidr, such as 203.0.113.7/32',
    ]);
    assert.match(
      problems(rule([{ domainSuffix: 'example.com' }]))[0] ?? '',
      /with its leading dot, such as "\.example\.com"/,
    );
  });

  test('counts are bounded', () => {
    const many = (count: number) =>
      Array.from({ length: count }, (_, index) => ({ domain: `d${index}.example` }));
    assert.deepEqual(problems(rule(many(64))), []);
    assert.match(problems(rule(many(65)))[0] ?? '', /^spec\.egress\.rules\[0\]\.to: /);
    const rules = Array.from({ length: 129 }, () => ({ action: 'Deny', to: many(1) }));
    assert.match(problems(of('NetworkPolicy', { egress: { rules } }))[0] ?? '', /^spec\.egress\.rules: /);
  });

  test('nothing opens Airgapped', () => {
    const airgapped = (action: string) =>
      of('NetworkPolicy', { egress: { mode: 'Airgapped', rules: [{ action, to: [{ group: 'Public' }] }] } });
    assert.deepEqual(problems(airgapped('Deny')), []);
    assert.deepEqual(problems(airgapped('Allow')), [
      'spec.egress.rules: Invalid value: egress.rules must not allow anything in mode Airgapped, which no rule opens; use mode Deny',
    ]);
  });
});

describe('all mistakes at once', () => {
  test('a mistake in one field hides none in another', () => {
    const found = problems(
      sandbox({
        imag: 'x',
        driver: 'Quantum',
        resources: { cpus: 99, disk: '1Mi' },
        env: [{ name: 'A' }, { name: 'A' }],
        volumes: [{ name: 'v' }],
      }),
    );
    assert.deepEqual(found.map((line) => line.slice(0, line.indexOf(':'))).sort(), [
      'spec.driver',
      'spec.env[1]',
      'spec.imag',
      'spec.resources.cpus',
      'spec.resources.disk',
      'spec.volumes[0]',
    ]);
  });

  test('a field is reported once, whatever is wrong with it', () => {
    assert.equal(problems(sandbox({ user: '!'.repeat(100) })).length, 1);
  });

  test('the arguments are never changed', () => {
    const value = structuredClone(FULL);
    validateObject(value, { spec: { image: 'x' } });
    assert.deepEqual(value, FULL);
  });

  test('values that no JSON holds are refused and not thrown at', () => {
    for (const value of [undefined, null, 1, 'x', [], () => 1, Symbol('x'), 1n, new Map()]) {
      assert.equal(validateObject(value).errors.length > 0, true);
    }
  });
});

test('requireValid throws INVALID with each mistake as a cause', () => {
  assert.throws(
    () => requireValid(sandbox({ driver: 'x', resources: { cpus: 0 } })),
    (error) => {
      assert.ok(error instanceof BulkheadError);
      assert.equal(error.code, 'INVALID');
      assert.deepEqual(
        error.causes.map(({ field, reason }) => `${field} ${reason}`),
        ['spec.driver FieldValueNotSupported', 'spec.resources.cpus FieldValueInvalid'],
      );
      assert.match(
        error.message,
        /spec\.driver: Unsupported value: "x": supported values: "Auto", "Libkrun", "Software"/,
      );
      return true;
    },
  );
  assert.equal(requireValid(sandbox({})).kind, 'Sandbox');
});
