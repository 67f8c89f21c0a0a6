// Says each problem once when it appears, with the same text in the log and in an event.
import { createHash } from 'node:crypto';
import type { StoredObject } from '../api/meta.ts';
import type { EventRecord, Store } from '../store/store.ts';
import { keyText, type SourceProblem } from './model.ts';

export interface SourceLog {
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
}

/** Problems said in one pass; a folder that breaks as a whole must not flood the event log. */
const MAX_SAID_PER_PASS = 100;
/** Kubernetes' own bound for an event's message. */
const MAX_EVENT_MESSAGE = 1024;

/** What events about the folder itself regard; the uid is stable for one root. */
export function folderReference(root: string): EventRecord['regarding'] {
  const uid = createHash('sha256').update(root).digest('hex').slice(0, 32);
  return { kind: 'ManifestFolder', namespace: 'default', name: 'manifests', uid };
}

export class ProblemReporter {
  readonly #store: Store;
  readonly #log: SourceLog;
  readonly #folder: EventRecord['regarding'];
  #standing = new Set<string>();

  constructor(store: Store, log: SourceLog, root: string) {
    this.#store = store;
    this.#log = log;
    this.#folder = folderReference(root);
  }

  /** `live` finds the object that a problem concerns, if there is one. */
  async report(
    problems: readonly SourceProblem[],
    live: (key: string) => StoredObject | undefined,
  ): Promise<void> {
    const before = this.#standing;
    const standing = new Map(problems.map((problem) => [`${problem.reason}\0${problem.message}`, problem]));
    this.#standing = new Set(standing.keys());
    const fresh = [...standing].filter(([text]) => !before.has(text)).map(([, problem]) => problem);
    for (const problem of fresh.slice(0, MAX_SAID_PER_PASS)) {
      const { message, ...fields } = problem;
      this.#log.warn(fields, message);
      const object = problem.key && live(keyText(problem.key));
      await this.#event('Warning', problem.reason, message, object);
    }
    if (fresh.length > MAX_SAID_PER_PASS) {
      const message = `${fresh.length - MAX_SAID_PER_PASS} more problems; see the source's status.`;
      this.#log.warn({}, message);
      await this.#event('Warning', 'SourceInvalid', message);
    }
    if (before.size > 0 && standing.size === 0) {
      const message = 'Every problem in the folder is mended.';
      this.#log.info({}, message);
      await this.#event('Normal', 'SourceMended', message);
    }
  }

  /** Someone's change of a folder object was undone. */
  async driftCorrected(live: StoredObject, file: string): Promise<void> {
    const message = `Changed through the API, and put back to what ${file} says.`;
    this.#log.info(
      { kind: live.kind, namespace: live.metadata.namespace, name: live.metadata.name },
      message,
    );
    await this.#event('Normal', 'SourceDriftCorrected', message, live);
  }

  async #event(
    type: EventRecord['type'],
    reason: string,
    message: string,
    object?: StoredObject,
  ): Promise<void> {
    const regarding =
      object === undefined
        ? this.#folder
        : {
            kind: object.kind,
            namespace: object.metadata.namespace,
            name: object.metadata.name,
            uid: object.metadata.uid,
          };
    try {
      await this.#store.recordEvent({
        regarding,
        type,
        reason,
        message: message.slice(0, MAX_EVENT_MESSAGE),
      });
    } catch (error) {
      // An event is a courtesy; the log has the text.
      this.#log.warn({ err: error }, 'An event could not be recorded.');
    }
  }
}
