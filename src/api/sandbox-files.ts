// The parts of a Sandbox that put files into its guest: volumes, mounts and patches.
import { Type } from 'typebox';
import {
  absolutePath,
  choice,
  exactlyOneOf,
  flag,
  itemName,
  keyedList,
  list,
  object,
  objectName,
  PATH_MAX,
  size,
  text,
} from './schema.ts';

/** Disks and shares are bounded further, by the virtio slots of the machine. */
export const VOLUMES_MAX = 32;
/** As many as a ConfigMap may have keys. */
export const ITEMS_MAX = 1024;
/** Patches are applied one by one before the first boot; more belongs into the image. */
export const PATCHES_MAX = 64;
/** Content in a patch counts against the size of the object (etcd takes 1.5 MiB for the whole of it). */
export const PATCH_CONTENT_MAX = 16384;

/**
 * Parts of a path that stays where it is: not empty, not `.` or `..`. A pattern and no rule, as there are too many of these paths
 * for what Kubernetes lets rules cost.
 */
const FIRST_PART = '([^/.\\x00][^/\\x00]*|\\.[^/.\\x00][^/\\x00]*)';
const NEXT_PART = '([^/.\\x00][^/\\x00]*|\\.[^/.\\x00][^/\\x00]*|\\.\\.[^/\\x00]+)';

const SOURCES = ['volume', 'hostPath', 'tmpfs', 'configMap', 'secret'] as const;

function mode(value?: string) {
  return Type.Optional(
    text({
      description: 'Permission bits in octal, in quotes.',
      ...(value === undefined ? {} : { default: value }),
      minLength: 3,
      maxLength: 5,
      pattern: '^0?[0-7]{3,4}$',
      expected: 'octal permission bits in quotes, such as "0644"',
    }),
  );
}

/** How keys of a ConfigMap or Secret become files. */
function keysAsFiles(kind: string) {
  return {
    items: Type.Optional(
      list(
        object(
          {
            key: text({ description: 'A key that must be there.', minLength: 1, maxLength: 253 }),
            path: text({
              description: 'Where its file is in the volume.',
              minLength: 1,
              maxLength: PATH_MAX,
              pattern: `^${FIRST_PART}(/${NEXT_PART})*$`,
              expected:
                'a path relative to the volume, such as "app/config.yaml": no empty part, no "." or "..", and not beginning with ".."',
            }),
            mode: mode(),
          },
          { description: 'One key.' },
        ),
        {
          description: 'The keys that become files, and where. All of them, each by its name, when absent.',
          maxItems: ITEMS_MAX,
        },
      ),
    ),
    defaultMode: mode('0644'),
    optional: Type.Optional(
      flag({
        description: `Starts without the ${kind}, or without keys of it, where they do not exist.`,
        default: false,
      }),
    ),
  };
}

export const SandboxVolumeSchema = object(
  {
    name: itemName('Name that volumeMounts refer to.'),
    volume: Type.Optional(
      object(
        { name: objectName('Name of the Volume.') },
        { description: 'A Volume object of this namespace.' },
      ),
    ),
    hostPath: Type.Optional(
      object(
        {
          path: absolutePath('Path on the host, below one of the roots that the operator allows.'),
          type: Type.Optional(
            choice(['Directory', 'File'], {
              description: 'What must exist at the path.',
              default: 'Directory',
            }),
          ),
        },
        { description: 'A directory or file of the host.' },
      ),
    ),
    tmpfs: Type.Optional(
      object(
        {
          size: size({
            description: 'Upper bound of what it holds, taken from the memory of the guest.',
            minimum: '4Ki',
            maximum: '1Ti',
            of: 'size',
          }),
        },
        { description: 'Memory of the guest; empty at each start.' },
      ),
    ),
    configMap: Type.Optional(
      object(
        { name: objectName('Name of the ConfigMap.'), ...keysAsFiles('ConfigMap') },
        { description: 'The keys of a ConfigMap as files; they follow its changes.' },
      ),
    ),
    secret: Type.Optional(
      object(
        { name: objectName('Name of the Secret.'), ...keysAsFiles('Secret') },
        { description: 'The keys of a Secret as files, in memory of the guest; they follow its changes.' },
      ),
    ),
  },
  {
    description: 'One volume: a name and exactly one source.',
    rules: [exactlyOneOf(SOURCES, 'a volume')],
  },
);

export const SandboxVolumesSchema = keyedList(['name'], SandboxVolumeSchema, {
  description: 'Volumes that volumeMounts can mount, each with a name and exactly one source.',
  maxItems: VOLUMES_MAX,
});

