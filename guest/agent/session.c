#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "cgroup.h"
#include "frame.h"
#include "link.h"
#include "loop.h"
#include "mounts.h"
#include "spawn.h"
#include "stream.h"

#define STDIN_RING (256u * 1024)
// Of a file transfer: memory that every open one may take.
#define FILE_RING (256u * 1024)
// How long a writer that must not lose output waits for a host that went away.
#define DETACHED_GRACE_MS 30000
// How much free stdin room is worth telling the host about.
#define CREDIT_STEP (32u * 1024)

#define MAIN_SESSION "main"
#define OUTPUTS 2

struct session {
    char id[64];
    pid_t pid;
    enum { STARTING, RUNNING, EXITED } state;
    uint64_t request_id;  // of the start, until it is answered
    struct source status; // from the child: a struct err, or nothing once its program runs
    struct err start_error;

    struct stream output[OUTPUTS]; // stdout and stderr; a terminal has only the first
    bool terminal;
    bool keep_all, kill_on_release;
    bool is_file; // the program is the agent's own file worker

    struct source input; // the program's stdin
    struct ring input_ring;
    uint64_t input_written;
    uint64_t input_granted; // the host may send up to this offset
    bool input_wanted, input_ended, input_hung_up;

    bool attached;
    int64_t detached_at, kill_at; // 0: none
    bool timed_out, exit_sent;
    bulkhead_agent_v1_ExitStatus exit;
};

static struct session *sessions[SESSIONS_MAX];
static size_t next_turn; // whose output is looked at first

static struct session *of_status(struct source *source) {
    return (struct session *)((char *)source - offsetof(struct session, status));
}

static struct session *of_input(struct source *source) {
    return (struct session *)((char *)source - offsetof(struct session, input));
}

static struct session *find(const char *id) {
    for (size_t i = 0; i < SESSIONS_MAX; i++) {
        if (sessions[i] && strcmp(sessions[i]->id, id) == 0)
            return sessions[i];
    }
    return NULL;
}

static bool valid_id(const char *id) {
    size_t length = strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-");
    return length > 0 && id[length] == '\0';
}

// ---- stdin

static void input_close(struct session *s) {
    loop_close(&s->input);
    s->input_hung_up = true;
    // What the program will never read is taken as read, so that the host is not left waiting.
    ring_discard(&s->input_ring, s->input_ring.end);
    s->input_written = s->input_ring.end;
}

static void input_watch(struct session *s) {
    if (s->input.fd < 0)
        return;
    bool waiting = s->input_written < s->input_ring.end;
    if (!waiting && s->input_ended && s->terminal) {
        // Closing our end of a terminal would hang it up: the end of input is a character there.
        char end_of_file = 4;
        struct termios settings;
        if (tcgetattr(s->input.fd, &settings) == 0 && (settings.c_lflag & ICANON))
            end_of_file = (char)settings.c_cc[VEOF];
        (void)!write(s->input.fd, &end_of_file, 1);
        input_close(s);
    } else if (!waiting && s->input_ended) {
        input_close(s);
    } else if (loop_watch(&s->input, waiting ? EPOLLOUT : 0) < 0) {
        input_close(s);
    }
}

static void input_ready(struct source *source, uint32_t events) {
    (void)events;
    struct session *s = of_input(source);
    struct iovec pieces[2];
    int count = ring_pieces(&s->input_ring, s->input_written, pieces);
    ssize_t put = writev(s->input.fd, pieces, count);
    if (put < 0 && errno != EAGAIN && errno != EINTR) {
        input_close(s); // the program closed its stdin or ended
        return;
    }
    if (put > 0) {
        s->input_written += (uint64_t)put;
        ring_discard(&s->input_ring, s->input_written);
    }
    input_watch(s);
}

int session_stdin(const bulkhead_agent_v1_StreamData *data) {
    struct session *s = find(data->session_id);
    if (!s || !s->input_wanted || !data->data)
        return -1;
    const uint8_t *bytes = data->data->bytes;
    size_t size = data->data->size;
    // A host that came back may send again what had arrived; what lies beyond the grant cannot be kept.
    if (data->offset > s->input_ring.end || data->offset + size > s->input_granted)
        return -1;
    uint64_t known = s->input_ring.end - data->offset;
    if (known >= size)
        return 0;
    ring_append(&s->input_ring, bytes + known, size - (size_t)known);
    if (s->input_hung_up)
        input_close(s);
    else
        input_watch(s);
    return 0;
}

int session_stdin_end(const bulkhead_agent_v1_StreamEnd *end) {
    struct session *s = find(end->session_id);
    if (!s || !s->input_wanted || end->offset != s->input_ring.end)
        return -1;
    s->input_ended = true;
    input_watch(s);
    return 0;
}

