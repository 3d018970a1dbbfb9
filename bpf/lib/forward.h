/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The road every packet takes, whatever hook caught it: resolve the destination, translate
 * a service, track, translate a reply, leave. `origin` is a constant in each program, so
 * each carries only its own branches.
 */
#pragma once

#include "refuse.h"
#include "service-address.h"
#include "translate.h"

/* Whether a destination port (or echo identifier) may be one this node gave to somebody. */
static __always_inline bool is_nat_port(__be16 port)
{
	__u16 host = bpf_ntohs(port);

	return host >= config.nat_port_min && host <= config.nat_port_max;
}

static __always_inline enum direction direction_of(enum origin origin)
{
	return origin == ORIGIN_POD || origin == ORIGIN_HOST || origin == ORIGIN_UPLINK ? DIRECTION_EGRESS :
											 DIRECTION_INGRESS;
}

/* The identity under which a packet travels in the tunnel: `host` is local to a node. */
static __always_inline __u32 tunnel_identity(__u32 identity)
{
	return identity == IDENTITY_HOST ? IDENTITY_REMOTE_NODE : identity;
}

/*
 * Whether a pod speaks to the tunnel of a node. Its packet would leave under this node's address, and
 * the other end would believe whatever identity is in it.
 */
static __always_inline bool is_forged_tunnel(const struct packet *p)
{
	return p->flow.proto == IPPROTO_UDP && p->flow.dport == config.vxlan_port && is_node(&p->flow.daddr);
}

