#include "volumefiles.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "beneath.h"
#include "volumes.h"

#define DATA "..data"
#define NEXT "..data_next"
// Of a revision's directory.
#define PREFIX "..rev_"

// Removes a directory of ours with what is in it; nobody else can write there.
static void remove_tree(int at, const char *name) {
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (!directory) {
        if (fd >= 0)
            (void)close(fd);
        (void)unlinkat(at, name, 0);
        return;
    }
    const struct dirent *entry;
    while ((entry = readdir(directory))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (unlinkat(fd, entry->d_name, 0) < 0 && errno == EISDIR)
            remove_tree(fd, entry->d_name);
    }
    (void)closedir(directory);
    (void)unlinkat(at, name, AT_REMOVEDIR);
}

static int check_path(const char *path, struct err *err) {
    bool good = path && *path && strlen(path) < PATH_MAX && strncmp(path, "..", 2) != 0;
    for (const char *part = path; good && part; part = strchr(part, '/')) {
        part += *part == '/';
        size_t length = strcspn(part, "/");
        good = length > 0 && !(length <= 2 && strncmp(part, "..", length) == 0);
    }
    return good ? 0 : err_set(err, FAIL_INVALID, "\"%.200s\" cannot be a file of a volume", path ? path : "");
}

static int write_file(int revision, const bulkhead_agent_v1_VolumeFile *file, struct err *err) {
    if (check_path(file->path, err) < 0)
        return -1;
    int place = beneath_make(revision, file->path, false, 0755);
    if (place < 0)
        return err_errno(err, "cannot make %.200s", file->path);
    (void)close(place);
    int fd = beneath_open(revision, file->path, O_WRONLY | O_APPEND | O_NOFOLLOW, 0);
    size_t size = file->content ? file->content->size : 0;
    bool written = fd >= 0 && (size == 0 || write(fd, file->content->bytes, size) == (ssize_t)size) &&
                   fchmod(fd, file->mode & 0777) == 0;
    if (!written)
        (void)err_errno(err, "cannot write %.200s", file->path);
    if (fd >= 0)
        (void)close(fd);
    return written ? 0 : -1;
}

static int replace_link(int root, const char *target, const char *name) {
    (void)unlinkat(root, NEXT, 0);
    return symlinkat(target, root, NEXT) < 0 || renameat(root, NEXT, root, name) < 0 ? -1 : 0;
}

// The names at the top are links through "..data": they come and go with the entries of the revision.
static int link_entries(int root, int revision, struct err *err) {
    int copy = openat(revision, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = copy < 0 ? NULL : fdopendir(copy);
    if (!directory)
        return err_errno(err, "cannot read the revision");
    int result = 0;
    const struct dirent *entry;
    while (result == 0 && (entry = readdir(directory))) {
        char target[NAME_MAX + sizeof DATA + 2];
        struct stat present;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            fstatat(root, entry->d_name, &present, AT_SYMLINK_NOFOLLOW) == 0)
            continue;
        (void)snprintf(target, sizeof target, DATA "/%s", entry->d_name);
        if (replace_link(root, target, entry->d_name) < 0)
            result = err_errno(err, "cannot link %.200s", entry->d_name);
    }
    (void)closedir(directory);
    return result;
}

// What the revision in place has no need of: links to nothing, and the directories of others.
static void sweep(int root, const char *current) {
    int copy = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = copy < 0 ? NULL : fdopendir(copy);
    if (!directory)
        return;
    const struct dirent *entry;
    while ((entry = readdir(directory))) {
        const char *name = entry->d_name;
        struct stat behind;
        if (strncmp(name, PREFIX, strlen(PREFIX)) == 0 && strcmp(name, current) != 0)
            remove_tree(root, name);
        else if (strncmp(name, "..", 2) != 0 && strcmp(name, ".") != 0 && fstatat(root, name, &behind, 0) < 0)
            (void)unlinkat(root, name, 0);
    }
    (void)closedir(directory);
}

static bool is_in_place(int root, const char *directory) {
    char target[64];
    ssize_t length = readlinkat(root, DATA, target, sizeof target - 1);
    if (length < 0)
        return false;
    target[length] = '\0';
    return strcmp(target, directory) == 0;
}

// The files become visible with one rename, that of "..data".
static int put_in_place(int root, int revision, const char *directory, struct err *err) {
    if (fchmod(revision, 0755) < 0 || replace_link(root, directory, DATA) < 0)
        return err_errno(err, "cannot put the files in place");
    if (link_entries(root, revision, err) < 0)
        return -1;
    sweep(root, directory);
    return 0;
}

int volumefiles_write(const bulkhead_agent_v1_WriteVolumeFiles *request, struct err *err) {
    const char *path = volumes_files_path(request->volume);
    if (!path)
        return err_set(err, FAIL_NOT_FOUND, "there is no volume of files \"%s\"", request->volume);
    size_t length = strspn(request->revision, "abcdefghijklmnopqrstuvwxyz0123456789");
    if (length == 0 || request->revision[length])
        return err_set(err, FAIL_INVALID, "\"%s\" is no revision", request->revision);
    char directory[64];
    (void)snprintf(directory, sizeof directory, PREFIX "%s", request->revision);
    int root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return err_errno(err, "cannot open volume %s", request->volume);
    int result = -1, revision = -1;
    if (is_in_place(root, directory)) {
        result = 0;
        goto out;
    }
    if (request->first)
        remove_tree(root, directory);
    if (mkdirat(root, directory, 0700) < 0 && errno != EEXIST)
        (void)err_errno(err, "cannot make the revision");
    else if ((revision = openat(root, directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
        (void)err_errno(err, "cannot open the revision");
    else
        result = 0;
    for (size_t i = 0; result == 0 && i < request->files_count; i++)
        result = write_file(revision, &request->files[i], err);
    if (result == 0 && request->last)
        result = put_in_place(root, revision, directory, err);
    // Whoever asks again begins anew.
    if (result < 0 && revision >= 0)
        remove_tree(root, directory);
out:
    if (revision >= 0)
        (void)close(revision);
    (void)close(root);
    return result;
}
