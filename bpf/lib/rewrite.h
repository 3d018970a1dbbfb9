/* SPDX-License-Identifier: Apache-2.0 */
/* Makes a packet of one flow a packet of another: addresses, ports, checksums. */
#pragma once

#include "packet.h"

#define IP_CHECK_OFFSET (L3_OFFSET + offsetof(struct iphdr, check))
#define IP_ADDRS_OFFSET (L3_OFFSET + offsetof(struct iphdr, saddr))
#define TCP_CHECK_OFFSET 16
#define UDP_CHECK_OFFSET 6
#define ICMP_CHECK_OFFSET 2
#define ICMP_ID_OFFSET 4
#define IPV6_ADDRS_OFFSET (L3_OFFSET + offsetof(struct ipv6, saddr))

static __always_inline void turn(const struct flow *flow, struct flow *turned)
{
	turned->saddr = flow->daddr;
	turned->daddr = flow->saddr;
	turned->sport = flow->dport;
	turned->dport = flow->sport;
	turned->cluster_id = flow->cluster_id;
	turned->proto = flow->proto;
	turned->pad = 0;
}

/* Ports (or echo identifier) at `offset` and the checksum over them at `check`. */
static __always_inline int rewrite_ports(struct __sk_buff *skb, __u32 offset, __u32 check, __u64 flags,
					 __u8 proto, const __be16 from[2], const __be16 to[2])
{
	if (from[0] == to[0] && from[1] == to[1])
		return 0;
	if (is_icmp(proto)) {
		/* One of the two is 0 on both sides: the identifier is the other. */
		__be16 old = from[0] | from[1], new = to[0] | to[1];

		return bpf_l4_csum_replace(skb, check, old, new, 2) ||
		       bpf_skb_store_bytes(skb, offset + ICMP_ID_OFFSET, &new, 2, 0);
	}
	if (from[0] != to[0] && bpf_l4_csum_replace(skb, check, from[0], to[0], flags | 2))
		return -1;
	if (from[1] != to[1] && bpf_l4_csum_replace(skb, check, from[1], to[1], flags | 2))
		return -1;
	return bpf_skb_store_bytes(skb, offset, to, 4, 0);
}

/*
 * The quoted packet of an ICMP error gets the addresses its sender knows. Its own header
 * checksum takes up the change of its addresses, so the ICMP checksum moves with the ports only.
 */
__noinline int rewrite_icmp_error(struct __sk_buff *skb, struct packet *p, const struct flow *to)
{
	__be32 outer[2], addrs[2], old[2];
	__be16 from_ports[2], to_ports[2];
	__u32 quoted;
	__s64 diff;

	if (!p || !to)
		return -1;
	quoted = p->quoted_offset;
	if (bpf_skb_load_bytes(skb, IP_ADDRS_OFFSET, outer, sizeof(outer)))
		return -1;
	old[0] = outer[0];
	old[1] = outer[1];
	if (outer[0] == addr_v4(&p->flow.saddr))
		outer[0] = addr_v4(&to->saddr);
	outer[1] = addr_v4(&to->daddr);
	diff = bpf_csum_diff(old, sizeof(old), outer, sizeof(outer), 0);
	if (bpf_l3_csum_replace(skb, IP_CHECK_OFFSET, 0, diff, 0) ||
	    bpf_skb_store_bytes(skb, IP_ADDRS_OFFSET, outer, sizeof(outer), 0))
		return -1;

	addrs[0] = addr_v4(&to->daddr);
	addrs[1] = addr_v4(&to->saddr);
	diff = bpf_csum_diff((__be32 *)&p->flow, 32, (__be32 *)to, 32, 0);
	if (bpf_l3_csum_replace(skb, quoted + offsetof(struct iphdr, check), 0, diff, 0) ||
	    bpf_skb_store_bytes(skb, quoted + offsetof(struct iphdr, saddr), addrs, sizeof(addrs), 0))
		return -1;
	from_ports[0] = p->flow.dport;
	from_ports[1] = p->flow.sport;
	to_ports[0] = to->dport;
	to_ports[1] = to->sport;
	return rewrite_ports(skb, p->quoted_l4_offset, p->l4_offset + ICMP_CHECK_OFFSET, 0,
			     p->flow.proto, from_ports, to_ports);
}

/*
 * As rewrite_icmp_error. No header checksum takes up anything here: the ICMP checksum covers the
 * addresses of both headers, of which the outer destination is the quoted source.
 */
