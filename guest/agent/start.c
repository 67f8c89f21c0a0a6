// Starting sessions: streams, control group and process, and the answer once the program runs or could not.
#include "session.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "cgroup.h"
#include "clock.h"
#include "ends.h"
#include "link.h"
#include "mounts.h"
#include "sessiontable.h"
#include "spawn.h"
#include "unfinished.h"

// Of a file transfer: memory that every open one may take.
#define FILE_RING (256u * 1024)

static struct session *of_status(struct source *source) {
    return (struct session *)((char *)source - offsetof(struct session, status));
}

static bool valid_id(const char *id) {
    size_t length = strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-");
    return length > 0 && id[length] == '\0';
}

static void answer_started(struct session *s) {
    bulkhead_agent_v1_GuestMessage message = bulkhead_agent_v1_GuestMessage_init_zero;
    message.request_id = s->request_id;
    message.which_body = bulkhead_agent_v1_GuestMessage_started_tag;
    message.body.started.pid = s->pid;
    message.body.started.stdin_credit = input_grant_all(&s->input);
    link_send(&message);
    s->request_id = 0;
}

void session_start_seen(struct session *s) {
    ssize_t got = read(s->status.fd, &s->start_error, sizeof s->start_error);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    loop_close(&s->status);
    // Where the host that asked is gone, the session stays and tells by its exit code.
    if (got == (ssize_t)sizeof s->start_error && s->request_id) {
        s->start_error.text[sizeof s->start_error.text - 1] = '\0';
        link_fail(s->request_id, &s->start_error);
        // Reaped like any orphan.
        session_free(s);
        return;
    }
    if (s->state == STARTING)
        s->state = RUNNING;
    if (s->request_id)
        answer_started(s);
}

static void status_ready(struct source *source, uint32_t events) {
    (void)events;
    session_start_seen(of_status(source));
}

// Everything of a session that takes memory or a descriptor, before the fork that cannot be taken back.
static int prepare(struct session *s, struct ends *ends, size_t ring_size) {
    s->status.fd = ends->status[0];
    ends->status[0] = -1;
    if (loop_watch(&s->status, EPOLLIN) < 0)
        return -1;
    for (int i = 0; i < OUTPUTS; i++) {
        if (ends->agent[i + 1] < 0) {
            // Over before it began; the host, which waits for the ends of both, is told so like of any other.
            s->output[i] = (struct stream){.source = {.fd = -1}, .ended = true};
            continue;
        }
        if (stream_open(&s->output[i], ends->agent[i + 1], ring_size, s->terminal) < 0)
            return -1;
        ends->agent[i + 1] = -1;
    }
    int in = ends->agent[0];
    ends->agent[0] = -1;
    return input_open(&s->input, in, s->input.wanted, s->terminal);
}

static int start(struct session *s, struct spawn *spawn, const bulkhead_agent_v1_Terminal *terminal,
                 size_t ring_size, uint32_t credit, struct err *err) {
    struct ends ends;
    int result = -1;
    size_t slot = 0;
    while (slot < SESSIONS_MAX && sessions[slot])
        slot++;
    sessions[slot] = s;
    s->terminal = terminal != NULL;
    if (ends_open(&ends, terminal, s->input.wanted) < 0 || prepare(s, &ends, ring_size) < 0) {
        (void)err_errno(err, "cannot make the streams of the session");
        goto out;
    }
    if (cgroup_take(&s->group, err) < 0)
        goto out;
    spawn->in = ends.child[0];
    spawn->out = ends.child[1];
    spawn->err = ends.child[2];
    spawn->terminal = s->terminal;
    spawn->status = ends.status[1];
    s->pid = cgroup_fork(s->group);
    if (s->pid == 0)
        spawn_child(spawn);
    if (s->pid < 0) {
        (void)err_errno(err, "cannot fork");
        goto out;
    }
    for (int i = 0; i < OUTPUTS; i++)
        s->output[i].credit = credit;
    session_attach_host(s);
    result = 0;
out:
    ends_close(&ends);
    if (result < 0)
        session_free(s);
    return result;
}

