// Opens the network of one VM to the gateway: from a namespace whose TAP drops everything to one whose kernel
// hands every connection of the guest to a socket of the caller.
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../include/libvmm.h"
#include "cleanup.h"
#include "echo.h"
#include "error.h"

#define TAP "tap0"
#define NFTABLES "libnftables.so.1"
// Connections that wait to be accepted; the kernel caps it by net.core.somaxconn.
#define BACKLOG 1024

struct message {
    struct nlmsghdr header;
    union {
        struct ifaddrmsg address;
        struct rtmsg route;
    };
    uint8_t attributes[128];
};

static void add(struct message *message, uint16_t type, const void *data, size_t size) {
    struct rtattr *attribute = (struct rtattr *)((uint8_t *)message + NLMSG_ALIGN(message->header.nlmsg_len));
    attribute->rta_type = type;
    attribute->rta_len = (uint16_t)RTA_LENGTH(size);
    memcpy(RTA_DATA(attribute), data, size);
    message->header.nlmsg_len =
        (uint32_t)(NLMSG_ALIGN(message->header.nlmsg_len) + RTA_ALIGN(attribute->rta_len));
}

static int talk(int fd, struct message *message) {
    union {
        struct nlmsghdr header;
        uint8_t bytes[1024];
    } answer;
    message->header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    if (send(fd, message, message->header.nlmsg_len, 0) < 0)
        return -errno;
    ssize_t got = recv(fd, &answer, sizeof answer, 0);
    if (got < 0)
        return -errno;
    if (!NLMSG_OK(&answer.header, (size_t)got) || answer.header.nlmsg_type != NLMSG_ERROR)
        return -EPROTO;
    return ((struct nlmsgerr *)NLMSG_DATA(&answer.header))->error;
}

// Whatever the guest sends to is local, unless it lies in the TAP's own prefixes, to which nothing is
// forwarded.
static int add_local_route(int fd, uint8_t family) {
    uint32_t loopback = if_nametoindex("lo");
    struct message message = {
        .header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct rtmsg)), .nlmsg_type = RTM_NEWROUTE}};
    message.route = (struct rtmsg){.rtm_family = family,
                                   .rtm_table = RT_TABLE_MAIN,
                                   .rtm_protocol = RTPROT_STATIC,
                                   .rtm_scope = RT_SCOPE_HOST,
                                   .rtm_type = RTN_LOCAL};
    add(&message, RTA_OIF, &loopback, sizeof loopback);
    return talk(fd, &message);
}

static int add_address6(int fd, const struct in6_addr *address) {
    struct message message = {
        .header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifaddrmsg)), .nlmsg_type = RTM_NEWADDR}};
    message.address = (struct ifaddrmsg){.ifa_family = AF_INET6,
                                         .ifa_prefixlen = 64,
                                         .ifa_flags = IFA_F_NODAD,
                                         .ifa_index = if_nametoindex(TAP)};
    add(&message, IFA_LOCAL, address, sizeof *address);
    add(&message, IFA_ADDRESS, address, sizeof *address);
    return talk(fd, &message);
}

static int set_ipv6(const char *name, const char *value) {
    char path[96];
    (void)snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/" TAP "/%s", name);
    return bh_write_setting(path, value);
}

// No address by itself, no router of the guest's word.
static int set_addresses(const struct in6_addr *gateway) {
    CLEANUP_FD fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0)
        return -errno;
    int result = set_ipv6("addr_gen_mode", "1");
    if (result == 0)
        result = set_ipv6("accept_ra", "0");
    if (result == 0)
        result = set_ipv6("disable_ipv6", "0");
    if (result == 0)
        result = add_address6(fd, gateway);
    // Answers have the addresses of strangers, from which the kernel asks no neighbour where it is: without
    // an address of the link it forgets the guest as soon as it would have to ask.
    const struct in6_addr link = {.s6_addr = {0xfe, 0x80, [15] = 1}};
    if (result == 0)
        result = add_address6(fd, &link);
    if (result == 0)
        result = add_local_route(fd, AF_INET);
    if (result == 0)
        result = add_local_route(fd, AF_INET6);
    return result;
}

static int set_transparent(int fd) {
    const int on = 1;
    if (setsockopt(fd, SOL_IP, IP_TRANSPARENT, &on, sizeof on) != 0 ||
        setsockopt(fd, SOL_IPV6, IPV6_TRANSPARENT, &on, sizeof on) != 0)
        return -1;
    return 0;
}

