import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseReference } from './reference.ts';

const DIGEST = `sha256:${'0123456789abcdef'.repeat(4)}`;

describe('image references', () => {
  const canonical: [text: string, canonical: string][] = [
    ['debian', 'docker.io/library/debian:latest'],
    ['debian:12', 'docker.io/library/debian:12'],
    ['library/debian', 'docker.io/library/debian:latest'],
    ['grafana/loki:3.1', 'docker.io/grafana/loki:3.1'],
    ['docker.io/debian', 'docker.io/library/debian:latest'],
    ['index.docker.io/debian', 'docker.io/library/debian:latest'],
    ['ghcr.io/a/b/c:v1', 'ghcr.io/a/b/c:v1'],
    ['localhost/a', 'localhost/a:latest'],
    ['localhost:5000/a:b', 'localhost:5000/a:b'],
    ['127.0.0.1:5000/t/debian:bookworm', '127.0.0.1:5000/t/debian:bookworm'],
    ['[::1]:5000/a', '[::1]:5000/a:latest'],
    ['registry/a', 'docker.io/registry/a:latest'],
    ['Registry/a', 'Registry/a:latest'],
    [`debian@${DIGEST}`, `docker.io/library/debian@${DIGEST}`],
    [`debian:12@${DIGEST}`, `docker.io/library/debian:12@${DIGEST}`],
    ['a__b/c-d.e--f', 'docker.io/a__b/c-d.e--f:latest'],
  ];
  for (const [text, expected] of canonical) {
    it(`${text} means ${expected}`, () => {
      assert.equal(parseReference(text).canonical, expected);
      assert.equal(
        parseReference(expected).canonical,
        expected,
        'the canonical form is its own canonical form',
      );
    });
  }

  const refused: [text: string, because: RegExp][] = [
    ['', /empty/],
    ['a'.repeat(2000), /longer than 1024/],
    [`r.io/${'a/'.repeat(130)}b`, /longer than 255/],
    ['Debian', /lower-case/],
    ['a//b', /lower-case/],
    ['a/../b', /lower-case/],
    ['../a', /registry|lower-case/],
    ['r.io/', /lower-case/],
    ['debian:', /tag/],
    ['debian:-x', /tag/],
    [`debian:${'t'.repeat(129)}`, /tag/],
    ['debian@sha256:abc', /digest/],
    [`debian@md5:${'0'.repeat(32)}`, /digest/],
    [`debian@${DIGEST}@${DIGEST}`, /digest/],
    ['host:0/a', /port/],
    ['host:65536/a', /port/],
    ['host:/a', /registry/],
    ['-host.io/a', /registry/],
    ['user:pass@host/a', /digest/],
    ['http://host/a', /registry/],
    ['a b', /lower-case/],
    ['a\nb', /lower-case/],
    ['a\0b', /lower-case/],
    ['ä', /lower-case/],
  ];
  for (const [text, because] of refused) {
    it(`${JSON.stringify(text.slice(0, 40))} is refused`, () => {
      assert.throws(() => parseReference(text), { code: 'IMAGE_REFERENCE_INVALID', message: because });
    });
  }
});
