// Unix sockets at paths longer than sun_path, and descriptors sent over them.
#include "libvmm.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "cleanup.h"
#include "error.h"

// One peer at a time is served; the second place is for a daemon that dials while its predecessor's
// connection ends.
enum { BACKLOG = 2 };

// Names `path` through its directory's descriptor, which keeps it below the 108 bytes of sun_path.
static int address_of(const char *path, int *directory, struct sockaddr_un *address) {
    const char *slash = strrchr(path, '/');
    if (path[0] != '/' || !slash || slash[1] == '\0')
        return -EINVAL;
    size_t length = slash == path ? 1 : (size_t)(slash - path);
    char parent[4096];
    if (length >= sizeof parent)
        return -ENAMETOOLONG;
    memcpy(parent, path, length);
    parent[length] = '\0';
    CLEANUP_FD fd = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    int written = snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/%s", fd, slash + 1);
    if (written < 0 || (size_t)written >= sizeof address->sun_path)
        return -ENAMETOOLONG;
    *directory = bh_take_fd(&fd);
    return 0;
}

int bh_unix_listen(const char *path, int32_t *out, char *error, size_t error_size) {
    if (!path || !out)
        return bh_fail(error, error_size, EINVAL, "listen");
    CLEANUP_FD directory = -1;
    struct sockaddr_un address;
    int result = address_of(path, &directory, &address);
    if (result != 0)
        return bh_fail(error, error_size, -result, "%s", path);
    CLEANUP_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return bh_fail(error, error_size, errno, "socket");
    const char *name = strrchr(path, '/') + 1;
    struct stat status;
    // Only a socket is replaced; any other file there is someone's mistake and stays.
    if (fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(status.st_mode) &&
        unlinkat(directory, name, 0) != 0)
        return bh_fail(error, error_size, errno, "%s", path);
    // The mode of the descriptor becomes the mode of the file, so it is never open to others, not even
    // briefly.
    if (fchmod(fd, 0600) != 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(fd, BACKLOG) != 0)
        return bh_fail(error, error_size, errno, "%s", path);
    *out = bh_take_fd(&fd);
    return 0;
}

int bh_unix_connect(const char *path, int32_t *out, char *error, size_t error_size) {
    if (!path || !out)
        return bh_fail(error, error_size, EINVAL, "connect");
    CLEANUP_FD directory = -1;
    struct sockaddr_un address;
    int result = address_of(path, &directory, &address);
    if (result != 0)
        return bh_fail(error, error_size, -result, "%s", path);
    CLEANUP_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        return bh_fail(error, error_size, errno, "%s", path);
    *out = bh_take_fd(&fd);
    return 0;
}

// Opens a socket file below the root of a process without following a link: everything there may be the work
// of a guest that has taken its VMM over.
static int open_socket_in_jail(int32_t pid, const char *path, int *out) {
    char name[64];
    struct stat process, file;
    (void)snprintf(name, sizeof name, "/proc/%" PRId32, pid);
    CLEANUP_FD directory = open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return errno == ENOENT ? -ESRCH : -errno;
    CLEANUP_FD root = openat(directory, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || fstat(directory, &process) != 0)
        return -errno;
    struct open_how how = {.flags = O_PATH | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    CLEANUP_FD fd = (int)syscall(SYS_openat2, root, path + 1, &how, sizeof how);
    if (fd < 0 || fstat(fd, &file) != 0)
        return -errno;
    if (!S_ISSOCK(file.st_mode) || file.st_uid != process.st_uid)
        return -EPERM;
    *out = bh_take_fd(&fd);
    return 0;
}

int bh_jail_connect(int32_t pid, const char *path, int32_t *out, char *error, size_t error_size) {
    if (pid <= 0 || !path || path[0] != '/' || path[1] == '\0' || !out)
        return bh_fail(error, error_size, EINVAL, "connect");
    CLEANUP_FD file = -1;
    int result = open_socket_in_jail(pid, path, &file);
    if (result != 0)
        return bh_fail(error, error_size, -result, "%s of process %" PRId32, path, pid);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d", file);
    CLEANUP_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        return bh_fail(error, error_size, errno, "%s of process %" PRId32, path, pid);
    *out = bh_take_fd(&fd);
    return 0;
}

int bh_send_fd(int32_t socket, const uint8_t *data, size_t size, int32_t fd, char *error, size_t error_size) {
    if (socket < 0 || fd < 0 || !data || size == 0)
        return bh_fail(error, error_size, EINVAL, "send descriptor");
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec vector = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    ssize_t sent = sendmsg(socket, &message, MSG_NOSIGNAL);
    if (sent < 0)
        return bh_fail(error, error_size, errno, "send descriptor");
    if ((size_t)sent != size)
        return bh_fail(error, error_size, EAGAIN, "send descriptor: the socket took %zd of %zu bytes", sent,
                       size);
    return 0;
}
