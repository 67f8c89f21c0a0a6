// Sessions with real processes and pipes, on a clock of the test's own; the rest of the agent is stood in
// for.
#include "session.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cgroup.h"
#include "check.h"
#include "clock.h"
#include "link.h"
#include "loop.h"
#include "mounts.h"
#include "sessiontable.h"
#include "spawn.h"
#include "unfinished.h"

// As the protocol promises.
#define GRACE_MS 30000
#define RING (64u * 1024)
// More than ring and pipe hold.
#define WRITTEN (8 * RING)

static int64_t now_ms = 1000000;
static char cleaned[64];
static pid_t cleaned_worker;

int64_t clock_now(void) {
    return now_ms;
}

void link_send(const bulkhead_agent_v1_GuestMessage *message) {
    (void)message;
}

void link_fail(uint64_t request_id, const struct err *err) {
    (void)request_id;
    (void)err;
}

bool mounts_ready(void) {
    return true;
}

int cgroup_take(uint32_t *group, struct err *err) {
    (void)err;
    *group = 1;
    return 0;
}

void cgroup_prepare(void) {
}

pid_t cgroup_fork(uint32_t group) {
    (void)group;
    return fork();
}

void cgroup_remove(uint32_t group) {
    (void)group;
}

void cgroup_kill(uint32_t group) {
    (void)group;
}

bool cgroup_oom_killed(uint32_t group) {
    (void)group;
    return false;
}

void spawn_cleaner(const char *path, pid_t worker) {
    (void)snprintf(cleaned, sizeof cleaned, "%s", path);
    cleaned_worker = worker;
}

// The program of every session: writes WRITTEN bytes, each the number of the ring-full it belongs to.
_Noreturn void spawn_child(const struct spawn *spawn) {
    static char block[RING];
    (void)close(spawn->status);
    for (size_t i = 0; i < WRITTEN / RING; i++) {
        memset(block, (int)('a' + i), sizeof block);
        for (size_t done = 0; done < sizeof block;) {
            ssize_t put = write(spawn->out, block + done, sizeof block - done);
            if (put < 0)
                _exit(1);
            done += (size_t)put;
        }
    }
    _exit(0);
}

static struct session *start_writer(const char *id) {
    char *argv[] = {(char *)"writer"};
    bulkhead_agent_v1_Exec exec = bulkhead_agent_v1_Exec_init_zero;
    struct err err = {.text = ""};
    (void)snprintf(exec.session_id, sizeof exec.session_id, "%s", id);
    exec.argv = argv;
    exec.argv_count = 1;
    exec.ring_bytes = RING;
    exec.overflow = bulkhead_agent_v1_Overflow_OVERFLOW_BLOCK;
    CHECK(session_exec(1, &exec, &err) == 0);
    return session_find(id);
}

// Until the writer has to wait: its ring is full and nothing more is read.
static void run_until_full(struct session *s) {
    while (s->state == STARTING || s->output[0].source.events != 0)
        CHECK(loop_run(-1) == 0);
}

static void run_until_ended(struct session *s) {
    int status;
    while (!s->output[0].ended || !s->output[1].ended)
        CHECK(loop_run(-1) == 0);
    CHECK(waitpid(s->pid, &status, 0) == s->pid && session_reaped(s->pid, status));
    CHECK(s->exit.code == 0 && s->exit.signal == 0);
}

static bool keeps_all_so_far(const struct session *s) {
    const struct ring *ring = &s->output[0].ring;
    return ring->start == 0 && ring->end == RING && s->output[0].source.events == 0;
}

static bool lost_the_oldest(const struct session *s) {
    const struct ring *ring = &s->output[0].ring;
    uint8_t newest[RING];
    if (ring->end != WRITTEN || ring->start != WRITTEN - RING ||
        ring_copy(ring, ring->start, newest, sizeof newest) != sizeof newest)
        return false;
    return newest[0] == 'a' + WRITTEN / RING - 1 && newest[RING - 1] == newest[0];
}

static void a_writer_without_a_host_waits_30_seconds_and_then_loses_the_oldest(void) {
    struct session *s = start_writer("left");
    run_until_full(s);
    CHECK(sessions_tick(now_ms) == -1); // a host that reads slowly is waited for without end
    sessions_detach_all();
    CHECK(sessions_tick(now_ms) == now_ms + GRACE_MS);
    now_ms += GRACE_MS - 1;
    CHECK(sessions_tick(now_ms) == now_ms + 1);
    CHECK(keeps_all_so_far(s));
    now_ms += 1;
    CHECK(sessions_tick(now_ms) == -1);
    run_until_ended(s);
    CHECK(lost_the_oldest(s));
    session_release("left");
}

static void a_host_that_comes_back_in_time_finds_everything(void) {
    struct session *s = start_writer("away");
    run_until_full(s);
    sessions_host_away(true);
    now_ms += GRACE_MS - 1;
    (void)sessions_tick(now_ms);
    sessions_host_away(false);
    now_ms += 10 * GRACE_MS;
    CHECK(sessions_tick(now_ms) == -1);
    CHECK(keeps_all_so_far(s));
    CHECK(kill(s->pid, SIGKILL) == 0);
    CHECK(waitpid(s->pid, NULL, 0) == s->pid);
    session_release("away");
}

static void a_host_that_comes_late_is_waited_for_again(void) {
    struct session *s = start_writer("late");
    run_until_full(s);
    sessions_detach_all();
    now_ms += GRACE_MS;
    (void)sessions_tick(now_ms);
    bulkhead_agent_v1_Attach attach = bulkhead_agent_v1_Attach_init_zero;
    struct err err = {.text = ""};
    (void)snprintf(attach.session_id, sizeof attach.session_id, "late");
    CHECK(session_attach(2, &attach, &err) == 0);
    while (s->output[0].source.events != 0)
        CHECK(loop_run(-1) == 0);
    CHECK(s->output[0].ring.end < WRITTEN && s->output[0].ring.start == 0);
    CHECK(kill(s->pid, SIGKILL) == 0);
    CHECK(waitpid(s->pid, NULL, 0) == s->pid);
    session_release("late");
}

static void only_what_a_killed_worker_left_is_removed(void) {
    struct err err = {.text = ""};
    CHECK(unfinished_watch(11, "/srv/done", &err) == 0);
    CHECK(unfinished_watch(12, "/srv/killed", &err) == 0);
    unfinished_reaped(11, 0);
    unfinished_reaped(99, SIGKILL);
    CHECK(cleaned_worker == 0);
    unfinished_reaped(12, SIGKILL); // a status from waitpid is the signal's number
    CHECK(cleaned_worker == 12 && strcmp(cleaned, "/srv/killed") == 0);
    cleaned_worker = 0;
    unfinished_reaped(12, SIGKILL); // that pid belongs to another process by now
    CHECK(cleaned_worker == 0);
}

int main(void) {
    CHECK(loop_open() == 0);
    a_writer_without_a_host_waits_30_seconds_and_then_loses_the_oldest();
    a_host_that_comes_back_in_time_finds_everything();
    a_host_that_comes_late_is_waited_for_again();
    only_what_a_killed_worker_left_is_removed();
    return check_result("guest agent session tests");
}
