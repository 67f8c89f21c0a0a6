// bulkhead-vmm: starts one VMM in a jail and stays beside it as its supervisor.
//
// The supervisor lives in the VM's network namespace but outside its pid namespace, keeps the directory's
// lock, and writes the logs and the last record. The VMM dies with it, and inherits the lock, so the
// directory stays locked until both are gone.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../include/libvmm.h"
#include "../src/cleanup.h"
#include "../src/error.h"
#include "config.h"
#include "jail.h"
#include "network.h"
#include "record.h"
#include "shares.h"
#include "supervise.h"

#define LOCK_FILE "lock"

// First byte of the word on the status pipe; the text follows.
#define STATUS_RUNNING 'R'
#define STATUS_LOCKED 'L'
#define STATUS_FAILED 'F'

struct launch {
    struct launch_config config;
    struct limitations limitations;
    int directory, lock, tap;
    int console[2]; // socket pair or pipe: [0] ours, [1] the VMM's
    int errors[2];  // pipe: [0] ours, [1] the VMM's stderr
    int report[2];  // pipe: limitations, or nothing and a failure text, from the child
    int permit[2];  // pipe: one byte lets the child go on
    // The same for the file server, where there is one; its configuration, and the socket between it and the
    // VMM: [0] it listens, [1] the VMM is connected.
    int server_report[2], server_permit[2], server_socket[2];
    struct launch_config server;
    bool locked; // the failure is that another VM holds the directory
    char error[BH_ERROR_BYTES];
};

static void say(char kind, const char *text) {
    char line[BH_ERROR_BYTES + 2];
    int size = snprintf(line, sizeof line, "%c%s", kind, text);
    // Without a reader the daemon is gone; it will find the record.
    if (size > 0 &&
        write(BH_SPAWN_STATUS_FD, line, (size_t)size < sizeof line ? (size_t)size : sizeof line - 1) < 0)
        return;
}

static int read_config(uint8_t **blob, size_t *size, char *error, size_t error_size) {
    struct stat status;
    if (fstat(BH_SPAWN_CONFIG_FD, &status) != 0 || status.st_size <= 0 ||
        status.st_size > BH_SPAWN_MAX_CONFIG)
        return bh_fail(error, error_size, EINVAL, "launch configuration: no memory file on descriptor 3");
    uint8_t *bytes = malloc((size_t)status.st_size);
    if (!bytes)
        return bh_fail(error, error_size, ENOMEM, "launch configuration");
    if (pread(BH_SPAWN_CONFIG_FD, bytes, (size_t)status.st_size, 0) != status.st_size) {
        free(bytes);
        return bh_fail(error, error_size, EIO, "launch configuration");
    }
    (void)close(BH_SPAWN_CONFIG_FD);
    *blob = bytes;
    *size = (size_t)status.st_size;
    return 0;
}

