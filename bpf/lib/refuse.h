/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refusal of a service without backends or of a port that no service has: the packet goes back
 * where it came from as a TCP RST or an ICMP port unreachable, from the address it was sent to.
 */
#pragma once

#include "checksum.h"
#include "packet.h"

#define ICMP_QUOTE (sizeof(struct iphdr) + 8)
/* With the checksum of TCP: the kernel cuts off nothing that a network card is still to fill in. */
#define ICMP_QUOTE_TOO_BIG (sizeof(struct iphdr) + 20)
#define ICMPV6_QUOTE (sizeof(struct ipv6) + 8)
/* room for a fragment header before the ports */
#define ICMPV6_FRAGMENT 8

struct rst {
	struct iphdr ip;
	struct tcphdr tcp;
};

struct unreachable {
	struct iphdr ip;
	struct icmphdr icmp;
};

struct rst6 {
	struct ipv6 ip;
	struct tcphdr tcp;
};

struct unreachable6 {
	struct ipv6 ip;
	struct icmphdr icmp;
	__u8 quote[ICMPV6_QUOTE + ICMPV6_FRAGMENT];
};

__noinline int swap_macs(struct __sk_buff *skb)
{
	__u8 macs[12], swapped[12];

	if (bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)))
		return -1;
	__builtin_memcpy(swapped, macs + 6, 6);
	__builtin_memcpy(swapped + 6, macs, 6);
	return bpf_skb_store_bytes(skb, 0, swapped, sizeof(swapped), 0);
}

static __always_inline void answer_ip(struct iphdr *ip, const struct packet *p, __u16 length, __u8 proto)
{
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = bpf_htons(length);
	ip->frag_off = bpf_htons(0x4000);
	ip->ttl = 64;
	ip->protocol = proto;
	ip->saddr = addr_v4(&p->flow.daddr);
	ip->daddr = addr_v4(&p->flow.saddr);
	ip->check = fold(bpf_csum_diff(NULL, 0, (__be32 *)ip, sizeof(*ip), 0));
}

static __always_inline void answer_ipv6(struct ipv6 *ip, const struct packet *p, __u16 payload, __u8 proto)
{
	ip->version_class_flow = bpf_htonl(6u << 28);
	ip->payload = bpf_htons(payload);
	ip->next = proto;
	ip->hops = 64;
	ip->saddr = p->flow.daddr;
	ip->daddr = p->flow.saddr;
}

/* The segment that resets the one in `skb`, without its checksum. */
static __always_inline int reset_of(struct __sk_buff *skb, const struct packet *p, struct tcphdr *answer)
{
	struct tcphdr tcp;
	__u32 payload;

	if ((p->tcp_flags & TCP_FLAG_RST) || bpf_skb_load_bytes(skb, p->l4_offset, &tcp, sizeof(tcp)))
		return -1;
	answer->source = tcp.dest;
	answer->dest = tcp.source;
	answer->doff = 5;
	answer->rst = 1;
	if (tcp.ack) {
		answer->seq = tcp.ack_seq;
	} else {
		payload = skb->len - p->l4_offset - tcp.doff * 4;
		answer->ack = 1;
		answer->ack_seq = bpf_htonl(bpf_ntohl(tcp.seq) + tcp.syn + tcp.fin + payload);
	}
	return 0;
}

__noinline int refuse_tcp(struct __sk_buff *skb, struct packet *p)
{
	struct {
		__be32 saddr, daddr;
		__u8 zero, proto;
		__be16 length;
	} pseudo = {};
	struct rst answer = {};
	__s64 sum;

	if (!p || reset_of(skb, p, &answer.tcp))
		return -1;
	answer_ip(&answer.ip, p, sizeof(answer), IPPROTO_TCP);
	pseudo.saddr = answer.ip.saddr;
	pseudo.daddr = answer.ip.daddr;
	pseudo.proto = IPPROTO_TCP;
	pseudo.length = bpf_htons(sizeof(answer.tcp));
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&pseudo, sizeof(pseudo), 0);
	answer.tcp.check = fold(bpf_csum_diff(NULL, 0, (__be32 *)&answer.tcp, sizeof(answer.tcp), sum));
	if (bpf_skb_change_tail(skb, L3_OFFSET + sizeof(answer), 0))
		return -1;
	return bpf_skb_store_bytes(skb, L3_OFFSET, &answer, sizeof(answer), 0);
}

__noinline int refuse_tcp_ipv6(struct __sk_buff *skb, struct packet *p)
{
	struct rst6 answer = {};

	if (!p || reset_of(skb, p, &answer.tcp))
		return -1;
	answer_ipv6(&answer.ip, p, sizeof(answer.tcp), IPPROTO_TCP);
	answer.tcp.check = checksum_ipv6(&answer.ip.saddr, &answer.ip.daddr, IPPROTO_TCP, &answer.tcp,
					 sizeof(answer.tcp));
	if (bpf_skb_change_tail(skb, L3_OFFSET + sizeof(answer), 0))
		return -1;
	return bpf_skb_store_bytes(skb, L3_OFFSET, &answer, sizeof(answer), 0);
}

