// Checks that the imports of src/ keep to tools/layers.ts. Import cycles are the linter's job (biome, noImportCycles).
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { EXCEPTIONS, LAYERS } from './layers.ts';

const IMPORT = /(?:from|import)\s*\(?\s*'(\.{1,2}\/[^']+)'/g;

const root = join(import.meta.dirname, '..', 'src');
const problems: string[] = [];
const named = Object.entries(LAYERS).flatMap(([folder, { mayImport }]) => [folder, ...mayImport]);
for (const path of [...new Set(named), ...Object.keys(EXCEPTIONS)]) {
  if (!existsSync(join(root, path))) problems.push(`tools/layers.ts names src/${path}, which does not exist`);
}
for (const file of globSync('**/*.ts', { cwd: root })) {
  // Tests and fakes may reach for what they need.
  if (file.endsWith('.test.ts') || file.endsWith('.contract.ts') || file.includes('/testing/')) continue;
  const folder = file.split('/')[0] ?? '';
  const layer = LAYERS[folder];
  if (layer === undefined) {
    problems.push(`src/${file}: folder ${folder}/ is not in tools/layers.ts`);
    continue;
  }
  const licences = [folder, ...layer.mayImport, ...(EXCEPTIONS[file]?.mayImport ?? [])];
  for (const match of readFileSync(join(root, file), 'utf8').matchAll(IMPORT)) {
    const target = relative(root, join(root, dirname(file), match[1] ?? ''));
    if (target.startsWith('..')) continue;
    const permitted = licences.some((licence) => target === licence || target.startsWith(`${licence}/`));
    if (!permitted) problems.push(`src/${file} must not import src/${target}`);
    else if (target.includes('/testing/'))
      problems.push(`src/${file} must not import the fake src/${target}`);
  }
}
if (problems.length > 0) {
  console.error(problems.join('\n'));
  process.exitCode = 1;
}
