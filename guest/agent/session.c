#include "session.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "cgroup.h"
#include "clock.h"
#include "link.h"
#include "sessiontable.h"

// How long a writer that must not lose output waits for a host that went away.
#define DETACHED_GRACE_MS 30000

#define MAIN_SESSION "main"

struct session *sessions[SESSIONS_MAX];

struct session *session_find(const char *id) {
    for (size_t i = 0; i < SESSIONS_MAX; i++) {
        if (sessions[i] && strcmp(sessions[i]->id, id) == 0)
            return sessions[i];
    }
    return NULL;
}

int session_stdin(const bulkhead_agent_v1_StreamData *data) {
    struct session *s = session_find(data->session_id);
    return s && data->data ? input_take(&s->input, data->offset, data->data->bytes, data->data->size) : -1;
}

int session_stdin_end(const bulkhead_agent_v1_StreamEnd *end) {
    struct session *s = session_find(end->session_id);
    return s ? input_end(&s->input, end->offset) : -1;
}

// ---- life

void session_free(struct session *s) {
    for (size_t i = 0; i < SESSIONS_MAX; i++) {
        if (sessions[i] == s)
            sessions[i] = NULL;
    }
    loop_close(&s->status);
    input_close(&s->input);
    for (int i = 0; i < OUTPUTS; i++)
        stream_close(&s->output[i]);
    cgroup_remove(s->group);
    free(s);
}

bool session_reaped(pid_t pid, int status) {
    struct session *s = NULL;
    for (size_t i = 0; i < SESSIONS_MAX && !s; i++) {
        if (sessions[i] && sessions[i]->state != EXITED && sessions[i]->pid == pid)
            s = sessions[i];
    }
    if (!s)
        return false;
    if (s->status.fd >= 0) {
        // It ended before the loop saw how its start went.
        char id[64];
        memcpy(id, s->id, sizeof id);
        session_start_seen(s);
        if (!session_find(id))
            return true;
    }
    s->state = EXITED;
    s->exit.code = WIFEXITED(status) ? (uint32_t)WEXITSTATUS(status) : 0;
    s->exit.signal = WIFSIGNALED(status) ? (uint32_t)WTERMSIG(status) : 0;
    s->exit.timed_out = s->timed_out;
    s->exit.oom_killed =
        (s->exit.signal == SIGKILL || s->exit.code == 128 + SIGKILL) && cgroup_oom_killed(s->group);
    s->kill_at = 0;
    if (s->input.source.fd >= 0)
        input_hang_up(&s->input);
    for (int i = 0; i < OUTPUTS; i++)
        stream_finish(&s->output[i]);
    return true;
}

static void set_keep_all(struct session *s, bool keep) {
    for (int i = 0; i < OUTPUTS; i++) {
        s->output[i].keep_all = keep;
        stream_watch(&s->output[i]);
    }
}

void session_attach_host(struct session *s) {
    s->attached = true;
    s->detached_at = 0;
    s->exit_sent = false;
    set_keep_all(s, s->keep_all);
}

void sessions_detach_all(void) {
    for (size_t i = 0; i < SESSIONS_MAX; i++) {
        if (sessions[i] && sessions[i]->attached) {
            sessions[i]->attached = false;
            sessions[i]->request_id = 0;
            if (!sessions[i]->detached_at)
                sessions[i]->detached_at = clock_now();
        }
    }
}

void sessions_host_away(bool away) {
    for (size_t i = 0; i < SESSIONS_MAX; i++) {
        struct session *s = sessions[i];
        if (!s || !s->attached)
            continue;
        s->detached_at = away ? clock_now() : 0;
        if (!away)
            set_keep_all(s, s->keep_all);
    }
}

// ---- requests on a session

static void describe(const struct session *s, bulkhead_agent_v1_SessionState *state) {
    *state = (bulkhead_agent_v1_SessionState)bulkhead_agent_v1_SessionState_init_zero;
    memcpy(state->session_id, s->id, sizeof s->id);
    state->pid = s->pid;
    state->running = s->state != EXITED;
    state->has_exit = s->state == EXITED;
    state->exit = s->exit;
    state->stdin_open = s->input.wanted && !s->input.ended && s->state != EXITED;
    state->stdin_offset = s->input.ring.end;
    state->has_stdout = state->has_stderr = true;
    state->stdout.start = s->output[0].ring.start;
    state->stdout.end = s->output[0].ring.end;
    state->stderr.start = s->output[1].ring.start;
    state->stderr.end = s->output[1].ring.end;
}

int sessions_describe(bulkhead_agent_v1_SessionState states[SESSIONS_MAX]) {
    int count = 0;
    for (size_t i = 0; i < SESSIONS_MAX; i++) {
        if (sessions[i])
            describe(sessions[i], &states[count++]);
    }
    return count;
}

static struct session *find_or_fail(const char *id, struct err *err) {
    struct session *s = session_find(id);
    if (!s)
        (void)err_set(err, FAIL_NOT_FOUND, "there is no session %s", id);
    return s;
}

