// What a daemon serves for its own host alone, so that there is none of it in a cluster: the one list of that.
import { BulkheadError } from '../api/errors.ts';
import { GROUP_VERSION } from '../api/meta.ts';

interface HostOnly {
  path: RegExp;
  /** Begins a sentence. */
  what: string;
  /** In a cluster. */
  instead: string;
}

const BASE = `^/apis/${GROUP_VERSION.replaceAll('.', '\\.')}`;
const ON_NODE = 'run it on the node, with the --socket of its agent';

export const HOST_ONLY: readonly HostOnly[] = [
  {
    path: new RegExp(`${BASE}/images(/|$)`),
    what: 'The cache of images belongs to one host',
    instead: `nodes pull by themselves, with spec.imagePullSecrets where a registry wants that; or ${ON_NODE}`,
  },
  {
    path: new RegExp(`${BASE}/(volumedisks$|namespaces/[^/]+/volumes/[^/]+/(export|import|clone)$)`),
    what: 'Disks of volumes are files of one host',
    instead: ON_NODE,
  },
  {
    path: new RegExp(`${BASE}/copies/`),
    what: 'Patches that copy files of this host need a daemon on it',
    instead: 'copy the files once the sandbox runs, mount a ConfigMap, or put them into the image',
  },
  { path: new RegExp(`${BASE}/gc$`), what: 'What has no owner is looked for on one host', instead: ON_NODE },
  { path: new RegExp(`${BASE}/doctor$`), what: 'What is checked is one host', instead: ON_NODE },
  {
    path: /^\/metrics$/,
    what: 'Figures of a daemon are those of one host',
    instead: 'docs/monitoring.md says where nodes and controllers serve theirs',
  },
];

/** Fails with NOT_IN_CLUSTER for a path that only daemons serve. */
export function requireInCluster(path: string): void {
  const [bare = ''] = path.split('?');
  const found = HOST_ONLY.find((each) => each.path.test(bare));
  if (found !== undefined)
    throw new BulkheadError('NOT_IN_CLUSTER', `${found.what}, and a cluster has many: ${found.instead}.`);
}
