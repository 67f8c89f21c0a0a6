// One failure with its code and sentence, passed up to whoever answers the host.
#ifndef BULKHEAD_ERR_H
#define BULKHEAD_ERR_H

#include "agent.pb.h"

#define FAIL_INVALID bulkhead_agent_v1_FailureCode_FAILURE_INVALID
#define FAIL_NOT_FOUND bulkhead_agent_v1_FailureCode_FAILURE_NOT_FOUND
#define FAIL_EXISTS bulkhead_agent_v1_FailureCode_FAILURE_ALREADY_EXISTS
#define FAIL_PRECONDITION bulkhead_agent_v1_FailureCode_FAILURE_PRECONDITION
#define FAIL_EXHAUSTED bulkhead_agent_v1_FailureCode_FAILURE_EXHAUSTED
#define FAIL_COMMAND_NOT_FOUND bulkhead_agent_v1_FailureCode_FAILURE_COMMAND_NOT_FOUND
#define FAIL_COMMAND_NOT_EXECUTABLE bulkhead_agent_v1_FailureCode_FAILURE_COMMAND_NOT_EXECUTABLE
#define FAIL_IO bulkhead_agent_v1_FailureCode_FAILURE_IO

struct err {
    bulkhead_agent_v1_FailureCode code;
    char text[400];
};

// Fills err and returns -1, so that a function can end with `return err_set(...)`.
int err_set(struct err *err, bulkhead_agent_v1_FailureCode code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// The same with ": " and the text of errno behind it; FAIL_IO, or FAIL_EXHAUSTED where errno says so.
int err_errno(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
