#pragma once
#include "config.h"

struct supervision {
    const struct launch_config *config;
    int directory;
    int pid; // of the VMM
    int pidfd;
    int console;     // non-blocking
    int stderr_pipe; // non-blocking
};

// Keeps only the right to signal the VMM, and the system calls that supervising takes.
int supervisor_drop_privileges(char *error, size_t error_size);
// Writes the logs until the VMM has ended, then the exit record. SIGTERM and SIGINT, which main blocked, end
// the VMM.
int supervise(struct supervision *supervision, char *error, size_t error_size);
