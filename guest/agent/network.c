#include "network.h"

#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#define INTERFACE "eth0"

// A request with its attributes, grown at its end.
struct request {
    struct nlmsghdr header;
    union {
        struct ifinfomsg link;
        struct ifaddrmsg address;
        struct rtmsg route;
    };
    uint8_t attributes[128];
};

static void begin(struct request *request, uint16_t type, uint16_t flags, size_t body) {
    memset(request, 0, sizeof *request);
    request->header.nlmsg_type = type;
    request->header.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
    request->header.nlmsg_len = (uint32_t)NLMSG_LENGTH(body);
}

static void add(struct request *request, uint16_t type, const void *data, size_t size) {
    struct rtattr *attribute = (struct rtattr *)((uint8_t *)request + NLMSG_ALIGN(request->header.nlmsg_len));
    attribute->rta_type = type;
    attribute->rta_len = (uint16_t)RTA_LENGTH(size);
    memcpy(RTA_DATA(attribute), data, size);
    request->header.nlmsg_len =
        (uint32_t)(NLMSG_ALIGN(request->header.nlmsg_len) + RTA_ALIGN(attribute->rta_len));
}

// Sends and waits for the kernel's verdict. Returns -1 with errno.
static int talk(int fd, const struct request *request) {
    union {
        struct nlmsghdr header;
        uint8_t bytes[1024];
    } answer;
    if (send(fd, request, request->header.nlmsg_len, 0) < 0)
        return -1;
    ssize_t got = recv(fd, &answer, sizeof answer, 0);
    if (got < 0)
        return -1;
    if (!NLMSG_OK(&answer.header, (size_t)got) || answer.header.nlmsg_type != NLMSG_ERROR) {
        errno = EPROTO;
        return -1;
    }
    errno = -((struct nlmsgerr *)NLMSG_DATA(&answer.header))->error;
    return errno ? -1 : 0;
}

static int set_flags(int fd, int index, unsigned int up) {
    struct request request;
    begin(&request, RTM_NEWLINK, 0, sizeof request.link);
    request.link.ifi_index = index;
    request.link.ifi_change = IFF_UP;
    request.link.ifi_flags = up ? IFF_UP : 0;
    return talk(fd, &request);
}

static int set_link(int fd, int index, const uint8_t mac[6], uint32_t mtu) {
    struct request request;
    begin(&request, RTM_NEWLINK, 0, sizeof request.link);
    request.link.ifi_index = index;
    add(&request, IFLA_ADDRESS, mac, 6);
    if (mtu)
        add(&request, IFLA_MTU, &mtu, sizeof mtu);
    return talk(fd, &request);
}

static int change_address(int fd, int index, const bulkhead_agent_v1_Address *address, uint16_t type) {
    struct request request;
    begin(&request, type, type == RTM_NEWADDR ? NLM_F_CREATE | NLM_F_REPLACE : 0, sizeof request.address);
    request.address.ifa_family = address->ip.size == 4 ? AF_INET : AF_INET6;
    request.address.ifa_prefixlen = (uint8_t)address->prefix_length;
    request.address.ifa_index = (unsigned int)index;
    // The host gave the address to this guest alone: probing for a duplicate would only delay its use.
    request.address.ifa_flags = address->ip.size == 4 ? 0 : IFA_F_NODAD;
    add(&request, IFA_LOCAL, address->ip.bytes, address->ip.size);
    add(&request, IFA_ADDRESS, address->ip.bytes, address->ip.size);
    return talk(fd, &request);
}

static int add_default_route(int fd, int index, const bulkhead_agent_v1_Address *gateway) {
    struct request request;
    begin(&request, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sizeof request.route);
    request.route.rtm_family = gateway->ip.size == 4 ? AF_INET : AF_INET6;
    request.route.rtm_table = RT_TABLE_MAIN;
    request.route.rtm_protocol = RTPROT_STATIC;
    request.route.rtm_scope = RT_SCOPE_UNIVERSE;
    request.route.rtm_type = RTN_UNICAST;
    // The gateway need not lie within the address's prefix (a /32 for a sandbox has none).
    request.route.rtm_flags = RTNH_F_ONLINK;
    add(&request, RTA_GATEWAY, gateway->ip.bytes, gateway->ip.size);
    add(&request, RTA_OIF, &index, sizeof index);
    return talk(fd, &request);
}

static int open_netlink(struct err *err) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    return fd < 0 ? err_errno(err, "cannot open netlink") : fd;
}

int network_loopback_up(struct err *err) {
    int fd = open_netlink(err);
    if (fd < 0)
        return -1;
    int result = set_flags(fd, (int)if_nametoindex("lo"), 1) < 0 ? err_errno(err, "cannot bring up lo") : 0;
    (void)close(fd);
    return result;
}

static int check(const bulkhead_agent_v1_NetworkConfig *config, struct err *err) {
    for (size_t i = 0; i < config->addresses_count; i++) {
        const bulkhead_agent_v1_Address *a = &config->addresses[i];
        if ((a->ip.size != 4 && a->ip.size != 16) || a->prefix_length > a->ip.size * 8u)
            return err_set(err, FAIL_INVALID, "address %zu is neither IPv4 nor IPv6", i);
    }
    for (size_t i = 0; i < config->gateways_count; i++) {
        if (config->gateways[i].ip.size != 4 && config->gateways[i].ip.size != 16)
            return err_set(err, FAIL_INVALID, "gateway %zu is neither IPv4 nor IPv6", i);
    }
    return 0;
}

// What an earlier call set; taken away when another comes.
static bulkhead_agent_v1_NetworkConfig current;

static int configure(int fd, int index, const bulkhead_agent_v1_NetworkConfig *config, struct err *err) {
    for (size_t i = 0; i < current.addresses_count; i++)
        (void)change_address(fd, index, &current.addresses[i], RTM_DELADDR);
    current = *config;
    if (set_flags(fd, index, 0) < 0 || set_link(fd, index, config->mac, config->mtu) < 0)
        return err_errno(err, "cannot set the hardware address or MTU of " INTERFACE);
    for (size_t i = 0; i < config->addresses_count; i++) {
        if (change_address(fd, index, &config->addresses[i], RTM_NEWADDR) < 0)
            return err_errno(err, "cannot set address %zu of " INTERFACE, i);
    }
    if (set_flags(fd, index, 1) < 0)
        return err_errno(err, "cannot bring up " INTERFACE);
    for (size_t i = 0; i < config->gateways_count; i++) {
        if (add_default_route(fd, index, &config->gateways[i]) < 0)
            return err_errno(err, "cannot set default route %zu", i);
    }
    return 0;
}

int network_configure(const bulkhead_agent_v1_NetworkConfig *config, struct err *err) {
    int index = (int)if_nametoindex(INTERFACE);
    if (index == 0)
        return err_set(err, FAIL_PRECONDITION, "the VM has no " INTERFACE);
    if (check(config, err) < 0)
        return -1;
    int fd = open_netlink(err);
    if (fd < 0)
        return -1;
    int result = configure(fd, index, config, err);
    (void)close(fd);
    return result;
}
