// Reads and writes many small files in one session. For child processes, as files.h.
#ifndef BULKHEAD_MANYFILES_H
#define BULKHEAD_MANYFILES_H

#include "agent.pb.h"
#include "err.h"

// Both close `status` when they have begun, and return -1 with err before that. Later failures are told on
// stderr and end the process, by a FailureCode as its exit code.
int manyfiles_write(const bulkhead_agent_v1_WriteFiles *request, int status, struct err *err);
int manyfiles_read(const bulkhead_agent_v1_ReadFiles *request, int status, struct err *err);

#endif
