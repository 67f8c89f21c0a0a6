// A board as a picture: each panel where the board has it, drawn from the board's own JSON and what Prometheus answered to its
// queries. Grafana itself is no package of a registry; lines and axes are ECharts', rendered without a browser.
import { type ECharts, init } from 'echarts';
import type { Unit } from '../boards/panels.ts';
import { figureText } from './units.ts';

/** Pixels of one of the board's 24 columns, and of one step of its heights. */
const COLUMN = 50;
const ROW = 32;
const GAP = 6;
const TITLE_HEIGHT = 26;
const LEGEND_LINE = 15;
/** More lines than these a legend has no room for; it says how many are left out. */
const LEGEND_LINES = 4;
/** With more lines than these what is below them is left unfilled: it would be as large again in the file. */
const FILLED_LINES = 2;
const HEADER_HEIGHT = 40;

const COLORS = [
  '#73bf69',
  '#f2cc0c',
  '#5794f2',
  '#ff9830',
  '#f2495c',
  '#b877d9',
  '#37872d',
  '#8ab8ff',
  '#c4162a',
  '#96d98d',
];
const THRESHOLD_COLORS: Readonly<Record<string, string>> = {
  green: '#73bf69',
  orange: '#ff9830',
  red: '#f2495c',
};
const INK = '#d8d9da';
const FAINT = '#8e8e96';
const PAPER = '#111217';
const PANEL = '#1b1c22';
const FONT = 'font-family="Inter, Helvetica, Arial, sans-serif"';

/** One series of a range query. */
export interface Line {
  labels: Readonly<Record<string, string>>;
  /** Seconds of Unix time, and value. */
  points: readonly (readonly [number, number])[];
}

/** What Prometheus answered to one query of a panel. */
export type Ask = (expr: string) => Promise<readonly Line[]>;

/** The part of Grafana's JSON that a picture needs. */
export interface PictureBoard {
  title?: string;
  panels?: readonly PicturePanel[];
}

interface PicturePanel {
  type: string;
  title?: string;
  /** `textMode` name: the legend is what to read. */
  options?: { textMode?: string };
  gridPos?: { x: number; y: number; w: number; h: number };
  fieldConfig?: {
    defaults: {
      unit?: string;
      max?: number;
      thresholds?: { steps: readonly { value: number | null; color: string }[] };
    };
  };
  targets?: readonly { expr?: string; legendFormat?: string }[];
}

interface NamedLine extends Line {
  name: string;
}

/** Throws where a panel has no answer: a picture with an empty panel shows nothing to anybody. */
export async function boardSvg(
  board: PictureBoard,
  ask: Ask,
  range: { from: number; to: number },
): Promise<string> {
  const panels = board.panels ?? [];
  const height =
    Math.max(...panels.map(({ gridPos }) => (gridPos?.y ?? 0) + (gridPos?.h ?? 0))) * ROW + HEADER_HEIGHT;
  const parts: string[] = [];
  for (const panel of panels) {
    const lines = await answers(panel, ask);
    if (lines.length === 0) throw new Error(`${board.title}: ${panel.title} has no answer`);
    parts.push(panelSvg(panel, lines, range));
  }
  const when = new Date(range.to * 1000).toISOString().slice(0, 10);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${24 * COLUMN} ${height}" ${FONT}>`,
    `<rect width="100%" height="100%" fill="${PAPER}"/>`,
    text(12, 26, 18, INK, board.title ?? ''),
    text(24 * COLUMN - 12, 26, 12, FAINT, when, 'end'),
    ...parts,
    '</svg>\n',
  ].join('\n');
}

async function answers({ targets = [] }: PicturePanel, ask: Ask): Promise<NamedLine[]> {
  const all: NamedLine[] = [];
  for (const { expr = '', legendFormat = '' } of targets)
    for (const line of await ask(expr)) all.push({ ...line, name: legendText(legendFormat, line.labels) });
  return all.filter(({ points }) => points.length > 0);
}

/** `{{label}}` stands for the label's value; a query without a legend is called by its labels. */
function legendText(format: string, labels: Line['labels']): string {
  const given = format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name: string) => labels[name] ?? '').trim();
  return given === '' ? Object.values(labels).join(' ') : given;
}

function panelSvg(
  panel: PicturePanel,
  lines: readonly NamedLine[],
  range: { from: number; to: number },
): string {
  const { x, y, w, h } = panel.gridPos ?? { x: 0, y: 0, w: 8, h: 8 };
  const [width, height] = [w * COLUMN - GAP, h * ROW - GAP];
  const inside =
    panel.type === 'stat'
      ? statSvg(panel, lines, width, height, range)
      : graphSvg(panel, lines, width, height, range);
  return [
    `<g transform="translate(${x * COLUMN + GAP / 2} ${y * ROW + HEADER_HEIGHT})">`,
    `<rect width="${width}" height="${height}" rx="3" fill="${PANEL}"/>`,
    text(10, 18, 13, INK, panel.title ?? ''),
    inside,
    '</g>',
  ].join('\n');
}

function unitOf({ fieldConfig }: PicturePanel): Unit {
  return (fieldConfig?.defaults.unit ?? 'short') as Unit;
}

function last({ points }: Line): number {
  return points.at(-1)?.[1] ?? Number.NaN;
}

function lastTime({ points }: Line): number {
  return points.at(-1)?.[0] ?? 0;
}

