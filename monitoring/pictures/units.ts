// Figures as Grafana writes them, for the units that the boards use.
import type { Unit } from '../boards/panels.ts';

const BYTES = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
const COUNTS = ['', ' K', ' Mil', ' Bil'];

/** `now` in seconds of Unix time. */
export function figureText(value: number, unit: Unit, now: number): string {
  switch (unit) {
    case 'bytes':
      return scaled(value, 1024, BYTES);
    case 'Bps':
      return `${scaled(value, 1024, BYTES)}/s`;
    case 'ops':
      return `${scaled(value, 1000, COUNTS)} ops/s`;
    case 'percentunit':
      return `${digits(value * 100)}%`;
    case 's':
      return seconds(value);
    case 'dateTimeFromNow':
      return `${seconds(Math.max(0, now - value / 1000))} ago`;
    case 'short':
      return scaled(value, 1000, COUNTS);
  }
}

function scaled(value: number, base: number, names: readonly string[]): string {
  let [rest, step] = [value, 0];
  while (Math.abs(rest) >= base && step < names.length - 1) {
    rest /= base;
    step += 1;
  }
  const name = names[step] ?? '';
  return `${digits(rest)}${name === '' || name.startsWith(' ') ? '' : ' '}${name}`;
}

function seconds(value: number): string {
  if (value < 1e-3) return `${digits(value * 1e6)} µs`;
  if (value < 1) return `${digits(value * 1e3)} ms`;
  if (value < 90) return `${digits(value)} s`;
  return value < 5400 ? `${digits(value / 60)} min` : `${digits(value / 3600)} h`;
}

/** Three that matter. */
function digits(value: number): string {
  return String(Number(value.toPrecision(3)));
}
