// The agent's sessions as its own parts see them. Other parts use session.h.
#ifndef BULKHEAD_SESSIONTABLE_H
#define BULKHEAD_SESSIONTABLE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent.pb.h"
#include "err.h"
#include "input.h"
#include "loop.h"
#include "session.h"
#include "stream.h"

#define OUTPUTS 2

struct session {
    char id[64];
    pid_t pid;
    uint32_t group; // its control group; 0 for none
    enum { STARTING, RUNNING, EXITED } state;
    uint64_t request_id;  // of the start, until it is answered
    struct source status; // from the child: a struct err, or nothing once its program runs
    struct err start_error;

    struct stream output[OUTPUTS]; // stdout and stderr; a terminal has only the first
    struct input input;
    bool terminal;
    bool keep_all, kill_on_release;
    bool is_worker; // the program is the agent's own

    bool attached;
    int64_t detached_at, kill_at; // 0: none
    bool timed_out, exit_sent;
    bulkhead_agent_v1_ExitStatus exit;
};

// NULL where the slot is free.
extern struct session *sessions[SESSIONS_MAX];

struct session *session_find(const char *id);

// The host takes its output from now on.
void session_attach_host(struct session *s);

// Reads how the start went and answers it. Frees the session when it failed and the host was told.
void session_start_seen(struct session *s);

// Forgets it; its process, if there still is one, lives on.
void session_free(struct session *s);

#endif
