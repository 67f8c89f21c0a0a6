// Reads and writes one file of the container. For child processes: a file may lie on a file system that never
// answers.
#ifndef BULKHEAD_FILES_H
#define BULKHEAD_FILES_H

#include "agent.pb.h"
#include "err.h"

// Both close `status` once the file is open, and then work between it and the standard streams. They return
// -1 with err before that; later failures are told on stderr and end the process.
int files_read(const char *path, int status, struct err *err);
int files_write(const bulkhead_agent_v1_WriteFile *request, int status, struct err *err);

#endif