static int take_lock(struct launch *launch) {
    launch->directory = open(launch->config.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (launch->directory < 0)
        return bh_fail(launch->error, BH_ERROR_BYTES, errno, "%s", launch->config.directory);
    CLEANUP_FD created =
        openat(launch->directory, LOCK_FILE, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (created < 0)
        return bh_fail(launch->error, BH_ERROR_BYTES, errno, "lock of %s", launch->config.directory);
    if (flock(created, LOCK_EX | LOCK_NB) != 0) {
        launch->locked = errno == EWOULDBLOCK;
        return bh_fail(launch->error, BH_ERROR_BYTES, errno, "lock of %s", launch->config.directory);
    }
    launch->lock = bh_take_fd(&created);
    // What an earlier VM left is not ours.
    if ((unlinkat(launch->directory, RECORD_RUNNING, 0) != 0 && errno != ENOENT) ||
        (unlinkat(launch->directory, RECORD_EXIT, 0) != 0 && errno != ENOENT))
        return bh_fail(launch->error, BH_ERROR_BYTES, errno, "old records of %s", launch->config.directory);
    return 0;
}

// The launcher's own descriptors live above every number that the VMM is promised, so that none overwrites
// another.
enum { FIRST_OWN_FD = 64 };

static int move_high(int *fd) {
    if (*fd < 0)
        return 0;
    int moved = fcntl(*fd, F_DUPFD_CLOEXEC, FIRST_OWN_FD);
    if (moved < 0)
        return -errno;
    (void)close(*fd);
    *fd = moved;
    return 0;
}

// QEMU treats sockets as non-blocking, so a slow log cannot stop its main loop. libkrun opens its console by
// a path, which works for pipes alone; a thread of its own writes to it.
static int make_console(struct launch *launch) {
    if (launch->config.kind == VMM_SOFTWARE)
        return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, launch->console);
    if (pipe2(launch->console, O_CLOEXEC) != 0)
        return -1;
    return fchown(launch->console[1], launch->config.uid, launch->config.gid);
}

static int make_channels(struct launch *launch) {
    if (make_console(launch) != 0 || pipe2(launch->errors, O_CLOEXEC) != 0 ||
        pipe2(launch->report, O_CLOEXEC) != 0 || pipe2(launch->permit, O_CLOEXEC) != 0)
        return bh_fail(launch->error, BH_ERROR_BYTES, errno, "pipes");
    if (fcntl(launch->console[0], F_SETFL, O_NONBLOCK) != 0 ||
        fcntl(launch->errors[0], F_SETFL, O_NONBLOCK) != 0)
        return bh_fail(launch->error, BH_ERROR_BYTES, errno, "pipes");
    int *const own[] = {&launch->directory,  &launch->lock,      &launch->tap,       &launch->console[0],
                        &launch->console[1], &launch->errors[0], &launch->errors[1], &launch->report[0],
                        &launch->report[1],  &launch->permit[0], &launch->permit[1]};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        int result = move_high(own[i]);
        if (result != 0)
            return bh_fail(launch->error, BH_ERROR_BYTES, -result, "descriptors");
    }
    for (size_t i = 0; i < launch->config.share_count; i++) {
        int result = move_high(&launch->config.shares[i].fd);
        if (result != 0)
            return bh_fail(launch->error, BH_ERROR_BYTES, -result, "descriptors");
    }
    return 0;
}

// Only for VMs with a file server.
static int make_server_channels(struct launch *launch) {
    int result = shares_connect(launch->server_socket);
    if (result != 0)
        return bh_fail(launch->error, BH_ERROR_BYTES, -result, "socket of the file server");
    if (pipe2(launch->server_report, O_CLOEXEC) != 0 || pipe2(launch->server_permit, O_CLOEXEC) != 0)
        return bh_fail(launch->error, BH_ERROR_BYTES, errno, "pipes");
    int *const own[] = {&launch->server_report[0], &launch->server_report[1], &launch->server_permit[0],
                        &launch->server_permit[1], &launch->server_socket[0], &launch->server_socket[1]};
    for (size_t i = 0; result == 0 && i < sizeof own / sizeof *own; i++)
        result = move_high(own[i]);
    return result == 0 ? 0 : bh_fail(launch->error, BH_ERROR_BYTES, -result, "descriptors");
}

// Leaves open across exec: 0 to 2, the inherited descriptors, TAP, console, and the lock behind them.
static int arrange_descriptors(const struct launch *launch) {
    const struct launch_config *config = &launch->config;
    int last = config->console_fd > config->tap_fd ? config->console_fd : config->tap_fd;
    if (config->server_fd > last)
        last = config->server_fd;
    if (syscall(SYS_close_range, BH_SPAWN_CONFIG_FD, ~0U, CLOSE_RANGE_CLOEXEC) != 0)
        return -errno;
    for (uint32_t i = 0; i < config->vmm_fds; i++)
        if (fcntl(BH_SPAWN_FIRST_FD + (int)i, F_SETFD, 0) != 0)
            return -errno;
    if (dup2(launch->errors[1], STDERR_FILENO) < 0 || dup2(launch->console[1], config->console_fd) < 0 ||
        dup2(launch->lock, last + 1) < 0 || (launch->tap >= 0 && dup2(launch->tap, config->tap_fd) < 0) ||
        (config->server_fd >= 0 && dup2(launch->server_socket[1], config->server_fd) < 0))
        return -errno;
    return 0;
}

// The same for the file server: the socket that it listens on, and the lock.
static int arrange_server_descriptors(const struct launch *launch) {
    if (syscall(SYS_close_range, BH_SPAWN_CONFIG_FD, ~0U, CLOSE_RANGE_CLOEXEC) != 0 ||
        dup2(launch->errors[1], STDERR_FILENO) < 0 || dup2(launch->server_socket[0], BH_SPAWN_FIRST_FD) < 0 ||
        dup2(launch->lock, BH_SPAWN_FIRST_FD + 1) < 0)
        return -errno;
    return 0;
}

