// What a command said and how it ended.
import type { StreamExit } from '../client/stream.ts';

export interface ExitStatus {
  /** 0 to 255; 128 + N for signal N. */
  code: number;
  success: boolean;
}

/** Bytes of each stream that were lost. */
export interface LostOutput {
  readonly stdout: number;
  readonly stderr: number;
}

/** A command that has ended, with all it said. */
export class ExecOutput {
  readonly #exit: StreamExit;
  readonly #stdout: Buffer;
  readonly #stderr: Buffer;
  /** Output that is missing: nothing, unless the daemon was away for long. */
  readonly lost: LostOutput;

  constructor(exit: StreamExit, stdout: Buffer, stderr: Buffer, lost: LostOutput) {
    this.lost = { ...lost };
    this.#exit = exit;
    this.#stdout = stdout;
    this.#stderr = stderr;
  }

  get code(): number {
    return this.#exit.exitCode;
  }
  get success(): boolean {
    return this.code === 0;
  }
  /** Such as `SIGKILL`; empty for a normal end. */
  get signal(): string {
    return this.#exit.signal;
  }
  /** The guest's kernel ended it for want of memory. */
  get oomKilled(): boolean {
    return this.#exit.oomKilled;
  }
  /** As UTF-8. */
  stdout(): string {
    return this.#stdout.toString();
  }
  stderr(): string {
    return this.#stderr.toString();
  }
  stdoutBytes(): Buffer {
    return this.#stdout;
  }
  stderrBytes(): Buffer {
    return this.#stderr;
  }
  status(): ExitStatus {
    return { code: this.code, success: this.success };
  }
}
