// Checks which folder of src/ may import which: the layering of ARCHITECTURE.md, as a table that fails the build.
// Import cycles are the linter's job (biome, noImportCycles).
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

/** What a folder may import beside itself. A path with a file name allows that file alone: a contract, not its insides. */
const ALLOWED: Record<string, readonly string[]> = {
  api: [],
  store: ['api'],
  guest: ['api'],
  images: ['api'],
  volumes: ['api'],
  network: ['api'],
  vmm: ['api', 'guest', 'volumes'],
  controller: ['api', 'store/store.ts', 'metrics'],
  metrics: ['api'],
  source: ['api', 'store/store.ts', 'controller/clock.ts'],
  reconcilers: [
    'api',
    'store/store.ts',
    'controller',
    'metrics',
    'images/images.ts',
    'vmm/driver.ts',
    'volumes/volumes.ts',
    'guest/agent.ts',
  ],
  server: [
    'api',
    'store/store.ts',
    'store/merge-patch.ts',
    'images/images.ts',
    'vmm/driver.ts',
    'volumes/volumes.ts',
    'guest/agent.ts',
  ],
  client: ['api'],
  cli: ['api', 'client'],
  sdk: ['api', 'client'],
  // The composition root: it alone knows every part.
  daemon: [
    'api',
    'store',
    'guest',
    'images',
    'volumes',
    'network',
    'vmm',
    'controller',
    'metrics',
    'source',
    'reconcilers',
    'server',
  ],
};

/** Single files with a licence of their own, each with its reason. */
const EXCEPTIONS: Record<string, readonly string[]> = {
  // `bulkhead daemon` is the one command that runs the product instead of talking to it.
  'cli/daemon.ts': ['daemon'],
};

const IMPORT = /(?:from|import)\s*\(?\s*'(\.{1,2}\/[^']+)'/g;

const root = join(import.meta.dirname, '..', 'src');
const problems: string[] = [];
for (const file of globSync('**/*.ts', { cwd: root })) {
  // Tests and fakes may reach for what they need.
  if (file.endsWith('.test.ts') || file.endsWith('.contract.ts') || file.includes('/testing/')) continue;
  const folder = file.split('/')[0] ?? '';
  const allowed = ALLOWED[folder];
  if (allowed === undefined) {
    problems.push(`src/${file}: folder ${folder}/ is not in the table of tools/import-rules.ts`);
    continue;
  }
  const licences = [folder, ...allowed, ...(EXCEPTIONS[file] ?? [])];
  for (const match of readFileSync(join(root, file), 'utf8').matchAll(IMPORT)) {
    const target = relative(root, join(root, dirname(file), match[1] ?? ''));
    if (target.startsWith('..')) continue;
    const permitted = licences.some((licence) => target === licence || target.startsWith(`${licence}/`));
    if (!permitted) problems.push(`src/${file} must not import src/${target}`);
  }
}
if (problems.length > 0) {
  console.error(problems.join('\n'));
  process.exitCode = 1;
}
