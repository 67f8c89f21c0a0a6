// Connections to published ports as use of their sandboxes: they pass through the gateway, which says now and then whose ports were used.

export class PortUses {
  /** Begins a use of the sandbox of this uid; undefined where it does not run. */
  readonly #begin: (uid: string) => (() => void) | undefined;
  /** What ends each use that goes on, by uid. */
  readonly #uses = new Map<string, () => void>();

  constructor(begin: (uid: string) => (() => void) | undefined) {
    this.#begin = begin;
  }

  /** All whose ports were used since this was last told. The use of the others is over. */
  told(uids: readonly string[]): void {
    const used = new Set(uids);
    for (const [uid, end] of this.#uses) {
      if (used.has(uid)) continue;
      this.#uses.delete(uid);
      end();
    }
    for (const uid of used) {
      if (this.#uses.has(uid)) continue;
      const end = this.#begin(uid);
      if (end !== undefined) this.#uses.set(uid, end);
    }
  }
}
