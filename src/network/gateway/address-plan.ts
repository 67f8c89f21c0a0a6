// The addresses of a sandbox's network. Every sandbox has a namespace of its own without a way out, and the gateway tells
// them apart by the sockets it has in each: all have the same addresses, so none can clash.

export const GUEST_MAC = '02:62:68:00:00:02';
export const GATEWAY_V4 = '10.77.0.1';
export const GUEST_V4 = '10.77.0.2';
/** Unique local addresses (RFC 4193) of a prefix drawn at random once. */
export const GATEWAY_V6 = 'fd5c:9a1e:77b3::1';
export const GUEST_V6 = 'fd5c:9a1e:77b3::2';
/** Of Ethernet; larger frames pass by segmentation offload alone. */
export const MTU = 1_500;
/** Of the transparent sockets, in the sandbox's namespace. Guests cannot reach them as such: rules give them what they send. */
const LISTENER_PORT = 15_001;
const TAP = 'tap0';
/**
 * What one guest may ask of the gateway, which serves all: beyond it the kernel drops, before anybody else has to wait. A client
 * tries again after a second. A relay like this one was measured to take about 5,000 a second on one core.
 */
const CONNECTIONS_PER_SECOND = 1_000;
const QUESTIONS_PER_SECOND = 1_000;
/** Datagrams of all kinds: about 240 Mbit/s of full ones, which takes a part of one core. */
const DATAGRAMS_PER_SECOND = 20_000;
/** A ping makes one a second. */
const ECHOES_PER_SECOND = 50;

/** What the agent is told at Personalize. */
export const GUEST_NETWORK = {
  network: {
    mac: GUEST_MAC,
    addresses: [`${GUEST_V4}/24`, `${GUEST_V6}/64`],
    gateways: [GATEWAY_V4, GATEWAY_V6],
    mtu: MTU,
  },
  nameservers: [GATEWAY_V4, GATEWAY_V6],
};

/**
 * One transaction that replaces the closed TAP. On the TAP only the guest's own address and hardware address pass, in whole
 * packets without options and extension headers; what passes is a question to the gateway's name server, or a connection,
 * datagram or echo, which goes to the gateway's sockets. Without them nothing takes it and it is dropped.
 */
const RULES = `
add table netdev bulkhead
delete table netdev bulkhead
add table inet bulkhead
delete table inet bulkhead
table inet bulkhead {
  chain guest {
    type filter hook prerouting priority mangle; policy drop;
    ip daddr ${GATEWAY_V4} udp dport 53 accept
    ip6 daddr ${GATEWAY_V6} udp dport 53 accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    icmp type echo-request accept
    icmpv6 type echo-request accept
    meta l4proto tcp tproxy to :${LISTENER_PORT} accept
    meta l4proto udp tproxy to :${LISTENER_PORT} accept
  }
  chain through {
    type filter hook forward priority filter; policy drop;
  }
}
table netdev bulkhead {
  chain guest {
    type filter hook ingress device "${TAP}" priority 0; policy drop;
    ether saddr != ${GUEST_MAC} drop
    tcp flags & (fin | syn | rst | ack) == syn limit rate over ${CONNECTIONS_PER_SECOND}/second burst ${CONNECTIONS_PER_SECOND} packets drop
    udp dport 53 limit rate over ${QUESTIONS_PER_SECOND}/second burst ${QUESTIONS_PER_SECOND} packets drop
    meta l4proto udp limit rate over ${DATAGRAMS_PER_SECOND}/second burst ${DATAGRAMS_PER_SECOND} packets drop
    icmp type echo-request limit rate over ${ECHOES_PER_SECOND}/second burst ${ECHOES_PER_SECOND} packets drop
    icmpv6 type echo-request limit rate over ${ECHOES_PER_SECOND}/second burst ${ECHOES_PER_SECOND} packets drop
    arp htype 1 arp ptype ip arp operation { request, reply } arp saddr ether ${GUEST_MAC} arp saddr ip ${GUEST_V4} arp daddr ip ${GATEWAY_V4} accept
    ip saddr ${GUEST_V4} ip hdrlength 5 ip frag-off & 0x3fff == 0 ip protocol { tcp, udp } accept
    ip saddr ${GUEST_V4} ip hdrlength 5 ip frag-off & 0x3fff == 0 icmp type echo-request accept
    ip6 saddr ${GUEST_V6} ip6 nexthdr { tcp, udp } accept
    ip6 saddr ${GUEST_V6} ip6 nexthdr icmpv6 icmpv6 type echo-request accept
    ip6 saddr { ${GUEST_V6}, fe80::/10 } ip6 hoplimit 255 ip6 nexthdr icmpv6 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
  }
}
`;

/** For `HostLibrary.planeOpen`. */
export const PLANE_SETUP = {
  gateway4: GATEWAY_V4,
  gateway6: GATEWAY_V6,
  port: LISTENER_PORT,
  rules: RULES,
};
