// A row of bars for a terminal: how a figure went.
const BARS = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'] as const;

/** Bars for `values`, oldest first; `full` is a whole bar, and what is above it is one too. */
export function sparkline(values: readonly number[], full: number): string {
  return values
    .map((value) => {
      const part = full > 0 && value > 0 ? Math.min(1, value / full) : 0;
      return BARS[Math.round(part * (BARS.length - 1))] ?? BARS[0];
    })
    .join('');
}

/** Can a terminal of this locale show bars? The first of the three variables that is set decides, as for every program. */
export function showsBars(env: Readonly<Record<string, string | undefined>>): boolean {
  const locale = [env.LC_ALL, env.LC_CTYPE, env.LANG].find((value) => value !== undefined && value !== '');
  return /utf-?8$/i.test(locale ?? '');
}