static int reset_signals(char *error) {
    sigset_t none;
    (void)sigemptyset(&none);
    if (signal(SIGPIPE, SIG_DFL) == SIG_ERR || sigprocmask(SIG_SETMASK, &none, NULL) != 0)
        return bh_fail(error, BH_ERROR_BYTES, errno, "signals");
    return 0;
}

static int execute(const struct launch_config *config, char *error) {
    char *const environment[] = {NULL};
    (void)execve(config->arguments[0], (char *const *)(uintptr_t)config->arguments, environment);
    return bh_fail(error, BH_ERROR_BYTES, errno, "start of %s", config->arguments[0]);
}

// The file server's process, number 1 of a pid namespace of its own. Returns only on failure.
static int become_server(struct launch *launch) {
    const struct launch_config *config = &launch->server;
    struct limitations ignored = {0}; // the VMM's process tells the same
    int result = jail_enter(config, &ignored, launch->error, BH_ERROR_BYTES);
    if (result == 0)
        result = jail_drop_server_privileges(config, launch->error, BH_ERROR_BYTES);
    if (result == 0)
        result = jail_landlock(config, &ignored, launch->error, BH_ERROR_BYTES);
    if (result != 0)
        return result;
    result = arrange_server_descriptors(launch);
    if (result != 0)
        return bh_fail(launch->error, BH_ERROR_BYTES, -result, "descriptors of the file server");
    char word = 'K'; // now the supervisor gives it its user
    (void)close(launch->server_permit[1]);
    if (write(launch->server_report[1], &word, 1) != 1 || read(launch->server_permit[0], &word, 1) != 1)
        _exit(1);
    result = reset_signals(launch->error);
    if (result == 0)
        result = jail_seccomp(config, launch->error, BH_ERROR_BYTES);
    return result == 0 ? execute(config, launch->error) : result;
}

// The VMM's process, number 1 of its pid namespace. Returns only on failure, with launch->error set.
static int become_vmm(struct launch *launch) {
    struct limitations *limitations = &launch->limitations;
    int result = jail_enter(&launch->config, limitations, launch->error, BH_ERROR_BYTES);
    if (result == 0)
        result = jail_drop_privileges(&launch->config, launch->error, BH_ERROR_BYTES);
    if (result == 0)
        result = jail_landlock(&launch->config, limitations, launch->error, BH_ERROR_BYTES);
    if (result != 0)
        return result;
    result = arrange_descriptors(launch);
    if (result != 0)
        return bh_fail(launch->error, BH_ERROR_BYTES, -result, "descriptors of the VMM");
    // 'K' and what is lacking: the supervisor writes the record, then permits. If it died meanwhile, read
    // sees the end of the pipe, which also covers its death before PR_SET_PDEATHSIG.
    char word[1 + LIMITATIONS_BYTES] = "K";
    memcpy(word + 1, limitations->text, limitations->size);
    (void)close(launch->permit[1]);
    if (write(launch->report[1], word, 1 + limitations->size) < 0 || read(launch->permit[0], word, 1) != 1)
        _exit(1);
    result = reset_signals(launch->error);
    if (result == 0)
        result = jail_seccomp(&launch->config, launch->error, BH_ERROR_BYTES);
    return result == 0 ? execute(&launch->config, launch->error) : result;
}

// Reads one message of the child: 1 and its text, or 0 when the child closed the pipe, which exec does.
static int read_report(int fd, char *text, size_t size) {
    ssize_t got;
    do
        got = read(fd, text, size - 1);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return -errno;
    text[got] = '\0';
    return got > 0;
}

