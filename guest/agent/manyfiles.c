#include "manyfiles.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <pb_decode.h>

#include "entries.h"
#include "fileaction.h"
#include "files.h"
#include "userlookup.h"

// One content, which is in memory when its file is made: so nothing unfinished waits for the host.
#define CONTENT_MAX (1024 * 1024)
// Files that are open at once, below what a process of the guest may have.
#define READ_MAX 256

static char content[CONTENT_MAX];

static _Noreturn void fail_later(const struct err *err) {
    (void)dprintf(STDERR_FILENO, "%s\n", err->text);
    _exit(err->code ? (int)err->code : FAIL_IO);
}

// ---- writing

static bool take(pb_istream_t *stream, pb_byte_t *buffer, size_t count) {
    (void)stream;
    return fread(buffer, 1, count, stdin) == count;
}

// Returns 1 with a head, 0 at the end, -1 with err.
static int next_head(bulkhead_agent_v1_FileHead *head, struct err *err) {
    int first = getc(stdin);
    if (first == EOF)
        return ferror(stdin) ? err_errno(err, "cannot read the files") : 0;
    pb_istream_t stream = {.callback = take, .bytes_left = SIZE_MAX};
    if (ungetc(first, stdin) == EOF ||
        !pb_decode_ex(&stream, bulkhead_agent_v1_FileHead_fields, head, PB_DECODE_DELIMITED))
        return err_set(err, FAIL_INVALID, "the files break off, or one of them has no head");
    if (head->path[0] != '/')
        return err_set(err, FAIL_INVALID, "%.300s: the path must be absolute", head->path);
    return 1;
}

// One sync for each file system, in place of one for each file.
static int sync_later(int fd, struct err *err) {
    static int last = -1;
    struct stat before, now;
    if (fd >= 0 && last >= 0 && fstat(last, &before) == 0 && fstat(fd, &now) == 0 &&
        before.st_dev == now.st_dev) {
        (void)close(fd);
        return 0;
    }
    int result = last >= 0 ? syncfs(last) : 0;
    if (result < 0)
        result = err_errno(err, "cannot flush");
    if (last >= 0)
        (void)close(last);
    last = fd;
    return result;
}

static int make(const bulkhead_agent_v1_FileHead *head, const struct file_owner *owner, struct err *err) {
    switch (head->kind) {
    case bulkhead_agent_v1_FileKind_FILE_KIND_REGULAR: {
        if (head->size > sizeof content)
            return err_set(err, FAIL_INVALID, "%.300s is too large for one of many files", head->path);
        if (fread(content, 1, head->size, stdin) != head->size)
            return err_set(err, FAIL_INVALID, "%.300s breaks off", head->path);
        int fd = files_put(head->path, owner, head->mode, content, head->size, err);
        return fd < 0 ? -1 : sync_later(fd, err);
    }
    case bulkhead_agent_v1_FileKind_FILE_KIND_DIRECTORY:
        return fileaction_make_directories(head->path, head->mode & 07777, err);
    case bulkhead_agent_v1_FileKind_FILE_KIND_SYMLINK:
        return fileaction_make_symlink(head->path, head->target, err);
    default:
        return err_set(err, FAIL_INVALID, "%.300s: this agent makes no such thing", head->path);
    }
}

int manyfiles_write(const bulkhead_agent_v1_WriteFiles *request, int status, struct err *err) {
    static struct user user;
    static bulkhead_agent_v1_FileHead head;
    if (userlookup(request->user, &user, err) < 0)
        return -1;
    struct file_owner owner = {.uid = user.uid, .gid = user.gid};
    (void)close(status);
    int result;
    while ((result = next_head(&head, err)) > 0) {
        result = make(&head, &owner, err);
        if (result < 0)
            break;
    }
    // Also what stays where a later one failed.
    struct err flush = {.code = FAIL_IO};
    if (sync_later(-1, &flush) < 0 && result == 0)
        fail_later(&flush);
    if (result < 0)
        fail_later(err);
    _exit(0);
}

// ---- reading

// Exactly as many bytes as the host was told. Returns -1 with err.
static int put_content(int fd, const char *path, uint64_t size, struct err *err) {
    while (size > 0) {
        ssize_t got = read(fd, content, size < sizeof content ? (size_t)size : sizeof content);
        if (got < 0)
            return err_errno(err, "%.300s", path);
        if (got == 0)
            return err_set(err, FAIL_IO, "%.300s became shorter while it was read", path);
        if (fwrite(content, 1, (size_t)got, stdout) != (size_t)got)
            return err_errno(err, "cannot pass %.300s on", path);
        size -= (uint64_t)got;
    }
    return 0;
}

static int put_file(int fd, const char *path, uint64_t content_max, struct err *err) {
    static bulkhead_agent_v1_FileEntry entry;
    if (entries_describe(fd, "", &entry) < 0)
        return err_errno(err, "%.300s", path);
    const char *slash = strrchr(path, '/');
    entries_name(&entry, slash ? slash + 1 : path);
    if (entries_put(stdout, &entry) < 0)
        return err_errno(err, "cannot pass %.300s on", path);
    return entry.size > content_max ? 0 : put_content(fd, path, entry.size, err);
}

int manyfiles_read(const bulkhead_agent_v1_ReadFiles *request, int status, struct err *err) {
    static int files[READ_MAX];
    struct stat info;
    if (request->paths_count > READ_MAX)
        return err_set(err, FAIL_INVALID, "more than %d files at once", READ_MAX);
    // What is not there is the answer to the request, before anything is put out.
    for (size_t i = 0; i < request->paths_count; i++) {
        if (request->paths[i][0] != '/')
            return err_set(err, FAIL_INVALID, "%.300s: the path must be absolute", request->paths[i]);
        files[i] = files_open_regular(request->paths[i], &info, err);
        if (files[i] < 0)
            return -1;
    }
    (void)close(status);
    for (size_t i = 0; i < request->paths_count; i++) {
        if (put_file(files[i], request->paths[i], request->content_max, err) < 0)
            fail_later(err);
        (void)close(files[i]);
    }
    if (fflush(stdout) != 0) {
        (void)err_errno(err, "cannot pass the files on");
        fail_later(err);
    }
    _exit(0);
}
