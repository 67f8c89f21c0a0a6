#include "channel.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "loop.h"

// libkrun up to 1.17 renews a stream's credit only after 4 MiB, so that it stalls with the kernel's own 256
// KiB; later versions go by the size of the buffer.
#define VSOCK_BUFFER (8ull * 1024 * 1024)
// libkrun up to 1.17 loses packets of more than one descriptor, which begin here; later versions take 64 KiB.
#define WRITE_MAX (32u * 1024)
// Hosts that dialled and were not accepted yet: each is given up by the next, so few are enough.
#define BACKLOG 4

static struct source connection = {.fd = -1};
static struct source listener = {.fd = -1};
static bool is_port;
static bool away;
static bool (*is_trusted)(const struct sockaddr_storage *peer);
static const struct channel_events *tell;

static void lost(void) {
    if (!is_port && connection.fd >= 0) {
        loop_close(&connection);
        tell->closed();
    } else if (is_port && !away) {
        away = true;
        tell->away();
    }
}

// Nothing to do at the edge itself: the main loop pumps the link after every event.
static void connection_ready(struct source *source, uint32_t events) {
    (void)source;
    (void)events;
}

static void listener_ready(struct source *source, uint32_t events) {
    (void)events;
    struct sockaddr_storage peer = {0};
    socklen_t size = sizeof peer;
    int fd = accept4(source->fd, (struct sockaddr *)&peer, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return; // the host hung up before it was accepted
    if (!is_trusted(&peer)) {
        (void)close(fd);
        return;
    }
    // The newest wins: a host that died may have left a connection that nobody will ever close.
    lost();
    connection.fd = fd;
    // Edge-triggered, and what arrived before this counts as an edge.
    if (loop_watch(&connection, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET) < 0)
        loop_close(&connection);
}

int channel_listen(int fd, bool (*trusted)(const struct sockaddr_storage *peer),
                   const struct channel_events *events) {
    tell = events;
    is_trusted = trusted;
    listener = (struct source){.fd = fd, .ready = listener_ready};
    connection.ready = connection_ready;
    if (listen(fd, BACKLOG) == 0 && loop_watch(&listener, EPOLLIN) == 0)
        return 0;
    listener.fd = -1;
    return -1;
}

// Finds the port by its name; fills "vport1p1" or the like. 0 when there is none.
static int find_port(char *device, size_t size) {
    DIR *ports = opendir("/sys/class/virtio-ports");
    if (!ports)
        return 0;
    int found = 0;
    struct dirent *entry;
    while (!found && (entry = readdir(ports))) {
        char path[300];
        char name[64] = "";
        if (entry->d_name[0] == '.' ||
            snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name) >= (int)sizeof path)
            continue;
        FILE *file = fopen(path, "re");
        if (!file)
            continue;
        if (fgets(name, sizeof name, file) && strcmp(name, CHANNEL_PORT_NAME "\n") == 0)
            found = snprintf(device, size, "/dev/%s", entry->d_name) < (int)size;
        (void)fclose(file);
    }
    (void)closedir(ports);
    return found;
}

static int open_port(const char *device, struct err *err) {
    connection.fd = open(device, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (connection.fd < 0)
        return err_errno(err, "cannot open %s", device);
    is_port = true;
    // Edge-triggered: while the host is away the port reports a hang-up and an end of file without end.
    connection.ready = connection_ready;
    if (loop_watch(&connection, EPOLLIN | EPOLLOUT | EPOLLET) < 0) {
        loop_close(&connection);
        return err_errno(err, "cannot watch %s", device);
    }
    return 0;
}

// A process in the guest may dial the port as well; only the host may speak to the agent.
static bool is_host(const struct sockaddr_storage *peer) {
    return ((const struct sockaddr_vm *)peer)->svm_cid == VMADDR_CID_HOST;
}

static int open_vsock(const struct channel_events *events, struct err *err) {
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(err, "there is no port named %s and no vsock", CHANNEL_PORT_NAME);
    struct sockaddr_vm address = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = CHANNEL_VSOCK_PORT};
    uint64_t buffer = VSOCK_BUFFER;
    // Accepted sockets inherit the buffer.
    if (setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_MAX_SIZE, &buffer, sizeof buffer) < 0 ||
        setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &buffer, sizeof buffer) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        channel_listen(fd, is_host, events) < 0) {
        err_errno(err, "cannot listen on vsock port %d", CHANNEL_VSOCK_PORT);
        (void)close(fd);
        return -1;
    }
    // On the console, for the host has no other sign that dialling makes sense now.
    (void)dprintf(STDOUT_FILENO, "%s\n", CHANNEL_LISTENING);
    return 0;
}

int channel_open(const struct channel_events *events, struct err *err) {
    char device[300];
    tell = events;
    return find_port(device, sizeof device) ? open_port(device, err) : open_vsock(events, err);
}

size_t channel_read(uint8_t *buffer, size_t size) {
    if (connection.fd < 0)
        return 0;
    ssize_t got = read(connection.fd, buffer, size);
    if (got > 0) {
        if (away) {
            away = false;
            tell->back();
        }
        return (size_t)got;
    }
    if (got == 0 || (errno != EAGAIN && errno != EINTR))
        lost();
    return 0;
}

size_t channel_write(const uint8_t *data, size_t size) {
    if (connection.fd < 0)
        return 0;
    ssize_t put = write(connection.fd, data, size < WRITE_MAX ? size : WRITE_MAX);
    if (put >= 0)
        return (size_t)put;
    if (errno != EAGAIN && errno != EINTR)
        lost();
    return 0;
}
