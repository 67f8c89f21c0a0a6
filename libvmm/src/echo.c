// Echoes of ICMP: a guest's requests, the answers to it, and the host's own sockets for them.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/icmp.h>
#include <netinet/icmp6.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../include/libvmm.h"
#include "cleanup.h"
#include "datagrams.h"
#include "echo.h"
#include "error.h"

enum {
    // Of ICMP and ICMPv6, that of an echo among them.
    ICMP_HEADER = 8,
    ICMP_CHECKSUM_AT = 2,
    ECHO_ID = 4,
    ICMP_MAX = 65535,
};

int bh_write_setting(const char *path, const char *value) {
    CLEANUP_FD fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return write(fd, value, strlen(value)) < 0 ? -errno : 0;
}

int bh_echo_open(int family, int32_t *out) {
    const int on = 1;
    CLEANUP_FD fd = -1;
    if (family == AF_INET) {
        const struct icmp_filter filter = {~(1U << ICMP_ECHO)};
        fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMP);
        if (fd < 0 || setsockopt(fd, SOL_IP, IP_PKTINFO, &on, sizeof on) != 0 ||
            setsockopt(fd, SOL_IP, IP_TRANSPARENT, &on, sizeof on) != 0 ||
            setsockopt(fd, SOL_RAW, ICMP_FILTER, &filter, sizeof filter) != 0)
            return -errno;
    } else {
        struct icmp6_filter filter;
        ICMP6_FILTER_SETBLOCKALL(&filter);
        ICMP6_FILTER_SETPASS(ICMP6_ECHO_REQUEST, &filter);
        fd = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMPV6);
        if (fd < 0 || setsockopt(fd, SOL_IPV6, IPV6_RECVPKTINFO, &on, sizeof on) != 0 ||
            setsockopt(fd, SOL_IPV6, IPV6_TRANSPARENT, &on, sizeof on) != 0 ||
            setsockopt(fd, IPPROTO_ICMPV6, ICMP6_FILTER, &filter, sizeof filter) != 0)
            return -errno;
    }
    int result = bh_write_setting(family == AF_INET ? "/proc/sys/net/ipv4/icmp_echo_ignore_all"
                                                    : "/proc/sys/net/ipv6/icmp/echo_ignore_all",
                                  "1");
    if (result == 0)
        *out = bh_take_fd(&fd);
    return result;
}

int bh_echo_receive(int32_t fd, uint8_t *data, size_t size, char *flow, int32_t *length, char *error,
                    size_t error_size) {
    if (!data || !flow || !length)
        return bh_fail(error, error_size, EINVAL, "echo request");
    *length = -1;
    struct sockaddr_in6 source = {0}, destination = {0};
    int got = bh_take(fd, data, size, &source, &destination);
    if (got == BH_NOTHING)
        return 0;
    if (got < 0)
        return bh_fail(error, error_size, -got, "echo request");
    // Raw sockets of IPv4 give the header of IP too, those of IPv6 do not.
    size_t header = IN6_IS_ADDR_V4MAPPED(&source.sin6_addr) && got > 0 ? (size_t)(data[0] & 15) * 4 : 0;
    if ((size_t)got < header + ICMP_HEADER)
        return bh_fail(error, error_size, EPROTO, "echo request");
    memmove(data, data + header, (size_t)got - header);
    memcpy(&source.sin6_port, data + ECHO_ID, sizeof source.sin6_port);
    destination.sin6_port = 0;
    if (bh_write_flow(flow, &source, &destination) != 0)
        return bh_fail(error, error_size, EPROTO, "echo request");
    *length = (int32_t)((size_t)got - header);
    return 0;
}

// RFC 1071.
static uint16_t checksum(const uint8_t *data, size_t size) {
    uint32_t sum = 0;
    for (size_t at = 0; at < size; at += 2)
        sum += (uint32_t)data[at] << 8 | (at + 1 < size ? data[at + 1] : 0);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)~sum);
}

// The address that a datagram is sent from, as a control message.
struct sender {
    int level;
    int type;
    union {
        struct in_pktinfo v4;
        struct in6_pktinfo v6;
    } address;
    size_t size;
};

static int send_from(int fd, const struct sender *from, struct sockaddr *to, socklen_t to_size, uint8_t *data,
                     size_t size) {
    struct iovec part = {.iov_base = data, .iov_len = size};
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof from->address)] = {0};
    struct msghdr message = {.msg_name = to,
                             .msg_namelen = to_size,
                             .msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = CMSG_SPACE(from->size)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(from->size), .cmsg_level = from->level, .cmsg_type = from->type};
    memcpy(CMSG_DATA(header), &from->address, from->size);
    return sendmsg(fd, &message, MSG_DONTWAIT) < 0 ? -errno : 0;
}

static int answer4(int fd, const char *source, const char *guest, uint8_t *data, size_t size) {
    struct sockaddr_in to = {.sin_family = AF_INET};
    struct sender from = {.level = SOL_IP, .type = IP_PKTINFO, .size = sizeof from.address.v4};
    if (inet_pton(AF_INET, guest, &to.sin_addr) != 1 ||
        inet_pton(AF_INET, source, &from.address.v4.ipi_spec_dst) != 1)
        return -EINVAL;
    memset(data + ICMP_CHECKSUM_AT, 0, sizeof(uint16_t));
    uint16_t sum = checksum(data, size);
    memcpy(data + ICMP_CHECKSUM_AT, &sum, sizeof sum);
    return send_from(fd, &from, (struct sockaddr *)&to, sizeof to, data, size);
}

// The checksum of ICMPv6 is the kernel's work.
static int answer6(int fd, const char *source, const char *guest, uint8_t *data, size_t size) {
    struct sockaddr_in6 to = {.sin6_family = AF_INET6};
    struct sender from = {.level = SOL_IPV6, .type = IPV6_PKTINFO, .size = sizeof from.address.v6};
    if (inet_pton(AF_INET6, guest, &to.sin6_addr) != 1 ||
        inet_pton(AF_INET6, source, &from.address.v6.ipi6_addr) != 1)
        return -EINVAL;
    return send_from(fd, &from, (struct sockaddr *)&to, sizeof to, data, size);
}

int bh_icmp_send(int32_t fd, const char *source, const char *guest, uint8_t *data, size_t size, char *error,
                 size_t error_size) {
    if (!source || !guest || !data || size < ICMP_HEADER || size > ICMP_MAX)
        return bh_fail(error, error_size, EINVAL, "message of ICMP");
    int result =
        strchr(guest, ':') ? answer6(fd, source, guest, data, size) : answer4(fd, source, guest, data, size);
    // What does not fit now is lost, as in any network.
    if (result != 0 && result != -EAGAIN)
        return bh_fail(error, error_size, -result, "message of ICMP");
    return 0;
}

int bh_ping_open(int32_t ipv6, int32_t *out, char *error, size_t error_size) {
    if (!out)
        return bh_fail(error, error_size, EINVAL, "ping socket");
    int fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
                    ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
    if (fd < 0)
        return bh_fail(error, error_size, errno, "ping socket");
    *out = fd;
    return 0;
}