// Child has reported that its jail stands: put it on record, let it go on, and learn whether exec worked.
static int release_child(struct launch *launch, int pid) {
    char text[1 + LIMITATIONS_BYTES + 1];
    int result = read_report(launch->report[0], text, sizeof text);
    if (result < 0 || (result == 0))
        return bh_fail(launch->error, BH_ERROR_BYTES, result ? -result : ECHILD,
                       "the VMM's process ended early");
    if (text[0] != 'K')
        return bh_fail(launch->error, BH_ERROR_BYTES, 0, "%s", text + 1), -ECHILD;
    struct limitations *limitations = &launch->limitations;
    limitations->size = strlen(text + 1);
    memcpy(limitations->text, text + 1, limitations->size + 1);

    struct running_record record = {.config = &launch->config,
                                    .limitations = limitations,
                                    .supervisor = {.pid = getpid()},
                                    .vmm = {.pid = pid}};
    result = bh_process_start_time(record.supervisor.pid, &record.supervisor.start_time, launch->error,
                                   BH_ERROR_BYTES);
    if (result == 0)
        result = bh_process_start_time(pid, &record.vmm.start_time, launch->error, BH_ERROR_BYTES);
    if (result == 0)
        result = record_running(launch->directory, &record, launch->error, BH_ERROR_BYTES);
    if (result != 0)
        return result;
    if (write(launch->permit[1], "1", 1) != 1)
        return bh_fail(launch->error, BH_ERROR_BYTES, errno, "the VMM's process");
    result = read_report(launch->report[0], text, sizeof text);
    if (result != 0)
        return bh_fail(launch->error, BH_ERROR_BYTES, 0, "%s", result > 0 ? text + 1 : "the VMM's process"),
               -ECHILD;
    return 0;
}

// Closes what only the VMM needs, so that the supervisor pins no disk, TAP or memory.
static void keep_own_descriptors(struct launch *launch) {
    (void)syscall(SYS_close_range, BH_SPAWN_FIRST_FD, FIRST_OWN_FD - 1, 0);
    bh_close_fd(&launch->tap);
    bh_close_fd(&launch->console[1]);
    bh_close_fd(&launch->errors[1]);
    bh_close_fd(&launch->report[0]);
    bh_close_fd(&launch->permit[0]);
    bh_close_fd(&launch->permit[1]);
    bh_close_fd(&launch->server_socket[0]);
    bh_close_fd(&launch->server_socket[1]);
    for (size_t i = 0; i < launch->config.share_count; i++)
        bh_close_fd(&launch->config.shares[i].fd);
}

static int prepare(struct launch *launch) {
    sigset_t handled;
    (void)sigemptyset(&handled);
    (void)sigaddset(&handled, SIGTERM);
    (void)sigaddset(&handled, SIGINT);
    if (sigprocmask(SIG_BLOCK, &handled, NULL) != 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR ||
        signal(SIGHUP, SIG_IGN) == SIG_ERR)
        return bh_fail(launch->error, BH_ERROR_BYTES, errno, "signals");
    (void)umask(0077);
    int result = take_lock(launch);
    if (result == 0)
        result = jail_join_cgroups(&launch->config.supervisor_cgroups, launch->error, BH_ERROR_BYTES);
    if (result == 0)
        result = network_create(&launch->config, &launch->tap, launch->error, BH_ERROR_BYTES);
    if (result == 0)
        result = shares_detach(&launch->config, &launch->limitations, launch->error, BH_ERROR_BYTES);
    if (result == 0)
        result = make_channels(launch);
    return result;
}

static int open_pidfd(int pid, int *out) {
    *out = (int)syscall(SYS_pidfd_open, pid, 0);
    return *out < 0 ? -errno : move_high(out);
}

// Says why on the pipe, in the child that could not become what it was to be.
static _Noreturn void give_up(const struct launch *launch, int report) {
    char word[1 + BH_ERROR_BYTES];
    int size = snprintf(word, sizeof word, "F%s", launch->error);
    _exit(size > 0 && write(report, word, (size_t)size) == size ? 1 : 2);
}

