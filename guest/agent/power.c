#include "power.h"

#include <signal.h>
#include <stdbool.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "cgroup.h"
#include "clock.h"
#include "freeze.h"
#include "link.h"
#include "loop.h"
#include "mounts.h"
#include "session.h"
#include "volumes.h"

// How often a step looks whether its condition holds already.
#define STEP_MS 10
// After SIGKILL: a process in an uninterruptible wait on a dead file system must not hold the machine up.
#define KILL_WAIT_MS 5000
// For the host to have read the answer and said Reboot.
#define ANSWER_WAIT_MS 2000

static enum { RUNNING, TERMINATING, KILLING, ANSWERED } state = RUNNING;
static uint64_t answer_to;
static int64_t deadline, next_step;

void power_shutdown(uint64_t request_id, const bulkhead_agent_v1_Shutdown *request) {
    answer_to = request_id; // asked again by a host that came back: the newest one is answered
    if (state == ANSWERED) {
        link_done(request_id);
        return;
    }
    if (state != RUNNING)
        return;
    // What waits for the disk could not end.
    freeze_give_up();
    state = TERMINATING;
    next_step = clock_now();
    deadline = next_step + request->grace_ms;
    sessions_signal_all(request->signal ? (int)request->signal : SIGTERM);
}

void power_reboot(void) {
    sync();
    (void)reboot(RB_AUTOBOOT);
    for (;;)
        (void)pause();
}

int64_t power_tick(int64_t now) {
    if (state == RUNNING)
        return -1;
    if (now < next_step)
        return next_step;
    bool alive = cgroup_populated();
    if (state == TERMINATING && (!alive || now >= deadline)) {
        cgroup_kill_all();
        state = KILLING;
        deadline = now + KILL_WAIT_MS;
    } else if (state == KILLING && (!alive || now >= deadline)) {
        volumes_close();
        mounts_close();
        link_done(answer_to);
        state = ANSWERED;
        deadline = now + ANSWER_WAIT_MS;
    } else if (state == ANSWERED && now >= deadline) {
        power_reboot();
    }
    next_step = now + STEP_MS;
    return next_step;
}
