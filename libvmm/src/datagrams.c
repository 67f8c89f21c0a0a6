// What a guest sent, with where it came from and where it went.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "../include/libvmm.h"
#include "datagrams.h"
#include "error.h"

// IPv4 in IPv6 form is written as IPv4.
static int write_address(char *text, size_t size, const struct sockaddr_in6 *address) {
    char name[INET6_ADDRSTRLEN];
    const int mapped = IN6_IS_ADDR_V4MAPPED(&address->sin6_addr);
    const void *bytes = mapped ? (const void *)(address->sin6_addr.s6_addr + 12) : &address->sin6_addr;
    if (!inet_ntop(mapped ? AF_INET : AF_INET6, bytes, name, sizeof name))
        return -1;
    return snprintf(text, size, "%s %u", name, (unsigned)ntohs(address->sin6_port));
}

static void from_ipv4(struct sockaddr_in6 *out, const struct sockaddr_in *address) {
    *out = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = address->sin_port};
    out->sin6_addr.s6_addr[10] = out->sin6_addr.s6_addr[11] = 0xff;
    memcpy(out->sin6_addr.s6_addr + 12, &address->sin_addr, sizeof address->sin_addr);
}

// Where the guest sent it, as the kernel tells beside the datagram.
static int destination_of(struct msghdr *message, struct sockaddr_in6 *out) {
    for (struct cmsghdr *each = CMSG_FIRSTHDR(message); each; each = CMSG_NXTHDR(message, each)) {
        if (each->cmsg_level == SOL_IP && each->cmsg_type == IP_ORIGDSTADDR) {
            struct sockaddr_in address;
            memcpy(&address, CMSG_DATA(each), sizeof address);
            from_ipv4(out, &address);
            return 0;
        }
        if (each->cmsg_level == SOL_IPV6 && each->cmsg_type == IPV6_ORIGDSTADDR) {
            memcpy(out, CMSG_DATA(each), sizeof *out);
            return 0;
        }
        if (each->cmsg_level == SOL_IP && each->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(each), sizeof info);
            from_ipv4(out, &(struct sockaddr_in){.sin_addr = info.ipi_addr});
            return 0;
        }
        if (each->cmsg_level == SOL_IPV6 && each->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(each), sizeof info);
            *out = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = info.ipi6_addr};
            return 0;
        }
    }
    return -1;
}

int bh_take(int fd, uint8_t *data, size_t size, struct sockaddr_in6 *source,
            struct sockaddr_in6 *destination) {
    union {
        struct sockaddr_in ipv4;
        struct sockaddr_in6 ipv6;
    } from = {0};
    struct iovec part = {.iov_base = data, .iov_len = size};
    _Alignas(struct cmsghdr) uint8_t control[256];
    struct msghdr message = {.msg_name = &from,
                             .msg_namelen = sizeof from,
                             .msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? BH_NOTHING : -errno;
    if (from.ipv4.sin_family == AF_INET)
        from_ipv4(source, &from.ipv4);
    else
        *source = from.ipv6;
    return destination_of(&message, destination) == 0 ? (int)got : -EPROTO;
}

int bh_write_flow(char *flow, const struct sockaddr_in6 *source, const struct sockaddr_in6 *destination) {
    int used = write_address(flow, BH_FLOW_BYTES, source);
    if (used < 0 || used + 1 >= BH_FLOW_BYTES)
        return -1;
    flow[used] = ' ';
    return write_address(flow + used + 1, (size_t)(BH_FLOW_BYTES - used - 1), destination) < 0 ? -1 : 0;
}

int bh_datagram_receive(int32_t fd, uint8_t *data, size_t size, char *flow, int32_t *length, char *error,
                        size_t error_size) {
    if (!data || !flow || !length)
        return bh_fail(error, error_size, EINVAL, "datagram");
    *length = -1;
    struct sockaddr_in6 source = {0}, destination = {0};
    int got = bh_take(fd, data, size, &source, &destination);
    if (got == BH_NOTHING)
        return 0;
    if (got < 0 || bh_write_flow(flow, &source, &destination) != 0)
        return bh_fail(error, error_size, got < 0 ? -got : EPROTO, "datagram");
    *length = got;
    return 0;
}
