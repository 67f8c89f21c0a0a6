// The commands as they are listed and completed.

export const COMMANDS = [
  { name: 'daemon', summary: 'run the controller on this machine' },
  { name: 'apply', summary: 'create objects, or make them what files say' },
  { name: 'get', summary: 'show objects' },
  { name: 'describe', summary: 'show all that is known of an object' },
  { name: 'events', summary: 'show what happened' },
  { name: 'wait', summary: 'wait for a condition, a value or a deletion' },
  { name: 'delete', summary: 'delete objects' },
  { name: 'diff', summary: 'show what an apply would change' },
  { name: 'validate', summary: 'check files, without a daemon' },
  { name: 'edit', summary: 'change an object in an editor' },
  { name: 'run', summary: 'run a command in a new sandbox' },
  { name: 'exec', summary: 'run a command in a sandbox' },
  { name: 'attach', summary: "join a sandbox's main process" },
  { name: 'cp', summary: 'copy files and directories into and out of a sandbox' },
  { name: 'logs', summary: "show a main process's output" },
  { name: 'start', summary: 'resume sandboxes and wait until they are ready' },
  { name: 'stop', summary: 'suspend sandboxes and wait until their VMs are gone' },
  { name: 'suspend', summary: 'end the VM of sandboxes and keep their disks' },
  { name: 'resume', summary: 'run suspended sandboxes again' },
  { name: 'restart', summary: 'stop sandboxes and start them again' },
  { name: 'top', summary: 'show what sandboxes use' },
  { name: 'image', summary: 'manage the images on this machine' },
  { name: 'volume', summary: 'manage the disks of volumes on this machine' },
  { name: 'policy', summary: 'try what network policies allow' },
  { name: 'status', summary: 'show on one page what runs, what does not and why, and what to do' },
  { name: 'doctor', summary: 'check this machine and the daemon' },
  { name: 'completion', summary: 'print a completion script for a shell' },
  { name: 'version', summary: 'print versions' },
] as const;

export type CommandName = (typeof COMMANDS)[number]['name'];
