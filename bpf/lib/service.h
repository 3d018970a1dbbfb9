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

/* A random backend; null where the rows are in the middle of a change. */
static __always_inline struct backend_value *backend_choose(const struct frontend_value *frontend,
							    __u32 *backend_id)
{
	struct slot_key slot_key = {};
	struct slot_value *slot;
	struct backend_key key;
	__u32 count = frontend->count;

	if (!count)
		return NULL;
	slot_key.service_id = frontend->service_id;
	slot_key.slot = bpf_get_prandom_u32() % count;
	slot = bpf_map_lookup_elem(&slots, &slot_key);
	if (!slot) {
		slot_key.slot = 0;
		slot = bpf_map_lookup_elem(&slots, &slot_key);
		if (!slot)
			return NULL;
	}
	key.backend_id = slot->backend_id;
	*backend_id = key.backend_id;
	return bpf_map_lookup_elem(&backends, &key);
}

/* The row of `nodes` says whether NodePorts of this cluster are served at an address. */
static __always_inline bool is_node_of_cluster(const struct addr *addr, __u16 flag)
{
	struct node_key key = { .addr = *addr };
	struct node_value *node = bpf_map_lookup_elem(&nodes, &key);

	return node && (node->flags & flag);
}
