// libvmm's calls on real files, sockets and processes. Needs no root.
#include "../include/libvmm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../src/process.h"
#include "check.h"

static char directory[] = "/tmp/libvmm-test-XXXXXX";
static char error[BH_ERROR_BYTES];

static const char *in_directory(const char *name) {
    static char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static void parses_stat_lines(void) {
    char state = 0;
    uint64_t start = 0;
    const char *line = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 987654 1 1 1\n";
    CHECK(bh_parse_stat(line, &state, &start) == 0 && state == 'S' && start == 987654,
          "a command with parentheses does not shift the fields");
    CHECK(bh_parse_stat("7 (a) S 1 2", &state, &start) == -EBADMSG, "a short line is refused");
    CHECK(bh_parse_stat("", &state, &start) == -EBADMSG, "an empty line is refused");
}

static void copies_only_data(void) {
    char source[512], target[512], back[5];
    (void)snprintf(source, sizeof source, "%s", in_directory("source"));
    (void)snprintf(target, sizeof target, "%s", in_directory("target"));
    int fd = open(source, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, 1 << 30) == 0, "source");
    CHECK(pwrite(fd, "hello", 5, 0) == 5 && pwrite(fd, "world", 5, 512 << 20) == 5, "source");
    CHECK(bh_sparse_copy(source, target, error, sizeof error) == 0, "a sparse file is copied");
    CHECK(bh_sparse_copy(source, target, error, sizeof error) == -EEXIST, "nothing is overwritten");
    struct stat status;
    CHECK(stat(target, &status) == 0 && status.st_size == 1 << 30 && status.st_blocks < 256,
          "holes stay holes");
    int copy = open(target, O_RDONLY | O_CLOEXEC);
    CHECK(pread(copy, back, 5, 512 << 20) == 5 && memcmp(back, "world", 5) == 0, "data arrives in its place");
    (void)close(copy);
    uint64_t extents[8];
    size_t count = 0;
    CHECK(bh_extents(target, extents, 4, &count, error, sizeof error) == 0 && count == 2 && extents[0] == 0,
          "extents are listed");
    CHECK(bh_extents(target, extents, 1, &count, error, sizeof error) == -ENOSPC,
          "a small table is said to be small");

    int32_t memory = -1;
    CHECK(bh_memfd_from_file(source, &memory, error, sizeof error) == 0, "a file goes into memory");
    CHECK(pread(memory, back, 5, 512 << 20) == 5 && memcmp(back, "world", 5) == 0, "with its content");
    CHECK(pwrite(memory, "x", 1, 0) < 0 && errno == EPERM, "and cannot be written");
    CHECK(ftruncate(memory, 1) < 0 && errno == EPERM, "or cut");
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0) == MAP_FAILED && errno == EPERM,
          "or mapped for writing");
    (void)close(memory);
    (void)close(fd);
}

static void removes_a_failed_copy(void) {
    char pipe[128];
    (void)snprintf(pipe, sizeof pipe, "%s", in_directory("pipe"));
    CHECK(mkfifo(pipe, 0600) == 0 &&
              bh_sparse_copy(pipe, in_directory("never"), error, sizeof error) == -EINVAL,
          "a pipe that nobody writes to is refused, not waited for");
    CHECK(bh_sparse_copy("/dev/null", in_directory("never"), error, sizeof error) == -EINVAL,
          "only files are copied");
    CHECK(access(in_directory("never"), F_OK) != 0, "a failed copy leaves nothing");
    CHECK(strlen(error) > 0, "and says why");
}

static void probes_locks(void) {
    const char *path = in_directory("lock");
    CHECK(bh_lock_probe(path, error, sizeof error) == 0, "a missing lock file is free");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(bh_lock_probe(path, error, sizeof error) == 0, "an unlocked file is free");
    CHECK(flock(fd, LOCK_EX) == 0 && bh_lock_probe(path, error, sizeof error) == 1, "a locked file is held");
    (void)close(fd);
    CHECK(bh_lock_probe(path, error, sizeof error) == 0, "the lock goes with its holder");
}

