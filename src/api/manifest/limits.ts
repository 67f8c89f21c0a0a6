// Bounds for manifests, which may come from anyone who can write to the folder.

/** Bytes of one document: what an object may weigh in etcd, with room to spare for its status. */
export const DOCUMENT_BYTES_MAX = 1 << 20;
/** Bytes of one file or stream, unless the caller says otherwise. A folder kept by people stays far below. */
export const SOURCE_BYTES_MAX = 4 << 20;
/** Documents of one file, and items of its lists: some thousand sandboxes in one file are still a use, more are an attack. */
export const DOCUMENTS_MAX = 20_000;
/** Nesting. The deepest field of any kind is at 9. */
export const DEPTH_MAX = 32;
/** Values (mappings, lists, scalars) of one document, aliases counted by what they stand for. */
export const NODES_MAX = 200_000;
/** Values that all aliases of a document together stand for. Ten aliases of ten aliases, nine times, are a billion. */
export const ALIAS_NODES_MAX = 10_000;
