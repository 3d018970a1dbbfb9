/* SPDX-License-Identifier: Apache-2.0 */
/* The uplink's two programs. Both let the tunnel's own packets pass before anything else. */
#pragma once

#include "announce.h"
#include "overlay.h"

/*
 * Whether this is a packet of the tunnel itself. Every packet between nodes passes both of
 * the uplink's programs besides its own, so this looks at the frame before anything is parsed.
 * `outgoing`: the node's address is the source, else the destination.
 */
static __always_inline bool is_tunnel_ipv4(struct __sk_buff *skb, bool outgoing)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + L3_OFFSET;
	struct udphdr *udp = (void *)(ip + 1);

	return (void *)(udp + 1) <= end && ip->version == 4 && ip->ihl == 5 && ip->protocol == IPPROTO_UDP &&
	       udp->dest == config.vxlan_port && !(ip->frag_off & bpf_htons(IP_OFFSET)) &&
	       (outgoing ? ip->saddr : ip->daddr) == ((const volatile __u32 *)config.node_ip.bytes)[3];
}

static __always_inline bool is_tunnel_ipv6(struct __sk_buff *skb, bool outgoing)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ipv6 *ip = data + L3_OFFSET;
	struct udphdr *udp = (void *)(ip + 1);

	return (void *)(udp + 1) <= end && ipv6_is((__u8 *)ip) && ip->next == IPPROTO_UDP &&
	       udp->dest == config.vxlan_port && addr_is_config(outgoing ? &ip->saddr : &ip->daddr, &config.node_ip6);
}

static __always_inline bool is_tunnel(struct __sk_buff *skb, bool outgoing)
{
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return is_tunnel_ipv4(skb, outgoing);
	return skb->protocol == bpf_htons(ETH_P_IPV6) && is_tunnel_ipv6(skb, outgoing);
}

/* Whose packets the node's stack would pass on, or answer, unseen. */
static __always_inline bool is_pod_or_service(const struct addr *to)
{
	struct endpoint_value *endpoint = endpoint_find(to, 0);

	return (endpoint && !(endpoint->flags & ENDPOINT_HOST)) || is_service_address(to);
}

/* A function of its own: what is unpacked has no stack left for another packet. */
__noinline int from_wire(struct __sk_buff *skb)
{
	struct packet p = {};
	int result, dsr = 0;

	if (skb->protocol == bpf_htons(ETH_P_ARP))
		return answer_announced_arp(skb);
	/* Also of a node that serves otherwise itself: modes change node by node. */
	if ((config.flags & CONFIG_DIRECT) && dsr_may_have(skb))
		dsr = dsr_take(skb);
	if (dsr && dsr != DSR_TAKEN)
		return drop(skb, dsr, DIRECTION_INGRESS);
	result = parse(skb, &p);
	if (dsr && !result)
		result = dsr_accept(&p);
	if (dsr && result)
		return drop(skb, result == NOT_OURS ? DROP_DSR_FORGED : result, DIRECTION_INGRESS);
	if (result == NOT_OURS && p.v6)
		return answer_announced_neighbour(skb);
	if (result && result != NOT_OURS && result != DROP_FRAGMENT_UNKNOWN && is_pod_or_service(&p.flow.daddr))
		return drop(skb, result, DIRECTION_INGRESS);
	/* The node's stack judges what else can not be parsed; a fragment that overtook its first it delivers. */
	if (result)
		return TC_ACT_OK;
	return forward(skb, &p, ORIGIN_NETDEV);
}

static __always_inline int uplink_in(struct __sk_buff *skb)
{
	int identity;

	if (!is_tunnel(skb, false))
		return from_wire(skb);
	if (config.flags & CONFIG_UNPACK_BY_DEVICE)
		return TC_ACT_OK;
	identity = skb->protocol == bpf_htons(ETH_P_IP) ? unpack_ipv4(skb) : unpack_ipv6(skb);
	if (identity == UNPACK_LEFT)
		return TC_ACT_OK;
	return identity == UNPACK_DROPPED ? TC_ACT_SHOT : from_tunnel(skb, identity, SOURCE_IS_CHECKED);
}

__noinline int from_node(struct __sk_buff *skb, struct packet *p)
{
	if (!p)
		return TC_ACT_SHOT;
	p->src_identity = IDENTITY_HOST;
	return forward(skb, p, ORIGIN_UPLINK);
}

/* Whether pods show their own address to this destination: pods reached directly, and prefixes of a setting. */
static __always_inline bool keeps_source(const struct addr *to)
{
	if (config.flags & CONFIG_DIRECT) {
		struct ipcache_value *info = ipcache_find(to, 0);

		if (info && !addr_is_zero(&info->tunnel))
			return true;
	}
	if (config.flags & CONFIG_UNMASQUERADED) {
		struct prefix_key key = { .prefixlen = 128, .addr = *to };

		return bpf_map_lookup_elem(&unmasqueraded, &key);
	}
	return false;
}

/* The uplink's own address: what leaves under another's would be answered by another way, or dropped on its own. */
static __always_inline void masquerade_address(__u32 ifindex, bool v6, struct addr *source)
{
	struct masquerade_key key = { .ifindex = ifindex, .family = v6 ? AF_INET6 : AF_INET };
	struct masquerade_value *own = bpf_map_lookup_elem(&masquerade_addresses, &key);

	if (own)
		*source = own->addr;
	else
		config_addr(source, node_ip(v6));
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
	if (!endpoint || (endpoint->flags & ENDPOINT_HOST) || keeps_source(&p->flow.daddr))
		return TC_ACT_OK;
	high = conntrack_key(&p->flow, &key);
	row = bpf_map_lookup_elem(&conntrack, &key);
	if (row && (__s32)(row->expires - seconds()) > 0 && high != !!(row->flags & CONNTRACK_INITIATOR_HIGH))
		return TC_ACT_OK;
	masquerade_address(skb->ifindex, p->v6, &source);
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

	if (skb->mark == MARK_FINAL || is_tunnel(skb, true) || parse(skb, &p))
		return TC_ACT_OK;
	if (!addr_is_config(&p.flow.saddr, node_ip(p.v6)))
		return masquerade(skb, &p);
	/* A service the node itself calls where no socket hook saw it: kernel sockets, raw packets. */
	if (((p.flow.proto == IPPROTO_TCP || p.flow.proto == IPPROTO_UDP) &&
	     frontend_find(&p.flow.daddr, p.flow.dport, p.flow.proto, false, true)) ||
	    is_service_address(&p.flow.daddr))
		return from_node(skb, &p);
	/* The answer of a backend in the node's own network gets the frontend's name back. */
	result = nat_translate(skb, &p);
	return result && result != NOT_OURS ? drop(skb, result, DIRECTION_EGRESS) : TC_ACT_OK;
}
