// Writes crds/*.yaml and docs/api.md from the schemas in src/api. Files that are up to date are left alone.
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { generatedFiles } from '../src/api/crd/generated-files.ts';

const root = join(import.meta.dirname, '..');
const files = generatedFiles();

for (const [path, content] of files) {
  const target = join(root, path);
  if (existsSync(target) && readFileSync(target, 'utf8') === content) continue;
  mkdirSync(dirname(target), { recursive: true });
  writeFileSync(`${target}.new`, content);
  renameSync(`${target}.new`, target);
}
// A kind that is gone must not leave its definition behind.
for (const name of readdirSync(join(root, 'crds'))) {
  if (!files.has(`crds/${name}`)) rmSync(join(root, 'crds', name));
}
