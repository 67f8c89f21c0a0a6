// Writes docs/sdk-reference.md from the declarations of src/sdk, as the compiler emits them. Run by tools/generate.sh.
//
// The compiler's own interface to programs is still called unstable: its version is pinned, and this file is all that uses it.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SyntaxKind } from 'typescript/unstable/ast';
import { API, type Project, SymbolFlags } from 'typescript/unstable/sync';

const PROJECT = join(import.meta.dirname, '..');
const PAGE = join(PROJECT, 'docs', 'sdk-reference.md');

interface Entry {
  name: string;
  kind: 'class' | 'object' | 'function' | 'error' | 'type';
  /** Markdown. */
  doc: string;
  /** TypeScript. */
  declaration: string;
}

const SECTIONS: readonly (readonly [Entry['kind'], string, string])[] = [
  ['class', 'Classes', ''],
  ['object', 'Objects', 'What makes settings, and the words of settings by name.'],
  ['function', 'Functions', ''],
  ['error', 'Errors', 'Each is a `BulkheadError`; its `code` says which failure it is.'],
  ['type', 'Types', ''],
];

/** Emits the declarations into `dir`, as the package has them. */
function emit(dir: string): string {
  const tsc = join(PROJECT, 'node_modules', '.bin', 'tsc');
  const args = ['-p', 'tsconfig.sdk.json', '--outDir', dir, '--emitDeclarationOnly'];
  execFileSync(tsc, args, { cwd: PROJECT, stdio: ['ignore', 'inherit', 'inherit'] });
  const config = join(dir, 'tsconfig.json');
  const compilerOptions = {
    module: 'nodenext',
    lib: ['es2024', 'esnext.disposable'],
    types: [],
    noEmit: true,
  };
  writeFileSync(config, JSON.stringify({ compilerOptions, files: ['sdk/index.d.ts'] }));
  return config;
}

/** Without what belongs to nobody outside: private members and constructors that the static methods call. */
function publicParts(declaration: string, isError: boolean): string {
  const lines = declaration
    .replace(/^export /, '')
    .replace(/^declare /, '')
    .replaceAll(/\n +#private;/g, '')
    .replaceAll(/\n +private [^;]*;/g, '');
  if (isError) return lines;
  return lines.replaceAll(/(?:\n +\/\*\*(?:(?!\*\/)[\s\S])*\*\/)?\n +constructor\([^;]*;/g, '');
}

/** Lines of a doc comment, without its marks. */
function docOf(comment: string): string {
  return comment
    .replaceAll(/^\/\*\*|\*\/$/g, '')
    .replaceAll(/^ *\* ?/gm, '')
    .trim();
}

function entriesOf(project: Project, index: string): Entry[] {
  const { checker, program } = project;
  const file = program.getSourceFile(index);
  const module = file === undefined ? undefined : checker.getSymbolAtLocation(file);
  if (module === undefined) throw new Error(`${index} exports nothing`);
  const entries = new Map<string, Entry>();
  for (const exported of checker.getExportsOfModule(module)) {
    const { name } = exported;
    const symbol = exported.flags & SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported;
    const nodes = symbol.declarations.map((handle) => handle.resolve(project));
    for (const node of nodes) {
      if (node === undefined) continue;
      // A variable's comment and keywords are its statement's.
      const whole = node.kind === SyntaxKind.VariableDeclaration ? node.parent.parent : node;
      const text = whole.getText();
      const [comment] = (whole as { jsDoc?: readonly { getText(): string }[] }).jsDoc ?? [];
      const isError = /^export declare class \w+Error\b/.test(text);
      const kind =
        node.kind === SyntaxKind.ClassDeclaration
          ? isError
            ? 'error'
            : 'class'
          : node.kind === SyntaxKind.FunctionDeclaration
            ? 'function'
            : node.kind === SyntaxKind.VariableDeclaration
              ? 'object'
              : 'type';
      const former = entries.get(name);
      const declaration = publicParts(text, isError);
      // A name of values and of their type is one thing to its readers.
      entries.set(name, {
        ...{ name, kind: former?.kind ?? kind },
        doc: [former?.doc, comment === undefined ? '' : docOf(comment.getText())].filter(Boolean).join('\n'),
        declaration: former === undefined ? declaration : `${former.declaration}\n${declaration}`,
      });
    }
  }
  return [...entries.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

function page(entries: readonly Entry[]): string {
  const sections = SECTIONS.flatMap(([kind, title, intro]) => [
    `## ${title}`,
    ...(intro === '' ? [] : [intro]),
    ...entries
      .filter((entry) => entry.kind === kind)
      .flatMap(({ name, doc, declaration }) => [
        `### ${name}`,
        ...(doc === '' ? [] : [doc]),
        `\`\`\`ts\n${declaration}\n\`\`\``,
      ]),
  ]);
  return `${[
    '# Reference of the TypeScript SDK',
    '<!-- Generated from src/sdk by `make generate`; changes belong there. -->',
    'Everything that `bulkhead` exports, as its declarations have it. docs/sdk.md is the guide.',
    ...sections,
  ].join('\n\n')}\n`;
}

const dir = mkdtempSync(join(tmpdir(), 'bulkhead-declarations-'));
const config = emit(dir);
const api = new API({ cwd: dir });
try {
  const [project] = api.updateSnapshot({ openProject: config }).getProjects();
  if (project === undefined) throw new Error('the declarations are no project');
  writeFileSync(PAGE, page(entriesOf(project, join(dir, 'sdk', 'index.d.ts'))));
} finally {
  api.close();
  rmSync(dir, { recursive: true });
}
