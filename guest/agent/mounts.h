// The container's root: EROFS image below, ext4 upper above, in a mount namespace of its own. The agent
// itself stays in the initramfs, so that no mount made inside can come between it and its files.
#ifndef BULKHEAD_MOUNTS_H
#define BULKHEAD_MOUNTS_H

#include <stdbool.h>

#include "agent.pb.h"
#include "err.h"

// The container's root as the agent sees it.
#define MOUNTS_ROOT "/mnt/root"
// Beside the upper layer on the upper disk, out of the container's sight.
#define MOUNTS_UPPER "/mnt/upper"

// proc, sysfs, devtmpfs, devpts and what else the agent needs at boot.
int mounts_boot(struct err *err);

int mounts_root(const bulkhead_agent_v1_MountRoot *request, struct err *err);
bool mounts_ready(void);

// For a child process: moves into the container's mount namespace, where "/" is its root. Returns -1 with
// errno.
int mounts_enter(void);

// After all work has ended: flushes and unmounts; a file system that is still busy is made read-only.
void mounts_close(void);

#endif
