// Random damage to what registries and archives say about images: it is understood, or refused as what it is.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { damaged, fuzz, type Pick } from '../../../test/fixtures/chance.ts';
import { composeImage, file, tar } from '../../../test/fixtures/images-compose.ts';
import { BulkheadError } from '../../api/errors.ts';
import { openArchive } from '../archive/open-archive.ts';
import { localImages } from '../archive/sources.ts';
import { DEFAULT_LIMITS } from '../limits.ts';
import { parseReference } from '../reference.ts';
import { parseChallenge, parseToken, tokenUrl } from '../registry/auth.ts';
import { choosePlatform, hostPlatform, parseConfig, parseDocument } from './manifest.ts';

const ROUNDS = 2_000;
const ARCHIVE_ROUNDS = 200;
const REFUSALS = new Set(['IMAGE_INVALID', 'IMAGE_NOT_FOUND', 'IMAGE_REFERENCE_INVALID']);
const JSON_TOKENS = [
  'null',
  '{}',
  '[]',
  '"',
  '\\u0000',
  '-1',
  '1e999',
  '9'.repeat(20),
  'sha256:',
  '__proto__',
  '[[[[',
];

const architecture = hostPlatform().architecture;
const image = composeImage([tar(file('a', 'x'))], {
  name: 'a:1',
  architecture,
  config: { Env: ['A=1'], Labels: { a: 'b' } },
});

async function taken(work: () => unknown): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    if (error instanceof BulkheadError && REFUSALS.has(error.code)) return false;
    throw error;
  }
}

fuzz('manifests, indexes and configurations are understood or refused', ROUNDS, (pick) =>
  taken(() => {
    const document = damaged(pick(2) === 0 ? image.manifest : image.index, JSON_TOKENS, pick);
    const parsed = parseDocument(pick(3) === 0 ? image.manifest : document, 'it', DEFAULT_LIMITS);
    if ('index' in parsed) choosePlatform(parsed.index, hostPlatform(), 'it');
    else parseConfig(damaged(image.config, JSON_TOKENS, pick), parsed.manifest, hostPlatform(), 'it');
  }),
);

const CHALLENGE = Buffer.from(
  'Bearer realm="https://auth.example/token",service="r.example",scope="repository:a:pull"',
);
const TOKEN = Buffer.from('{"token": "abc", "expires_in": 300}');

fuzz("a registry's demand for a token is understood or no demand", ROUNDS, (pick) =>
  taken(() => {
    const challenge = parseChallenge(
      damaged(CHALLENGE, ['"', ',', '=', 'basic ', '://', '\\'], pick).toString('latin1'),
    );
    if (challenge?.scheme === 'bearer' && URL.canParse(challenge.parameters.realm ?? ''))
      assert.equal(tokenUrl(challenge, 'a/b').searchParams.get('scope'), 'repository:a/b:pull');
    const { token, renewAt } = parseToken(damaged(TOKEN, JSON_TOKENS, pick), 0);
    assert.equal(typeof token, 'string');
    assert.ok(!Number.isNaN(renewAt));
  }),
);

const REFERENCE = Buffer.from(`registry.example:5000/a/b-c__d:v1.2@sha256:${'a1'.repeat(32)}`);

fuzz('a reference is refused, or its canonical form is a reference to the same', ROUNDS, (pick) =>
  taken(() => {
    const text = damaged(
      REFERENCE,
      ['..', '/', ':', '@', '[::1]', '\0', '%2f', '//', 'localhost'],
      pick,
    ).toString('latin1');
    const reference = parseReference(text);
    assert.deepEqual(parseReference(reference.canonical), reference);
    assert.doesNotMatch(reference.repository, /\.\.|\/\/|^\/|[^\x21-\x7e]/);
  }),
);

const work = mkdtempSync(join(tmpdir(), 'bulkhead-fuzz-'));
after(() => rmSync(work, { recursive: true }));

/** An OCI archive and a Docker one of the same image. */
const ARCHIVES = [
  tar(
    file('oci-layout', '{"imageLayoutVersion":"1.0.0"}'),
    file('index.json', image.index.toString()),
    ...[...image.blobs].map(([digest, bytes]) =>
      file(`blobs/sha256/${digest.slice(7)}`, bytes.toString('latin1')),
    ),
  ),
  tar(
    file('manifest.json', '[{"Config":"c.json","RepoTags":["a:1"],"Layers":["l/layer.tar"]}]'),
    file('c.json', image.config.toString()),
    file('l/layer.tar', tar(file('a', 'x')).toString('latin1')),
  ),
];

function archiveOf(pick: Pick): Buffer {
  return damaged(ARCHIVES[pick(ARCHIVES.length)] ?? tar(), [...JSON_TOKENS, '../', '\0', 'blobs/'], pick);
}

fuzz('archives of images are opened or refused', ARCHIVE_ROUNDS, (pick) =>
  taken(async () => {
    const path = join(work, 'archive.tar');
    writeFileSync(path, archiveOf(pick));
    const files = await openArchive(path, work, DEFAULT_LIMITS, new AbortController().signal);
    for (const { layers } of await localImages(files, DEFAULT_LIMITS))
      for (const { range } of layers) assert.equal(range.path, path);
  }),
);
