// The child's side of a session: from fork to the image's program, or to the agent's own worker for files and
// connections.
#ifndef BULKHEAD_SPAWN_H
#define BULKHEAD_SPAWN_H

#include <stdbool.h>
#include <sys/types.h>

#include "agent.pb.h"

struct spawn {
    int in, out, err; // the child's ends; in may be -1 for none, all three are the same for a terminal
    bool terminal;
    int status; // takes a struct err on failure, and is closed by a success
    // Exactly one of these.
    const bulkhead_agent_v1_Exec *exec;
    const bulkhead_agent_v1_ReadFile *read_file;
    const bulkhead_agent_v1_WriteFile *write_file;
    const bulkhead_agent_v1_WriteFiles *write_files;
    const bulkhead_agent_v1_ReadFiles *read_files;
    const bulkhead_agent_v1_FileAction *file_action;
    const bulkhead_agent_v1_Dial *dial;
};

// Never returns.
_Noreturn void spawn_child(const struct spawn *spawn);

// Starts a process that removes what a killed worker left of the file at `path`. It is reaped like any
// orphan.
void spawn_cleaner(const char *path, pid_t worker);

#endif
