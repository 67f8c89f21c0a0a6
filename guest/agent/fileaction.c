#include "fileaction.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <pb_encode.h>

#include "beneath.h"
#include "files.h"
#include "paths.h"
#include "unfinished.h"

// Of a tree that is removed: each level holds a descriptor and a directory's buffer.
#define DEPTH_MAX 256
// A FileEntry with its length in front; names and targets take most of it.
#define ENTRY_MAX (NAME_MAX + PATH_MAX + 128)

typedef bulkhead_agent_v1_FileEntry Entry;

static _Noreturn void fail_later(const char *what) {
    (void)dprintf(STDERR_FILENO, "%.300s: %s\n", what, strerrordesc_np(errno));
    _exit(1);
}

// ---- looking

static bulkhead_agent_v1_FileKind kind_of(unsigned mode) {
    return S_ISREG(mode)   ? bulkhead_agent_v1_FileKind_FILE_KIND_REGULAR
           : S_ISDIR(mode) ? bulkhead_agent_v1_FileKind_FILE_KIND_DIRECTORY
           : S_ISLNK(mode) ? bulkhead_agent_v1_FileKind_FILE_KIND_SYMLINK
                           : bulkhead_agent_v1_FileKind_FILE_KIND_OTHER;
}

static int64_t nanoseconds(const struct statx_timestamp *time) {
    return time->tv_sec * 1000000000 + time->tv_nsec;
}

// Of `name` in the directory, or of the descriptor itself where it is empty. Returns -1 with errno.
static int describe(int fd, const char *name, Entry *entry) {
    struct statx info;
    if (statx(fd, name, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &info) < 0)
        return -1;
    *entry = (Entry)bulkhead_agent_v1_FileEntry_init_zero;
    entry->kind = kind_of(info.stx_mode);
    entry->size = info.stx_size;
    entry->mode = info.stx_mode & 07777;
    entry->uid = info.stx_uid;
    entry->gid = info.stx_gid;
    entry->modified_ns = nanoseconds(&info.stx_mtime);
    entry->birth_ns = info.stx_mask & STATX_BTIME ? nanoseconds(&info.stx_btime) : 0;
    if (S_ISLNK(info.stx_mode)) {
        ssize_t size = readlinkat(fd, name, (char *)entry->target.bytes, sizeof entry->target.bytes);
        if (size < 0)
            return -1;
        entry->target.size = (pb_size_t)size;
    }
    return 0;
}

static void name_entry(Entry *entry, const char *name) {
    size_t size = strnlen(name, sizeof entry->name.bytes);
    memcpy(entry->name.bytes, name, size);
    entry->name.size = (pb_size_t)size;
}

static int put_entry(FILE *out, const Entry *entry) {
    static uint8_t buffer[ENTRY_MAX];
    pb_ostream_t stream = pb_ostream_from_buffer(buffer, sizeof buffer);
    if (!pb_encode_ex(&stream, bulkhead_agent_v1_FileEntry_fields, entry, PB_ENCODE_DELIMITED)) {
        errno = EOVERFLOW;
        return -1;
    }
    return fwrite(buffer, 1, stream.bytes_written, out) == stream.bytes_written ? 0 : -1;
}

static int stat_file(const char *path, bool follow, struct err *err) {
    static Entry entry;
    int fd = paths_open(path, O_PATH | (follow ? 0 : O_NOFOLLOW), err);
    if (fd < 0)
        return -1;
    int result = describe(fd, "", &entry);
    if (result == 0) {
        const char *slash = strrchr(path, '/');
        name_entry(&entry, slash ? slash + 1 : path);
        result = put_entry(stdout, &entry) < 0 || fflush(stdout) != 0 ? -1 : 0;
    }
    if (result < 0)
        result = paths_failure(path, err);
    (void)close(fd);
    return result;
}

