// A host user of its own for every VM, without an entry in /etc/passwd.
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BulkheadError } from '../api/errors.ts';

/**
 * First of the numbers: above systemd's container range (1879048191) and below its foreign range (2147352576), where no
 * distribution places users.
 */
const FIRST_UID = 1_900_000_000;
/** Far more than VMs that fit on one host. */
const UID_COUNT = 65_536;
/** Numbers that are tried for one VM. With 1000 VMs the chance that all are taken is below 2^-128. */
const WINDOW = 32;

/** Who a number belongs to. */
export interface Claim {
  /** Id of the VM. */
  id: string;
  /** Directory of the VM. */
  dir: string;
}

/**
 * Claims are files `<dir>/<uid>` that hold the VM's id and directory: exclusive creation decides between two starts at once.
 * A VM is claimed before anything else of it is made on the host and released last, so the claims also tell which VMs are
 * this state directory's own.
 */
export class HostUsers {
  readonly #dir: string;
  constructor(dir: string) {
    this.#dir = dir;
  }

  async init(): Promise<void> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
  }

  /** The VM's number; the same one for as long as it is not released. */
  async claim(id: string, dir: string): Promise<number> {
    const held = await this.#find(id);
    if (held !== undefined) return held;
    for (const uid of this.#window(id)) {
      try {
        await writeFile(this.#path(uid), encodeClaim({ id, dir }), { flag: 'wx', mode: 0o600 });
        return uid;
      } catch (error) {
        if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
      }
    }
    throw new BulkheadError('VM_START_FAILED', `no free host user for ${id}`);
  }

  /** Safe to repeat. Only when no process of the VM is left. */
  async release(id: string): Promise<void> {
    const uid = await this.#find(id);
    if (uid !== undefined) await rm(this.#path(uid), { force: true });
  }

  /** All that are claimed now. Removes claims that a kill left half-written; only while nobody else claims. */
  async claims(): Promise<Claim[]> {
    const found: Claim[] = [];
    for (const name of await readdir(this.#dir)) {
      const claim = decodeClaim(await readFile(join(this.#dir, name), 'utf8'));
      if (claim.id !== '' && claim.dir !== '') found.push(claim);
      else await rm(join(this.#dir, name), { force: true });
    }
    return found;
  }

  /** All that are claimed now, with their numbers; one that is just being written is left out. */
  async held(): Promise<(Claim & { uid: number })[]> {
    const found: (Claim & { uid: number })[] = [];
    for (const name of await readdir(this.#dir)) {
      const text = await readFile(join(this.#dir, name), 'utf8').catch(() => ''); // released meanwhile
      const claim = decodeClaim(text);
      if (claim.id !== '' && claim.dir !== '') found.push({ ...claim, uid: Number(name) });
    }
    return found;
  }

  async #find(id: string): Promise<number | undefined> {
    // One look at all of them: most numbers of the window are nobody's, and a start waits for each file that is asked for.
    const names = new Set(await readdir(this.#dir));
    for (const uid of this.#window(id)) {
      if (!names.has(String(uid))) continue;
      try {
        if (decodeClaim(await readFile(this.#path(uid), 'utf8')).id === id) return uid;
      } catch (error) {
        if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
      }
    }
    return undefined;
  }

  #path(uid: number): string {
    return join(this.#dir, String(uid));
  }

  *#window(id: string): Iterable<number> {
    const start = createHash('sha256').update(id).digest().readUInt32LE(0);
    for (let i = 0; i < WINDOW; i++) yield FIRST_UID + ((start + i) % UID_COUNT);
  }
}

/** Neither has a newline: the driver checks the id, and its directory is named after it. */
function encodeClaim({ id, dir }: Claim): string {
  return `${id}\n${dir}\n`;
}

function decodeClaim(text: string): Claim {
  const [id = '', dir = '', rest] = text.split('\n');
  return rest === undefined ? { id: '', dir: '' } : { id, dir }; // torn without the last newline
}
