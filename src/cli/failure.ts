// How commands fail: what is said on stderr, and the exit code.
import { asBulkheadError, BulkheadError } from '../api/errors.ts';

/** Exit codes that are the command line's own. */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  /** Of exec, run and attach: the failure is Bulkhead's, not the command's. */
  bulkhead: 125,
  /** Of `daemon --until-unused`: another one is there (EX_TEMPFAIL of sysexits.h). */
  taken: 75,
} as const;

/** Ends the process with a code; says its message, where it has one. */
export class CommandFailure extends Error {
  readonly exitCode: number;
  constructor(exitCode: number, message = '') {
    super(message);
    this.exitCode = exitCode;
  }
}

/** Wrong use of a command. */
export function usage(message: string): CommandFailure {
  return new CommandFailure(EXIT.usage, message);
}

/** Everything about a failure that helps: what, which fields, what to do. */
export function describeFailure(error: unknown): string {
  if (error instanceof CommandFailure) return error.message;
  const failure = asBulkheadError(error);
  const fields = failure.causes.filter(({ field }) => field !== '');
  const listed = fields.every(({ message }) => failure.message.includes(message));
  const lines = [
    failure.message,
    ...(listed ? [] : fields.map(({ field, message }) => `  ${field}: ${message}`)),
  ];
  return [...lines, failure.row.hint].join('\n');
}

/** Why a path cannot be used, in words for people. */
export function pathProblem(path: string, error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT' || code === 'ENOTDIR') return `${path}: no such file or folder`;
  if (code === 'EACCES' || code === 'EPERM') return `${path}: permission denied`;
  return `${path}: ${message}`;
}

/** Says a failure on stderr. */
export function report(error: unknown): void {
  const text = describeFailure(error);
  if (text !== '') process.stderr.write(`error: ${text}\n`);
}

/** The code for a failure of an ordinary command. */
export function exitCodeOf(error: unknown): number {
  return error instanceof CommandFailure ? error.exitCode : EXIT.failed;
}

/** Runs what has a guest's exit code: Bulkhead's own failures get 125, 126 or 127. */
export async function withGuestExitCode(run: () => Promise<number>): Promise<void> {
  try {
    process.exitCode = await run();
  } catch (error) {
    if (error instanceof CommandFailure && error.exitCode !== EXIT.usage) throw error;
    report(error);
    const code = error instanceof BulkheadError ? error.row.exitCode : EXIT.bulkhead;
    process.exitCode = Math.max(code, EXIT.bulkhead);
  }
}
