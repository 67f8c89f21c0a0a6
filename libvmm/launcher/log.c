#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "../src/cleanup.h"
#include "../src/error.h"

// A guest that prints without end costs at most this much disk traffic; more waits in its own queue, which
// slows that guest alone. A verbose kernel boot is about 30 KiB.
enum { BYTES_PER_SECOND = 256 * 1024 };

static int open_file(const struct bounded_log *log) {
    return openat(log->directory, log->name, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW,
                  0600);
}

static void rotate(struct bounded_log *log) {
    char older[64];
    (void)snprintf(older, sizeof older, "%s.1", log->name);
    (void)renameat(log->directory, log->name, log->directory,
                   older); // without it the file is only begun again
    bh_close_fd(&log->file);
    log->file = open_file(log);
    log->size = 0;
}

int log_open(struct bounded_log *log, int directory, const char *name, int source, uint64_t limit,
             char *error, size_t error_size) {
    *log = (struct bounded_log){.directory = directory,
                                .name = name,
                                .source = source,
                                .file = -1,
                                .limit = limit,
                                .budget = BYTES_PER_SECOND};
    rotate(log);
    if (log->file < 0)
        return bh_fail(error, error_size, errno, "%s", name);
    return 0;
}

int log_wait_ms(struct bounded_log *log, int64_t now_ms) {
    int64_t passed = now_ms - log->refilled_ms;
    if (log->refilled_ms == 0 || passed >= 1000) {
        log->refilled_ms = now_ms;
        log->budget = BYTES_PER_SECOND;
        return 0;
    }
    return log->budget > 0 ? 0 : (int)(1000 - passed);
}

static void append(struct bounded_log *log, const char *bytes, size_t size) {
    if (log->size + size > log->limit / 2)
        rotate(log);
    if (log->file < 0)
        return;
    ssize_t written = write(log->file, bytes, size);
    if (written > 0)
        log->size += (uint64_t)written;
    else
        bh_close_fd(&log->file); // a full disk: the guest must not learn of it
}

void log_pump(struct bounded_log *log, bool all) {
    char buffer[16 * 1024];
    uint64_t left = all ? log->limit : log->budget;
    while (log->source >= 0 && left > 0) {
        ssize_t got = read(log->source, buffer, left < sizeof buffer ? left : sizeof buffer);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            break;
        if (got <= 0) {
            bh_close_fd(&log->source);
            break;
        }
        left -= (uint64_t)got;
        append(log, buffer, (size_t)got);
        if (!all)
            break; // one piece per turn, so that the other log and the signals get theirs
    }
    if (!all)
        log->budget = left;
}

void log_close(struct bounded_log *log) {
    bh_close_fd(&log->source);
    bh_close_fd(&log->file);
}
