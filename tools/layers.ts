// The folders of the project: what each owns, and for those of src/ what it may import. tools/import-rules.ts fails the
// build by it, tools/document-layers.ts writes it into ARCHITECTURE.md.

export interface Layer {
  /** As in the page; Markdown. */
  owns: string;
  /**
   * Folders of src/ that it may import beside itself. A path with a file name allows that file alone: a contract, not its
   * insides.
   */
  mayImport: readonly string[];
}

/** By folder of src/. */
export const LAYERS: Readonly<Record<string, Layer>> = {
  api: {
    owns: 'kinds: types, JSON Schema, CEL rules, defaults, errors, conditions, reading manifests',
    mayImport: [],
  },
  kubeconfig: {
    owns: 'kubeconfig files: which API server is meant, and with which credentials',
    mayImport: ['api'],
  },
  store: {
    owns: 'the `Store` contract, the embedded SQLite store, and the store on the Kubernetes API',
    mayImport: ['api', 'kubeconfig'],
  },
  source: {
    owns: 'the folder source: snapshot, plan, inventory, prune',
    mayImport: ['api', 'store/store.ts', 'controller/clock.ts'],
  },
  controller: {
    owns: 'controller runtime: informer, work queue, controller, manager, events',
    mayImport: ['api', 'store/store.ts', 'metrics'],
  },
  reconcilers: {
    owns: 'one folder per kind: machine, observation, effects, status',
    mayImport: [
      'api',
      'store/store.ts',
      'controller',
      'metrics',
      'images/images.ts',
      'vmm/driver.ts',
      'volumes/volumes.ts',
      'copies/copies.ts',
      'guest/agent.ts',
      'network/network-plane.ts',
      'network/policy',
      'network/secrets',
    ],
  },
  images: {
    owns: 'references, registry client, archives, layers, EROFS writer, cache',
    mayImport: ['api'],
  },
  copies: {
    owns: 'what patches of the kind `copy` put into guests, by digest',
    mayImport: ['api'],
  },
  volumes: {
    owns: 'disks of volumes and sandboxes: sparse ext4 files, claims, growth, integrity checks',
    mayImport: ['api'],
  },
  vmm: {
    owns: 'the driver contract, adoption, the drivers (libkrun, software), the probe of KVM, the FFI to libvmm',
    mayImport: ['api', 'guest', 'volumes'],
  },
  guest: { owns: 'the agent channel: frames, sessions, reconnecting', mayImport: ['api'] },
  network: {
    owns: 'policies put together and decided, DNS and the names of flows, interception of TLS and secrets, the gateway and the contract with it',
    mayImport: ['api', 'controller/clock.ts', 'vmm/ffi.ts'],
  },
  metrics: { owns: 'metric definitions and collectors', mayImport: ['api'] },
  tracing: { owns: 'traces of starts for an OpenTelemetry collector', mayImport: [] },
  server: {
    owns: "HTTP API in Kubernetes' conventions, exec WebSocket, metrics and health",
    mayImport: [
      'api',
      'store/store.ts',
      'store/merge-patch.ts',
      'images/images.ts',
      'vmm/driver.ts',
      'volumes/volumes.ts',
      'copies/copies.ts',
      'guest/agent.ts',
      'network/policy',
    ],
  },
  subresources: {
    owns: "the aggregated API of a cluster: who may ask, the way to a sandbox's node, the certificates on it",
    mayImport: [
      'api',
      'store/store.ts',
      'store/merge-patch.ts',
      'store/cluster',
      'controller',
      'server',
      'network/intercept/certificates.ts',
    ],
  },
  client: {
    owns: 'the HTTP client, to a daemon by its socket or to a cluster by its API server',
    mayImport: ['api', 'kubeconfig', 'network/policy/effective.ts'],
  },
  cli: { owns: 'one file per command', mayImport: ['api', 'client', 'network/policy'] },
  sdk: { owns: 'the published TypeScript API', mayImport: ['api', 'client'] },
  daemon: {
    owns: 'the composition root: the only place that knows every part',
    mayImport: [
      'api',
      'store',
      'source',
      'controller',
      'reconcilers',
      'images',
      'copies',
      'volumes',
      'vmm',
      'guest',
      'network',
      'metrics',
      'tracing',
      'server',
      'subresources',
    ],
  },
};

/** Folders beside src/ that a reader should know; what they import is their compilers' matter. */
export const OTHER_FOLDERS: Readonly<Record<string, string>> = {
  'libvmm/': 'C: the shim that Node calls through koffi, the launcher with the jail, the build of libkrun',
  'monitoring/':
    'alerts, recording rules, runbooks and boards, generated from code; what they name must exist in `src/metrics`',
  'examples/': 'whole programs on the SDK, as users would write them; tests run them',
  'guest/': 'the protocol schema, the agent (C, PID 1), the kernel and initramfs builds',
};

/** Single files with a licence of their own, each with its reason. */
export const EXCEPTIONS: Readonly<Record<string, { mayImport: readonly string[]; why: string }>> = {
  'cli/daemon.ts': {
    mayImport: ['daemon'],
    why: '`bulkhead daemon`, `node`, `controller` and `source` run the product instead of talking to it',
  },
  'cli/node.ts': { mayImport: ['daemon'], why: 'see `cli/daemon.ts`' },
  'cli/controller.ts': { mayImport: ['daemon'], why: 'see `cli/daemon.ts`' },
  'cli/source.ts': { mayImport: ['daemon'], why: 'see `cli/daemon.ts`' },
};
