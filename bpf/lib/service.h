/* SPDX-License-Identifier: Apache-2.0 */
/* Frontends and backends: shared by the socket hooks and the packet hooks. */
#pragma once

#include "addr.h"
#include "maps.h"

/*
 * The frontend of an address and port. NodePort frontends have their family's unspecified address:
 * `any_node` says that `addr` is one whose NodePorts are this cluster's. Clients inside the
 * cluster get the row of scope 1 where traffic policies differ.
 */
static __always_inline struct frontend_value *frontend_find(const struct addr *addr, __be16 port, __u8 proto,
							    bool any_node, bool inside)
{
	struct frontend_key key = {};
	struct frontend_value *frontend, *scoped;

	key.addr = *addr;
	key.port = port;
	key.proto = proto;
	frontend = bpf_map_lookup_elem(&frontends, &key);
	if (!frontend && any_node) {
		if (is_mapped(addr))
			addr_set_v4(&key.addr, 0);
		else
			__builtin_memset(&key.addr, 0, sizeof(key.addr));
		frontend = bpf_map_lookup_elem(&frontends, &key);
	}
	if (frontend && inside && (frontend->flags & FRONTEND_TWO_SCOPES)) {
		key.scope = 1;
		scoped = bpf_map_lookup_elem(&frontends, &key);
		if (scoped)
			return scoped;
	}
	return frontend;
}

/* Whether an address belongs to services and to no node: nobody else answers for its ports. */
__noinline int is_service_address(const struct addr *addr)
{
	struct service_address_key key = {};
	struct node_key node = {};

	if (!addr)
		return 0;
	key.addr = *addr;
	if (!bpf_map_lookup_elem(&service_addresses, &key))
		return 0;
	/* A load balancer may be told that it has a node's address: the node's other ports stay the node's. */
	node.addr = *addr;
	return !bpf_map_lookup_elem(&nodes, &node);
}

/* Whether a client may connect: loadBalancerSourceRanges, a list of who may or of who may not. */
__noinline int source_allowed(const struct frontend_value *frontend, const struct addr *client)
{
	struct source_range_key key = {};

	if (!frontend || !client || !(frontend->flags & FRONTEND_SOURCE_RANGES))
		return 1;
	key.prefixlen = 32 + 128;
	key.service_id = frontend->service_id;
	key.addr = *client;
	return !bpf_map_lookup_elem(&source_ranges, &key) == !!(frontend->flags & FRONTEND_SOURCE_RANGES_DENY);
}

static __always_inline struct backend_value *backend_find(__u32 backend_id)
{
	struct backend_key key = { .backend_id = backend_id };

	return backend_id ? bpf_map_lookup_elem(&backends, &key) : NULL;
}

/* A random backend's id; 0 where there is none, or the rows are in the middle of a change. */
static __always_inline __u32 backend_choose(const struct frontend_value *frontend)
{
	struct slot_key key = {};
	struct slot_value *slot;
	__u32 count = frontend->count;

	if (!count)
		return 0;
	key.service_id = frontend->service_id;
	key.slot = bpf_get_prandom_u32() % count;
	slot = bpf_map_lookup_elem(&slots, &key);
	if (!slot) {
		key.slot = 0;
		slot = bpf_map_lookup_elem(&slots, &key);
	}
	return slot ? slot->backend_id : 0;
}

__noinline int is_node(const struct addr *addr)
{
	struct node_key key = {};

	if (!addr)
		return 0;
	key.addr = *addr;
	return !!bpf_map_lookup_elem(&nodes, &key);
}

/* The row of `nodes` says whether NodePorts of this cluster are served at an address. */
static __always_inline bool is_node_of_cluster(const struct addr *addr, __u16 flag)
{
	struct node_key key = { .addr = *addr };
	struct node_value *node = bpf_map_lookup_elem(&nodes, &key);

	return node && (node->flags & flag);
}