static void reaches_long_socket_paths(void) {
    char path[512];
    memset(path, 0, sizeof path);
    (void)snprintf(path, sizeof path, "%s/", directory);
    memset(path + strlen(path), 'd', 150);
    CHECK(mkdir(path, 0700) == 0, "directory");
    strcat(path, "/socket");
    int32_t listener = -1, client = -1;
    CHECK(bh_unix_listen(path, &listener, error, sizeof error) == 0, "it listens at a path of 180 bytes");
    struct stat status;
    CHECK(stat(path, &status) == 0 && (status.st_mode & 07777) == 0600, "for its owner alone");
    CHECK(bh_unix_connect(path, &client, error, sizeof error) == 0, "it connects there");
    int32_t second = -1;
    CHECK(bh_unix_listen(path, &second, error, sizeof error) == 0, "a socket that was left is replaced");
    (void)close(second);

    int server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    CHECK(server >= 0, "accept");
    CHECK(bh_send_fd(client, (const uint8_t *)"hi", 2, listener, error, sizeof error) == 0,
          "a descriptor is sent");
    char bytes[4], control[64];
    struct iovec vector = {bytes, sizeof bytes};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    CHECK(recvmsg(server, &message, MSG_CMSG_CLOEXEC) == 2 && CMSG_FIRSTHDR(&message),
          "and arrives with the bytes");
    int received;
    memcpy(&received, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof received);
    (void)close(received);
    (void)close(server);
    (void)close(client);
    (void)close(listener);
    CHECK(bh_unix_connect(path, &client, error, sizeof error) == -ECONNREFUSED, "a dead socket refuses");
}

static void reaches_sockets_in_a_jail(void) {
    char path[128], link[128];
    (void)snprintf(path, sizeof path, "%s", in_directory("agent"));
    (void)snprintf(link, sizeof link, "%s", in_directory("link"));
    int32_t listener = -1, client = -1;
    CHECK(bh_jail_connect(getpid(), path, &client, error, sizeof error) == -ENOENT, "no socket is said");
    CHECK(bh_unix_listen(path, &listener, error, sizeof error) == 0, "a socket of this process");
    CHECK(bh_jail_connect(getpid(), path, &client, error, sizeof error) == 0,
          "it is reached by the process's root");
    (void)close(client);
    CHECK(symlink(path, link) == 0, "a link to it");
    CHECK(bh_jail_connect(getpid(), link, &client, error, sizeof error) == -ELOOP, "a link is not followed");
    CHECK(bh_jail_connect(getpid(), directory, &client, error, sizeof error) == -EPERM,
          "only sockets are reached");
    CHECK(bh_jail_connect(getpid(), "agent", &client, error, sizeof error) == -EINVAL, "paths are absolute");
    if (geteuid() == 0) {
        CHECK(chown(path, 12345, 12345) == 0, "another owner");
        CHECK(bh_jail_connect(getpid(), path, &client, error, sizeof error) == -EPERM,
              "another user's socket is not reached");
    }
    (void)close(listener);
}

static void spawns_without_leaks(void) {
    const char *script = in_directory("script");
    int fd = open(script, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
    const char text[] =
        "#!/bin/sh\nls /proc/self/fd | tr '\\n' ' ' >&4\n/bin/cat <&3 >&4\n/usr/bin/env >&4\n";
    CHECK(write(fd, text, sizeof text - 1) == (ssize_t)sizeof text - 1, "script");
    (void)close(fd);
    int stray = open("/dev/null", O_RDONLY); // deliberately inheritable
    int32_t pid, pidfd, status, passed = stray;
    CHECK(bh_spawn(script, (const uint8_t *)"secret", 6, &passed, 1, &pid, &pidfd, &status, error,
                   sizeof error) == 0,
          "a program is started");
    char answer[512] = "";
    size_t size = 0;
    ssize_t got;
    while ((got = read(status, answer + size, sizeof answer - 1 - size)) > 0)
        size += (size_t)got;
    answer[size] = '\0';
    // ls adds its own descriptor of the folder, the shell keeps the script open.
    CHECK(strncmp(answer, "0 1 2 3 4 5 ", 12) == 0, "it gets exactly the descriptors listed");
    CHECK(strstr(answer, "secret"), "it reads its configuration");
    CHECK(!strstr(answer, "HOME="), "its environment is empty");
    int result;
    CHECK(waitpid(pid, &result, 0) == pid && WIFEXITED(result), "it is a child");
    (void)close(pidfd);
    (void)close(status);
    (void)close(stray);
    CHECK(bh_spawn("/does/not/exist", (const uint8_t *)"x", 1, NULL, 0, &pid, &pidfd, &status, error,
                   sizeof error) == -ENOENT,
          "a missing program is an error, not a child");
    CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD, "which leaves no zombie");
}

