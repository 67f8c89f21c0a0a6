#include "fileaction.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "beneath.h"
#include "entries.h"
#include "files.h"
#include "paths.h"
#include "unfinished.h"

// Of a tree that is removed: each level holds a descriptor and a directory's buffer.
#define DEPTH_MAX 256

static _Noreturn void fail_later(const char *what) {
    (void)dprintf(STDERR_FILENO, "%.300s: %s\n", what, strerrordesc_np(errno));
    _exit(1);
}

// ---- looking

static int stat_file(const char *path, bool follow, struct err *err) {
    static bulkhead_agent_v1_FileEntry entry;
    int fd = paths_open(path, O_PATH | (follow ? 0 : O_NOFOLLOW), err);
    if (fd < 0)
        return -1;
    int result = entries_describe(fd, "", &entry);
    if (result == 0) {
        const char *slash = strrchr(path, '/');
        entries_name(&entry, slash ? slash + 1 : path);
        result = entries_put(stdout, &entry) < 0 || fflush(stdout) != 0 ? -1 : 0;
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
    static bulkhead_agent_v1_FileEntry entry;
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
        if (entries_describe(dirfd(dir), at->d_name, &entry) < 0) {
            if (errno == ENOENT)
                continue; // removed meanwhile
            fail_later(at->d_name);
        }
        entries_name(&entry, at->d_name);
        if (entries_put(stdout, &entry) < 0)
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
int fileaction_make_directories(const char *path, mode_t mode, struct err *err) {
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

int fileaction_make_symlink(const char *path, const char *target, struct err *err) {
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
        return request->action.make_directory.parents ? fileaction_make_directories(path, mode, err)
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
        return fileaction_make_symlink(path, request->action.symlink.target, err);
    case bulkhead_agent_v1_FileAction_sync_tag:
        return sync_files(path, status, err);
    default:
        return err_set(err, FAIL_INVALID, "this agent does not know the action");
    }
}
