/* SPDX-License-Identifier: Apache-2.0 */
/* The ways out of a program: a local pod, another node, the uplink, the node itself. */
#pragma once

#include "conntrack.h"

/* linux/bpf.h of 6.3 and later */
#define FIB_LOOKUP_SKIP_NEIGH 4
#define FIB_FRAGMENTATION_NEEDED 8 /* of enum bpf_fib_lookup's results */
#define IPV6_MIN_MTU 1280

/*
 * skb->mark of a packet that a program sent out by an uplink with its final addresses: the uplink's own program has
 * nothing to add. The whole word is compared, and a pod can not set it: marks do not leave a network namespace.
 */
#define MARK_FINAL 0x15b70300

/* Which hook a packet was caught at. */
enum origin {
	ORIGIN_POD,     /* ingress of a pod's veth */
	ORIGIN_HOST,    /* egress of isthmus_host */
	ORIGIN_OVERLAY, /* ingress of isthmus_vxlan */
	ORIGIN_NETDEV,  /* ingress of an uplink */
	ORIGIN_UPLINK,  /* egress of an uplink */
};

/* Whether the hook is one of egress, where a packet can not change to a peer namespace at once. */
static __always_inline bool at_egress(enum origin origin)
{
	return origin == ORIGIN_HOST || origin == ORIGIN_UPLINK;
}

/*
 * Delivery to a pod of this node. Every program that delivers does it here and nowhere
 * else, so this is where policy judges: `p` has the source identity, whether the packet is
 * a reply, and the flow as the pod will see it.
 */
static __always_inline int deliver_local(struct __sk_buff *skb, struct packet *p,
					 const struct endpoint_value *endpoint, enum origin origin)
{
	__u32 ifindex = endpoint->ifindex;
	__u8 macs[12];

	__builtin_memcpy(macs, endpoint->mac, 6);
	__builtin_memcpy(macs + 6, endpoint->host_mac, 6);
	if (bpf_skb_store_bytes(skb, 0, macs, sizeof(macs), 0))
		return drop(skb, DROP_WRITE_FAILED, DIRECTION_INGRESS);
	count(skb, REASON_FORWARDED, DIRECTION_INGRESS);
	if (at_egress(origin))
		return bpf_redirect(ifindex, 0);
	/* The kernel took the frame's MAC for somebody else's when it came out of the tunnel. */
	if (origin == ORIGIN_OVERLAY)
		bpf_skb_change_type(skb, 0 /* PACKET_HOST */);
	return bpf_redirect_peer(ifindex, 0);
}

/* To a pod of another node; the VNI carries the sender's identity. */
static __always_inline int encapsulate(struct __sk_buff *skb, const struct addr *node, __u32 identity)
{
	struct bpf_tunnel_key key = {};
	__u64 flags = BPF_F_ZERO_CSUM_TX;

	key.tunnel_id = identity;
	key.tunnel_ttl = 64;
	if (is_mapped(node)) {
		key.remote_ipv4 = bpf_ntohl(addr_v4(node));
	} else {
		flags |= BPF_F_TUNINFO_IPV6;
		__builtin_memcpy(key.remote_ipv6, node, sizeof(key.remote_ipv6));
		/* The other end knows us by this address, and a device may have several. */
		config_addr((struct addr *)key.local_ipv6, &config.node_ip6);
	}
	if (bpf_skb_set_tunnel_key(skb, &key, sizeof(key), flags))
		return drop(skb, DROP_ENCAPSULATION_FAILED, DIRECTION_EGRESS);
	count(skb, REASON_FORWARDED, DIRECTION_EGRESS);
	return bpf_redirect(config.vxlan_ifindex, 0);
}

/* What a tunnel over IPv6 adds to a packet: IPv6, UDP, VXLAN and Ethernet headers. */
#define TUNNEL_OVERHEAD6 (40 + 8 + 8 + 14)

/*
 * Whether a packet is too big for the way to a node by a tunnel over IPv6; then p->mtu is what fits. Outer packets of
 * IPv4 have no DF and are fragmented on the way, those of IPv6 by nobody: routers tell this node, whose routing table
 * has it then, and the sender has to hear of it.
 */