static int read_token(int fd, uint64_t *token) {
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    return poll(&polled, 1, 10000) == 1 && read(fd, token, sizeof *token) == (ssize_t)sizeof *token;
}

static void watches_processes(void) {
    struct bh_watcher *watcher = NULL;
    int32_t notify = -1;
    CHECK(bh_watcher_open(&watcher, &notify, error, sizeof error) == 0, "watcher");
    for (uint64_t token = 1; token <= 20; token++) {
        int pid = fork();
        if (pid == 0)
            for (;;)
                (void)pause();
        uint64_t start = 0, seen = 0;
        int32_t pidfd = -1;
        CHECK(bh_process_start_time(pid, &start, error, sizeof error) == 0, "start time");
        CHECK(bh_pidfd_open(pid, start + 1, &pidfd, error, sizeof error) == -ESRCH,
              "another process is told apart");
        CHECK(bh_pidfd_open(pid, start, &pidfd, error, sizeof error) == 0, "pidfd");
        CHECK(bh_watcher_add(watcher, pidfd, token, error, sizeof error) == 0, "watch");
        CHECK(bh_pidfd_kill(pidfd, SIGKILL, error, sizeof error) == 0, "kill");
        CHECK(read_token(notify, &seen) && seen == token, "an end is told with its token");
        CHECK(bh_pidfd_kill(pidfd, SIGKILL, error, sizeof error) == 0, "killing the dead is no error");
        CHECK(waitpid(pid, NULL, 0) < 0 && errno == ECHILD, "children are reaped");
        (void)close(pidfd);
    }
    CHECK(bh_watcher_close(watcher, error, sizeof error) == 0, "the watcher ends");
    (void)close(notify);
}

static int echo_receiver(struct sockaddr_in6 *own, int type) {
    const int on = 1, off = 0;
    socklen_t size = sizeof *own;
    *own = (struct sockaddr_in6){.sin6_family = AF_INET6};
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && setsockopt(fd, SOL_IPV6, IPV6_V6ONLY, &off, sizeof off) == 0 &&
              setsockopt(fd, SOL_IP, type, &on, sizeof on) == 0 &&
              bind(fd, (struct sockaddr *)own, sizeof *own) == 0 &&
              getsockname(fd, (struct sockaddr *)own, &size) == 0,
          "receiver");
    return fd;
}

static void send_to(const char *address, const struct sockaddr_in6 *receiver, const void *data, size_t size) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = receiver->sin6_port};
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000005)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && inet_pton(AF_INET, address, &to.sin_addr) == 1 &&
              bind(fd, (struct sockaddr *)&from, sizeof from) == 0 &&
              sendto(fd, data, size, 0, (struct sockaddr *)&to, sizeof to) == (ssize_t)size,
          "send");
    (void)close(fd);
}

