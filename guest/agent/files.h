// Reads, writes and copies one file of the container. For child processes: a file may lie on a file system
// that never answers.
#ifndef BULKHEAD_FILES_H
#define BULKHEAD_FILES_H

#include <sys/stat.h>
#include <sys/types.h>

#include "agent.pb.h"
#include "err.h"

// These close `status` once the files are open, and then work between them and the standard streams. They
// return -1 with err before that; later failures are told on stderr and end the process.
int files_read(const bulkhead_agent_v1_ReadFile *request, int status, struct err *err);
int files_write(const bulkhead_agent_v1_WriteFile *request, int status, struct err *err);
int files_copy(const char *from, const char *to, int status, struct err *err);

// The descriptor of a regular file, never waiting for one that is not. Returns -1 with err.
int files_open_regular(const char *path, struct stat *info, struct err *err);

struct file_owner {
    uid_t uid;
    gid_t gid;
};

// A whole file in place of what has the name, not on its disk yet. Returns its descriptor, or -1 with err.
int files_put(const char *path, const struct file_owner *owner, mode_t mode, const char *content, size_t size,
              struct err *err);

// What a worker that was killed left of the file at `path`; where there is nothing, nothing is done.
void files_remove_unfinished(const char *path, pid_t worker);

#endif