function statSvg(
  panel: PicturePanel,
  lines: readonly NamedLine[],
  width: number,
  height: number,
  range: { from: number; to: number },
): string {
  // What was there before may still have lines.
  const line = lines.toSorted((a, b) => lastTime(b) - lastTime(a))[0];
  const value = line === undefined ? Number.NaN : last(line);
  const named = panel.options?.textMode === 'name';
  const shown = named ? (line?.name ?? '') : figureText(value, unitOf(panel), range.to);
  const steps = panel.fieldConfig?.defaults.thresholds?.steps ?? [];
  const step = steps.findLast((each) => each.value === null || value >= each.value);
  const color = THRESHOLD_COLORS[step?.color ?? 'green'] ?? INK;
  const chart = chartSvg(width, height - 60, {
    grid: { left: 0, right: 0, top: 2, bottom: 0 },
    xAxis: { type: 'time', show: false, min: range.from * 1000, max: range.to * 1000 },
    yAxis: { type: 'value', show: false, min: 0 },
    series: named || line === undefined ? [] : [lineSeries(line, color, 0.2)],
  });
  return [
    text(width / 2, 58, 24, color, shown, 'middle'),
    `<g transform="translate(0 60)">${chart}</g>`,
  ].join('\n');
}

function graphSvg(
  panel: PicturePanel,
  lines: readonly NamedLine[],
  width: number,
  height: number,
  range: { from: number; to: number },
): string {
  const unit = unitOf(panel);
  const sorted = lines.toSorted((a, b) => last(b) - last(a));
  const shown = sorted.slice(0, LEGEND_LINES);
  const legendHeight = (shown.length + 1 + (sorted.length > shown.length ? 1 : 0)) * LEGEND_LINE + 6;
  const max = panel.fieldConfig?.defaults.max;
  const chart = chartSvg(width, height - TITLE_HEIGHT - legendHeight, {
    grid: { left: 58, right: 26, top: 6, bottom: 20 },
    xAxis: {
      type: 'time',
      min: range.from * 1000,
      max: range.to * 1000,
      splitNumber: 4,
      axisLabel: { color: FAINT, fontSize: 10, formatter: '{HH}:{mm}', hideOverlap: true },
      axisLine: { lineStyle: { color: '#3a3b42' } },
    },
    yAxis: {
      type: 'value',
      min: 0,
      ...(max === undefined ? {} : { max }),
      splitNumber: 3,
      axisLabel: {
        color: FAINT,
        fontSize: 10,
        formatter: (value: number) => figureText(value, unit, range.to),
      },
      splitLine: { lineStyle: { color: '#2c2d34' } },
    },
    series: sorted.map((line, index) =>
      lineSeries(line, colorOf(index), sorted.length > FILLED_LINES ? 0 : 0.1),
    ),
  });
  const legend = [legendRow(width, 0, 'Last', 'Max')];
  shown.forEach((line, index) => {
    const most = Math.max(...line.points.map(([, value]) => value).filter(Number.isFinite));
    const row = legendRow(
      width,
      index + 1,
      figureText(last(line), unit, range.to),
      figureText(most, unit, range.to),
    );
    const at = (index + 1) * LEGEND_LINE;
    legend.push(
      `<rect x="10" y="${at - 5}" width="10" height="3" fill="${colorOf(index)}"/>`,
      text(26, at, 11, INK, line.name.slice(0, 40)),
      row,
    );
  });
  if (sorted.length > shown.length)
    legend.push(
      text(26, (shown.length + 1) * LEGEND_LINE, 11, FAINT, `and ${sorted.length - shown.length} more`),
    );
  return [
    `<g transform="translate(0 ${TITLE_HEIGHT})">${chart}</g>`,
    `<g transform="translate(0 ${height - legendHeight + 10})">${legend.join('')}</g>`,
  ].join('\n');
}

function legendRow(width: number, index: number, lastText: string, maxText: string): string {
  const color = index === 0 ? '#5794f2' : INK;
  const at = index * LEGEND_LINE;
  return text(width - 90, at, 11, color, lastText, 'end') + text(width - 12, at, 11, color, maxText, 'end');
}

function colorOf(index: number): string {
  return COLORS[index % COLORS.length] ?? INK;
}

function lineSeries({ points }: Line, color: string, opacity: number) {
  return {
    type: 'line' as const,
    data: points.map(([at, value]) => [at * 1000, value]),
    showSymbol: points.length < 2,
    lineStyle: { color, width: 1.2 },
    itemStyle: { color },
    ...(opacity === 0 ? {} : { areaStyle: { color, opacity } }),
  };
}

/** What ECharts draws, without the frame around it. */
function chartSvg(width: number, height: number, option: Parameters<ECharts['setOption']>[0]): string {
  const chart = init(null, null, { renderer: 'svg', ssr: true, width, height });
  try {
    chart.setOption({ animation: false, useUTC: true, backgroundColor: 'transparent', ...option });
    return compact(chart.renderToSVGString());
  } finally {
    chart.dispose();
  }
}

/** As it stands in another picture: without a namespace of its own, and with as many decimals as a screen shows. */
function compact(svg: string): string {
  return svg
    .replace(/ xmlns(:\w+)?="[^"]*"/g, '')
    .replace(/ (?:ecmeta_\w+|class|baseProfile|version)="[^"]*"/g, '')
    .replace(/<style[^>]*>[\s\S]*?<\/style>/g, '')
    .replace(/="[^"]*"/g, (attribute) => attribute.replace(/(\d+\.\d)\d+/g, '$1'))
    .replace(/font-family:[^";]*;?/g, '');
}

function text(x: number, y: number, size: number, color: string, content: string, anchor = 'start'): string {
  const escaped = content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
  return `<text x="${x}" y="${y}" font-size="${size}" fill="${color}" text-anchor="${anchor}">${escaped}</text>`;
}