static void tells_where_datagrams_went(void) {
    struct sockaddr_in6 own;
    uint8_t data[64];
    char flow[BH_FLOW_BYTES], expected[64];
    int32_t length = 0;
    int fd = echo_receiver(&own, IP_RECVORIGDSTADDR);
    CHECK(bh_datagram_receive(fd, data, sizeof data, flow, &length, error, sizeof error) == 0 && length == -1,
          "nothing waits");
    send_to("127.1.2.3", &own, "hello", 5);
    CHECK(bh_datagram_receive(fd, data, sizeof data, flow, &length, error, sizeof error) == 0 &&
              length == 5 && memcmp(data, "hello", 5) == 0,
          "a datagram is taken");
    (void)snprintf(expected, sizeof expected, " 127.1.2.3 %u", ntohs(own.sin6_port));
    CHECK(strncmp(flow, "127.0.0.5 ", 10) == 0 && strstr(flow, expected), "its flow is told");
    send_to("127.1.2.3", &own, "", 0);
    CHECK(bh_datagram_receive(fd, data, sizeof data, flow, &length, error, sizeof error) == 0 && length == 0,
          "an empty datagram is one");
    (void)close(fd);
}

// Raw sockets need root: a UDP socket stands for one, and its payload for the packet.
static void refuses_echoes_that_are_none(void) {
    struct sockaddr_in6 own;
    uint8_t data[64];
    char flow[BH_FLOW_BYTES];
    int32_t length = 0;
    int fd = echo_receiver(&own, IP_PKTINFO);
    uint8_t packet[28] = {0x45};
    packet[24] = 0x12;
    packet[25] = 0x34;
    send_to("127.1.2.3", &own, packet, sizeof packet);
    CHECK(bh_echo_receive(fd, data, sizeof data, flow, &length, error, sizeof error) == 0 && length == 8,
          "the header of IP is left out");
    CHECK(strcmp(flow, "127.0.0.5 4660 127.1.2.3 0") == 0, "the identifier stands for the port");
    packet[0] = 0x4f;
    const size_t sizes[] = {0, 1, 7, 20, 27, 28};
    for (size_t each = 0; each < sizeof sizes / sizeof *sizes; each++) {
        send_to("127.1.2.3", &own, packet, sizes[each]);
        CHECK(bh_echo_receive(fd, data, sizeof data, flow, &length, error, sizeof error) == -EPROTO,
              "a packet that is too short for its header is refused");
    }
    CHECK(bh_echo_receive(fd, data, sizeof data, flow, &length, error, sizeof error) == 0 && length == -1,
          "nothing waits");
    CHECK(bh_icmp_send(fd, "127.0.0.1", "::1", data, 8, error, sizeof error) == -EINVAL &&
              bh_icmp_send(fd, "127.0.0.1", "127.0.0.1", data, 7, error, sizeof error) == -EINVAL,
          "an answer that cannot be one is refused");
    (void)close(fd);
}

static void measures_the_clock(void) {
    uint32_t first = 0, second = 0;
    CHECK(bh_tsc_khz(&first, error, sizeof error) == 0 && bh_tsc_khz(&second, error, sizeof error) == 0,
          "tsc");
    uint32_t difference = first > second ? first - second : second - first;
    CHECK(first > 100000 && difference < first / 1000, "two measurements agree within 0.1 %");
}

static void forbids_dumps(void) {
    const pid_t child = fork();
    CHECK(child >= 0, "fork");
    if (child == 0) {
        struct rlimit limit = {1, 1};
        const int forbidden =
            bh_forbid_dumps(error, sizeof error) == 0 && prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 &&
            getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_cur == 0 && limit.rlim_max == 0;
        _exit(forbidden ? 0 : 1);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0, "a process that forbids it leaves no dump");
}

int main(void) {
    CHECK(mkdtemp(directory), "temporary directory");
    parses_stat_lines();
    copies_only_data();
    removes_a_failed_copy();
    probes_locks();
    reaches_long_socket_paths();
    reaches_sockets_in_a_jail();
    spawns_without_leaks();
    watches_processes();
    tells_where_datagrams_went();
    refuses_echoes_that_are_none();
    forbids_dumps();
    measures_the_clock();
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf %s", directory);
    CHECK(system(command) == 0, "clean-up");
    (void)puts("library: ok");
    return 0;
}
