#pragma once

// Drops every frame that comes from `interface` (nftables, ingress hook), ARP as well: nothing of this
// namespace answers a guest before a gateway replaces the rule. 0 or a negative errno.
int network_close(const char *interface);
