// Builds the published package into build/sdk: JavaScript for Node 20 and later, declarations, and nothing native.
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const PROJECT = join(import.meta.dirname, '..');
const OUT = join(PROJECT, 'build', 'sdk');
/** What the package needs at run time; versions are those that the project is tested with. */
const DEPENDENCIES = ['ws'] as const;
/** What reads kubeconfigs, for programs with a cluster, which install it themselves: with all it brings it is larger than the rest. */
const CLUSTER_LIBRARY = '@kubernetes/client-node';
/** Version 1 runs on the oldest Node, 2 is what the project is tested with. */
const CLUSTER_LIBRARY_VERSIONS = '>=1.0.0 <3';
const NODE_MIN = '20.10';

interface Manifest {
  version: string;
  description: string;
  license: string;
  dependencies: Record<string, string>;
  devDependencies: Record<string, string>;
}

rmSync(OUT, { recursive: true, force: true });
mkdirSync(OUT, { recursive: true });
execFileSync(join(PROJECT, 'node_modules', '.bin', 'tsc'), ['-p', 'tsconfig.sdk.json'], {
  cwd: PROJECT,
  stdio: 'inherit',
});
const root = JSON.parse(readFileSync(join(PROJECT, 'package.json'), 'utf8')) as Manifest;
const manifest = {
  name: 'bulkhead',
  version: root.version,
  description: root.description,
  license: root.license,
  type: 'module',
  engines: { node: `>=${NODE_MIN}` },
  sideEffects: false,
  exports: { '.': { types: './dist/sdk/index.d.ts', default: './dist/sdk/index.js' } },
  types: './dist/sdk/index.d.ts',
  files: ['dist', 'LICENSE', 'README.md'],
  dependencies: Object.fromEntries(DEPENDENCIES.map((name) => [name, `^${root.dependencies[name] ?? ''}`])),
  peerDependencies: { [CLUSTER_LIBRARY]: CLUSTER_LIBRARY_VERSIONS },
  peerDependenciesMeta: { [CLUSTER_LIBRARY]: { optional: true } },
};
writeFileSync(join(OUT, 'package.json'), `${JSON.stringify(manifest, undefined, 2)}\n`);
copyFileSync(join(PROJECT, 'LICENSE'), join(OUT, 'LICENSE'));
copyFileSync(join(PROJECT, 'docs', 'sdk.md'), join(OUT, 'README.md'));
