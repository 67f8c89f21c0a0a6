// Directories of a host that are all the same empty file; tests say which are refused.
import { openSync } from 'node:fs';
import { BulkheadError, type ErrorCode } from '../../api/errors.ts';
import type { HostPaths } from '../../vmm/driver.ts';

export class FakeHostPaths implements HostPaths {
  readonly refused = new Map<string, ErrorCode>();

  open(path: string): number {
    const code = this.refused.get(path);
    if (code !== undefined) throw new BulkheadError(code, `${path}: refused.`);
    return openSync('/dev/null', 'r');
  }
}
