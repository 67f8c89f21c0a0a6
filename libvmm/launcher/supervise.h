#pragma once
#include "config.h"

struct supervision {
    const struct launch_config *config;
    int directory;
    int pid; // of the VMM
    int pidfd;
    int console;            // non-blocking
    int stderr_pipe;        // non-blocking
    int server;             // process of the file server; 0 for none
    int server_pidfd;       // -1 for none
    int64_t server_gone_ms; // when its end was seen; 0 while it lives
};

// Keeps only the right to signal the VMM, and the system calls that supervising takes.
int supervisor_drop_privileges(char *error, size_t error_size);
// Writes the logs until the VMM has ended, then the exit record. SIGTERM and SIGINT, which main blocked, end
// the VMM.
int supervise(struct supervision *supervision, char *error, size_t error_size);
