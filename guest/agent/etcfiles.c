#include "etcfiles.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "beneath.h"
#include "mounts.h"
#include "textfile.h"

#define TIME_LIMIT_S 10
// Bounds a file of ours: 8 name servers and domains, and as many hosts as fit.
#define TEXT_MAX (256 * 1024)
#define MACHINE_ID MOUNTS_UPPER "/machine-id"
#define MACHINE_ID_SIZE 33

struct text {
    char *bytes;
    size_t size;
};

static void add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct text *text, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int size = vsnprintf(text->bytes + text->size, TEXT_MAX - text->size, format, args);
    va_end(args);
    if (size > 0 && text->size + (size_t)size < TEXT_MAX)
        text->size += (size_t)size;
    text->bytes[text->size] = '\0';
}

static void write_hosts(struct text *text, const bulkhead_agent_v1_Personalize *request) {
    bool named = false;
    add(text, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (size_t i = 0; request->has_network && i < request->network.addresses_count; i++) {
        char address[INET6_ADDRSTRLEN];
        const bulkhead_agent_v1_Address *a = &request->network.addresses[i];
        if (request->hostname[0] &&
            inet_ntop(a->ip.size == 4 ? AF_INET : AF_INET6, a->ip.bytes, address, sizeof address)) {
            add(text, "%s\t%s\n", address, request->hostname);
            named = true;
        }
    }
    if (request->hostname[0] && !named)
        add(text, "127.0.1.1\t%s\n", request->hostname);
    for (size_t i = 0; i < request->extra_hosts_count; i++) {
        add(text, "%s", request->extra_hosts[i].address);
        for (size_t j = 0; j < request->extra_hosts[i].names_count; j++)
            add(text, "%c%s", j == 0 ? '\t' : ' ', request->extra_hosts[i].names[j]);
        add(text, "\n");
    }
}

static void write_resolv_conf(struct text *text, const bulkhead_agent_v1_Personalize *request) {
    for (size_t i = 0; i < request->search_domains_count; i++)
        add(text, "%s%s%s", i == 0 ? "search " : " ", request->search_domains[i],
            i + 1 == request->search_domains_count ? "\n" : "");
    for (size_t i = 0; i < request->nameservers_count; i++)
        add(text, "nameserver %s\n", request->nameservers[i]);
}

// Whether the file is a plain one with just this content: rewriting it would take space on the upper disk for
// nothing.
static bool is_current(int etc, const char *name, const struct text *text) {
    struct stat info;
    bool same = false;
    int fd = openat(etc, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return false;
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && (size_t)info.st_size == text->size) {
        char *present = malloc(text->size + 1);
        same = present && read(fd, present, text->size + 1) == (ssize_t)text->size &&
               memcmp(present, text->bytes, text->size) == 0;
        free(present);
    }
    (void)close(fd);
    return same;
}

// A rename puts the file in place of whatever is there, so that a link at its name is replaced and not
// followed.
static int replace(int etc, const char *name, const struct text *text, mode_t mode, struct err *err) {
    char temporary[64];
    if (is_current(etc, name, text))
        return 0;
    (void)snprintf(temporary, sizeof temporary, ".%s.bulkhead", name);
    (void)unlinkat(etc, temporary, 0);
    int fd = openat(etc, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0)
        return err_errno(err, "cannot make /etc/%s", name);
    int failed = fchmod(fd, mode) < 0 || write(fd, text->bytes, text->size) != (ssize_t)text->size;
    failed = close(fd) < 0 || failed;
    if (!failed && renameat(etc, temporary, etc, name) == 0)
        return 0;
    (void)err_errno(err, "cannot write /etc/%s", name);
    (void)unlinkat(etc, temporary, 0);
    return -1;
}

// Kept on the upper disk beside the upper layer: the same over restarts, another for each sandbox.
static void machine_id(struct text *text) {
    char id[MACHINE_ID_SIZE + 1];
    if (textfile_read(MACHINE_ID, id, sizeof id) != MACHINE_ID_SIZE) {
        uint8_t bytes[16];
        if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
            return;
        for (size_t i = 0; i < sizeof bytes; i++)
            (void)snprintf(id + 2 * i, 3, "%02x", bytes[i]);
        (void)strcpy(id + 32, "\n");
        int fd = open(MACHINE_ID, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0444);
        if (fd < 0)
            return;
        ssize_t written = write(fd, id, MACHINE_ID_SIZE);
        (void)close(fd);
        if (written != MACHINE_ID_SIZE)
            (void)unlink(MACHINE_ID);
    }
    add(text, "%s", id);
}

static int write_all(const bulkhead_agent_v1_Personalize *request, const struct text *id, struct text *text,
                     struct err *err) {
    if (mounts_enter() < 0)
        return err_errno(err, "cannot enter the container's root");
    int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    // /etc itself may be a link within the image.
    int etc = beneath_open(root, "etc", O_PATH | O_DIRECTORY, 0);
    if (etc < 0 && errno == ENOENT)
        etc = beneath_directory(root, "etc", 0755);
    if (etc < 0)
        return err_errno(err, "cannot open /etc");
    if (request->hostname[0]) {
        text->size = 0;
        add(text, "%s\n", request->hostname);
        if (replace(etc, "hostname", text, 0644, err) < 0)
            return -1;
    }
    text->size = 0;
    write_hosts(text, request);
    if (replace(etc, "hosts", text, 0644, err) < 0)
        return -1;
    text->size = 0;
    write_resolv_conf(text, request);
    if (replace(etc, "resolv.conf", text, 0644, err) < 0)
        return -1;
    return id->size ? replace(etc, "machine-id", id, 0444, err) : 0;
}

static _Noreturn void write_in_child(const bulkhead_agent_v1_Personalize *request, int report) {
    struct err err = {.code = FAIL_IO};
    struct text text = {.bytes = malloc(TEXT_MAX)}, id = {.bytes = malloc(TEXT_MAX)};
    int result = -1;
    (void)alarm(TIME_LIMIT_S);
    (void)umask(0);
    if (!text.bytes || !id.bytes) {
        (void)err_set(&err, FAIL_EXHAUSTED, "no memory for the files in /etc");
    } else {
        machine_id(&id);
        result = write_all(request, &id, &text, &err);
    }
    if (result < 0 && write(report, &err, sizeof err) != (ssize_t)sizeof err)
        _exit(2);
    _exit(result < 0);
}

int etcfiles_write(const bulkhead_agent_v1_Personalize *request, struct err *err) {
    int report[2], status = 0;
    if (pipe2(report, O_CLOEXEC) < 0)
        return err_errno(err, "cannot make a pipe");
    pid_t child = fork();
    if (child == 0)
        write_in_child(request, report[1]);
    (void)close(report[1]);
    int result = -1;
    if (child < 0) {
        (void)err_errno(err, "cannot fork");
    } else {
        ssize_t got = read(report[0], err, sizeof *err);
        (void)waitpid(child, &status, 0);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
            result = 0;
        else if (got != (ssize_t)sizeof *err)
            (void)err_set(err, FAIL_IO, "writing the files in /etc took longer than %d s", TIME_LIMIT_S);
    }
    (void)close(report[0]);
    return result;
}
