// How a bench inside the lab hands its figures to the one outside: a line each on standard output.
const LINE = /^figure (.+) = ([\d.]+)$/gm;

/** Measurements by name. */
export type Figures = Map<string, number[]>;

export function printFigure(name: string, value: number): void {
  process.stdout.write(`figure ${name} = ${value}\n`);
}

export function readFigures(output: string): Figures {
  const figures: Figures = new Map();
  for (const [, name = '', value] of output.matchAll(LINE))
    figures.set(name, [...(figures.get(name) ?? []), Number(value)]);
  return figures;
}

export function addFigures(to: Figures, more: Figures): void {
  for (const [name, values] of more) to.set(name, [...(to.get(name) ?? []), ...values]);
}