static __always_inline int forward(struct __sk_buff *skb, struct packet *p, enum origin origin)
{
	enum direction direction = direction_of(origin);
	struct target target;
	int result;

	resolve(&p->flow.daddr, p->flow.cluster_id, &target);

	/* Replies to a source port of this node: masquerade, NodePorts with a backend elsewhere. */
	if ((origin == ORIGIN_NETDEV || origin == ORIGIN_OVERLAY) && target.kind == TARGET_NODE &&
	    is_nat_port(p->flow.dport)) {
		result = nat_translate(skb, p);
		if (result != NOT_OURS) {
			if (result)
				return drop(skb, result, direction);
			p->returned = true;
			resolve(&p->flow.daddr, p->flow.cluster_id, &target);
		}
	}

	if (!p->returned && !p->translated && origin != ORIGIN_OVERLAY &&
	    (target.kind == TARGET_NODE || target.kind == TARGET_OTHER)) {
		bool any_node = origin == ORIGIN_NETDEV ?
					target.kind == TARGET_NODE :
					is_node_of_cluster(&p->flow.daddr, NODE_OWN_CLUSTER);

		result = service(skb, p, origin, any_node);
		if (result == REFUSE)
			return refuse(skb, p, REASON_REFUSED_NO_BACKEND, at_egress(origin) ? BPF_F_INGRESS : 0);
		if (result == DSR_TOO_BIG)
			return refuse_size(skb, p, REASON_DSR_TOO_BIG);
		if (result == BACKEND_GONE)
			return refuse(skb, p, REASON_RESET_BACKEND_GONE, at_egress(origin) ? BPF_F_INGRESS : 0);
		if (result == NOT_OURS && !any_node && target.kind == TARGET_OTHER &&
		    is_service_address(&p->flow.daddr))
			return answer_for_service(skb, p, at_egress(origin) ? BPF_F_INGRESS : 0);
		if (result == 0)
			resolve(&p->flow.daddr, p->flow.cluster_id, &target);
		else if (result != NOT_OURS)
			return drop(skb, result, direction);
	}

	/* What is the kernel's own is not tracked: the node's traffic, and what it routes for others. */
	if (origin == ORIGIN_NETDEV && !p->translated && !p->returned && target.kind != TARGET_POD)
		return TC_ACT_OK;

	if (origin == ORIGIN_NETDEV) {
		struct ipcache_value *info = ipcache_find(&p->source, 0);

		/*
		 * Where all pods are behind tunnels, a pod's address never comes to the uplink outside one. Elsewhere
		 * the network is trusted with addresses; a node may send directly before or after we do.
		 */
		if (info && !addr_is_zero(&info->tunnel) && !may_be_direct(&info->tunnel))
			return drop(skb, DROP_POD_SOURCE_OUTSIDE_TUNNEL, direction);
		p->src_identity = info ? info->identity : IDENTITY_WORLD;
	}

	if (!p->returned || target.kind == TARGET_POD) {
		__u16 flags = track(p);

		if (p->reply && (flags & CONNTRACK_NAT)) {
			result = nat_translate(skb, p);
			if (result == 0) {
				p->returned = true;
				resolve(&p->flow.daddr, p->flow.cluster_id, &target);
			} else if (result != NOT_OURS) {
				return drop(skb, result, direction);
			}
		}
	}

	/* Asked of the pointer: the verifier of Linux 6.1 does not know that a kind has one. */
	if (target.node) {
		/* No transit: a packet out of the tunnel goes back into it only as a translated reply. */
		if (origin == ORIGIN_OVERLAY && !p->returned)
			return drop(skb, DROP_TUNNEL_TO_UNKNOWN, direction);
		if (target.kind == TARGET_DIRECT) {
			result = to_uplink(skb, p, origin, true);
			/* While a node's way changes its row may be newer than the route: the tunnel works all the time. */
			if (result != TO_TUNNEL)
				return result;
			/* It does not carry the option, without which the answer would have a wrong sender. */
			if (p->dsr)
				return drop(skb, DROP_UNROUTABLE, direction);
		}
		/*
		 * What the node sends or routes from another address must find its way back here. The answer
		 * to the tunnel's own address does: see below.
		 */
		if (origin == ORIGIN_HOST && !p->reply && !addr_is_config(&p->flow.saddr, internal_ip(p->v6)) &&
		    !(p->v6 != is_mapped(target.node) && addr_is_config(&p->flow.saddr, node_ip(p->v6)))) {
			struct addr source;

			config_addr(&source, internal_ip(p->v6));
			result = nat_source(skb, p, &source);
			if (result)
				return drop(skb, result, direction);
		}
		if ((origin == ORIGIN_POD || origin == ORIGIN_NETDEV) && !is_mapped(target.node) &&
		    tunnel_too_big(skb, p, target.node)) {
			/* The answer quotes it, and its sender knows the addresses that it wrote. */
			result = p->translated || p->returned ? nat_undo(skb, p) : 0;
			return result ? drop(skb, result, direction) : refuse_size(skb, p, REASON_TUNNEL_TOO_BIG);
		}
		return encapsulate(skb, target.node, tunnel_identity(p->src_identity));
	}
	switch (target.kind) {
	case TARGET_POD:
		return deliver_local(skb, p, target.endpoint, origin);
	case TARGET_NODE:
		if (at_egress(origin))
			return drop(skb, DROP_UNROUTABLE, direction);
		return to_stack(skb, origin);
	default:
		if (origin == ORIGIN_HOST)
			return drop(skb, DROP_UNROUTABLE, direction);
		if (origin == ORIGIN_OVERLAY && !p->returned)
			return drop(skb, DROP_TUNNEL_TO_UNKNOWN, direction);
		if (origin == ORIGIN_POD && is_forged_tunnel(p))
			return drop(skb, DROP_TUNNEL_FROM_POD, direction);
		/* A node came by the tunnel under its own address: the answer takes the same way. */
		if (origin == ORIGIN_POD && p->reply && !p->returned && is_node(&p->flow.daddr) &&
		    !is_direct(&p->flow.daddr))
			return encapsulate(skb, &p->flow.daddr, tunnel_identity(p->src_identity));
		/* A client outside keeps its address or got this node's; who answers a client must not get another. */
		result = to_uplink(skb, p, origin, origin == ORIGIN_NETDEV || p->returned || p->reply);
		return result == TO_TUNNEL ? drop(skb, DROP_UNROUTABLE, direction) : result;
	}
}