// A datagram says where it was sent.
static int tell_destinations(int fd) {
    const int on = 1;
    if (setsockopt(fd, SOL_IP, IP_RECVORIGDSTADDR, &on, sizeof on) != 0 ||
        setsockopt(fd, SOL_IPV6, IPV6_RECVORIGDSTADDR, &on, sizeof on) != 0)
        return -1;
    return 0;
}

static int bind_to(int type, const struct sockaddr_in6 *address, int transparent, int *out) {
    const int on = 1, off = 0;
    CLEANUP_FD fd = socket(AF_INET6, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_IPV6, IPV6_V6ONLY, &off, sizeof off) != 0)
        return -errno;
    // A free port that two may have would be given to both.
    if (address->sin6_port != 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0)
        return -errno;
    if (transparent && (set_transparent(fd) != 0 || (type == SOCK_DGRAM && tell_destinations(fd) != 0)))
        return -errno;
    if (bind(fd, (const struct sockaddr *)address, sizeof *address) != 0 ||
        (type == SOCK_STREAM && listen(fd, BACKLOG) != 0))
        return -errno;
    *out = bh_take_fd(&fd);
    return 0;
}

// Loaded by the one process that needs it, so that the daemon does not carry it.
static int run_rules(const char *rules, char *error, size_t error_size) {
    void *library = dlopen(NFTABLES, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return bh_fail(error, error_size, ENOENT, NFTABLES);
    void *(*create)(uint32_t);
    int (*buffer_error)(void *);
    int (*run)(void *, const char *);
    const char *(*text)(void *);
    void (*destroy)(void *);
    *(void **)&create = dlsym(library, "nft_ctx_new");
    *(void **)&buffer_error = dlsym(library, "nft_ctx_buffer_error");
    *(void **)&run = dlsym(library, "nft_run_cmd_from_buffer");
    *(void **)&text = dlsym(library, "nft_ctx_get_error_buffer");
    *(void **)&destroy = dlsym(library, "nft_ctx_free");
    if (!create || !buffer_error || !run || !text || !destroy)
        return bh_fail(error, error_size, ENOSYS, NFTABLES);
    void *context = create(0);
    if (!context)
        return bh_fail(error, error_size, ENOMEM, "nftables");
    int result = buffer_error(context);
    if (result == 0)
        result = run(context, rules);
    if (result != 0)
        result = bh_fail(error, error_size, EINVAL, "nftables rules: %.120s", text(context));
    destroy(context);
    return result;
}

struct plane_open {
    const char *gateway4, *gateway6, *rules;
    uint16_t port;
    int32_t *sockets;
};

static int open_inside(void *context, char *error, size_t error_size) {
    struct plane_open *plane = context;
    int32_t *sockets = plane->sockets;
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(plane->port)};
    struct sockaddr_in6 dns4 = {.sin6_family = AF_INET6, .sin6_port = htons(53)}, dns6 = dns4;
    char mapped[INET6_ADDRSTRLEN];
    (void)snprintf(mapped, sizeof mapped, "::ffff:%.15s", plane->gateway4);
    if (inet_pton(AF_INET6, mapped, &dns4.sin6_addr) != 1 ||
        inet_pton(AF_INET6, plane->gateway6, &dns6.sin6_addr) != 1)
        return bh_fail(error, error_size, EINVAL, "addresses of the gateway");
    int result = set_addresses(&dns6.sin6_addr);
    if (result != 0)
        return bh_fail(error, error_size, -result, "addresses of the VM's network");
    result = bind_to(SOCK_STREAM, &any, 1, &sockets[BH_PLANE_TCP]);
    if (result == 0)
        result = bind_to(SOCK_DGRAM, &any, 1, &sockets[BH_PLANE_UDP]);
    if (result == 0)
        result = bind_to(SOCK_DGRAM, &dns4, 0, &sockets[BH_PLANE_DNS4]);
    if (result == 0)
        result = bind_to(SOCK_DGRAM, &dns6, 0, &sockets[BH_PLANE_DNS6]);
    if (result == 0)
        result = bh_echo_open(AF_INET, &sockets[BH_PLANE_ECHO4]);
    if (result == 0)
        result = bh_echo_open(AF_INET6, &sockets[BH_PLANE_ECHO6]);
    if (result != 0)
        return bh_fail(error, error_size, -result, "sockets in the VM's network");
    // Last: until now the launcher's rule drops every frame of the guest.
    return run_rules(plane->rules, error, error_size);
}

// Runs in the VM's namespace, on this thread alone.
typedef int (*inside_fn)(void *context, char *error, size_t error_size);

