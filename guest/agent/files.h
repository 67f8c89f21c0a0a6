// Reads and writes one file of the container. For child processes: a file may lie on a file system that never
// answers.
#ifndef BULKHEAD_FILES_H
#define BULKHEAD_FILES_H

#include <sys/types.h>

#include "agent.pb.h"
#include "err.h"

// Both close `status` once the file is open, and then work between it and the standard streams. They return
// -1 with err before that; later failures are told on stderr and end the process.
int files_read(const char *path, int status, struct err *err);
int files_write(const bulkhead_agent_v1_WriteFile *request, int status, struct err *err);

// What a worker that was killed left of the file at `path`; where there is nothing, nothing is done.
void files_remove_unfinished(const char *path, pid_t worker);

#endif