__noinline int rewrite_icmpv6_error(struct __sk_buff *skb, struct packet *p, const struct flow *to)
{
	__be16 from_ports[2], to_ports[2];
	struct addr outer;
	__u32 check, quoted;
	__s64 diff;

	if (!p || !to)
		return -1;
	check = p->l4_offset + ICMP_CHECK_OFFSET;
	quoted = p->quoted_offset + offsetof(struct ipv6, saddr);
	if (bpf_skb_load_bytes(skb, IPV6_ADDRS_OFFSET, &outer, sizeof(outer)))
		return -1;
	diff = bpf_csum_diff((__be32 *)&p->flow, 32, (__be32 *)to, 32, 0);
	diff = bpf_csum_diff((__be32 *)&p->flow.daddr, 16, (__be32 *)&to->daddr, 16, diff);
	/* Of a router on the way the source stays. */
	if (addr_equal(&outer, &p->flow.saddr)) {
		diff = bpf_csum_diff((__be32 *)&outer, 16, (__be32 *)&to->saddr, 16, diff);
		if (bpf_skb_store_bytes(skb, IPV6_ADDRS_OFFSET, &to->saddr, 16, 0))
			return -1;
	}
	if (bpf_skb_store_bytes(skb, IPV6_ADDRS_OFFSET + 16, &to->daddr, 16, 0) ||
	    bpf_skb_store_bytes(skb, quoted, &to->daddr, 16, 0) ||
	    bpf_skb_store_bytes(skb, quoted + 16, &to->saddr, 16, 0) ||
	    bpf_l4_csum_replace(skb, check, 0, diff, 0))
		return -1;
	from_ports[0] = p->flow.dport;
	from_ports[1] = p->flow.sport;
	to_ports[0] = to->dport;
	to_ports[1] = to->sport;
	return rewrite_ports(skb, p->quoted_l4_offset, check, 0, p->flow.proto, from_ports, to_ports);
}

/*
 * Writes the addresses. What the network card summed up of an IPv6 packet (CHECKSUM_COMPLETE) stays as
 * it is where a transport checksum took up the change, but bpf_l4_csum_replace has changed it as for IPv4,
 * whose header has a checksum of its own: undone here. Where none took it up, the sum moves with the addresses.
 */
static __always_inline int rewrite_addrs(struct __sk_buff *skb, const struct packet *p, const struct flow *to,
					 __s64 diff)
{
	__be32 addrs[2];

	if (p->v6) {
		if (p->kind != PACKET_PORTS || p->flow.proto != IPPROTO_ICMPV6)
			bpf_csum_update(skb, diff);
		return bpf_skb_store_bytes(skb, IPV6_ADDRS_OFFSET, to, 32, 0);
	}
	addrs[0] = addr_v4(&to->saddr);
	addrs[1] = addr_v4(&to->daddr);
	return bpf_l3_csum_replace(skb, IP_CHECK_OFFSET, 0, diff, 0) ||
	       bpf_skb_store_bytes(skb, IP_ADDRS_OFFSET, addrs, sizeof(addrs), 0);
}

/* Rewrites the packet and p->flow; 0 or a drop reason. */
__noinline int rewrite(struct __sk_buff *skb, struct packet *p, const struct flow *to)
{
	__be16 from_ports[2], to_ports[2];
	__u32 check = 0;
	__u64 flags = 0;
	__s64 diff;

	if (!p || !to)
		return DROP_WRITE_FAILED;
	if (p->kind == PACKET_ICMP_ERROR) {
		if (p->v6 ? rewrite_icmpv6_error(skb, p, to) : rewrite_icmp_error(skb, p, to))
			return DROP_WRITE_FAILED;
		p->flow = *to;
		return 0;
	}
	diff = bpf_csum_diff((__be32 *)&p->flow, 32, (__be32 *)to, 32, 0);
	if (p->kind == PACKET_PORTS) {
		if (p->flow.proto == IPPROTO_TCP) {
			check = p->l4_offset + TCP_CHECK_OFFSET;
		} else if (p->flow.proto == IPPROTO_UDP) {
			check = p->l4_offset + UDP_CHECK_OFFSET;
			flags = BPF_F_MARK_MANGLED_0;
		} else if (is_icmp(p->flow.proto)) {
			check = p->l4_offset + ICMP_CHECK_OFFSET;
		} else {
			return DROP_NAT_UNSUPPORTED_L4;
		}
		/* That of ICMP has no pseudo header; that of ICMPv6 has one, and nobody leaves it to a card. */
		if (p->flow.proto != IPPROTO_ICMP &&
		    bpf_l4_csum_replace(skb, check, 0, diff,
					p->flow.proto == IPPROTO_ICMPV6 ? 0 : flags | BPF_F_PSEUDO_HDR))
			return DROP_WRITE_FAILED;
		from_ports[0] = p->flow.sport;
		from_ports[1] = p->flow.dport;
		to_ports[0] = to->sport;
		to_ports[1] = to->dport;
		if (rewrite_ports(skb, p->l4_offset, check, flags, p->flow.proto, from_ports, to_ports))
			return DROP_WRITE_FAILED;
	}
	if (rewrite_addrs(skb, p, to, diff))
		return DROP_WRITE_FAILED;
	p->flow = *to;
	return 0;
}