static int run_inside(int32_t pid, uint64_t start_time, inside_fn inside, void *context, char *error,
                      size_t error_size) {
    int32_t opened = -1;
    int result = bh_pidfd_open(pid, start_time, &opened, error, error_size);
    if (result != 0)
        return result;
    CLEANUP_FD pidfd = opened;
    CLEANUP_FD own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (own < 0 || setns(pidfd, CLONE_NEWNET) != 0)
        return bh_fail(error, error_size, errno, "network namespace of process %d", pid);
    result = inside(context, error, error_size);
    // A thread that stays in a guest's namespace would open its next socket there.
    if (setns(own, CLONE_NEWNET) != 0)
        abort();
    return result;
}

struct dial {
    struct sockaddr_in address;
    int fd;
};

static int dial_inside(void *context, char *error, size_t error_size) {
    struct dial *dial = context;
    const int on = 1;
    CLEANUP_FD fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_IP, IP_TRANSPARENT, &on, sizeof on) != 0)
        return bh_fail(error, error_size, errno, "socket in the VM's network");
    if (connect(fd, (const struct sockaddr *)&dial->address, sizeof dial->address) != 0 &&
        errno != EINPROGRESS)
        return bh_fail(error, error_size, errno, "connection to the guest");
    dial->fd = bh_take_fd(&fd);
    return 0;
}

int bh_plane_dial(int32_t pid, uint64_t start_time, const char *address, uint16_t port, int32_t *fd,
                  char *error, size_t error_size) {
    struct dial dial = {.address = {.sin_family = AF_INET, .sin_port = htons(port)}, .fd = -1};
    if (!address || !fd || inet_pton(AF_INET, address, &dial.address.sin_addr) != 1)
        return bh_fail(error, error_size, EINVAL, "address of the guest");
    int result = run_inside(pid, start_time, dial_inside, &dial, error, error_size);
    if (result == 0)
        *fd = dial.fd;
    return result;
}

int bh_dial_result(int32_t fd, int32_t *connected, char *error, size_t error_size) {
    if (!connected)
        return bh_fail(error, error_size, EINVAL, "connection");
    struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
    int ready = poll(&poll_fd, 1, 0);
    if (ready < 0)
        return bh_fail(error, error_size, errno, "connection");
    *connected = 0;
    if (ready == 0)
        return 0;
    int problem = 0;
    socklen_t size = sizeof problem;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &size) != 0)
        return bh_fail(error, error_size, errno, "connection");
    if (problem != 0)
        return bh_fail(error, error_size, problem, "connection to the guest");
    *connected = 1;
    return 0;
}

struct bind {
    struct sockaddr_in6 address;
    int fd;
};

static int bind_inside(void *context, char *error, size_t error_size) {
    struct bind *wanted = context;
    int result = bind_to(SOCK_DGRAM, &wanted->address, 1, &wanted->fd);
    return result == 0 ? 0 : bh_fail(error, error_size, -result, "socket in the VM's network");
}

int bh_plane_bind(int32_t pid, uint64_t start_time, const char *address, uint16_t port, int32_t *fd,
                  char *error, size_t error_size) {
    struct bind wanted = {.address = {.sin6_family = AF_INET6, .sin6_port = htons(port)}, .fd = -1};
    char text[INET6_ADDRSTRLEN + sizeof "::ffff:"];
    if (!address || !fd)
        return bh_fail(error, error_size, EINVAL, "address");
    (void)snprintf(text, sizeof text, "%s%.45s", strchr(address, ':') ? "" : "::ffff:", address);
    if (inet_pton(AF_INET6, text, &wanted.address.sin6_addr) != 1)
        return bh_fail(error, error_size, EINVAL, "address");
    int result = run_inside(pid, start_time, bind_inside, &wanted, error, error_size);
    if (result == 0)
        *fd = wanted.fd;
    return result;
}

int bh_plane_open(int32_t pid, uint64_t start_time, const char *gateway4, const char *gateway6, uint16_t port,
                  const char *rules, int32_t *sockets, char *error, size_t error_size) {
    if (!gateway4 || !gateway6 || !rules || !sockets)
        return bh_fail(error, error_size, EINVAL, "network of a VM");
    for (int each = 0; each < BH_PLANE_SOCKETS; each++)
        sockets[each] = -1;
    struct plane_open plane = {gateway4, gateway6, rules, port, sockets};
    int result = run_inside(pid, start_time, open_inside, &plane, error, error_size);
    if (result != 0)
        for (int each = 0; each < BH_PLANE_SOCKETS; each++)
            bh_close_fd(&sockets[each]);
    return result;
}
