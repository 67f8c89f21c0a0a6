// Identity of processes, signals through pidfds.
#include "libvmm.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "error.h"
#include "process.h"

int bh_abi_version(void) {
    return BH_ABI_VERSION;
}

// Field numbers of proc(5); the command in field 2 may hold blanks and parentheses, so counting starts behind
// the last
// ')'.
enum { STAT_STATE = 3, STAT_START_TIME = 22 };

int bh_parse_stat(const char *text, char *state, uint64_t *start_time) {
    const char *cursor = strrchr(text, ')');
    if (!cursor || cursor[1] != ' ')
        return -EBADMSG;
    cursor += 2;
    *state = *cursor;
    for (int field = STAT_STATE; field < STAT_START_TIME; field++) {
        cursor = strchr(cursor, ' ');
        if (!cursor)
            return -EBADMSG;
        cursor++;
    }
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(cursor, &end, 10);
    if (errno != 0 || end == cursor || *end != ' ')
        return -EBADMSG;
    *start_time = value;
    return 0;
}

int bh_process_start_time(int32_t pid, uint64_t *start_time, char *error, size_t error_size) {
    if (pid <= 0 || !start_time)
        return bh_fail(error, error_size, EINVAL, "process start time");
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%" PRId32 "/stat", pid);
    CLEANUP_FD fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return bh_fail(error, error_size, errno == ENOENT ? ESRCH : errno, "process %" PRId32, pid);
    char text[1024]; // the line is below 400 bytes
    ssize_t size = read(fd, text, sizeof text - 1);
    if (size < 0)
        return bh_fail(error, error_size, errno, "%s", path);
    text[size] = '\0';
    char state = 0;
    if (bh_parse_stat(text, &state, start_time) != 0)
        return bh_fail(error, error_size, EBADMSG, "%s", path);
    if (state == 'Z' || state == 'X')
        return bh_fail(error, error_size, ESRCH, "process %" PRId32 " has ended", pid);
    return 0;
}

int bh_pidfd_open(int32_t pid, uint64_t start_time, int32_t *pidfd, char *error, size_t error_size) {
    if (pid <= 0 || !pidfd)
        return bh_fail(error, error_size, EINVAL, "pidfd");
    CLEANUP_FD fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return bh_fail(error, error_size, errno, "pidfd of process %" PRId32, pid);
    // The number is pinned to one process from here on, so comparing now cannot be overtaken by its reuse.
    uint64_t found = 0;
    int result = bh_process_start_time(pid, &found, error, error_size);
    if (result != 0)
        return result;
    if (found != start_time)
        return bh_fail(error, error_size, ESRCH, "process %" PRId32 " is another one now", pid);
    *pidfd = bh_take_fd(&fd);
    return 0;
}

int bh_pidfd_kill(int32_t pidfd, int32_t signal, char *error, size_t error_size) {
    if (pidfd < 0 || signal < 0 || signal > SIGRTMAX)
        return bh_fail(error, error_size, EINVAL, "kill");
    if (syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) != 0 && errno != ESRCH)
        return bh_fail(error, error_size, errno, "kill");
    return 0;
}

int bh_forbid_dumps(char *error, size_t error_size) {
    const struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return bh_fail(error, error_size, errno, "core dumps");
    return 0;
}
