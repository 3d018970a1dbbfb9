/* SPDX-License-Identifier: Apache-2.0 */
/* The uplink's two programs. Both let the tunnel's own packets pass before anything else. */
#pragma once

#include "forward.h"

static __always_inline bool is_tunnel(const struct packet *p)
{
	return p->flow.proto == IPPROTO_UDP && p->flow.dport == config.vxlan_port;
}

static __always_inline int uplink_in(struct __sk_buff *skb)
{
	struct packet p = {};

	/* What can not be parsed is no packet for a pod: the node's stack judges it. */
	if (parse(skb, &p))
		return TC_ACT_OK;
	if (is_tunnel(&p) && addr_is_config(&p.flow.daddr, &config.node_ip))
		return TC_ACT_OK;
	return forward(skb, &p, ORIGIN_NETDEV);
}

__noinline int from_node(struct __sk_buff *skb, struct packet *p)
{
	if (!p)
		return TC_ACT_SHOT;
	p->src_identity = IDENTITY_HOST;
	return forward(skb, p, ORIGIN_UPLINK);
}

/*
 * Masquerade of local pods, except what answers a flow that came to the pod's own address.
 */
__noinline int masquerade(struct __sk_buff *skb, struct packet *p)
{
	struct endpoint_value *endpoint;
	struct conntrack_value *row;
	struct addr source;
	struct flow key;
	bool high;
	int result;

	if (!p)
		return TC_ACT_SHOT;
	endpoint = endpoint_find(&p->source, 0);
	if (!endpoint || (endpoint->flags & ENDPOINT_HOST))
		return TC_ACT_OK;
	high = conntrack_key(&p->flow, &key);
	row = bpf_map_lookup_elem(&conntrack, &key);
	if (row && (__s32)(row->expires - seconds()) > 0 && high != !!(row->flags & CONNTRACK_INITIATOR_HIGH))
		return TC_ACT_OK;
	config_addr(&source, &config.node_ip);
	result = nat_source(skb, p, &source);
	if (result)
		return drop(skb, result, DIRECTION_EGRESS);
	count(skb, REASON_MASQUERADED, DIRECTION_EGRESS);
	return TC_ACT_OK;
}

static __always_inline int uplink_out(struct __sk_buff *skb)
{
	struct packet p = {};
	int result;

	if (parse(skb, &p))
		return TC_ACT_OK;
	if (!addr_is_config(&p.flow.saddr, &config.node_ip))
		return masquerade(skb, &p);
	if (is_tunnel(&p))
		return TC_ACT_OK;
	/* A service the node itself calls where no socket hook saw it: kernel sockets, raw packets. */
	if ((p.flow.proto == IPPROTO_TCP || p.flow.proto == IPPROTO_UDP) &&
	    frontend_find(&p.flow.daddr, p.flow.dport, p.flow.proto, false, true))
		return from_node(skb, &p);
	/* The answer of a backend in the node's own network gets the frontend's name back. */
	result = nat_translate(skb, &p);
	return result && result != NOT_OURS ? drop(skb, result, DIRECTION_EGRESS) : TC_ACT_OK;
}
