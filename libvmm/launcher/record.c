#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../src/cleanup.h"
#include "../src/error.h"

static void write_json_string(FILE *file, const char *text, size_t size) {
    (void)fputc('"', file);
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte == '"' || byte == '\\')
            (void)fprintf(file, "\\%c", byte);
        else if (byte < 0x20)
            (void)fprintf(file, "\\u%04x", byte);
        else
            (void)fputc(byte, file);
    }
    (void)fputc('"', file);
}

static int64_t now_ms(void) {
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_REALTIME, &now); // cannot fail with this clock
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// Opens NAME.new in the directory, lets `fill` write, and puts it in NAME's place.
static int replace(int directory, const char *name, void (*fill)(FILE *, const void *), const void *data,
                   bool sync, char *error, size_t error_size) {
    char temporary[64];
    (void)snprintf(temporary, sizeof temporary, "%s.new", name);
    CLEANUP_FD fd = openat(directory, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return bh_fail(error, error_size, errno, "%s", temporary);
    CLEANUP_FILE file = fdopen(fd, "w");
    if (!file)
        return bh_fail(error, error_size, errno, "%s", temporary);
    int number = bh_take_fd(&fd); // the stream owns it now
    fill(file, data);
    if (fflush(file) != 0 || ferror(file))
        return bh_fail(error, error_size, errno ? errno : EIO, "%s", temporary);
    if (sync && fsync(number) != 0)
        return bh_fail(error, error_size, errno, "%s", temporary);
    if (renameat(directory, temporary, directory, name) != 0)
        return bh_fail(error, error_size, errno, "%s", name);
    if (sync && fsync(directory) != 0)
        return bh_fail(error, error_size, errno, "%s", name);
    return 0;
}

static void fill_boot_id(FILE *file) {
    char boot_id[64] = "";
    CLEANUP_FD fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? 0 : read(fd, boot_id, sizeof boot_id - 1);
    if (size > 0 && boot_id[size - 1] == '\n')
        size--;
    write_json_string(file, boot_id, size > 0 ? (size_t)size : 0);
}

static void fill_running(FILE *file, const void *data) {
    const struct running_record *record = data;
    const struct launch_config *config = record->config;
    (void)fprintf(file, "{\"version\":1,\"id\":");
    write_json_string(file, config->id, strlen(config->id));
    (void)fprintf(file,
                  ",\"driver\":\"%s\",\"bootId\":", config->kind == VMM_SOFTWARE ? "software" : "libkrun");
    fill_boot_id(file);
    (void)fprintf(file,
                  ",\"supervisor\":{\"pid\":%d,\"startTime\":%" PRIu64
                  "},\"vmm\":{\"pid\":%d,\"startTime\":%" PRIu64 "},\"uid\":%" PRIu32
                  ",\"startedAtMs\":%" PRId64 ",\"annotations\":",
                  record->supervisor.pid, record->supervisor.start_time, record->vmm.pid,
                  record->vmm.start_time, config->uid, now_ms());
    const char *annotations = config->annotations ? config->annotations : "";
    write_json_string(file, annotations, strlen(annotations));
    (void)fprintf(file, ",\"limitations\":[");
    const char *separator = "";
    for (size_t i = 0; i < config->limitations.count; i++) {
        (void)fputs(separator, file);
        write_json_string(file, config->limitations.items[i], strlen(config->limitations.items[i]));
        separator = ",";
    }
    for (const char *line = record->limitations->text; *line;) {
        size_t length = strcspn(line, "\n");
        (void)fputs(separator, file);
        write_json_string(file, line, length);
        separator = ",";
        line += length + (line[length] == '\n');
    }
    (void)fprintf(file, "]}\n");
}

static double seconds(const struct timeval *time) {
    return (double)time->tv_sec + (double)time->tv_usec / 1e6;
}

static void fill_exit(FILE *file, const void *data) {
    const struct exit_record *record = data;
    (void)fprintf(file, "{\"version\":1,");
    if (WIFEXITED(record->status))
        (void)fprintf(file, "\"exitCode\":%d,", WEXITSTATUS(record->status));
    else
        (void)fprintf(file, "\"signal\":%d,", WTERMSIG(record->status));
    (void)fprintf(
        file,
        "\"oomKilled\":%s,\"asked\":%s,\"fileServerLost\":%s,\"cpuSeconds\":%.3f,\"maxResidentBytes\":%ld,"
        "\"finishedAtMs\":%" PRId64 "}\n",
        record->oom_killed ? "true" : "false", record->asked ? "true" : "false",
        record->server_lost ? "true" : "false",
        seconds(&record->usage.ru_utime) + seconds(&record->usage.ru_stime), record->usage.ru_maxrss * 1024,
        now_ms());
}

int record_running(int directory, const struct running_record *record, char *error, size_t error_size) {
    return replace(directory, RECORD_RUNNING, fill_running, record, false, error, error_size);
}

int record_exit(int directory, const struct exit_record *record, char *error, size_t error_size) {
    return replace(directory, RECORD_EXIT, fill_exit, record, true, error, error_size);
}