int session_attach(uint64_t request_id, const bulkhead_agent_v1_Attach *request, struct err *err) {
    struct session *s = find_or_fail(request->session_id, err);
    if (!s)
        return -1;
    if (!stream_rewind(&s->output[0], request->stdout_offset, request->stdout_credit) ||
        !stream_rewind(&s->output[1], request->stderr_offset, request->stderr_credit))
        return err_set(err, FAIL_INVALID, "the offset lies beyond what session %s has put out", s->id);
    bulkhead_agent_v1_GuestMessage message = bulkhead_agent_v1_GuestMessage_init_zero;
    message.request_id = request_id;
    message.which_body = bulkhead_agent_v1_GuestMessage_attached_tag;
    message.body.attached.has_state = true;
    describe(s, &message.body.attached.state);
    message.body.attached.stdin_credit = input_grant_all(&s->input);
    link_send(&message);
    session_attach_host(s);
    s->exit_sent = s->state == EXITED; // the answer tells it
    return 0;
}

int session_credit(const bulkhead_agent_v1_Credit *credit) {
    struct session *s = session_find(credit->session_id);
    if (!s || !s->attached || credit->stream == bulkhead_agent_v1_Stream_STREAM_STDIN)
        return -1;
    struct stream *stream = &s->output[credit->stream == bulkhead_agent_v1_Stream_STREAM_STDOUT ? 0 : 1];
    if (credit->acknowledged > stream->sent)
        return -1;
    if (credit->acknowledged > stream->acknowledged)
        stream->acknowledged = credit->acknowledged;
    stream->credit += credit->bytes;
    stream_watch(stream);
    return 0;
}

int session_signal(const bulkhead_agent_v1_Signal *request, struct err *err) {
    struct session *s = find_or_fail(request->session_id, err);
    if (!s)
        return -1;
    if (request->signal == 0 || request->signal >= NSIG)
        return err_set(err, FAIL_INVALID, "there is no signal %u", request->signal);
    if (s->state != EXITED && kill(s->pid, (int)request->signal) < 0)
        return err_errno(err, "cannot signal session %s", s->id);
    return 0;
}

int session_resize(const bulkhead_agent_v1_Resize *request, struct err *err) {
    struct session *s = find_or_fail(request->session_id, err);
    if (!s)
        return -1;
    if (!s->terminal)
        return err_set(err, FAIL_INVALID, "session %s has no terminal", s->id);
    struct winsize window = {.ws_col = (unsigned short)request->terminal.columns,
                             .ws_row = (unsigned short)request->terminal.rows};
    // A terminal that hung up meanwhile has no size to change.
    if (s->output[0].source.fd >= 0 && ioctl(s->output[0].source.fd, TIOCSWINSZ, &window) < 0 && errno != EIO)
        return err_errno(err, "cannot resize the terminal of session %s", s->id);
    return 0;
}

void session_release(const char *session_id) {
    struct session *s = session_find(session_id);
    if (!s)
        return;
    if (s->is_worker) {
        // Not SIGKILL: the worker takes its unfinished file away. Before its stdin ends, which means
        // completion.
        if (s->state != EXITED)
            (void)kill(s->pid, SIGTERM);
    } else {
        if (s->state != EXITED || s->kill_on_release)
            cgroup_kill(s->group);
        if (s->state != EXITED)
            (void)kill(s->pid, SIGKILL);
    }
    // Closes the agent's ends of the pipes: a background process that lives on and still writes there gets
    // SIGPIPE, as under any container engine once its exec is over. Servers redirect their output.
    session_free(s);
    // The host has all of it: nobody waits.
    cgroup_prepare();
}

void sessions_signal_all(int main_signal) {
    struct session *s = session_find(MAIN_SESSION);
    if (s && s->state != EXITED)
        (void)kill(s->pid, main_signal);
    for (size_t i = 0; i < SESSIONS_MAX; i++) {
        if (sessions[i] && sessions[i] != s && sessions[i]->state != EXITED)
            (void)kill(sessions[i]->pid, SIGTERM);
    }
}

static int64_t sooner(int64_t a, int64_t b) {
    return a < 0 || (b >= 0 && b < a) ? b : a;
}

int64_t sessions_tick(int64_t now) {
    int64_t next = -1;
    for (size_t i = 0; i < SESSIONS_MAX; i++) {
        struct session *s = sessions[i];
        if (!s)
            continue;
        if (s->kill_at && now >= s->kill_at) {
            s->timed_out = true;
            s->kill_at = 0;
            cgroup_kill(s->group);
        }
        int64_t give_up = s->detached_at ? s->detached_at + DETACHED_GRACE_MS : 0;
        if (give_up && now >= give_up) {
            s->detached_at = give_up = 0;
            set_keep_all(s, false);
        }
        next = sooner(next, s->kill_at ? s->kill_at : -1);
        next = sooner(next, give_up ? give_up : -1);
        for (int o = 0; o < OUTPUTS; o++)
            next = sooner(next, stream_tick(&s->output[o], now));
    }
    return next;
}
