// Looks at names of the container and changes them. For child processes, as files.h.
#ifndef BULKHEAD_FILEACTION_H
#define BULKHEAD_FILEACTION_H

#include <sys/types.h>

#include "agent.pb.h"
#include "err.h"

// Returns 0 when all is done, -1 with err. Work that may take long closes `status` first; its failures are
// told on stderr and end the process.
int fileaction_run(const bulkhead_agent_v1_FileAction *request, int status, struct err *err);

// With those above it; nothing is wrong when it is there.
int fileaction_make_directories(const char *path, mode_t mode, struct err *err);
// In place of a file or link that has the name already.
int fileaction_make_symlink(const char *path, const char *target, struct err *err);

#endif
