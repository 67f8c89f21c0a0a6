// Brings the image into the cache and keeps it there for this sandbox.
import { BulkheadError } from '../../../api/errors.ts';
import type { BootableImage } from '../../../images/images.ts';
import { needsNewRoot } from '../decisions.ts';
import { emit } from '../recorder.ts';
import { registryCredentials, resolveReferences } from '../references.ts';
import type { EffectContext } from './context.ts';

/** Looks in the cache, then asks the registry as `imagePullPolicy` says. A sandbox that has run keeps its image with its root. */
export async function pullImage(
  { deps, runtime, object, observation: { root } }: EffectContext,
  signal: AbortSignal,
): Promise<void> {
  const { record } = runtime;
  const pinned =
    record === undefined || needsNewRoot({ record, root }) ? undefined : record.imageDigest || undefined;
  const reference = pinned === undefined ? object.spec.image : pinnedReference(object.spec.image, pinned);
  runtime.imageReference = reference;
  const held = pinned === undefined ? undefined : await deps.images.lookupDigest(pinned);
  let pulling = false;
  const began = deps.clock.monotonic();
  try {
    const image =
      held ??
      (await deps.images.ensure(reference, {
        policy:
          pinned !== undefined && object.spec.imagePullPolicy === 'Always'
            ? 'IfNotPresent'
            : object.spec.imagePullPolicy,
        credentials: await credentialsOf(deps, object),
        signal,
        onProgress: (progress) => {
          if (!pulling && progress.phase === 'downloading') {
            pulling = true;
            emit(deps.recorder, object, 'Pulling', `Pulling image ${reference}.`);
          }
          runtime.tasks.progress(progress);
        },
      }));
    signal.throwIfAborted();
    runtime.image = await lease(deps, runtime.uid, image);
    runtime.imageRoot = root.digest;
    runtime.imageReference = undefined;
    runtime.imageMilliseconds = deps.clock.monotonic() - began;
    if (pulling) emit(deps.recorder, object, 'Pulled', `Pulled image ${reference} (${image.digest}).`);
  } catch (error) {
    if (!signal.aborted && error instanceof BulkheadError) {
      emit(deps.recorder, object, 'FailedPull', error.message);
    }
    throw error;
  }
}

async function credentialsOf(deps: EffectContext['deps'], object: EffectContext['object']) {
  if ((object.spec.imagePullSecrets ?? []).length === 0) return [];
  return registryCredentials((await resolveReferences(deps.store, object)).pullSecrets);
}

/** Between the look-up and the lease the image may have been collected: only what is there after it counts. */
async function lease(
  { images }: EffectContext['deps'],
  uid: string,
  image: BootableImage,
): Promise<BootableImage> {
  await images.lease(image.digest, uid);
  const leased = await images.lookupDigest(image.digest);
  if (leased === undefined) {
    throw new BulkheadError(
      'REGISTRY_UNAVAILABLE',
      `Image ${image.digest} was removed while it was taken into use.`,
    );
  }
  return { ...leased, reference: image.reference };
}

/** `registry/name:tag` as `registry/name@digest`. */
function pinnedReference(reference: string, digest: string): string {
  const at = reference.indexOf('@');
  const name = at < 0 ? reference : reference.slice(0, at);
  const colon = name.lastIndexOf(':');
  return `${colon > name.lastIndexOf('/') ? name.slice(0, colon) : name}@${digest}`;
}
