// The JSON files through which a later daemon finds the VM and learns how it ended. Readers:
// src/vmm/records.ts.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

#include "config.h"
#include "limitations.h"

#define RECORD_RUNNING "vmm.json"
#define RECORD_EXIT "exit.json"

struct process_identity {
    int pid;
    uint64_t start_time; // clock ticks since boot
};

struct running_record {
    const struct launch_config *config;
    struct process_identity supervisor, vmm;
    const struct limitations *limitations;
};

struct exit_record {
    int status; // as of wait(2)
    struct rusage usage;
    bool oom_killed;
    bool asked;       // the supervisor itself ended it, on SIGTERM
    bool server_lost; // it was ended because its file server was gone
};

// Replaces the file as a whole. Not synced to disk: it describes processes, which do not outlive the host
// either.
int record_running(int directory, const struct running_record *record, char *error, size_t error_size);
// The same, synced: the last word on a VM must survive a power cut after it.
int record_exit(int directory, const struct exit_record *record, char *error, size_t error_size);