export const VolumeMountsSchema = keyedList(
  ['mountPath'],
  object(
    {
      name: itemName('Name of an entry in volumes.'),
      mountPath: absolutePath('Where it appears in the guest; made when it does not exist.', {
        rules: [
          {
            rule: "!self.matches('^/(proc|sys|dev)?/*$')",
            message:
              'mountPath must not be /, /proc, /sys or /dev, which belong to the guest; mount it somewhere else',
          },
        ],
      }),
      subPath: Type.Optional(
        text({
          description:
            'A directory or file in the volume that appears in place of its root. A directory that is missing is made where the volume can be written to.',
          minLength: 1,
          maxLength: PATH_MAX,
          pattern: '^[^/\\x00][^\\x00]*$',
          expected: 'a path relative to the volume, such as "mysql"',
          rules: [
            {
              rule: "!self.matches('(^|/)[.][.](/|$)')",
              message: 'subPath must not contain ".."; write the path that is meant',
            },
          ],
        }),
      ),
      readOnly: Type.Optional(flag({ description: 'Refuses writes from the guest.', default: false })),
    },
    { description: 'One mount.' },
  ),
  { description: 'Where volumes appear in the guest. Each mountPath once.', maxItems: VOLUMES_MAX },
);

const REPLACE = Type.Optional(
  flag({
    description:
      'Takes the place of a file or link that the image has there, never of a directory. Refused otherwise.',
  }),
);

const PATCHES = ['text', 'mkdir', 'copy', 'append', 'symlink', 'remove'] as const;

export const PatchesSchema = list(
  object(
    {
      text: Type.Optional(
        object(
          {
            path: absolutePath('File to write; its parents are made.'),
            content: text({ description: 'What the file holds.', maxLength: PATCH_CONTENT_MAX }),
            mode: mode('0644'),
            replace: REPLACE,
          },
          { description: 'Writes a file.' },
        ),
      ),
      mkdir: Type.Optional(
        object(
          {
            path: absolutePath('Directory to make; its parents are made with mode 0755.'),
            mode: mode('0755'),
          },
          { description: 'Makes a directory; one that is there stays as it is.' },
        ),
      ),
      copy: Type.Optional(
        object(
          {
            from: text({
              description:
                "File or directory relative to the manifest's own; cannot leave it. Links in it are copied as links.",
              minLength: 1,
              maxLength: PATH_MAX,
              pattern: '^[^/\\x00][^\\x00]*$',
              expected: 'a path relative to the manifest, such as "./scripts"',
              rules: [
                {
                  rule: "!self.matches('(^|/)[.][.](/|$)')",
                  message: 'from must not contain ".."; put the files beside or below the manifest',
                },
              ],
            }),
            path: absolutePath(
              'What the file or directory becomes; its parents are made. A directory that is there gets what is copied beside what it has.',
            ),
            digest: Type.Optional(
              text({
                description:
                  'What was copied. Whoever reads the files fills it in: the manifest folder, `bulkhead apply`, the SDK.',
                maxLength: 71,
                pattern: '^sha256:[0-9a-f]{64}$',
                expected: 'a digest such as sha256:0123... with 64 hexadecimal digits',
              }),
            ),
            replace: REPLACE,
          },
          { description: 'Copies a file or directory of the host, with its permission bits, for root.' },
        ),
      ),
      append: Type.Optional(
        object(
          {
            path: absolutePath('File to append to; made when it does not exist.'),
            content: text({ description: 'What is appended.', maxLength: PATCH_CONTENT_MAX }),
          },
          { description: 'Appends to a file.' },
        ),
      ),
      symlink: Type.Optional(
        object(
          {
            path: absolutePath('The link.'),
            target: text({
              description: 'What the link says, as the guest will read it.',
              minLength: 1,
              maxLength: PATH_MAX,
              pattern: '^[^\\x00]+$',
              expected: 'a path without NUL characters',
            }),
            replace: REPLACE,
          },
          { description: 'Makes a symbolic link.' },
        ),
      ),
      remove: Type.Optional(
        object(
          { path: absolutePath('File or directory to remove, with all below it.') },
          { description: 'Removes a path; a missing one is no failure.' },
        ),
      ),
    },
    { description: 'One change: exactly one of its kinds.', rules: [exactlyOneOf(PATCHES, 'a patch')] },
  ),
  {
    description: 'Changes to the root file system before the first boot, in order. Cannot change afterwards.',
    maxItems: PATCHES_MAX,
  },
);
