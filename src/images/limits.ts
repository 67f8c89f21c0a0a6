// What an image may cost at most. Images are hostile: every size, count and depth has an end.

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;

/** Bounds on one image; the defaults fit the largest images in common use (CUDA and ML stacks, about 20 GiB). */
export interface ImageLimits {
  /** Bytes of one compressed layer. */
  maxLayerBytes: number;
  /** Bytes of one layer after decompression. */
  maxLayerUncompressedBytes: number;
  /** Bytes of the finished disk, holes counted. */
  maxDiskBytes: number;
  /** Tar entries in all layers together; each costs about 0.5 KiB of memory while the disk is written. */
  maxEntries: number;
  /** Memory for names, link targets and xattrs of the whole image. */
  maxMetadataBytes: number;
  /** Above `ratioFloorBytes` of output, output/input may not pass this: gzip ends at 1032, honest layers stay under 100. */
  maxCompressionRatio: number;
  ratioFloorBytes: number;
}

export const DEFAULT_LIMITS: ImageLimits = {
  maxLayerBytes: 32 * GiB,
  maxLayerUncompressedBytes: 64 * GiB,
  maxDiskBytes: 128 * GiB,
  maxEntries: 1_000_000,
  maxMetadataBytes: 256 * MiB,
  maxCompressionRatio: 200,
  ratioFloorBytes: GiB,
};

/** Layers of one image: overlay2 and containerd stop at 127. */
export const MAX_LAYERS = 127;
/** The distribution spec asks registries to take manifests of up to 4 MiB. */
export const MAX_MANIFEST_BYTES = 4 * MiB;
/** Configurations hold history and labels; 8 MiB is what containerd reads at most. */
export const MAX_CONFIG_BYTES = 8 * MiB;
/** Platforms in one index. */
export const MAX_INDEX_ENTRIES = 1000;

/** Linux NAME_MAX and EROFS_NAME_LEN. */
export const MAX_NAME_BYTES = 255;
/** Linux PATH_MAX without the NUL: no program could open a longer path, and no symlink may be longer. */
export const MAX_PATH_BYTES = 4095;
/** Folders within folders. PATH_MAX allows 2048; parents that are symlinks could go deeper without this. */
export const MAX_DEPTH = 1024;
/** Symlinks followed for one parent path: Linux MAXSYMLINKS. */
export const MAX_SYMLINK_HOPS = 40;
