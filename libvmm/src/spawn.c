// Starting the launcher: nothing of this process leaks into it but what is listed.
#include "libvmm.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "error.h"

// Between clone and exec the child shares the parent's memory, like vfork: no allocation, no locks, no stdio,
// only the system calls below. Its own stack must hold them.
enum { CHILD_STACK_BYTES = 64 * 1024 };

struct child_arguments {
    const char *binary;
    int sources[BH_SPAWN_FIRST_FD + BH_SPAWN_MAX_FDS]; // by target number; -1 for none
    int count;
    int failure; // errno of the step that failed; read by the parent, whose memory this is
};

static int child_fail(struct child_arguments *arguments) {
    arguments->failure = errno;
    _exit(127);
}

static int child_main(void *opaque) {
    struct child_arguments *arguments = opaque;
    sigset_t none;
    struct sigaction reset = {.sa_handler = SIG_DFL};
    for (int signal = 1; signal <= SIGRTMAX; signal++)
        (void)sigaction(signal, &reset,
                        NULL); // SIGKILL, SIGSTOP and libc's own two refuse; they are at default already
    if (setsid() < 0)
        return child_fail(arguments);
    // First out of the way of the target numbers, then down to them.
    int moved[BH_SPAWN_FIRST_FD + BH_SPAWN_MAX_FDS];
    for (int target = 0; target < arguments->count; target++) {
        moved[target] =
            fcntl(arguments->sources[target], F_DUPFD_CLOEXEC, BH_SPAWN_FIRST_FD + BH_SPAWN_MAX_FDS);
        if (moved[target] < 0)
            return child_fail(arguments);
    }
    for (int target = 0; target < arguments->count; target++)
        if (dup3(moved[target], target, 0) < 0)
            return child_fail(arguments);
    if (syscall(SYS_close_range, arguments->count, ~0U, 0) != 0)
        return child_fail(arguments);
    if (sigemptyset(&none) != 0 || sigprocmask(SIG_SETMASK, &none, NULL) != 0)
        return child_fail(arguments);
    char *const argv[] = {(char *)"bulkhead-vmm", NULL};
    char *const environment[] = {NULL};
    (void)execve(arguments->binary, argv, environment);
    return child_fail(arguments);
}

static int sealed_config(const uint8_t *config, size_t size, int *out) {
    CLEANUP_FD fd = memfd_create("bulkhead-config", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    for (size_t done = 0; done < size;) {
        ssize_t written = pwrite(fd, config + done, size - done, (off_t)done);
        if (written < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        done += (size_t)written;
    }
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0)
        return -errno;
    *out = bh_take_fd(&fd);
    return 0;
}

int bh_spawn(const char *binary, const uint8_t *config, size_t config_size, const int32_t *fds,
             size_t fd_count, int32_t *pid, int32_t *pidfd, int32_t *status_fd, char *error,
             size_t error_size) {
    if (!binary || binary[0] != '/' || !config || config_size == 0 || config_size > BH_SPAWN_MAX_CONFIG ||
        fd_count > BH_SPAWN_MAX_FDS || (fd_count > 0 && !fds) || !pid || !pidfd || !status_fd)
        return bh_fail(error, error_size, EINVAL, "spawn");

    CLEANUP_FD config_fd = -1;
    int result = sealed_config(config, config_size, &config_fd);
    if (result != 0)
        return bh_fail(error, error_size, -result, "configuration of the launcher");
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) != 0)
        return bh_fail(error, error_size, errno, "status pipe");
    CLEANUP_FD status_read = pipe_fds[0];
    CLEANUP_FD status_write = pipe_fds[1];
    CLEANUP_FD null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0)
        return bh_fail(error, error_size, errno, "/dev/null");

    struct child_arguments arguments = {.binary = binary, .count = BH_SPAWN_FIRST_FD + (int)fd_count};
    arguments.sources[0] = arguments.sources[1] = arguments.sources[2] = null_fd;
    arguments.sources[BH_SPAWN_CONFIG_FD] = config_fd;
    arguments.sources[BH_SPAWN_STATUS_FD] = status_write;
    for (size_t i = 0; i < fd_count; i++) {
        if (fds[i] < 0 || fcntl(fds[i], F_GETFD) < 0)
            return bh_fail(error, error_size, EBADF, "inherited descriptor %zu", i);
        arguments.sources[BH_SPAWN_FIRST_FD + i] = fds[i];
    }

    char *stack =
        mmap(NULL, CHILD_STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        return bh_fail(error, error_size, errno, "stack of the child");
    // No signal handler of Node may run in the child on shared memory.
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int new_pidfd = -1;
    int child = clone(child_main, stack + CHILD_STACK_BYTES, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD,
                      &arguments, &new_pidfd);
    int clone_error = errno;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)munmap(stack, CHILD_STACK_BYTES);
    if (child < 0)
        return bh_fail(error, error_size, clone_error, "clone");
    if (arguments.failure != 0) {
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
            ;
        (void)close(new_pidfd);
        return bh_fail(error, error_size, arguments.failure, "start of %s", binary);
    }
    *pid = child;
    *pidfd = new_pidfd;
    *status_fd = bh_take_fd(&status_read);
    return 0;
}
