// Volumes: disks, memory and files of the host's that appear at paths of the container. Each is mounted once,
// out of the container's sight; what the container sees are views of it.
#ifndef BULKHEAD_VOLUMES_H
#define BULKHEAD_VOLUMES_H

#include "agent.pb.h"
#include "err.h"

// The root must be mounted.
int volumes_mount(const bulkhead_agent_v1_MountVolumes *request, struct err *err);

// Calls `told` for each disk volume that can be written to, with its name and where the agent has it mounted.
void volumes_each_disk(void (*told)(const char *name, const char *path, void *context), void *context);

// Where the agent has the volume of this name mounted; NULL when it is none of files.
const char *volumes_files_path(const char *name);

// After all work has ended: flushes the disks and leaves them as after an unmount.
void volumes_close(void);

#endif