static uint32_t input_grant_all(struct session *s) {
    if (!s->input_wanted)
        return 0;
    s->input_granted = s->input_written + s->input_ring.size;
    return (uint32_t)(s->input_granted - s->input_ring.end);
}

// ---- life

static void session_free(struct session *s) {
    for (size_t i = 0; i < SESSIONS_MAX; i++) {
        if (sessions[i] == s)
            sessions[i] = NULL;
    }
    loop_close(&s->status);
    loop_close(&s->input);
    ring_close(&s->input_ring);
    for (int i = 0; i < OUTPUTS; i++)
        stream_close(&s->output[i]);
    cgroup_remove(s->id);
    free(s);
}

static void answer_started(struct session *s) {
    bulkhead_agent_v1_GuestMessage message = bulkhead_agent_v1_GuestMessage_init_zero;
    message.request_id = s->request_id;
    message.which_body = bulkhead_agent_v1_GuestMessage_started_tag;
    message.body.started.pid = s->pid;
    message.body.started.stdin_credit = input_grant_all(s);
    link_send(&message);
    s->request_id = 0;
}

static void status_ready(struct source *source, uint32_t events) {
    (void)events;
    struct session *s = of_status(source);
    ssize_t got = read(source->fd, &s->start_error, sizeof s->start_error);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    loop_close(source);
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
        status_ready(&s->status, 0);
        if (!find(id))
            return true;
    }
    s->state = EXITED;
    s->exit.code = WIFEXITED(status) ? (uint32_t)WEXITSTATUS(status) : 0;
    s->exit.signal = WIFSIGNALED(status) ? (uint32_t)WTERMSIG(status) : 0;
    s->exit.timed_out = s->timed_out;
    s->exit.oom_killed =
        cgroup_oom_killed(s->id) && (s->exit.signal == SIGKILL || s->exit.code == 128 + SIGKILL);
    s->kill_at = 0;
    if (s->input.fd >= 0)
        input_close(s);
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

static void attach(struct session *s) {
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
                sessions[i]->detached_at = loop_now();
        }
    }
}

void sessions_host_away(bool away) {
    for (size_t i = 0; i < SESSIONS_MAX; i++) {
        struct session *s = sessions[i];
        if (!s || !s->attached)
            continue;
        s->detached_at = away ? loop_now() : 0;
        if (!away)
            set_keep_all(s, s->keep_all);
    }
}

// ---- start

struct ends {
    int child[3], agent[3]; // stdin, stdout, stderr
    int status[2];
};

static void close_ends(int *fds, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (fds[i] >= 0)
            (void)close(fds[i]);
        fds[i] = -1;
    }
}

static int open_pipe(int *reader, int *writer, int *agents_end) {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -1;
    *reader = fds[0];
    *writer = fds[1];
    // Only the agent's end: the flag on a pipe belongs to the end, and programs expect theirs to wait.
    return fcntl(*agents_end, F_SETFL, O_NONBLOCK);
}

static int open_terminal(struct ends *ends, const bulkhead_agent_v1_Terminal *size) {
    int unlock = 0;
    struct winsize window = {.ws_col = (unsigned short)size->columns, .ws_row = (unsigned short)size->rows};
    int master = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    ends->agent[1] = master;
    if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0 || ioctl(master, TIOCSWINSZ, &window) < 0)
        return -1;
    int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    ends->child[1] = slave;
    ends->child[0] = fcntl(slave, F_DUPFD_CLOEXEC, 3);
    ends->child[2] = fcntl(slave, F_DUPFD_CLOEXEC, 3);
    ends->agent[0] = fcntl(master, F_DUPFD_CLOEXEC, 3);
    return slave < 0 || ends->child[0] < 0 || ends->child[2] < 0 || ends->agent[0] < 0 ? -1 : 0;
}

static int open_ends(struct ends *ends, const bulkhead_agent_v1_Terminal *terminal, bool with_stdin) {
    *ends = (struct ends){{-1, -1, -1}, {-1, -1, -1}, {-1, -1}};
    if (open_pipe(&ends->status[0], &ends->status[1], &ends->status[0]) < 0)
        return -1;
    if (terminal)
        return open_terminal(ends, terminal);
    if (with_stdin && open_pipe(&ends->child[0], &ends->agent[0], &ends->agent[0]) < 0)
        return -1;
    if (open_pipe(&ends->agent[1], &ends->child[1], &ends->agent[1]) < 0)
        return -1;
    return open_pipe(&ends->agent[2], &ends->child[2], &ends->agent[2]);
}

