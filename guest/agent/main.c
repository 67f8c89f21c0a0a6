// The guest agent: PID 1 of the VM. Mounts what it needs, waits for the host, does what it says, never ends.
//
// Work runs in the agent's own PID namespace. PID 1 is out of reach of kill(-1) there, orphans come to it to
// be reaped, and a process list shows the VM as it is. What protects others from the work is the VM around
// it.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cgroup.h"
#include "clock.h"
#include "crc32.h"
#include "freeze.h"
#include "link.h"
#include "loop.h"
#include "mounts.h"
#include "power.h"
#include "session.h"
#include "unfinished.h"

static struct source signals = {.fd = -1};

static void reap(struct source *source, uint32_t events) {
    struct signalfd_siginfo info;
    (void)events;
    while (read(source->fd, &info, sizeof info) > 0) {
        // One SIGCHLD may stand for many children.
    }
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (freeze_reaped(pid, status))
            continue;
        unfinished_reaped(pid, status);
        (void)session_reaped(pid, status);
    }
}

static int open_signals(struct err *err) {
    sigset_t set;
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || sigemptyset(&set) < 0 || sigaddset(&set, SIGCHLD) < 0 ||
        sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return err_errno(err, "cannot set up signals");
    signals = (struct source){.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .ready = reap};
    if (signals.fd < 0 || loop_watch(&signals, EPOLLIN) < 0)
        return err_errno(err, "cannot watch signals");
    return 0;
}

static int protect_from_oom(struct err *err) {
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "cannot open oom_score_adj");
    int result = write(fd, "-1000", 5) == 5 ? 0 : err_errno(err, "cannot set oom_score_adj");
    (void)close(fd);
    return result;
}

static int boot(struct err *err) {
    crc32_init();
    if (mounts_boot(err) < 0 || protect_from_oom(err) < 0 || cgroup_setup(err) < 0)
        return -1;
    if (loop_open() < 0)
        return err_errno(err, "cannot make the event loop");
    return open_signals(err) < 0 ? -1 : link_open(err);
}

static int earlier(int64_t a, int64_t b, int64_t now) {
    int64_t next = a < 0 ? b : b < 0 || a < b ? a : b;
    if (next < 0)
        return -1;
    return next <= now ? 0 : next - now > 60000 ? 60000 : (int)(next - now);
}

int main(void) {
    struct err err = {.text = ""};
    if (getpid() != 1) {
        (void)fprintf(stderr, "bulkhead agent: this program is PID 1 of a VM and does nothing elsewhere\n");
        return 2;
    }
    if (boot(&err) < 0) {
        // The console is all there is; the host sees the VM end without an agent.
        (void)fprintf(stderr, "bulkhead agent: %s\n", err.text);
        power_reboot();
    }
    for (;;) {
        bool more = link_pump();
        int64_t now = clock_now();
        int64_t sessions_due = sessions_tick(now);
        int timeout = earlier(sessions_due, power_tick(now), now);
        if (loop_run(more ? 0 : timeout) < 0)
            power_reboot();
    }
}
