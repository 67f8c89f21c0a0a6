// Labels and annotations under our domain that mean something to the product.

/** Label of every object that the manifest folder made, so that `get -l bulkhead.dev/managed-by=folder` lists them. */
export const MANAGED_BY_LABEL = 'bulkhead.dev/managed-by';
export const MANAGED_BY_FOLDER = 'folder';
/**
 * Absolute path of the manifest below the folder as configured, links unresolved: stable when a link flips. Relative
 * paths in `spec.patches` start from its directory.
 */
export const SOURCE_PATH_ANNOTATION = 'bulkhead.dev/source-path';
/** Present while the manifest is broken and its last good version is kept: `SourceInvalid: ...`. */
export const SOURCE_PROBLEM_ANNOTATION = 'bulkhead.dev/source-problem';
/** `disabled`: the object stays when its document goes from the folder. On the document or on the object. */
export const PRUNE_ANNOTATION = 'bulkhead.dev/prune';
/** `disabled`: the folder neither changes nor deletes the object. On the document or on the object. */
export const RECONCILE_ANNOTATION = 'bulkhead.dev/reconcile';
/** Any new value asks for a look at the object at once; its reconciler echoes it in `status.lastHandledReconcileAt`. */
export const REQUESTED_AT_ANNOTATION = 'bulkhead.dev/requestedAt';
/**
 * The sandbox lives while a client holds it (`.../sandboxes/NAME/hold`). Once none has for a while, it is removed
 * (`Delete`), or suspended with its disks kept and the annotation taken off (`Suspend`).
 */
export const UNHELD_ANNOTATION = 'bulkhead.dev/when-unheld';
export const UNHELD_ACTIONS = ['Delete', 'Suspend'] as const;
export type UnheldAction = (typeof UNHELD_ACTIONS)[number];