static struct session *create(uint64_t request_id, const char *id, struct err *err) {
    size_t count = 0;
    for (size_t i = 0; i < SESSIONS_MAX; i++)
        count += sessions[i] != NULL;
    if (!mounts_ready()) {
        (void)err_set(err, FAIL_PRECONDITION, "the container's root is not mounted");
        return NULL;
    }
    if (!valid_id(id)) {
        (void)err_set(err, FAIL_INVALID, "the session id is not 1 to 63 of [a-z0-9-]");
        return NULL;
    }
    if (session_find(id)) {
        (void)err_set(err, FAIL_EXISTS, "there is a session %s already", id);
        return NULL;
    }
    struct session *s = count < SESSIONS_MAX ? calloc(1, sizeof *s) : NULL;
    if (!s) {
        (void)err_set(err, FAIL_EXHAUSTED, "the guest has %d sessions, which is the most it keeps",
                      SESSIONS_MAX);
        return NULL;
    }
    (void)snprintf(s->id, sizeof s->id, "%s", id);
    s->request_id = request_id;
    s->status = (struct source){.fd = -1, .ready = status_ready};
    s->input.source.fd = -1;
    for (int i = 0; i < OUTPUTS; i++)
        s->output[i].source.fd = -1;
    return s;
}

int session_exec(uint64_t request_id, bulkhead_agent_v1_Exec *request, struct err *err) {
    if (request->argv_count == 0)
        return err_set(err, FAIL_INVALID, "there is no command");
    struct session *s = create(request_id, request->session_id, err);
    if (!s)
        return -1;
    s->input.wanted = request->stdin || request->has_terminal;
    s->keep_all = request->overflow == bulkhead_agent_v1_Overflow_OVERFLOW_BLOCK;
    s->kill_on_release = request->kill_on_release;
    if (request->timeout_ms)
        s->kill_at = clock_now() + (int64_t)request->timeout_ms;
    struct spawn spawn = {.exec = request};
    return start(s, &spawn, request->has_terminal ? &request->terminal : NULL, request->ring_bytes,
                 request->output_credit, err);
}

int session_read_file(uint64_t request_id, const bulkhead_agent_v1_ReadFile *request, struct err *err) {
    struct session *s = create(request_id, request->session_id, err);
    if (!s)
        return -1;
    s->keep_all = s->is_worker = true;
    struct spawn spawn = {.read_file = request};
    return start(s, &spawn, NULL, FILE_RING, request->output_credit, err);
}

int session_dial(uint64_t request_id, const bulkhead_agent_v1_Dial *request, struct err *err) {
    struct session *s = create(request_id, request->session_id, err);
    if (!s)
        return -1;
    s->input.wanted = s->keep_all = s->is_worker = true;
    struct spawn spawn = {.dial = request};
    return start(s, &spawn, NULL, FILE_RING, request->output_credit, err);
}

// In the same turn as the fork: its end cannot have been seen before this.
static int watch_unfinished(struct session *s, const char *path, struct err *err) {
    if (unfinished_watch(s->pid, path ? path : "", err) == 0)
        return 0;
    (void)kill(s->pid, SIGTERM);
    session_free(s);
    return -1;
}

int session_write_file(uint64_t request_id, const bulkhead_agent_v1_WriteFile *request, struct err *err) {
    struct session *s = create(request_id, request->session_id, err);
    if (!s)
        return -1;
    s->input.wanted = s->keep_all = s->is_worker = true;
    struct spawn spawn = {.write_file = request};
    if (start(s, &spawn, NULL, RING_MIN, RING_MIN, err) < 0)
        return -1;
    return watch_unfinished(s, request->path, err);
}

int session_file_action(uint64_t request_id, const bulkhead_agent_v1_FileAction *request, struct err *err) {
    struct session *s = create(request_id, request->session_id, err);
    if (!s)
        return -1;
    s->keep_all = s->is_worker = true;
    struct spawn spawn = {.file_action = request};
    if (start(s, &spawn, NULL, FILE_RING, request->output_credit, err) < 0)
        return -1;
    if (request->which_action != bulkhead_agent_v1_FileAction_copy_tag)
        return 0;
    return watch_unfinished(s, request->action.copy.to, err);
}

// No file of it is ever unfinished while its worker waits, so that nobody has to clean up after it.
int session_write_files(uint64_t request_id, const bulkhead_agent_v1_WriteFiles *request, struct err *err) {
    struct session *s = create(request_id, request->session_id, err);
    if (!s)
        return -1;
    s->input.wanted = s->keep_all = s->is_worker = true;
    struct spawn spawn = {.write_files = request};
    return start(s, &spawn, NULL, RING_MIN, RING_MIN, err);
}

int session_read_files(uint64_t request_id, const bulkhead_agent_v1_ReadFiles *request, struct err *err) {
    struct session *s = create(request_id, request->session_id, err);
    if (!s)
        return -1;
    s->keep_all = s->is_worker = true;
    struct spawn spawn = {.read_files = request};
    return start(s, &spawn, NULL, FILE_RING, request->output_credit, err);
}
