// Raw nfnetlink: three messages need no library in a program that starts once for every VM.
#include "closed.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../src/cleanup.h"

#define TABLE "bulkhead"
#define CHAIN "guest"

struct batch {
    size_t size;
    _Alignas(struct nlmsghdr) unsigned char bytes[512]; // the messages below take about 200
};

static struct nlmsghdr *begin(struct batch *batch, int type, int flags, uint8_t family, uint16_t resource) {
    struct nlmsghdr *header = (void *)(batch->bytes + batch->size);
    struct nfgenmsg message = {.nfgen_family = family, .version = NFNETLINK_V0, .res_id = htons(resource)};
    *header = (struct nlmsghdr){.nlmsg_len = NLMSG_LENGTH(sizeof message),
                                .nlmsg_type = (uint16_t)type,
                                .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags)};
    memcpy(NLMSG_DATA(header), &message, sizeof message);
    batch->size += NLMSG_ALIGN(header->nlmsg_len);
    return header;
}

static struct nlattr *attribute(struct batch *batch, struct nlmsghdr *header, int type, const void *value,
                                size_t size) {
    struct nlattr *attr = (void *)(batch->bytes + batch->size);
    *attr = (struct nlattr){.nla_len = (uint16_t)(NLA_HDRLEN + size), .nla_type = (uint16_t)type};
    if (size > 0)
        memcpy((unsigned char *)attr + NLA_HDRLEN, value, size);
    batch->size += NLA_ALIGN(attr->nla_len);
    header->nlmsg_len = (uint32_t)(batch->bytes + batch->size - (unsigned char *)header);
    return attr;
}

static void build(struct batch *batch, const char *interface) {
    const uint32_t hook = htonl(NF_NETDEV_INGRESS), priority = 0, policy = htonl(NF_DROP);
    (void)begin(batch, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
    struct nlmsghdr *table = begin(batch, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE,
                                   NLM_F_CREATE | NLM_F_ACK, NFPROTO_NETDEV, 0);
    (void)attribute(batch, table, NFTA_TABLE_NAME, TABLE, sizeof TABLE);
    struct nlmsghdr *chain = begin(batch, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWCHAIN,
                                   NLM_F_CREATE | NLM_F_ACK, NFPROTO_NETDEV, 0);
    (void)attribute(batch, chain, NFTA_CHAIN_TABLE, TABLE, sizeof TABLE);
    (void)attribute(batch, chain, NFTA_CHAIN_NAME, CHAIN, sizeof CHAIN);
    (void)attribute(batch, chain, NFTA_CHAIN_TYPE, "filter", sizeof "filter");
    (void)attribute(batch, chain, NFTA_CHAIN_POLICY, &policy, sizeof policy);
    struct nlattr *nest = attribute(batch, chain, NFTA_CHAIN_HOOK | NLA_F_NESTED, NULL, 0);
    (void)attribute(batch, chain, NFTA_HOOK_HOOKNUM, &hook, sizeof hook);
    (void)attribute(batch, chain, NFTA_HOOK_PRIORITY, &priority, sizeof priority);
    (void)attribute(batch, chain, NFTA_HOOK_DEV, interface, strlen(interface) + 1);
    nest->nla_len = (uint16_t)(batch->bytes + batch->size - (unsigned char *)nest);
    (void)begin(batch, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
}

int network_close(const char *interface) {
    struct batch batch = {0};
    build(&batch, interface);
    CLEANUP_FD fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    if (fd < 0 || sendto(fd, batch.bytes, batch.size, 0, (struct sockaddr *)&kernel, sizeof kernel) < 0)
        return -errno;
    for (int acknowledged = 0; acknowledged < 2;) {
        _Alignas(struct nlmsghdr) unsigned char answer[4096];
        ssize_t got = recv(fd, answer, sizeof answer, 0);
        if (got < 0)
            return -errno;
        unsigned int left = (unsigned int)got;
        for (const struct nlmsghdr *header = (void *)answer; NLMSG_OK(header, left);
             header = NLMSG_NEXT(header, left)) {
            if (header->nlmsg_type != NLMSG_ERROR)
                continue;
            int error = ((const struct nlmsgerr *)NLMSG_DATA(header))->error;
            if (error != 0)
                return error;
            acknowledged++;
        }
    }
    return 0;
}
