// The resumable commands of this daemon by sandbox and id, and those that an earlier daemon left in its guests.

import { BulkheadError } from '../api/errors.ts';
import { resumableOf } from '../api/exec-sessions.ts';
import type { ExecRequest, GuestProcess } from '../guest/agent.ts';
import type { LiveSandbox } from './contracts.ts';
import { KeptExec } from './kept-exec.ts';

const NOTHING = { stdout: 0, stderr: 0 } as const;

export class KeptExecs {
  readonly #byKey = new Map<string, Promise<KeptExec>>();
  readonly #closing: AbortSignal;

  constructor(closing: AbortSignal) {
    this.#closing = closing;
    closing.addEventListener('abort', () => {
      for (const starting of this.#byKey.values()) starting.then((kept) => kept.abandon()).catch(() => {});
    });
  }

  /** Starts it. `release` gives back its place among the streams of the sandbox, once it is over or does not start. */
  start(
    sandbox: LiveSandbox,
    id: string,
    seconds: number,
    request: ExecRequest,
    release: () => void,
  ): Promise<KeptExec> {
    if (this.#byKey.has(keyOf(sandbox, id))) {
      release();
      throw new BulkheadError('ALREADY_EXISTS', `there is a command ${id} already`);
    }
    const process = () => sandbox.agent.exec({ ...request, delivered: 'when-acknowledged' });
    return this.#keep(sandbox, id, seconds, NOTHING, release, process);
  }

  /** Finds it for a client that has everything before `from`; `admit` takes its place. Fails with COMMAND_LOST. */
  async resume(
    sandbox: LiveSandbox,
    id: string,
    from: { stdout: number; stderr: number },
    admit: () => () => void,
  ): Promise<KeptExec> {
    const kept = this.#byKey.get(keyOf(sandbox, id));
    if (kept !== undefined) return kept;
    const session = sandbox.agent.hello.sessions.find(({ sessionId }) => resumableOf(sessionId)?.id === id);
    const { seconds } = resumableOf(session?.sessionId ?? '') ?? {};
    if (session === undefined || seconds === undefined) throw lost(id);
    const release = admit();
    const process = async () => {
      try {
        return await sandbox.agent.attach(session.sessionId, from, 'when-acknowledged');
      } catch (error) {
        throw error instanceof BulkheadError && error.code === 'NOT_FOUND' ? lost(id) : error;
      }
    };
    return this.#keep(sandbox, id, seconds, from, release, process);
  }

  #keep(
    sandbox: LiveSandbox,
    id: string,
    seconds: number,
    from: { stdout: number; stderr: number },
    release: () => void,
    begin: () => Promise<GuestProcess>,
  ): Promise<KeptExec> {
    const key = keyOf(sandbox, id);
    const unuse = sandbox.use();
    const forget = (): void => {
      this.#byKey.delete(key);
      release();
      unuse();
    };
    const keeping = begin().then(
      (process) => new KeptExec(process, from, seconds * 1000, forget),
      (error: unknown) => {
        forget();
        throw error;
      },
    );
    this.#byKey.set(key, keeping);
    if (this.#closing.aborted) keeping.then((kept) => kept.abandon()).catch(() => {});
    return keeping;
  }
}

function keyOf({ uid }: LiveSandbox, id: string): string {
  return `${uid}/${id}`;
}

function lost(id: string): BulkheadError {
  return new BulkheadError('COMMAND_LOST', `there is no command ${id} to go on with`);
}
