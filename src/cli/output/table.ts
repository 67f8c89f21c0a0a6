// Aligned columns, as kubectl prints them.

/** Control characters come from guests and files; a terminal must show them, not obey them. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Bidi_Control}]/gu, (character) => {
    const escaped = JSON.stringify(character).slice(1, -1);
    return escaped.length > 1 ? escaped : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

const GAP = 3;

/** Rows that are printed as they come, with widths that only grow: a watch does not know its longest value. */
export class Table {
  readonly #header: readonly string[];
  readonly #widths: number[];
  #headerDue: boolean;

  constructor(header: readonly string[], options: { showHeader: boolean }) {
    this.#header = header;
    this.#widths = header.map((name) => name.length);
    this.#headerDue = options.showHeader;
  }

  /** Lines for some more rows. */
  format(rows: readonly (readonly string[])[]): string {
    const clean = rows.map((row) => row.map(printable));
    const lines = this.#headerDue ? [this.#header, ...clean] : clean;
    this.#headerDue = false;
    for (const line of lines) {
      for (const [column, cell] of line.entries()) {
        this.#widths[column] = Math.max(this.#widths[column] ?? 0, cell.length);
      }
    }
    return lines.map((line) => `${this.#line(line)}\n`).join('');
  }

  #line(cells: readonly string[]): string {
    const last = cells.length - 1;
    return cells
      .map((cell, column) => (column === last ? cell : cell.padEnd((this.#widths[column] ?? 0) + GAP)))
      .join('');
  }
}
