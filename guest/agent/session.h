// Sessions: a process with its streams, kept until the host releases it, whatever becomes of the host
// meanwhile.
#ifndef BULKHEAD_SESSION_H
#define BULKHEAD_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent.pb.h"
#include "err.h"

// What a host opens at a time (64 commands, 8 file operations, the main process), and some that have ended
// and wait for their release.
#define SESSIONS_MAX 96

// Start a session; the answer goes to the host when the program runs, or could not.
int session_exec(uint64_t request_id, bulkhead_agent_v1_Exec *request, struct err *err);
int session_read_file(uint64_t request_id, const bulkhead_agent_v1_ReadFile *request, struct err *err);
int session_write_file(uint64_t request_id, const bulkhead_agent_v1_WriteFile *request, struct err *err);
int session_file_action(uint64_t request_id, const bulkhead_agent_v1_FileAction *request, struct err *err);
int session_write_files(uint64_t request_id, const bulkhead_agent_v1_WriteFiles *request, struct err *err);
int session_read_files(uint64_t request_id, const bulkhead_agent_v1_ReadFiles *request, struct err *err);
int session_dial(uint64_t request_id, const bulkhead_agent_v1_Dial *request, struct err *err);

int session_attach(uint64_t request_id, const bulkhead_agent_v1_Attach *request, struct err *err);
int session_stdin(const bulkhead_agent_v1_StreamData *data);
int session_stdin_end(const bulkhead_agent_v1_StreamEnd *end);
int session_credit(const bulkhead_agent_v1_Credit *credit);
int session_signal(const bulkhead_agent_v1_Signal *request, struct err *err);
int session_resize(const bulkhead_agent_v1_Resize *request, struct err *err);
void session_release(const char *session_id);

// A child of PID 1 ended; `status` as from waitpid. False when it belongs to no session.
bool session_reaped(pid_t pid, int status);

// Another host, or none: nobody takes output until it attaches.
void sessions_detach_all(void);
// The host cannot be reached at the moment, or can again; whether it will be the same one is not known yet.
void sessions_host_away(bool away);
int sessions_describe(bulkhead_agent_v1_SessionState states[SESSIONS_MAX]);

// The next output, credit or end that may be sent now. The message is valid until the next call.
bool sessions_next_output(bulkhead_agent_v1_GuestMessage *message);

// For the shutdown: the main session gets `main_signal`, all others SIGTERM.
void sessions_signal_all(int main_signal);

// Acts on what is due, and returns when to come again (monotonic milliseconds, -1 for never).
int64_t sessions_tick(int64_t now);

#endif
