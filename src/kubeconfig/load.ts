// Which API server is meant, and with which credentials: kubeconfig files as kubectl reads them.
import { delimiter } from 'node:path';
import type { KubeConfig } from '@kubernetes/client-node';
import { BulkheadError } from '../api/errors.ts';
import { loadKubeConfigClass } from './library.ts';

export interface KubeConfigOptions {
  /** A kubeconfig file. Absent: those of KUBECONFIG, that of the home directory, or the service account of a Pod. */
  kubeconfig?: string;
  /** A context of the kubeconfig; its current one where absent. */
  context?: string;
}

const PACKAGE = '@kubernetes/client-node';
/** Where the library finds nothing. */
const NO_CLUSTER = 'http://localhost:8080';

type KubeConfigClass = Awaited<ReturnType<typeof loadKubeConfigClass>>;

/**
 * Reads the configuration and chooses the context. The library takes longer to load than all of ours, so it is loaded here, by those
 * alone who have a cluster. Fails with KUBECONFIG_INVALID.
 */
export async function loadKubeConfig({ kubeconfig, context }: KubeConfigOptions): Promise<KubeConfig> {
  const Class = await loadLibrary();
  try {
    const files = kubeconfig === undefined ? filesOf(process.env.KUBECONFIG) : [kubeconfig];
    const config = files.length === 0 ? fromElsewhere(Class) : merged(Class, files);
    if (context !== undefined) chooseContext(config, context);
    return config;
  } catch (error) {
    throw invalid((error as Error).message, error);
  }
}

/** What a kubeconfig cannot be used for. */
export function invalid(why: string, cause?: unknown): BulkheadError {
  return new BulkheadError('KUBECONFIG_INVALID', `The kubeconfig cannot be used: ${why}`, { cause });
}

async function loadLibrary(): Promise<KubeConfigClass> {
  try {
    return await loadKubeConfigClass();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const what =
      code === 'ERR_MODULE_NOT_FOUND'
        ? `the package ${PACKAGE} reads kubeconfigs and is not installed: npm install ${PACKAGE}`
        : `the package ${PACKAGE} cannot be loaded: ${(error as Error).message}`;
    throw new BulkheadError('KUBECONFIG_INVALID', what, { cause: error });
  }
}

function filesOf(list: string | undefined): string[] {
  return (list ?? '').split(delimiter).filter((file) => file !== '');
}

/** That of the home directory, or the service account. */
function fromElsewhere(Class: KubeConfigClass): KubeConfig {
  const config = new Class();
  config.loadFromDefault();
  // What the library falls back to is an API server without any protection on this host, which nobody has asked for.
  if (config.getCurrentCluster()?.server === NO_CLUSTER)
    throw new Error('there is none: neither KUBECONFIG nor ~/.kube/config, and this is no Pod');
  return config;
}

/**
 * Several files as one, as kubectl has it: the first that says something holds, and one of a list that is not there is skipped.
 * The library's own way fails where two files name the same cluster.
 */
function merged(Class: KubeConfigClass, files: readonly string[]): KubeConfig {
  const all: KubeConfig[] = [];
  for (const file of files) {
    const config = new Class();
    try {
      config.loadFromFile(file);
      all.push(config);
    } catch (error) {
      const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT';
      if (!isMissing || files.length === 1) throw error;
    }
  }
  if (all.length === 0) throw new Error(`there is none of ${files.join(', ')}`);
  const [first] = all;
  if (first !== undefined && all.length === 1) return first;
  const config = new Class();
  config.loadFromOptions({
    clusters: firstOfEach(all.flatMap(({ clusters }) => clusters)),
    users: firstOfEach(all.flatMap(({ users }) => users)),
    contexts: firstOfEach(all.flatMap(({ contexts }) => contexts)),
    currentContext: all.map(({ currentContext }) => currentContext).find(Boolean),
  });
  return config;
}

function firstOfEach<T extends { name: string }>(all: readonly T[]): T[] {
  return [...new Map(all.toReversed().map((each) => [each.name, each])).values()].toReversed();
}

function chooseContext(config: KubeConfig, context: string): void {
  const names = config.getContexts().map(({ name }) => name);
  if (!names.includes(context))
    throw new Error(`it has no context "${context}"; there are: ${names.join(', ') || 'none'}`);
  config.setCurrentContext(context);
}
