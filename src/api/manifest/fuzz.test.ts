// Random damage to manifests: objects or mistakes with their places, never an exception.
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { damaged, fuzz } from '../../../test/fixtures/chance.ts';
import { formatManifestError } from './manifest-error.ts';
import { readManifests } from './read.ts';

const ROUNDS = 300;
const EXAMPLES = join(import.meta.dirname, '../../../manifests');
const SEEDS = globSync('*.yaml', { cwd: EXAMPLES }).map((name) => readFileSync(join(EXAMPLES, name)));
const TOKENS = [
  '---\n',
  '&a ',
  '*a',
  '<<: *a',
  '!!js ',
  '\t',
  '\0',
  '{',
  '[',
  '"',
  '|',
  '? ',
  '\xff\xfe',
  '1e999',
  '- - - ',
];

fuzz('manifests are objects or mistakes with their places', ROUNDS, (pick) => {
  const bytes = damaged(SEEDS[pick(SEEDS.length)] ?? Buffer.alloc(0), TOKENS, pick);
  const { objects, errors } = readManifests(bytes, 'a.yaml');
  for (const error of errors) assert.match(formatManifestError(error), /^a\.yaml/);
  return objects.length > 0 && errors.length === 0;
});
