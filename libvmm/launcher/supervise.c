#include "supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../src/cleanup.h"
#include "../src/error.h"
#include "log.h"
#include "record.h"
#include "seccomp.h"

#define CONSOLE_LOG "console.log"
#define STDERR_LOG "vmm.log"

int supervisor_drop_privileges(char *error, size_t error_size) {
    for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++)
        if (capability != CAP_KILL && prctl(PR_CAPBSET_DROP, capability) != 0)
            return bh_fail(error, error_size, errno, "capability %d", capability);
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct kill_only[2] = {{.effective = 1u << CAP_KILL, .permitted = 1u << CAP_KILL}};
    if (syscall(SYS_capset, &header, kill_only) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return bh_fail(error, error_size, errno, "capabilities of the supervisor");
    int result = seccomp_confine(&allow_supervisor, NULL);
    return result == 0 ? 0 : bh_fail(error, error_size, -result, "seccomp of the supervisor");
}

static int64_t monotonic_ms(void) {
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now); // cannot fail with this clock
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// The kernel's count of processes that it killed in the VM's cgroup.
static bool oom_killed(const char *path) {
    if (!path)
        return false;
    char text[4096];
    CLEANUP_FD fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (size < 0)
        return false;
    text[size] = '\0';
    const char *line = strstr(text, "oom_kill ");
    return line && strtoull(line + strlen("oom_kill "), NULL, 10) > 0;
}

// A VMM that ends takes its file server with it, which is gone at once; its own end takes as long as the
// guest's memory is large.
#define SERVER_GRACE_MS 10000

enum { POLL_VMM, POLL_SERVER, POLL_SIGNAL, POLL_CONSOLE, POLL_STDERR, POLL_COUNT };

// One turn. 1 when the VMM has ended.
static int turn(struct supervision *vm, struct bounded_log *logs, int signals, struct exit_record *record) {
    int64_t now = monotonic_ms();
    int timeout = -1;
    if (vm->server_gone_ms) {
        int64_t left = vm->server_gone_ms + SERVER_GRACE_MS - now;
        timeout = left > 0 ? (int)left : -1;
        if (left <= 0 && !record->server_lost) {
            record->server_lost = true;
            (void)kill(vm->pid, SIGKILL);
        }
    }
    struct pollfd polled[POLL_COUNT] = {
        [POLL_VMM] = {.fd = vm->pidfd, .events = POLLIN},
        [POLL_SERVER] = {.fd = vm->server_gone_ms ? -1 : vm->server_pidfd, .events = POLLIN},
        [POLL_SIGNAL] = {.fd = signals, .events = POLLIN}};
    for (int i = 0; i < 2; i++) {
        int wait = log_wait_ms(&logs[i], now);
        polled[POLL_CONSOLE + i] = (struct pollfd){.fd = wait == 0 ? logs[i].source : -1, .events = POLLIN};
        if (wait > 0 && logs[i].source >= 0 && (timeout < 0 || wait < timeout))
            timeout = wait;
    }
    if (poll(polled, POLL_COUNT, timeout) < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < 2; i++)
        if (polled[POLL_CONSOLE + i].revents)
            log_pump(&logs[i], false);
    if (polled[POLL_SIGNAL].revents) {
        struct signalfd_siginfo info;
        if (read(signals, &info, sizeof info) == (ssize_t)sizeof info) {
            record->asked = true;
            if (kill(vm->pid, SIGKILL) != 0 && errno != ESRCH)
                return -errno;
        }
    }
    if (polled[POLL_SERVER].revents)
        vm->server_gone_ms = now;
    return polled[POLL_VMM].revents ? 1 : 0;
}

int supervise(struct supervision *vm, char *error, size_t error_size) {
    sigset_t handled;
    (void)sigemptyset(&handled);
    (void)sigaddset(&handled, SIGTERM);
    (void)sigaddset(&handled, SIGINT);
    CLEANUP_FD signals = signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0)
        return bh_fail(error, error_size, errno, "signals");
    struct bounded_log logs[2];
    int result =
        log_open(&logs[0], vm->directory, CONSOLE_LOG, vm->console, vm->config->log_bytes, error, error_size);
    if (result == 0)
        result = log_open(&logs[1], vm->directory, STDERR_LOG, vm->stderr_pipe, vm->config->log_bytes, error,
                          error_size);
    if (result != 0)
        return result;

    struct exit_record record = {0};
    do
        result = turn(vm, logs, signals, &record);
    while (result == 0);
    if (result < 0) // cannot watch it any more: it must not run on unwatched
        (void)kill(vm->pid, SIGKILL);
    pid_t reaped;
    do
        reaped = wait4(vm->pid, &record.status, 0, &record.usage);
    while (reaped < 0 && errno == EINTR);
    if (reaped < 0)
        return bh_fail(error, error_size, errno, "wait");
    if (vm->server > 0 && kill(vm->server, SIGKILL) == 0)
        while (waitpid(vm->server, NULL, 0) < 0 && errno == EINTR)
            ;
    for (int i = 0; i < 2; i++) {
        log_pump(&logs[i], true);
        log_close(&logs[i]);
    }
    record.oom_killed = oom_killed(vm->config->oom_file);
    return record_exit(vm->directory, &record, error, error_size);
}