// Starts the file server, which then waits for the VMM to say hello. Its process dies with this one.
static int start_server(struct launch *launch, struct supervision *vm) {
    launch->server = launch->config;
    struct launch_config *server = &launch->server;
    server->kind = VMM_FILES;
    memcpy(server->arguments, server->server_arguments, sizeof server->arguments);
    memcpy(server->binds, server->server_binds, sizeof server->binds);
    server->bind_count = server->server_bind_count;
    int result = make_server_channels(launch);
    if (result != 0)
        return result;
    int pid = (int)syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0) {
        (void)become_server(launch);
        give_up(launch, launch->server_report[1]);
    }
    if (pid < 0)
        return bh_fail(launch->error, BH_ERROR_BYTES, errno, "fork");
    bh_close_fd(&launch->server_report[1]);
    vm->server = pid;
    result = open_pidfd(pid, &vm->server_pidfd);
    if (result != 0)
        return bh_fail(launch->error, BH_ERROR_BYTES, -result, "pidfd");
    char text[1 + BH_ERROR_BYTES];
    for (int turn = 0; turn < 2; turn++) { // that its jail stands, and that exec closed the pipe
        result = read_report(launch->server_report[0], text, sizeof text);
        if (result < 0 || (turn == 0 && result == 0))
            return bh_fail(launch->error, BH_ERROR_BYTES, result ? -result : ECHILD,
                           "the file server's process ended early");
        if (result > 0 && text[0] != 'K')
            return bh_fail(launch->error, BH_ERROR_BYTES, 0, "%s", text + 1), -ECHILD;
        if (turn == 0) {
            result = shares_map_server(server, pid, launch->error, BH_ERROR_BYTES);
            if (result != 0)
                return result;
            if (write(launch->server_permit[1], "1", 1) != 1)
                return bh_fail(launch->error, BH_ERROR_BYTES, errno, "the file server's process");
        }
    }
    bh_close_fd(&launch->server_report[0]);
    bh_close_fd(&launch->server_permit[0]);
    bh_close_fd(&launch->server_permit[1]);
    return 0;
}

static int start(struct launch *launch, struct supervision *vm) {
    if (unshare(CLONE_NEWPID) != 0)
        return bh_fail(launch->error, BH_ERROR_BYTES, errno, "pid namespace");
    int pid = fork();
    if (pid < 0)
        return bh_fail(launch->error, BH_ERROR_BYTES, errno, "fork");
    if (pid == 0) {
        (void)become_vmm(launch);
        give_up(launch, launch->report[1]);
    }
    bh_close_fd(&launch->report[1]);
    vm->pid = pid;
    int result = open_pidfd(pid, &vm->pidfd);
    if (result != 0)
        result = bh_fail(launch->error, BH_ERROR_BYTES, -result, "pidfd");
    if (result == 0)
        result = release_child(launch, pid);
    if (result == 0)
        result = supervisor_drop_privileges(launch->error, BH_ERROR_BYTES);
    if (result != 0)
        (void)kill(pid, SIGKILL); // it dies with this process in any case
    return result;
}

// Can this host give a VM its closed network? Tried in a namespace that goes with this process.
static int check_network(void) {
    // 192.0.2.1, of a block for examples; any address does where nobody else is.
    static struct launch_config config = {.kind = VMM_SOFTWARE, .tap_prefix = 24};
    config.tap_address = htonl(0xc0000201);
    char error[BH_ERROR_BYTES] = "";
    CLEANUP_FD tap = -1;
    if (network_create(&config, &tap, error, sizeof error) == 0)
        return 0;
    (void)fprintf(stderr, "%s\n", error);
    return 1;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--check-network") == 0)
        return check_network();
    static struct launch launch = {.directory = -1,
                                   .lock = -1,
                                   .tap = -1,
                                   .console = {-1, -1},
                                   .errors = {-1, -1},
                                   .server_socket = {-1, -1}};
    uint8_t *blob = NULL;
    size_t size = 0;
    struct supervision vm = {.config = &launch.config, .server_pidfd = -1};
    int result = read_config(&blob, &size, launch.error, BH_ERROR_BYTES);
    if (result == 0)
        result = config_decode(blob, size, &launch.config, launch.error, BH_ERROR_BYTES);
    if (result == 0)
        result = prepare(&launch);
    if (result == 0 && launch.config.server_fd >= 0)
        result = start_server(&launch, &vm);
    if (result == 0) {
        vm.directory = launch.directory;
        vm.console = launch.console[0];
        vm.stderr_pipe = launch.errors[0];
        result = start(&launch, &vm);
    }
    if (result != 0) {
        say(launch.locked ? STATUS_LOCKED : STATUS_FAILED, launch.error);
        return 1;
    }
    keep_own_descriptors(&launch);
    say(STATUS_RUNNING, "");
    (void)close(BH_SPAWN_STATUS_FD);
    if (chdir("/") != 0 || supervise(&vm, launch.error, BH_ERROR_BYTES) != 0)
        return 1;
    return 0;
}
