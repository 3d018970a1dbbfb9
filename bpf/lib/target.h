/* SPDX-License-Identifier: Apache-2.0 */
/* Where an address lives, seen from this node. */
#pragma once

#include "addr.h"
#include "maps.h"

enum target_kind {
	TARGET_POD,    /* of this node */
	TARGET_NODE,   /* this node itself */
	TARGET_TUNNEL, /* behind another node */
	TARGET_DIRECT, /* a pod behind another node that is reached without a tunnel */
	TARGET_OTHER,  /* other nodes and the world: by the routing table */
};

struct target {
	struct endpoint_value *endpoint; /* TARGET_POD */
	enum target_kind kind;
	const struct addr *node; /* TARGET_TUNNEL */
};

static __always_inline struct endpoint_value *endpoint_find(const struct addr *addr, __u16 cluster_id)
{
	struct endpoint_key key = {};

	key.cluster_id = cluster_id;
	key.addr = *addr;
	return bpf_map_lookup_elem(&endpoints, &key);
}

static __always_inline struct ipcache_value *ipcache_find(const struct addr *addr, __u16 cluster_id)
{
	struct ipcache_key key = {};

	key.prefixlen = 32 + 128;
	key.cluster_id = cluster_id;
	key.addr = *addr;
	return bpf_map_lookup_elem(&ipcache, &key);
}

/* Whether a node's pods may be heard without a tunnel, by our mode or its own. */
static __always_inline bool may_be_direct(const struct addr *node_ip)
{
	struct node_key key;
	struct node_value *node;

	if (config.flags & CONFIG_DIRECT)
		return true;
	key.addr = *node_ip;
	node = bpf_map_lookup_elem(&nodes, &key);
	return node && (node->flags & NODE_ROUTES);
}

/* Whether pods of a node are reached without a tunnel. Constant, and no lookup, in tunnel mode. */
static __always_inline bool is_direct(const struct addr *node_ip)
{
	struct node_key key;
	struct node_value *node;

	if (!(config.flags & CONFIG_DIRECT))
		return false;
	key.addr = *node_ip;
	node = bpf_map_lookup_elem(&nodes, &key);
	return node && (node->flags & NODE_DIRECT);
}

static __always_inline void resolve(const struct addr *addr, __u16 cluster_id, struct target *target)
{
	struct ipcache_value *info;

	target->endpoint = endpoint_find(addr, cluster_id);
	target->node = NULL;
	if (target->endpoint) {
		target->kind = (target->endpoint->flags & ENDPOINT_HOST) ? TARGET_NODE : TARGET_POD;
		return;
	}
	info = ipcache_find(addr, cluster_id);
	/* A row that leads back to this node is the prefix of its own pods: nobody has the address. */
	if (info && !addr_is_zero(&info->tunnel) && !is_node_ip(&info->tunnel)) {
		target->kind = is_direct(&info->tunnel) ? TARGET_DIRECT : TARGET_TUNNEL;
		target->node = &info->tunnel;
		return;
	}
	target->kind = TARGET_OTHER;
}

/* Who sends from an address, where nothing better (a VNI, a veth) says so. */
static __always_inline __u32 identity_of(const struct addr *addr)
{
	struct ipcache_value *info;

	if (addr_is_config(addr, &config.internal_ip) || addr_is_config(addr, &config.internal_ip6) ||
	    is_node_ip(addr))
		return IDENTITY_HOST;
	info = ipcache_find(addr, 0);
	return info ? info->identity : IDENTITY_WORLD;
}
