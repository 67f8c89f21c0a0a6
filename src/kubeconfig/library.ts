// Loads the part of Kubernetes' client library that reads kubeconfigs and gets credentials. Beside it the library has a module for
// each kind of Kubernetes, which take three quarters of a second to load and of which nothing is used here.
import * as module from 'node:module';

export type Library = typeof import('@kubernetes/client-node');

/** In place of the generated clients: what the module of kubeconfigs imports of them, and only its `makeApiClient` calls. */
const NO_CLIENTS =
  'data:text/javascript,export const createConfiguration = undefined; export class ServerConfiguration {}';
const CLIENTS = './gen/index.js';
const IMPORTER = '/@kubernetes/client-node/dist/config.js';
/** Not said to be public by the package, which has no list of exports. */
const PART: string = '@kubernetes/client-node/dist/config.js';

/**
 * Its class KubeConfig. On a Node without hooks for modules, or with a library that is built otherwise, all of the library is loaded,
 * and works as well.
 */
export async function loadKubeConfigClass(): Promise<Library['KubeConfig']> {
  if ('registerHooks' in module) {
    const hooks = module.registerHooks({
      resolve(specifier, context, next) {
        if (specifier === CLIENTS && context.parentURL?.endsWith(IMPORTER))
          return { url: NO_CLIENTS, shortCircuit: true };
        return next(specifier, context);
      },
    });
    try {
      const part = (await import(PART)) as Partial<Library>;
      if (part.KubeConfig !== undefined) return part.KubeConfig;
    } catch {
      // Told by the import of the whole.
    } finally {
      hooks.deregister();
    }
  }
  return (await import('@kubernetes/client-node')).KubeConfig;
}
