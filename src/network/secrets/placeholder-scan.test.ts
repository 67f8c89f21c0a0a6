import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PlaceholderScan, PlaceholderSearch } from './placeholder-scan.ts';
import { placeholderOf } from './secret.ts';

const PLACEHOLDER = placeholderOf('0b54b8d4-1fd4-4a5e-8a3e-5f0a3c1e9a11', 'KEY');
const search = new PlaceholderSearch([
  { env: 'OTHER', placeholder: placeholderOf('another', 'OTHER') },
  { env: 'KEY', placeholder: PLACEHOLDER },
]);

const codes = (form: (code: string) => string) =>
  [...PLACEHOLDER].map((each) => form(each.charCodeAt(0).toString(16))).join('');

const FORMS: Readonly<Record<string, string>> = {
  plain: PLACEHOLDER,
  'upper case': PLACEHOLDER.toUpperCase(),
  'percent-encoded': codes((code) => `%${code}`),
  'percent-encoded in part': `${PLACEHOLDER.slice(0, 9)}%${PLACEHOLDER.charCodeAt(9).toString(16)}${PLACEHOLDER.slice(10)}`,
  'percent-encoded twice': codes((code) => `%25${code}`),
  'escaped as in JSON': codes((code) => `\\u00${code}`),
  'base64 after nothing': Buffer.from(PLACEHOLDER).toString('base64'),
  'base64 after one byte': Buffer.from(`:${PLACEHOLDER}`).toString('base64'),
  'base64 after two bytes': Buffer.from(`a:${PLACEHOLDER}z`).toString('base64'),
  'base64 for URLs': Buffer.from(`user:${PLACEHOLDER}~~`).toString('base64url'),
};

for (const [name, form] of Object.entries(FORMS)) {
  test(`a placeholder is found ${name}, in one piece and in any two`, () => {
    const bytes = Buffer.from(`some words before ${form} and behind`);
    assert.equal(new PlaceholderScan(search).push(bytes), 'KEY');
    for (let cut = 1; cut < bytes.length; cut += 1) {
      const scan = new PlaceholderScan(search);
      assert.equal(
        scan.push(bytes.subarray(0, cut)) ?? scan.push(bytes.subarray(cut)),
        'KEY',
        `cut at ${cut}`,
      );
    }
  });
}

test('a placeholder that comes byte by byte among others is found', () => {
  const scan = new PlaceholderScan(search);
  const bytes = Buffer.from(`${'x'.repeat(5_000)}${FORMS['escaped as in JSON']}`);
  const found = [...bytes].map((byte) => scan.push(Buffer.of(byte))).find((each) => each !== undefined);
  assert.equal(found, 'KEY');
});

test('what only resembles a placeholder passes', () => {
  const scan = new PlaceholderScan(search);
  for (const text of [PLACEHOLDER.slice(0, -1), '%', '%zz', '\\u00', 'bulkheadsecret', '+'.repeat(100)])
    assert.equal(scan.push(Buffer.from(`${text} `)), undefined);
});
