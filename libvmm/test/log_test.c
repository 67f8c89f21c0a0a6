#include "../launcher/log.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../include/libvmm.h"
#include "check.h"

int main(void) {
    char directory[] = "/tmp/log-test-XXXXXX", error[BH_ERROR_BYTES], line[4096];
    CHECK(mkdtemp(directory), "temporary directory");
    int at = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int channel[2];
    CHECK(at >= 0 && pipe2(channel, O_CLOEXEC | O_NONBLOCK) == 0, "pipe");
    struct bounded_log log;
    CHECK(log_open(&log, at, "log", channel[0], 64 * 1024, error, sizeof error) == 0, "log");
    memset(line, 'x', sizeof line);
    for (int i = 0; i < 200; i++) { // 800 KiB through a bound of 64
        CHECK(write(channel[1], line, sizeof line) == (ssize_t)sizeof line, "write");
        log_pump(&log, true);
    }
    struct stat present, older;
    CHECK(fstatat(at, "log", &present, 0) == 0 && fstatat(at, "log.1", &older, 0) == 0, "two files");
    CHECK(present.st_size + older.st_size <= 64 * 1024, "both together keep the bound");
    CHECK(older.st_size >= 28 * 1024, "the former half is kept");
    CHECK(log_wait_ms(&log, 1000) == 0, "a fresh budget");
    while (log.budget > 0) {
        CHECK(write(channel[1], line, sizeof line) == (ssize_t)sizeof line, "write");
        log_pump(&log, false);
    }
    CHECK(log_wait_ms(&log, 1400) == 600, "a spent budget makes the guest wait");
    CHECK(log_wait_ms(&log, 2000) == 0, "for the rest of the second");
    (void)close(channel[1]);
    log_pump(&log, false);
    CHECK(log.source == -1, "the end is noticed");
    log_close(&log);
    CHECK(unlinkat(at, "log", 0) == 0 && unlinkat(at, "log.1", 0) == 0 && rmdir(directory) == 0, "clean-up");
    (void)close(at);
    (void)puts("log: ok");
    return 0;
}