// Everything of a session that takes memory or a descriptor, before the fork that cannot be taken back.
static int prepare(struct session *s, struct ends *ends, size_t ring_size) {
    s->status.fd = ends->status[0];
    ends->status[0] = -1;
    if (loop_watch(&s->status, EPOLLIN) < 0)
        return -1;
    for (int i = 0; i < OUTPUTS; i++) {
        if (ends->agent[i + 1] < 0) {
            s->output[i] = (struct stream){.source = {.fd = -1}, .ended = true, .end_sent = true};
            continue;
        }
        if (stream_open(&s->output[i], ends->agent[i + 1], ring_size, s->terminal) < 0)
            return -1;
        ends->agent[i + 1] = -1;
    }
    s->input = (struct source){.fd = ends->agent[0], .ready = input_ready};
    ends->agent[0] = -1;
    return s->input_wanted ? ring_open(&s->input_ring, STDIN_RING) : 0;
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
    if (open_ends(&ends, terminal, s->input_wanted) < 0 || prepare(s, &ends, ring_size) < 0) {
        (void)err_errno(err, "cannot make the streams of the session");
        goto out;
    }
    if (cgroup_create(s->id, err) < 0)
        goto out;
    spawn->session_id = s->id;
    spawn->in = ends.child[0];
    spawn->out = ends.child[1];
    spawn->err = ends.child[2];
    spawn->terminal = s->terminal;
    spawn->status = ends.status[1];
    s->pid = fork();
    if (s->pid == 0)
        spawn_child(spawn);
    if (s->pid < 0) {
        (void)err_errno(err, "cannot fork");
        goto out;
    }
    for (int i = 0; i < OUTPUTS; i++)
        s->output[i].credit = credit;
    attach(s);
    result = 0;
out:
    close_ends(ends.child, 3);
    close_ends(ends.agent, 3);
    close_ends(ends.status, 2);
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
    if (find(id)) {
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
    s->input.fd = -1;
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
    s->input_wanted = request->stdin || request->has_terminal;
    s->keep_all = request->overflow == bulkhead_agent_v1_Overflow_OVERFLOW_BLOCK;
    s->kill_on_release = request->kill_on_release;
    if (request->timeout_ms)
        s->kill_at = loop_now() + (int64_t)request->timeout_ms;
    struct spawn spawn = {.exec = request};
    return start(s, &spawn, request->has_terminal ? &request->terminal : NULL, request->ring_bytes,
                 request->output_credit, err);
}

int session_read_file(uint64_t request_id, const bulkhead_agent_v1_ReadFile *request, struct err *err) {
    struct session *s = create(request_id, request->session_id, err);
    if (!s)
        return -1;
    s->keep_all = s->is_file = true;
    struct spawn spawn = {.read_file = request};
    return start(s, &spawn, NULL, FILE_RING, request->output_credit, err);
}

int session_write_file(uint64_t request_id, const bulkhead_agent_v1_WriteFile *request, struct err *err) {
    struct session *s = create(request_id, request->session_id, err);
    if (!s)
        return -1;
    s->input_wanted = s->keep_all = s->is_file = true;
    struct spawn spawn = {.write_file = request};
    return start(s, &spawn, NULL, RING_MIN, RING_MIN, err);
}

// ---- requests on a session

static void describe(const struct session *s, bulkhead_agent_v1_SessionState *state) {
    *state = (bulkhead_agent_v1_SessionState)bulkhead_agent_v1_SessionState_init_zero;
    memcpy(state->session_id, s->id, sizeof s->id);
    state->pid = s->pid;
    state->running = s->state != EXITED;
    state->has_exit = s->state == EXITED;
    state->exit = s->exit;
    state->stdin_open = s->input_wanted && !s->input_ended && s->state != EXITED;
    state->stdin_offset = s->input_ring.end;
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
    struct session *s = find(id);
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
    message.body.attached.stdin_credit = input_grant_all(s);
    link_send(&message);
    attach(s);
    s->exit_sent = s->state == EXITED; // the answer tells it
    return 0;
}

int session_credit(const bulkhead_agent_v1_Credit *credit) {
    struct session *s = find(credit->session_id);
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
    struct session *s = find(session_id);
    if (!s)
        return;
    if (s->is_file) {
        // Not SIGKILL: the worker takes its unfinished file away. Before its stdin ends, which means
        // completion.
        if (s->state != EXITED)
            (void)kill(s->pid, SIGTERM);
    } else {
        if (s->state != EXITED || s->kill_on_release)
            cgroup_kill(s->id);
        if (s->state != EXITED)
            (void)kill(s->pid, SIGKILL); // also where the child has not entered its group yet
    }
    // Closes the agent's ends of the pipes: a background process that lives on and still writes there gets
    // SIGPIPE, as under any container engine once its exec is over. Servers redirect their output.
    session_free(s);
}

void sessions_signal_all(int main_signal) {
    struct session *s = find(MAIN_SESSION);
    if (s && s->state != EXITED)
        (void)kill(s->pid, main_signal);
    for (size_t i = 0; i < SESSIONS_MAX; i++) {
        if (sessions[i] && sessions[i] != s && sessions[i]->state != EXITED)
            (void)kill(sessions[i]->pid, SIGTERM);
    }
}

// ---- output

static bool next_data(struct session *s, int i, bulkhead_agent_v1_GuestMessage *message) {
    static union {
        pb_bytes_array_t array;
        uint8_t space[offsetof(pb_bytes_array_t, bytes) + FRAME_MAX_DATA];
    } chunk;
    struct stream *stream = &s->output[i];
    size_t size = stream_sendable(stream, FRAME_MAX_DATA);
    if (size == 0)
        return false;
    message->which_body = bulkhead_agent_v1_GuestMessage_output_tag;
    bulkhead_agent_v1_StreamData *data = &message->body.output;
    memcpy(data->session_id, s->id, sizeof s->id);
    data->stream = i == 0 ? bulkhead_agent_v1_Stream_STREAM_STDOUT : bulkhead_agent_v1_Stream_STREAM_STDERR;
    data->offset = stream->sent;
    chunk.array.size = (pb_size_t)ring_copy(&stream->ring, stream->sent, chunk.array.bytes, size);
    data->data = &chunk.array;
    stream->sent += size;
    stream->credit -= (uint32_t)size;
    return true;
}

static bool next_end(struct session *s, int i, bulkhead_agent_v1_GuestMessage *message) {
    struct stream *stream = &s->output[i];
    if (!stream->ended || stream->end_sent || stream->sent < stream->ring.end)
        return false;
    message->which_body = bulkhead_agent_v1_GuestMessage_output_end_tag;
    bulkhead_agent_v1_StreamEnd *end = &message->body.output_end;
    memcpy(end->session_id, s->id, sizeof s->id);
    end->stream = i == 0 ? bulkhead_agent_v1_Stream_STREAM_STDOUT : bulkhead_agent_v1_Stream_STREAM_STDERR;
    end->offset = stream->ring.end;
    stream->end_sent = true;
    return true;
}

static bool next_credit(struct session *s, bulkhead_agent_v1_GuestMessage *message) {
    uint64_t most = s->input_written + s->input_ring.size;
    if (!s->input_wanted || most < s->input_granted + CREDIT_STEP)
        return false;
    message->which_body = bulkhead_agent_v1_GuestMessage_stdin_credit_tag;
    bulkhead_agent_v1_Credit *credit = &message->body.stdin_credit;
    memcpy(credit->session_id, s->id, sizeof s->id);
    credit->stream = bulkhead_agent_v1_Stream_STREAM_STDIN;
    credit->acknowledged = s->input_ring.end;
    credit->bytes = (uint32_t)(most - s->input_granted);
    s->input_granted = most;
    return true;
}

static bool next_exit(struct session *s, bulkhead_agent_v1_GuestMessage *message) {
    if (s->state != EXITED || s->exit_sent)
        return false;
    message->which_body = bulkhead_agent_v1_GuestMessage_exited_tag;
    memcpy(message->body.exited.session_id, s->id, sizeof s->id);
    message->body.exited.has_status = true;
    message->body.exited.status = s->exit;
    s->exit_sent = true;
    return true;
}

bool sessions_next_output(bulkhead_agent_v1_GuestMessage *message) {
    for (size_t tried = 0; tried < SESSIONS_MAX; tried++) {
        struct session *s = sessions[next_turn];
        next_turn = (next_turn + 1) % SESSIONS_MAX;
        if (!s || !s->attached || s->request_id)
            continue;
        *message = (bulkhead_agent_v1_GuestMessage)bulkhead_agent_v1_GuestMessage_init_zero;
        if (next_exit(s, message) || next_credit(s, message))
            return true;
        for (int i = 0; i < OUTPUTS; i++) {
            if (next_data(s, i, message) || next_end(s, i, message))
                return true;
        }
    }
    return false;
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
            cgroup_kill(s->id);
        }
        int64_t give_up = s->detached_at ? s->detached_at + DETACHED_GRACE_MS : 0;
        if (give_up && now >= give_up) {
            s->detached_at = give_up = 0;
            set_keep_all(s, false);
        }
        if (s->kill_at && (next < 0 || s->kill_at < next))
            next = s->kill_at;
        if (give_up && (next < 0 || give_up < next))
            next = give_up;
    }
    return next;
}
