// A tool for an agent: runs code that a model wrote, in a microVM of its own without any network. Files go in, what the code
// printed and the files that it made come out. What one call leaves is there for the next, as in a notebook.
//
//   echo 'print(sum(map(int, open("numbers.txt"))))' | node examples/code-interpreter.ts numbers.txt
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { text } from 'node:stream/consumers';
import { BulkheadError, ExecTimeoutError, NetworkPolicy, Sandbox } from 'bulkhead';

const WORK = '/work';
/** What a model can read; more is of no use to it. */
const OUTPUT_MAX = 1024 * 1024;
const FILE_MAX = 16 * 1024 * 1024;
const FILES_MAX = 100;
const INTERPRETERS = { python: 'python3', sh: '/bin/sh' } as const;

export interface CodeRequest {
  language: keyof typeof INTERPRETERS;
  code: string;
  /** Content by name, put into the directory in which the code runs. */
  files?: Record<string, string | Uint8Array>;
  /** Default: 30 seconds. */
  timeoutMs?: number;
}

export interface CodeResult {
  stdout: string;
  stderr: string;
  /** -1 where the code was ended before its own end; `problem` says why. */
  exitCode: number;
  problem?: string;
  /** Files that the code made or changed, by name. */
  files: Record<string, Uint8Array>;
}

export class CodeInterpreter implements AsyncDisposable {
  readonly #sandbox: Sandbox;

  private constructor(sandbox: Sandbox) {
    this.#sandbox = sandbox;
  }

  /** One machine for one conversation: nothing that it holds is anybody else's. */
  static async start(image = 'docker.io/library/python:3.13-slim'): Promise<CodeInterpreter> {
    const sandbox = await Sandbox.create({
      ...{ image, memoryMib: 512, diskMib: 1024, workdir: WORK },
      network: NetworkPolicy.none(),
      // Whatever the program forgets, the machine ends.
      maxDurationSecs: 3600,
    });
    await sandbox.fs().mkdir(WORK);
    return new CodeInterpreter(sandbox);
  }

  async run({ language, code, files = {}, timeoutMs = 30_000 }: CodeRequest): Promise<CodeResult> {
    const fs = this.#sandbox.fs();
    for (const [name, content] of Object.entries(files)) await fs.write(`${WORK}/${basename(name)}`, content);
    const before = await this.#files();
    const end = await this.#execute(INTERPRETERS[language], code, timeoutMs);
    const made: CodeResult['files'] = {};
    for (const [path, { size, changed }] of await this.#files()) {
      const former = before.get(path);
      if (former?.size === size && former.changed === changed) continue;
      if (size <= FILE_MAX && Object.keys(made).length < FILES_MAX)
        made[basename(path)] = await fs.read(path);
    }
    return { ...end, files: made };
  }

  async #execute(interpreter: string, code: string, timeoutMs: number): Promise<Omit<CodeResult, 'files'>> {
    try {
      const output = await this.#sandbox.exec(interpreter, ['-'], {
        ...{ stdin: Buffer.from(code), timeoutMs, maxOutputBytes: OUTPUT_MAX },
      });
      const problem = output.oomKilled ? { problem: 'it ran out of memory' } : {};
      return { stdout: output.stdout(), stderr: output.stderr(), exitCode: output.code, ...problem };
    } catch (error) {
      // These are the code's own doing, and for the model to mend.
      const isTooMuch = error instanceof BulkheadError && error.code === 'TOO_LARGE';
      if (!(error instanceof ExecTimeoutError) && !isTooMuch) throw error;
      const problem = isTooMuch
        ? `it printed more than ${OUTPUT_MAX} bytes`
        : `it ran for over ${timeoutMs} ms`;
      return { stdout: '', stderr: '', exitCode: -1, problem };
    }
  }

  async #files(): Promise<Map<string, { size: number; changed: number }>> {
    const entries = await this.#sandbox.fs().list(WORK);
    const files = entries.filter(({ kind }) => kind === 'file');
    return new Map(files.map(({ path, size, modified }) => [path, { size, changed: modified.getTime() }]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#sandbox.removePersisted();
  }
}

if (import.meta.main) {
  await using interpreter = await CodeInterpreter.start(process.env.IMAGE);
  const names = process.argv.slice(2);
  const files = Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await readFile(name)])),
  );
  const result = await interpreter.run({ language: 'python', code: await text(process.stdin), files });
  process.stdout.write(result.stdout);
  process.stderr.write(result.problem ?? result.stderr);
  process.exitCode = result.exitCode;
}