__noinline int tunnel_too_big(struct __sk_buff *skb, struct packet *p, const struct addr *node)
{
	struct bpf_fib_lookup fib = {};
	__u32 size = skb->len - L3_OFFSET;
	__u8 offset;

	if (!p || !node)
		return 0;
	if (skb->gso_size) {
		size = p->l4_offset - L3_OFFSET + sizeof(struct udphdr) + skb->gso_size;
		if (p->flow.proto == IPPROTO_TCP) {
			if (bpf_skb_load_bytes(skb, p->l4_offset + 12, &offset, 1))
				return 0;
			size += (offset >> 4) * 4 - sizeof(struct udphdr);
		}
	}
	/* Every way of IPv6 carries as much. */
	if (size <= IPV6_MIN_MTU - TUNNEL_OVERHEAD6 || size > 0xffff - TUNNEL_OVERHEAD6)
		return 0;
	fib.tot_len = size + TUNNEL_OVERHEAD6;
	fib.ifindex = config.host_ifindex;
	fib.family = AF_INET6;
	fib.l4_protocol = IPPROTO_UDP;
	fib.dport = config.vxlan_port;
	config_addr((struct addr *)fib.ipv6_src, &config.node_ip6);
	__builtin_memcpy(fib.ipv6_dst, node, sizeof(fib.ipv6_dst));
	if (bpf_fib_lookup(skb, &fib, sizeof(fib), FIB_LOOKUP_SKIP_NEIGH) != FIB_FRAGMENTATION_NEEDED)
		return 0;
	p->mtu = fib.mtu_result - TUNNEL_OVERHEAD6;
	return 1;
}

/* To a process of this node, by the kernel's stack. */
static __always_inline int to_stack(struct __sk_buff *skb, enum origin origin)
{
	if (origin == ORIGIN_OVERLAY)
		bpf_skb_change_type(skb, 0 /* PACKET_HOST */);
	count(skb, REASON_TO_STACK, DIRECTION_INGRESS);
	return TC_ACT_OK;
}

#define TO_TUNNEL 0x100 /* of to_uplink: no verdict, the routing table leads into the tunnel */

/*
 * Out of the node by its routing table, past its netfilter: a FORWARD policy of DROP does
 * not concern pods. What the table can not answer (no route, too big, expired) goes to the
 * stack, which tells the sender by ICMP. TO_TUNNEL where the route is ours over isthmus_host. `final`: no masquerade.
 */
__noinline int to_uplink(struct __sk_buff *skb, struct packet *p, enum origin origin, bool final)
{
	struct bpf_fib_lookup fib = {};
	struct bpf_redir_neigh next = {};
	__u8 ttl;

	if (!p)
		return TC_ACT_SHOT;
	ttl = p->ttl - 1;
	if (p->ttl <= 1)
		return to_stack(skb, origin);
	fib.family = p->v6 ? AF_INET6 : AF_INET;
	fib.l4_protocol = p->flow.proto;
	fib.sport = p->flow.sport;
	fib.dport = p->flow.dport;
	fib.ifindex = config.host_ifindex;
	if (p->v6) {
		__builtin_memcpy(fib.ipv6_src, &p->flow.saddr, sizeof(fib.ipv6_src));
		__builtin_memcpy(fib.ipv6_dst, &p->flow.daddr, sizeof(fib.ipv6_dst));
	} else {
		fib.ipv4_src = addr_v4(&p->flow.saddr);
		fib.ipv4_dst = addr_v4(&p->flow.daddr);
	}
	if (bpf_fib_lookup(skb, &fib, sizeof(fib), FIB_LOOKUP_SKIP_NEIGH))
		return to_stack(skb, origin);
	if (fib.ifindex == config.host_ifindex)
		return TO_TUNNEL;
	/* TTL and protocol are one word of the header checksum. */
	if (p->v6 ? bpf_skb_store_bytes(skb, L3_OFFSET + offsetof(struct ipv6, hops), &ttl, 1, 0) :
	    bpf_l3_csum_replace(skb, L3_OFFSET + offsetof(struct iphdr, check),
				bpf_htons((__u16)p->ttl << 8), bpf_htons((__u16)ttl << 8), 2) ||
	    bpf_skb_store_bytes(skb, L3_OFFSET + offsetof(struct iphdr, ttl), &ttl, 1, 0))
		return drop(skb, DROP_WRITE_FAILED, DIRECTION_EGRESS);
	count(skb, REASON_FORWARDED, DIRECTION_EGRESS);
	if (final)
		skb->mark = MARK_FINAL;
	/* Not the MAC that the table knows now: the neighbour's state machine has to see its use. */
	next.nh_family = fib.family;
	if (fib.family == AF_INET)
		next.ipv4_nh = fib.ipv4_dst;
	else
		__builtin_memcpy(next.ipv6_nh, fib.ipv6_dst, sizeof(next.ipv6_nh));
	return bpf_redirect_neigh(fib.ifindex, &next, sizeof(next), 0);
}
