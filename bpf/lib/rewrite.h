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
	if (proto == IPPROTO_ICMP) {
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
	__u8 version_ihl;
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

	if (bpf_skb_load_bytes(skb, quoted, &version_ihl, 1))
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
	return rewrite_ports(skb, quoted + (version_ihl & 0xf) * 4, p->l4_offset + ICMP_CHECK_OFFSET, 0,
			     p->flow.proto, from_ports, to_ports);
}

/* Rewrites the packet and p->flow; 0 or a drop reason. */
__noinline int rewrite(struct __sk_buff *skb, struct packet *p, const struct flow *to)
{
	__be16 from_ports[2], to_ports[2];
	__be32 addrs[2];
	__u32 check = 0;
	__u64 flags = 0;
	__s64 diff;

	if (!p || !to)
		return DROP_WRITE_FAILED;
	if (p->kind == PACKET_ICMP_ERROR) {
		if (rewrite_icmp_error(skb, p, to))
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
		} else if (p->flow.proto == IPPROTO_ICMP) {
			check = p->l4_offset + ICMP_CHECK_OFFSET;
		} else {
			return DROP_NAT_UNSUPPORTED_L4;
		}
		if (p->flow.proto != IPPROTO_ICMP &&
		    bpf_l4_csum_replace(skb, check, 0, diff, flags | BPF_F_PSEUDO_HDR))
			return DROP_WRITE_FAILED;
		from_ports[0] = p->flow.sport;
		from_ports[1] = p->flow.dport;
		to_ports[0] = to->sport;
		to_ports[1] = to->dport;
		if (rewrite_ports(skb, p->l4_offset, check, flags, p->flow.proto, from_ports, to_ports))
			return DROP_WRITE_FAILED;
	}
	addrs[0] = addr_v4(&to->saddr);
	addrs[1] = addr_v4(&to->daddr);
	if (bpf_l3_csum_replace(skb, IP_CHECK_OFFSET, 0, diff, 0) ||
	    bpf_skb_store_bytes(skb, IP_ADDRS_OFFSET, addrs, sizeof(addrs), 0))
		return DROP_WRITE_FAILED;
	p->flow = *to;
	return 0;
}
