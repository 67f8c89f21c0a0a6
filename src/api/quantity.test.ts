import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BulkheadError } from './errors.ts';
import { compareQuantities, formatQuantity, isQuantity, parseBytes, parseQuantity } from './quantity.ts';

test('quantities mean what they mean in Kubernetes', () => {
  const values: Record<string, bigint> = {
    '0': 0n,
    '1': 1n,
    '+1': 1n,
    '-1': -1n,
    '512Mi': 536_870_912n,
    '4Gi': 4_294_967_296n,
    '1k': 1000n,
    '1M': 1_000_000n,
    '1E': 10n ** 18n,
    '1e3': 1000n,
    '1E3': 1000n,
    '12e-1': 2n,
    '0.5Gi': 536_870_912n,
    '.5Ki': 512n,
    '5.': 5n,
    '100m': 1n,
    '-100m': 0n,
    '1500m': 2n,
    '1n': 1n,
    '1u': 1n,
  };
  for (const [text, value] of Object.entries(values)) assert.equal(parseQuantity(text), value, text);
});

test('what is no quantity is refused', () => {
  for (const text of [
    '',
    ' 1',
    '1 ',
    '1Gi ',
    '1K',
    '1ki',
    '1MB',
    '1 Gi',
    'Gi',
    '.',
    '--1',
    '1e',
    '1e1.5',
    '0x10',
    '1_000',
    '١',
    'NaN',
    'Infinity',
    '9'.repeat(65),
  ]) {
    assert.equal(isQuantity(text), false, text);
    assert.throws(
      () => parseQuantity(text),
      (error) => error instanceof BulkheadError && error.code === 'INVALID',
    );
  }
});

test('what is beyond every quantity is the largest, as in Kubernetes', () => {
  const largest = 2n ** 63n - 1n;
  for (const text of ['16Ei', '8Ei', '99999999999999999999', '1e999']) {
    assert.equal(isQuantity(text), true, text);
    assert.equal(parseQuantity(text), largest, text);
    assert.throws(() => parseBytes(text), BulkheadError, text);
  }
});

test('sizes are exact numbers from 0 to 8Pi', () => {
  assert.equal(parseBytes('8Ti'), 8 * 1024 ** 4);
  assert.equal(parseBytes('9007199254740991'), Number.MAX_SAFE_INTEGER);
  for (const text of ['-1', '9007199254740992', '8Pi', '1Ei']) {
    assert.throws(
      () => parseBytes(text),
      (error) => error instanceof BulkheadError && error.code === 'INVALID',
    );
  }
});

test('comparison is by value, exact beyond what floats can tell apart', () => {
  assert.equal(compareQuantities('1Gi', '1024Mi'), 0);
  assert.equal(compareQuantities('1', '1000m'), 0);
  assert.equal(compareQuantities('1n', '0'), 1);
  assert.equal(compareQuantities('9007199254740993', '9007199254740992'), 1);
  assert.equal(compareQuantities('-1', '0'), -1);
});

test('formatting gives the shortest exact binary form', () => {
  const texts: [number | bigint, string][] = [
    [0, '0'],
    [1000, '1000'],
    [1024, '1Ki'],
    [1536, '1536'],
    [536_870_912, '512Mi'],
    [1n << 60n, '1Ei'],
    [1n << 62n, '4Ei'],
  ];
  for (const [value, text] of texts) assert.equal(formatQuantity(value), text);
  for (const value of [-1, 0.5, Number.NaN, 2 ** 53])
    assert.throws(() => formatQuantity(value), BulkheadError);
});

test('what was formatted parses to the same number, and its order is that of numbers', () => {
  let seed = 1;
  const next = (limit: number) => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed % limit;
  };
  for (let round = 0; round < 2000; round += 1) {
    const a = next(2 ** 20) * 2 ** next(32);
    const b = next(2 ** 20) * 2 ** next(32);
    assert.equal(parseBytes(formatQuantity(a)), a);
    assert.equal(compareQuantities(formatQuantity(a), formatQuantity(b)), Math.sign(a - b));
  }
});
