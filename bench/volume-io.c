// volume-io FILE [forget]: writes and reads a file in the ways that bench/volumes.ts compares, and prints the
// time of each as "NAME MICROSECONDS". With `forget` its pages are dropped before each reading, so that a
// guest asks its disk.
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MIB = 1024 * 1024, FILE_BYTES = 64 * MIB, BLOCK = 4096, RANDOM_BLOCKS = 4096, SYNCED_BLOCKS = 128 };

static char buffer[MIB];
static uint32_t chance = 12345;

static void check(int holds, const char *what) {
    if (!holds) {
        perror(what);
        exit(1);
    }
}

static int64_t now(void) {
    struct timespec t;
    check(clock_gettime(CLOCK_MONOTONIC, &t) == 0, "clock_gettime");
    return t.tv_sec * INT64_C(1000000) + t.tv_nsec / 1000;
}

// xorshift: the same places at every run.
static off_t place(void) {
    chance ^= chance << 13;
    chance ^= chance >> 17;
    chance ^= chance << 5;
    return (off_t)(chance % (FILE_BYTES / BLOCK)) * BLOCK;
}

static void forget(int fd) {
    check(fsync(fd) == 0, "fsync");
    check(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0, "posix_fadvise");
}

static void tell(const char *name, int64_t began) {
    printf("%s %lld\n", name, (long long)(now() - began));
}

int main(int argc, char **argv) {
    if (argc != 2 && argc != 3)
        return 2;
    int forgets = argc == 3;
    memset(buffer, 'x', sizeof buffer);
    int fd = open(argv[1], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    check(fd >= 0, argv[1]);

    int64_t began = now();
    for (off_t at = 0; at < FILE_BYTES; at += MIB)
        check(pwrite(fd, buffer, MIB, at) == MIB, "write");
    check(fsync(fd) == 0, "fsync");
    tell("sequential-write", began);

    if (forgets)
        forget(fd);
    began = now();
    for (off_t at = 0; at < FILE_BYTES; at += MIB)
        check(pread(fd, buffer, MIB, at) == MIB, "read");
    tell("sequential-read", began);

    began = now();
    for (int i = 0; i < RANDOM_BLOCKS; i++)
        check(pwrite(fd, buffer, BLOCK, place()) == BLOCK, "write");
    check(fsync(fd) == 0, "fsync");
    tell("random-write", began);

    if (forgets)
        forget(fd);
    began = now();
    for (int i = 0; i < RANDOM_BLOCKS; i++)
        check(pread(fd, buffer, BLOCK, place()) == BLOCK, "read");
    tell("random-read", began);

    began = now();
    for (int i = 0; i < SYNCED_BLOCKS; i++)
        check(pwrite(fd, buffer, BLOCK, place()) == BLOCK && fdatasync(fd) == 0, "synced write");
    tell("synced-write", began);
    return unlink(argv[1]) == 0 && close(fd) == 0 ? 0 : 1;
}
