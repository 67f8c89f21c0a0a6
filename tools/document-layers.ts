// Writes the table of folders in ARCHITECTURE.md from tools/layers.ts. Run by tools/generate.sh.
import { readFileSync, writeFileSync } from 'node:fs';
import { EXCEPTIONS, LAYERS, OTHER_FOLDERS } from './layers.ts';

const BEGIN = '<!-- Generated from tools/layers.ts by `make generate`; changes belong there. -->';
const END = '<!-- End of the generated table. -->';

function row(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`;
}

function code(words: readonly string[]): string {
  return words.map((word) => `\`${word}\``).join(', ');
}

function table(): string {
  const exceptions = Object.entries(EXCEPTIONS).map(
    ([file, { mayImport, why }]) =>
      `One exception: \`src/${file}\` may import ${code(mayImport)}, since ${why}.`,
  );
  return [
    row(['Folder', 'Owns', 'May import']),
    row(['---', '---', '---']),
    ...Object.entries(LAYERS).map(([folder, { owns, mayImport }]) =>
      row([`\`src/${folder}\``, owns, mayImport.length === 0 ? 'nothing of ours' : code(mayImport)]),
    ),
    ...Object.entries(OTHER_FOLDERS).map(([folder, owns]) => row([`\`${folder}\``, owns, ''])),
    '',
    ...exceptions,
  ].join('\n');
}

const page = new URL('../ARCHITECTURE.md', import.meta.url);
const text = readFileSync(page, 'utf8');
const [from, to] = [text.indexOf(BEGIN), text.indexOf(END)];
if (from < 0 || to < from) throw new Error('ARCHITECTURE.md lacks the marks of its table of folders');
const written = `${text.slice(0, from)}${BEGIN}\n\n${table()}\n\n${text.slice(to)}`;
if (written !== text) writeFileSync(page, written);
