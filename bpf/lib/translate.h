/* SPDX-License-Identifier: Apache-2.0 */
/* Services for what the socket hooks can not see: packet by packet, with rows in `nat`. */
#pragma once

#include "affinity.h"
#include "deliver.h"
#include "dsr.h"
#include "maglev.h"
#include "nat.h"
#include "target.h"
#include "vanished.h"

/* beside 0 (translated), NOT_OURS and drop reasons */
#define REFUSE 2
#define BACKEND_GONE 3

/* The source a backend must see, so that its replies come back through this node, or need not. */
static __always_inline void service_source(const struct packet *p, enum origin origin,
					   const struct frontend_value *frontend, struct nat_pair *pair)
{
	struct target target;

	if (addr_equal(&pair->to.daddr, &p->flow.saddr)) {
		config_addr(&pair->to.saddr, hairpin_ip(p->v6));
		return;
	}
	if (origin == ORIGIN_POD)
		return;
	resolve(&pair->to.daddr, pair->to.cluster_id, &target);
	if (target.kind == TARGET_TUNNEL) {
		if (addr_is_config(&p->flow.saddr, internal_ip(p->v6)))
			return;
		config_addr(&pair->to.saddr, internal_ip(p->v6));
		pair->flags |= NAT_SOURCE;
	} else if ((target.kind == TARGET_OTHER || target.kind == TARGET_DIRECT) && origin == ORIGIN_NETDEV) {
		if (dsr_possible(p, frontend, &pair->to)) {
			pair->flags |= NAT_DSR;
			return;
		}
		config_addr(&pair->to.saddr, node_ip(p->v6));
		pair->flags |= NAT_SOURCE;
	}
}

/* The backend for a flow that begins, or 0. A function of its own for the sake of the stack. */
__noinline __u32 packet_backend(const struct packet *p, const struct frontend_value *frontend)
{
	struct affinity_key client = {};

	if (!p || !frontend || !frontend->count)
		return 0;
	affinity_by_address(&client, &p->flow.saddr, p->flow.cluster_id);
	return backend_for(frontend, &client, maglev_choose(frontend, &p->flow));
}

/* A flow's first packet to a frontend: chooses, installs, translates. */
__noinline int service_start(struct __sk_buff *skb, struct packet *p, enum origin origin,
			     const struct frontend_value *frontend)
{
	struct nat_scratch *room = nat_room();
	struct backend_value *backend;
	struct nat_pair *pair;
	__u32 backend_id;
	int failed;

	if (!p || !frontend || !room)
		return DROP_SERVICE_INCONSISTENT;
	backend_id = packet_backend(p, frontend);
	backend = backend_find(backend_id);
	if (!backend)
		return DROP_SERVICE_INCONSISTENT;
	pair = &room->pair;
	pair->from = p->flow;
	pair->to = p->flow;
	pair->to.daddr = backend->addr;
	pair->to.dport = backend->port;
	pair->to.cluster_id = backend->cluster_id;
	pair->backend_id = backend_id;
	pair->service_id = frontend->service_id;
	pair->flags = NAT_SERVICE;
	pair->expires = seconds() + LIFETIME_OTHER;
	service_source(p, origin, frontend, pair);
	if (pair->flags & NAT_DSR) {
		struct addr own;

		config_addr(&own, node_ip(p->v6));
		failed = dsr_install(&own);
		if (!failed && (pair->flags & NAT_DSR))
			failed = dsr_tell(skb, p, &pair->to);
	} else {
		failed = (pair->flags & NAT_SOURCE) ? nat_install_source() : nat_install();
	}
	if (failed)
		return failed;
	p->service_id = pair->service_id;
	return rewrite(skb, p, &pair->to);
}

/* Whether a flow's chosen backend may go on being used; a TCP connection keeps it to its end. */
static __always_inline bool backend_current(const struct packet *p, const struct nat_value *row)
{
	struct backend_key key = { .backend_id = row->backend_id };
	struct backend_value *backend;

	if (p->flow.proto == IPPROTO_TCP && (p->tcp_flags & (TCP_FLAG_SYN | TCP_FLAG_ACK)) != TCP_FLAG_SYN)
		return true;
	backend = bpf_map_lookup_elem(&backends, &key);
	return backend && backend->port == row->to.dport && addr_equal(&backend->addr, &row->to.daddr);
}

/*
 * Whether a frontend without backends here (externalTrafficPolicy Local) has some on other nodes.
 * Then its clients are not refused: whoever spreads them over the nodes is about to notice.
 */
__noinline int is_elsewhere(const struct packet *p, const struct frontend_value *frontend, bool any_node)
{
	struct frontend_value *inside;

	if (!p || !frontend || !(frontend->flags & FRONTEND_TWO_SCOPES))
		return 0;
	inside = frontend_find(&p->flow.daddr, p->flow.dport, p->flow.proto, any_node, true);
	return inside && inside->count;
}

/*
 * Translates a packet to a frontend. `any_node`: the destination is an address whose
 * NodePorts are this cluster's. 0 translated, NOT_OURS no frontend, REFUSE no backend,
 * BACKEND_GONE for a connection whose backend is no more, DSR_TOO_BIG, or a drop reason.
 */
__noinline int service(struct __sk_buff *skb, struct packet *p, enum origin origin, bool any_node)
{
	struct frontend_value *frontend;
	struct nat_scratch *room = nat_room();
	struct nat_value *row;
	bool another_node;

	if (!p || !room)
		return DROP_SERVICE_INCONSISTENT;
	if (p->flow.proto != IPPROTO_TCP && p->flow.proto != IPPROTO_UDP)
		return NOT_OURS;
	/* Frontends of loopback are for sockets of the node; in a packet on a device it is a lie. */
	if (is_loopback(&p->flow.daddr))
		return NOT_OURS;
	another_node = any_node && origin != ORIGIN_NETDEV && !is_node_of_cluster(&p->flow.daddr, NODE_LOCAL);
	frontend = frontend_find(&p->flow.daddr, p->flow.dport, p->flow.proto, any_node,
				 origin != ORIGIN_NETDEV && !another_node);
	/* externalTrafficPolicy Local: another node's port is for that node to answer, as for any machine. */
	if (!frontend || (another_node && (frontend->flags & FRONTEND_TWO_SCOPES)))
		return NOT_OURS;
	room->key = p->flow;
	row = bpf_map_lookup_elem(&nat, &room->key);
	if (row && (row->flags & NAT_SERVICE) && !nat_expired(row, seconds()) && backend_current(p, row)) {
		/* A new connection on the ports of a finished one starts over. */
		if (!nat_over(row) || !(p->tcp_flags & TCP_FLAG_SYN)) {
			int failed;

			/* Out of service is not gone: a pod that terminates finishes what it has. */
			if (p->flow.proto == IPPROTO_TCP && !backend_find(row->backend_id) &&
			    is_vanished(&row->to.daddr))
				return BACKEND_GONE;
			failed = (row->flags & NAT_DSR) ? dsr_tell(skb, p, &row->to) : 0;
			if (!failed)
				failed = nat_translate(skb, p);
			if (!failed)
				p->translated = true;
			return failed;
		}
	}
	if (!source_allowed(frontend, &p->flow.saddr))
		return DROP_SOURCE_NOT_IN_RANGES;
	if (!frontend->count)
		return is_elsewhere(p, frontend, any_node) ? DROP_NO_LOCAL_BACKEND : REFUSE;
	if (p->kind != PACKET_PORTS)
		return DROP_NO_NAT_ROW;
	p->translated = true;
	return service_start(skb, p, origin, frontend);
}
