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

// Groups of sessions go by numbers. cgroup_take gives one that is new and empty; cgroup_remove takes it away
// again, moving what still runs in it to a common one.
int cgroup_take(uint32_t *group, struct err *err);
void cgroup_remove(uint32_t group);

// Makes the group of the next session, unless it is there: to be called when nobody waits.
void cgroup_prepare(void);

// Forks into the group: entering it afterwards would wait for all processors of the guest, and takes longer
// than the fork itself. As fork; -1 with errno.
pid_t cgroup_fork(uint32_t group);

// Puts a child of the agent among what outlives its session.
void cgroup_add_background(pid_t pid);

// SIGKILL to everything in the session's group and below.
void cgroup_kill(uint32_t group);
void cgroup_kill_all(void);

bool cgroup_oom_killed(uint32_t group);

// Whether any work is alive.
bool cgroup_populated(void);

// Tasks of all work.
uint32_t cgroup_task_count(void);

#endif
