import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { boards } from '../boards/boards.ts';
import { boardSvg, type Line } from './board-svg.ts';
import { figureText } from './units.ts';

const RANGE = { from: 1_767_225_600, to: 1_767_225_900 };
/** A page with pictures that are larger loads slowly. */
const MOST_BYTES = 200 * 1024;

function line(labels: Record<string, string>, value: number): Line {
  return { labels, points: [0, 100, 200, 300].map((after) => [RANGE.from + after, value + after] as const) };
}

const BOARD = {
  title: 'Fruit & more',
  panels: [
    {
      type: 'stat',
      title: 'Ripe',
      gridPos: { x: 0, y: 0, w: 4, h: 4 },
      fieldConfig: {
        defaults: {
          unit: 'bytes',
          thresholds: {
            steps: [
              { value: null, color: 'green' },
              { value: 1000, color: 'red' },
            ],
          },
        },
      },
      targets: [{ expr: 'ripe', legendFormat: '' }],
    },
    {
      type: 'timeseries',
      title: 'Eaten',
      gridPos: { x: 4, y: 0, w: 8, h: 8 },
      fieldConfig: { defaults: { unit: 'ops' } },
      targets: [{ expr: 'eaten', legendFormat: '{{name}} <b>' }],
    },
  ],
};

test('a picture has each panel with its figures, and nothing in it is markup of others', async () => {
  const svg = await boardSvg(
    BOARD,
    async (expr) =>
      expr === 'ripe' ? [line({}, 2048)] : [line({ name: 'apple' }, 1), line({ name: 'pear' }, 5)],
    RANGE,
  );
  for (const expected of [
    'Fruit &amp; more',
    'Ripe',
    'Eaten',
    '2.29 KiB',
    'apple &lt;b&gt;',
    'pear &lt;b&gt;',
    '305 ops/s',
  ])
    assert.ok(svg.includes(expected), expected);
  // 2348 is above the second threshold.
  assert.match(svg, /fill="#f2495c"[^>]*>2\.29 KiB/);
  assert.equal(svg.match(/<svg/g)?.length, svg.match(/<\/svg>/g)?.length);
});

test('a figure whose legend is what to read shows the legend of the newest series', async () => {
  const panel = {
    type: 'stat',
    title: 'Phase',
    options: { textMode: 'name' },
    targets: [{ expr: 'phase', legendFormat: '{{phase}}' }],
  };
  const old: Line = { labels: { phase: 'Pending' }, points: [[RANGE.from, 1]] };
  const svg = await boardSvg({ panels: [panel] }, async () => [old, line({ phase: 'Running' }, 1)], RANGE);
  assert.match(svg, />Running</);
  assert.doesNotMatch(svg, /Pending/);
});

test('a panel without an answer makes no picture', async () => {
  const asked = boardSvg(BOARD, async (expr) => (expr === 'ripe' ? [line({}, 1)] : []), RANGE);
  await assert.rejects(asked, /Eaten has no answer/);
});

test('figures are written in the units of the boards', () => {
  const texts = [
    figureText(1536, 'bytes', 0),
    figureText(0, 'Bps', 0),
    figureText(0.123_45, 'percentunit', 0),
    figureText(0.0042, 's', 0),
    figureText(300, 's', 0),
    figureText(12_345, 'short', 0),
    figureText(940_000, 'dateTimeFromNow', 1000),
  ];
  assert.deepEqual(texts, ['1.5 KiB', '0 B/s', '12.3%', '4.2 ms', '5 min', '12.3 K', '60 s ago']);
});

test('each board has a picture in the docs that shows all of its panels, in a small file', () => {
  for (const { file, board } of boards()) {
    const path = join(import.meta.dirname, '..', '..', 'docs', 'boards', file.replace(/\.json$/, '.svg'));
    assert.ok(existsSync(path), `${path} is missing: tools/render-boards.ts`);
    const svg = readFileSync(path, 'utf8');
    assert.ok(svg.length <= MOST_BYTES, `${file}: ${svg.length} bytes`);
    for (const { title = '' } of board.panels ?? [])
      assert.ok(svg.includes(`>${title}<`), `${file} lacks ${title}: tools/render-boards.ts draws it anew`);
  }
});
