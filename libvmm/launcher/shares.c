#include "shares.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../src/cleanup.h"
#include "../src/error.h"

// Five lines of three numbers.
enum { MAP_BYTES = 256 };

// Appends a line for `count` ids from `inside` on; nothing for none.
static void map_line(char *map, uint32_t inside, uint32_t outside, uint32_t count) {
    size_t used = strlen(map);
    if (count > 0)
        (void)snprintf(map + used, MAP_BYTES - used, "%" PRIu32 " %" PRIu32 " %" PRIu32 "\n", inside, outside,
                       count);
}

// Two ids change places, all others stay. The last number is no id.
static void map_swapped(char *map, uint32_t one, uint32_t other) {
    uint32_t low = one < other ? one : other, high = one < other ? other : one;
    map[0] = '\0';
    map_line(map, 0, 0, low);
    map_line(map, low, high, 1);
    if (low == high) {
        map_line(map, low + 1, low + 1, UINT32_MAX - low - 1);
        return;
    }
    map_line(map, low + 1, low + 1, high - low - 1);
    map_line(map, high, low, 1);
    map_line(map, high + 1, high + 1, UINT32_MAX - high - 1);
}

static int write_map(int pid, const char *file, const char *map) {
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    CLEANUP_FD fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t size = (ssize_t)strlen(map);
    return write(fd, map, (size_t)size) == size ? 0 : -errno;
}

// A user namespace in which nobody lives: it only says who is who.
static int make_mapping(const char *uid_map, const char *gid_map, int *out) {
    int alive[2];
    if (pipe2(alive, O_CLOEXEC) != 0)
        return -errno;
    int pid = (int)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0) {
        char byte;
        (void)close(alive[1]);
        _exit(read(alive[0], &byte, 1) < 0); // until the launcher has closed its end, or is gone
    }
    int result = pid < 0 ? -errno : write_map(pid, "uid_map", uid_map);
    if (result == 0)
        result = write_map(pid, "gid_map", gid_map);
    if (result == 0) {
        char path[64];
        (void)snprintf(path, sizeof path, "/proc/%d/ns/user", pid);
        *out = open(path, O_RDONLY | O_CLOEXEC);
        result = *out < 0 ? -errno : 0;
    }
    (void)close(alive[0]);
    (void)close(alive[1]);
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return result;
}

static int detach(struct share *share, const struct launch_config *config, bool *mapped) {
    struct stat owner;
    CLEANUP_FD tree =
        (int)syscall(SYS_open_tree, share->fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (tree < 0 || fstat(share->fd, &owner) != 0)
        return -errno;
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |
                                                (share->writable ? 0 : MOUNT_ATTR_RDONLY),
                                    .propagation = MS_PRIVATE};
    if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0)
        return -errno;
    char uid_map[MAP_BYTES], gid_map[MAP_BYTES];
    map_swapped(uid_map, owner.st_uid, config->uid);
    map_swapped(gid_map, owner.st_gid, config->gid);
    CLEANUP_FD mapping = -1;
    int result = make_mapping(uid_map, gid_map, &mapping);
    struct mount_attr swapped = {.attr_set = MOUNT_ATTR_IDMAP,
                                 .userns_fd = mapping < 0 ? 0 : (uint64_t)mapping};
    *mapped =
        result == 0 && syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &swapped, sizeof swapped) == 0;
    (void)close(share->fd);
    share->fd = bh_take_fd(&tree);
    return 0;
}

int shares_detach(struct launch_config *config, struct limitations *limitations, char *error,
                  size_t error_size) {
    bool all_mapped = true;
    for (size_t i = 0; i < config->share_count; i++) {
        bool mapped = false;
        int result = detach(&config->shares[i], config, &mapped);
        if (result != 0)
            return bh_fail(error, error_size, -result, "shared directory %zu", i);
        all_mapped = all_mapped && mapped;
    }
    if (!all_mapped)
        limitation_add(limitations,
                       "The file system of a hostPath has no id-mapped mounts, so the guest has the "
                       "rights of others there, not those of the owner.");
    return 0;
}

int shares_map_server(const struct launch_config *config, int pid, char *error, size_t error_size) {
    char map[MAP_BYTES] = "";
    map_line(map, 0, config->uid, 1);
    int result = write_map(pid, "uid_map", map);
    map[0] = '\0';
    map_line(map, 0, config->gid, 1);
    if (result == 0)
        result = write_map(pid, "gid_map", map);
    return result == 0 ? 0 : bh_fail(error, error_size, -result, "user of the file server");
}

int shares_connect(int sockets[2]) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    socklen_t size = sizeof name.sun_family; // the kernel picks an abstract name
    CLEANUP_FD listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CLEANUP_FD connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || connection < 0 || bind(listener, (struct sockaddr *)&name, size) != 0)
        return -errno;
    size = sizeof name;
    if (listen(listener, 1) != 0 || getsockname(listener, (struct sockaddr *)&name, &size) != 0 ||
        connect(connection, (struct sockaddr *)&name, size) != 0)
        return -errno;
    sockets[0] = bh_take_fd(&listener);
    sockets[1] = bh_take_fd(&connection);
    return 0;
}
