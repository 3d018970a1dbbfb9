/* SPDX-License-Identifier: Apache-2.0 */
/* The netlink requests a pod's interface needs, on a socket of the pod's or the node's namespace. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct ip {
	int family; /* AF_INET or AF_INET6 */
	unsigned char bytes[16];
	unsigned int size; /* 4 or 16 */
	unsigned int prefixlen;
};

struct mac {
	unsigned char bytes[6];
};

struct link_info {
	int index;
	bool up;
	unsigned int mtu;
	struct mac mac;
	char alias[256];
};

/* "10.1.0.5" or "10.1.0.5/32"; false if it is neither. */
bool ip_parse(const char *text, struct ip *out);
bool mac_parse(const char *text, struct mac *out);

/* All below return 0 or a negative errno; netlink_words() has the kernel's explanation of the last error. */
int netlink_open(void);
const char *netlink_words(void);

/* Creates `host` here and its other end `pod` in the namespace of pod_netns, both down. */
int link_create_veth(int nl, const char *host, const struct mac *host_mac, const char *pod,
		     const struct mac *pod_mac, unsigned int mtu, int pod_netns);
int link_get(int nl, const char *name, struct link_info *out);
int link_set_alias(int nl, int index, const char *alias);
int link_up(int nl, int index);
int link_delete(int nl, int index);
int address_add(int nl, int index, const struct ip *address);
int address_exists(int nl, int index, const struct ip *address);
int neighbour_set(int nl, int index, const struct ip *address, const struct mac *mac);
/* `via` NULL: the prefix is on the link. mtu 0: the link's. */
int route_set(int nl, int index, const struct ip *prefix, const struct ip *via, unsigned int mtu);
/* Is there a route of the main table for exactly this prefix, through this device (and gateway)? */
int route_exists(int nl, int index, const struct ip *prefix, const struct ip *via);