/* The packet becomes what tells its sender `code`, with `mtu` (RFC 1191, 4) and its first `quote` bytes. */
static __always_inline int answer_icmp(struct __sk_buff *skb, const struct packet *p, __u8 code, __u16 mtu,
				       __u32 quote)
{
	struct unreachable answer = {};
	__u8 quoted[ICMP_QUOTE_TOO_BIG];
	__s64 sum;

	/* With IP options the quote would be of another size: such a packet is dropped. */
	if (p->l4_offset != L3_OFFSET + sizeof(struct iphdr) ||
	    bpf_skb_load_bytes(skb, L3_OFFSET, quoted, quote))
		return -1;
	if (bpf_skb_change_tail(skb, L3_OFFSET + quote, 0) ||
	    bpf_skb_adjust_room(skb, sizeof(answer), BPF_ADJ_ROOM_MAC, 0))
		return -1;
	answer.icmp.type = ICMP_DEST_UNREACH;
	answer.icmp.code = code;
	answer.icmp.echo_sequence = bpf_htons(mtu); /* the last two bytes of the four */
	answer_ip(&answer.ip, p, sizeof(answer) + quote, IPPROTO_ICMP);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&answer.icmp, sizeof(answer.icmp), 0);
	answer.icmp.checksum = fold(bpf_csum_diff(NULL, 0, (__be32 *)quoted, quote, sum));
	return bpf_skb_store_bytes(skb, L3_OFFSET, &answer, sizeof(answer), 0);
}

__noinline int refuse_icmp(struct __sk_buff *skb, struct packet *p)
{
	return p ? answer_icmp(skb, p, ICMP_PORT_UNREACHABLE, 0, ICMP_QUOTE) : -1;
}

__noinline int refuse_size_ipv4(struct __sk_buff *skb, struct packet *p)
{
	return p ? answer_icmp(skb, p, ICMP_FRAGMENTATION_NEEDED, p->mtu, ICMP_QUOTE_TOO_BIG) : -1;
}

/* The packet becomes what tells its sender `type` and `code`, with `mtu` and its first `quote` bytes. */
static __always_inline int answer_icmpv6(struct __sk_buff *skb, const struct packet *p, __u8 type, __u8 code,
					 __u16 mtu, __u32 quote)
{
	__u32 payload = sizeof(struct icmphdr) + quote;
	struct unreachable6 answer = {};

	if (bpf_skb_load_bytes(skb, L3_OFFSET, answer.quote, quote))
		return -1;
	answer.icmp.type = type;
	answer.icmp.code = code;
	answer.icmp.echo_sequence = bpf_htons(mtu);
	answer_ipv6(&answer.ip, p, payload, IPPROTO_ICMPV6);
	answer.icmp.checksum =
		checksum_ipv6(&answer.ip.saddr, &answer.ip.daddr, IPPROTO_ICMPV6, &answer.icmp, payload);
	if (bpf_skb_change_tail(skb, L3_OFFSET + sizeof(answer.ip) + payload, 0))
		return -1;
	return bpf_skb_store_bytes(skb, L3_OFFSET, &answer, sizeof(answer.ip) + payload, 0);
}

__noinline int refuse_icmpv6(struct __sk_buff *skb, struct packet *p)
{
	/* With extension headers the quote would be of another size: such a packet is dropped. */
	if (!p || p->l4_offset != L3_OFFSET + sizeof(struct ipv6))
		return -1;
	return answer_icmpv6(skb, p, ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACHABLE, 0, ICMPV6_QUOTE);
}

/* RFC 4443, 3.2. */
__noinline int refuse_size_ipv6(struct __sk_buff *skb, struct packet *p)
{
	return p ? answer_icmpv6(skb, p, ICMPV6_PACKET_TOO_BIG, 0, p->mtu, ICMPV6_QUOTE + ICMPV6_FRAGMENT) : -1;
}

/* Tells the sender that p->mtu is what fits: a client outside on the way to its backend, a pod in the tunnel. */
static __always_inline int refuse_size(struct __sk_buff *skb, struct packet *p, enum reason reason)
{
	count(skb, reason, DIRECTION_SERVICE);
	if ((p->v6 ? refuse_size_ipv6(skb, p) : refuse_size_ipv4(skb, p)) || swap_macs(skb))
		return TC_ACT_SHOT;
	return bpf_redirect(skb->ifindex, 0);
}

/* Answers the packet; `flags` of bpf_redirect say whether the sender is behind the device or above it. */
static __always_inline int refuse(struct __sk_buff *skb, struct packet *p, enum reason reason, __u64 flags)
{
	int failed = -1;

	count(skb, reason, DIRECTION_SERVICE);
	if (p->kind == PACKET_PORTS) {
		if (p->flow.proto == IPPROTO_TCP)
			failed = p->v6 ? refuse_tcp_ipv6(skb, p) : refuse_tcp(skb, p);
		else if (p->flow.proto == IPPROTO_UDP || p->flow.proto == IPPROTO_SCTP)
			failed = p->v6 ? refuse_icmpv6(skb, p) : refuse_icmp(skb, p);
	}
	if (failed || swap_macs(skb))
		return TC_ACT_SHOT;
	return bpf_redirect(skb->ifindex, flags);
}
