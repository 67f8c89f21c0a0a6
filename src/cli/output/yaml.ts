// Objects as YAML, as kubectl prints them.
import { dump } from 'js-yaml';

/** Long texts stay on their lines: what is printed is edited and applied again. */
export function toYaml(value: unknown): string {
  return dump(value, { lineWidth: -1, noRefs: true });
}
