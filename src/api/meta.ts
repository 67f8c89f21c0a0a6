// The parts every kind shares: Kubernetes' own shapes, with Kubernetes' own meaning.

/** API group of all Bulkhead kinds. */
export const API_GROUP = 'bulkhead.dev';
/** Served version. */
export const API_VERSION = 'v1alpha1';
/** `apiVersion` value of all Bulkhead kinds. */
export const GROUP_VERSION = `${API_GROUP}/${API_VERSION}`;

/** Reference to the object that owns another one; deletion of the owner deletes what it owns. */
export interface OwnerReference {
  apiVersion: string;
  kind: string;
  name: string;
  uid: string;
  controller?: boolean;
  blockOwnerDeletion?: boolean;
}

/** Metadata as a stored object carries it. Times are RFC 3339 in UTC. */
export interface ObjectMeta {
  name: string;
  namespace: string;
  uid: string;
  /** Opaque and compared only for equality; a decimal string in the embedded store. */
  resourceVersion: string;
  /** Moves with every change of `spec`, and with nothing else. Starts at 1. */
  generation: number;
  creationTimestamp: string;
  deletionTimestamp?: string;
  deletionGracePeriodSeconds?: number;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  finalizers?: string[];
  ownerReferences?: OwnerReference[];
}

/** One observation about an object, in Kubernetes' standard shape. */
export interface Condition {
  type: string;
  status: 'True' | 'False' | 'Unknown';
  /** CamelCase, one word for programs. */
  reason: string;
  /** One sentence for people. */
  message: string;
  /** Moves only when `status` flips. */
  lastTransitionTime: string;
  observedGeneration: number;
}

/** An object as the store holds it. `Spec` and `Status` are the kind's own. */
export interface StoredObject<Spec = unknown, Status = unknown> {
  apiVersion: string;
  kind: string;
  metadata: ObjectMeta;
  spec: Spec;
  status?: Status;
  /** Payload of a core v1 Secret or ConfigMap, which have neither spec nor status. */
  data?: Record<string, string>;
}

/** What a client sends to create or replace an object: the server fills in the rest of the metadata. */
export interface ObjectManifest<Spec = unknown> {
  apiVersion: string;
  kind: string;
  metadata: Partial<ObjectMeta> & { name: string };
  spec: Spec;
  /** Core v1 Secret and ConfigMap have no spec; their payload travels here. */
  data?: Record<string, string>;
}

/** A kind as the URL and the store name it. */
export interface ResourceKind {
  group: string;
  version: string;
  kind: string;
  /** Lower-case plural, as in URLs. */
  plural: string;
  singular: string;
  shortNames: readonly string[];
}