static bool is_dots(const char *name) {
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int list_directory(const char *path, int status, struct err *err) {
    static Entry entry;
    int fd = paths_open(path, O_RDONLY | O_DIRECTORY | O_NONBLOCK, err);
    if (fd < 0)
        return -1;
    DIR *dir = fdopendir(fd);
    if (!dir) {
        (void)close(fd);
        return paths_failure(path, err);
    }
    (void)close(status);
    struct dirent *at;
    while ((errno = 0, at = readdir(dir))) {
        if (is_dots(at->d_name))
            continue;
        if (describe(dirfd(dir), at->d_name, &entry) < 0) {
            if (errno == ENOENT)
                continue; // removed meanwhile
            fail_later(at->d_name);
        }
        name_entry(&entry, at->d_name);
        if (put_entry(stdout, &entry) < 0)
            fail_later(path);
    }
    if (errno || fflush(stdout) != 0)
        fail_later(path);
    (void)closedir(dir);
    return 0;
}

// ---- changing

static int make_one(const char *path, mode_t mode, struct err *err) {
    const char *name;
    int parent = paths_open_parent(path, &name, err);
    if (parent < 0)
        return -1;
    int result = mkdirat(parent, name, mode);
    // The mode that was asked for, whatever mask applies.
    if (result == 0)
        result = fchmodat(parent, name, mode, 0);
    if (result < 0)
        result = paths_failure(path, err);
    (void)close(parent);
    return result;
}

// One part after the other, each followed where it is a link to a directory.
static int make_with_parents(const char *path, mode_t mode, struct err *err) {
    static char prefix[PATH_MAX];
    size_t length = strlen(path);
    if (length >= sizeof prefix)
        return err_set(err, FAIL_INVALID, "the path is too long");
    for (size_t end = 1; end <= length; end++) {
        if (end < length && path[end] != '/')
            continue;
        memcpy(prefix, path, end);
        prefix[end] = '\0';
        int fd = paths_open(prefix, O_PATH | O_DIRECTORY, err);
        if (fd >= 0) {
            (void)close(fd);
            continue;
        }
        // Made by somebody else in between is as good.
        if (err->code != FAIL_NOT_FOUND || (make_one(prefix, mode, err) < 0 && err->code != FAIL_EXISTS))
            return -1;
    }
    int fd = paths_open(path, O_PATH | O_DIRECTORY, err);
    if (fd < 0)
        return -1;
    (void)close(fd);
    return 0;
}

// Returns -1 with errno.
static int remove_tree(int parent, const char *name, int depth) {
    if (unlinkat(parent, name, 0) == 0)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -1;
    if (depth == DEPTH_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -1;
    DIR *dir = fdopendir(fd);
    if (!dir) {
        (void)close(fd);
        return -1;
    }
    int result = 0;
    struct dirent *at;
    while (result == 0 && (errno = 0, at = readdir(dir))) {
        // Gone meanwhile is what was wanted.
        if (!is_dots(at->d_name) && remove_tree(dirfd(dir), at->d_name, depth + 1) < 0 && errno != ENOENT)
            result = -1;
    }
    int number = errno;
    (void)closedir(dir);
    if (result < 0 || number) {
        errno = number;
        return -1;
    }
    return unlinkat(parent, name, AT_REMOVEDIR);
}

static int remove_file(const char *path, bulkhead_agent_v1_Removal what, int status, struct err *err) {
    const char *name;
    int parent = paths_open_parent(path, &name, err);
    if (parent < 0)
        return -1;
    int result = 0;
    if (what == bulkhead_agent_v1_Removal_REMOVAL_TREE) {
        struct stat info;
        result = fstatat(parent, name, &info, AT_SYMLINK_NOFOLLOW);
        if (result == 0) {
            (void)close(status);
            if (remove_tree(parent, name, 0) < 0)
                fail_later(path);
        }
    } else {
        bool directory = what == bulkhead_agent_v1_Removal_REMOVAL_EMPTY_DIRECTORY;
        result = unlinkat(parent, name, directory ? AT_REMOVEDIR : 0);
    }
    if (result < 0)
        result = paths_failure(path, err);
    (void)close(parent);
    return result;
}

static int rename_file(const char *from, const char *to, struct err *err) {
    const char *old_name, *new_name;
    int old_parent = paths_open_parent(from, &old_name, err);
    if (old_parent < 0)
        return -1;
    int new_parent = paths_open_parent(to, &new_name, err);
    int result = new_parent < 0 ? -1 : 0;
    if (new_parent >= 0) {
        if (renameat(old_parent, old_name, new_parent, new_name) < 0)
            result = paths_failure(from, err);
        (void)close(new_parent);
    }
    (void)close(old_parent);
    return result;
}

static int make_symlink(const char *path, const char *target, struct err *err) {
    const char *name;
    char unfinished[UNFINISHED_NAME];
    int parent = paths_open_parent(path, &name, err);
    if (parent < 0)
        return -1;
    unfinished_name(unfinished, getpid());
    (void)unlinkat(parent, unfinished, 0);
    int result = 0;
    if (symlinkat(target, parent, unfinished) < 0 || renameat(parent, unfinished, parent, name) < 0) {
        result = paths_failure(path, err);
        (void)unlinkat(parent, unfinished, 0);
    }
    (void)close(parent);
    return result;
}

// A slow disk takes its time, so that the caller is answered first.
static int sync_files(const char *path, int status, struct err *err) {
    const char *name;
    int parent = paths_open_parent(path, &name, err);
    if (parent < 0)
        return -1;
    // The parent is a name alone, which cannot be synced.
    int directory = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    (void)close(parent);
    if (directory < 0)
        return paths_failure(path, err);
    (void)close(status);
    if (syncfs(directory) < 0)
        fail_later(path);
    (void)close(directory);
    return 0;
}

int fileaction_run(const bulkhead_agent_v1_FileAction *request, int status, struct err *err) {
    const char *path = request->path;
    if (!path || path[0] != '/')
        return err_set(err, FAIL_INVALID, "the path must be absolute");
    switch (request->which_action) {
    case bulkhead_agent_v1_FileAction_stat_tag:
        return stat_file(path, request->action.stat.follow, err);
    case bulkhead_agent_v1_FileAction_list_tag:
        return list_directory(path, status, err);
    case bulkhead_agent_v1_FileAction_make_directory_tag: {
        mode_t mode = request->action.make_directory.mode & 07777;
        return request->action.make_directory.parents ? make_with_parents(path, mode, err)
                                                      : make_one(path, mode, err);
    }
    case bulkhead_agent_v1_FileAction_remove_tag:
        return remove_file(path, request->action.remove.what, status, err);
    case bulkhead_agent_v1_FileAction_rename_tag:
        return rename_file(path, request->action.rename.to, err);
    case bulkhead_agent_v1_FileAction_copy_tag:
        return files_copy(path, request->action.copy.to, status, err);
    case bulkhead_agent_v1_FileAction_symlink_tag:
        if (!request->action.symlink.target)
            return err_set(err, FAIL_INVALID, "a link needs a target");
        return make_symlink(path, request->action.symlink.target, err);
    case bulkhead_agent_v1_FileAction_sync_tag:
        return sync_files(path, status, err);
    default:
        return err_set(err, FAIL_INVALID, "this agent does not know the action");
    }
}
