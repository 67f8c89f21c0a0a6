// Whether anybody uses a sandbox, and since when nobody does.
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** In the sandbox's directory: since when nobody has used it. Not there while somebody does. */
const FILE = 'idle-since';
/** Far more than a moment takes. */
const MAX_CHARS = 64;

/**
 * Counts users. A note on disk lets the idle time go on over a restart of the daemon; a daemon that was killed while somebody
 * used the sandbox leaves none, and the time begins anew. The note is a few bytes that need not survive the host: a VM does not.
 */
export class SandboxUse {
  readonly #path: string;
  readonly #now: () => number;
  readonly #onIdle: () => void;
  #users = 0;
  #idleSince: string | undefined;
  #noted = false;

  /** `now`: milliseconds since the epoch. `onIdle` is called when the last user leaves. */
  constructor(dir: string, now: () => number, onIdle: () => void) {
    this.#path = join(dir, FILE);
    this.#now = now;
    this.#onIdle = onIdle;
  }

  /** RFC 3339; `undefined` while it is used, and until its guest was up. */
  get idleSince(): string | undefined {
    return this.#users > 0 ? undefined : this.#idleSince;
  }

  /** One more user, until the returned function is called. */
  begin(): () => void {
    this.#users += 1;
    if (this.#users === 1 && this.#noted) rmSync(this.#path, { force: true });
    let using = true;
    return () => {
      if (!using) return;
      using = false;
      this.#users -= 1;
      if (this.#users > 0) return;
      this.#idleSince = new Date(this.#now()).toISOString();
      this.#note();
      this.#onIdle();
    };
  }

  /** From now on the idle time is to survive a restart of the daemon. */
  keep(): void {
    if (this.#noted) return;
    this.#noted = true;
    if (this.idleSince !== undefined) this.#note();
  }

  /** The guest is up: of a run that is not `fresh`, the note of an earlier daemon holds. */
  up(fresh: boolean): void {
    const noted = fresh ? undefined : this.#read();
    this.#idleSince ??= noted ?? new Date(this.#now()).toISOString();
    if (this.#users === 0) this.#note();
  }

  /** A new run begins. */
  reset(): void {
    this.#idleSince = undefined;
    if (this.#noted) rmSync(this.#path, { force: true });
  }

  #note(): void {
    if (!this.#noted) return;
    try {
      writeFileSync(this.#path, this.#idleSince ?? '', { mode: 0o600 });
    } catch {
      // A full disk, or a sandbox that is being removed: without the note the time begins anew.
    }
  }

  #read(): string | undefined {
    try {
      const text = readFileSync(this.#path, 'utf8').slice(0, MAX_CHARS);
      return Number.isNaN(Date.parse(text)) ? undefined : text;
    } catch {
      return undefined;
    }
  }
}
