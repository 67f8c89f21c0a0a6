// Runs bin/bulkhead as its users do, against a server with fakes.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

export const BULKHEAD = join(import.meta.dirname, '..', '..', '..', 'bin', 'bulkhead');

export interface CliResult {
  code: number;
  stdout: string;
  stderr: string;
}

export interface RunningCli {
  child: ReturnType<typeof spawn>;
  /** Resolves when standard output holds the text. */
  printed(text: string): Promise<void>;
  result: Promise<CliResult>;
}

export function environment(socketPath: string, extra: Record<string, string> = {}): NodeJS.ProcessEnv {
  const { PATH, HOME } = process.env;
  return { PATH, HOME, BULKHEAD_SOCKET: socketPath, ...extra };
}

/** Starts a command whose end is not waited for. */
export function start(
  socketPath: string,
  args: readonly string[],
  options: { input?: string | Buffer | 'open'; env?: Record<string, string> } = {},
): RunningCli {
  const child = spawn(BULKHEAD, args, { env: environment(socketPath, options.env) });
  let stdout = '';
  let stderr = '';
  const waiting: { text: string; resolve(): void }[] = [];
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
    for (const each of waiting) if (stdout.includes(each.text)) each.resolve();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  child.stdin.on('error', () => {});
  if (options.input !== 'open') child.stdin.end(options.input);
  const result = once(child, 'close').then(([code]) => ({
    code: (code as number | null) ?? -1,
    stdout,
    stderr,
  }));
  return {
    child,
    result,
    printed(text) {
      const { promise, resolve } = Promise.withResolvers<void>();
      waiting.push({ text, resolve });
      if (stdout.includes(text)) resolve();
      return promise;
    },
  };
}

/** Runs a command to its end. */
export function bulkhead(socketPath: string, ...args: string[]): Promise<CliResult> {
  return start(socketPath, args).result;
}
