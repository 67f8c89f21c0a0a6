// Reads, writes and copies one file of the container. For child processes: a file may lie on a file system
// that never answers.
#ifndef BULKHEAD_FILES_H
#define BULKHEAD_FILES_H

#include <sys/types.h>

#include "agent.pb.h"
#include "err.h"

// These close `status` once the files are open, and then work between them and the standard streams. They
// return -1 with err before that; later failures are told on stderr and end the process.
int files_read(const bulkhead_agent_v1_ReadFile *request, int status, struct err *err);
int files_write(const bulkhead_agent_v1_WriteFile *request, int status, struct err *err);
int files_copy(const char *from, const char *to, int status, struct err *err);

// What a worker that was killed left of the file at `path`; where there is nothing, nothing is done.
void files_remove_unfinished(const char *path, pid_t worker);

#endif
