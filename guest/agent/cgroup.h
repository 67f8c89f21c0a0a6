// cgroup v2: one group for all work, one in it for each session.
#ifndef BULKHEAD_CGROUP_H
#define BULKHEAD_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "err.h"

// Mounts the hierarchy and makes the group that bounds all work: what the agent needs to answer stays out of
// reach of fork bombs and memory hogs.
int cgroup_setup(struct err *err);

// The group of a session; cgroup_remove takes it away again, moving what still runs in it to a common one.
int cgroup_create(const char *session_id, struct err *err);
void cgroup_remove(const char *session_id);

// For a child, before exec: puts the calling process into the session's group. Returns -1 with errno.
int cgroup_enter(const char *session_id);

// Puts a child of the agent among what outlives its session.
void cgroup_add_background(pid_t pid);

// SIGKILL to everything in the session's group and below.
void cgroup_kill(const char *session_id);
void cgroup_kill_all(void);

bool cgroup_oom_killed(const char *session_id);

// Whether any work is alive.
bool cgroup_populated(void);

// Tasks of all work.
uint32_t cgroup_task_count(void);

#endif
