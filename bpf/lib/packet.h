/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program knows of the packet in its hands. Parsing is the only place that knows
 * address families: everything behind it works on struct flow.
 */
#pragma once

#include <linux/udp.h>

#include "addr.h"
#include "drop.h"
#include "icmp.h"
#include "maps.h"

#define IP_MORE_FRAGMENTS 0x2000
#define IP_OFFSET 0x1fff
#define L3_OFFSET ETH_HLEN
#define NOT_OURS 1 /* parse result: leave the packet to the kernel */

#define TCP_FLAG_FIN 1
#define TCP_FLAG_SYN 2
#define TCP_FLAG_RST 4
#define TCP_FLAG_ACK 16

enum packet_kind {
	PACKET_PORTS,          /* TCP, UDP, SCTP, ICMP echo: flow is complete */
	PACKET_LATER_FRAGMENT, /* ports known from the first fragment, no header here */
	PACKET_ICMP_ERROR,     /* flow is the quoted one turned around: as if a reply */
	PACKET_OTHER,          /* no ports */
};

struct packet {
	struct flow flow;
	struct addr source; /* of the outermost header, as it arrived */
	__u32 src_identity;
	__u16 l4_offset;
	__u16 quoted_offset; /* PACKET_ICMP_ERROR: the quoted IP header */
	__u8 kind;
	__u8 tcp_flags;
	__u8 ttl;
	bool first_fragment;
	/* set on the way */
	bool translated;     /* by a service or source row: replies need one too */
	bool returned;       /* by a row made for replies */
	bool reply;
	__u32 service_id;
};

static __always_inline bool is_echo(__u8 type)
{
	return type == ICMP_ECHO || type == ICMP_ECHOREPLY;
}

static __always_inline bool is_icmp_error(__u8 type)
{
	return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED ||
	       type == ICMP_PARAMETERPROB || type == ICMP_SOURCE_QUENCH;
}

/* Fills the flow of an ICMP error from the packet it quotes, turned around. */
__noinline int parse_icmp_error(struct __sk_buff *skb, struct packet *p)
{
	struct iphdr quoted;
	__be16 ports[4];

	if (!p)
		return DROP_MALFORMED_PACKET;
	p->quoted_offset = p->l4_offset + sizeof(struct icmphdr);
	if (bpf_skb_load_bytes(skb, p->quoted_offset, &quoted, sizeof(quoted)) < 0 ||
	    quoted.version != 4 || quoted.ihl < 5)
		return DROP_MALFORMED_PACKET;
	if (bpf_skb_load_bytes(skb, p->quoted_offset + quoted.ihl * 4, ports, sizeof(ports)) < 0)
		return DROP_MALFORMED_PACKET;
	/* The error goes to whom the quoted packet came from, or it is no answer to it. */
	if (quoted.saddr != addr_v4(&p->flow.daddr))
		return DROP_MALFORMED_PACKET;

	p->kind = PACKET_ICMP_ERROR;
	addr_set_v4(&p->flow.saddr, quoted.daddr);
	p->flow.proto = quoted.protocol;
	if (quoted.frag_off & bpf_htons(IP_OFFSET)) {
		p->flow.sport = p->flow.dport = 0;
	} else if (quoted.protocol == IPPROTO_TCP || quoted.protocol == IPPROTO_UDP ||
		   quoted.protocol == IPPROTO_SCTP) {
		p->flow.sport = ports[1];
		p->flow.dport = ports[0];
	} else if (quoted.protocol == IPPROTO_ICMP) {
		__u8 type = *(__u8 *)ports;

		p->flow.dport = type == ICMP_ECHO ? ports[2] : 0;
		p->flow.sport = type == ICMP_ECHOREPLY ? ports[2] : 0;
	}
	return 0;
}

/* Gives a later fragment the ports of the first, or remembers those of the first. */
__noinline int fragment_ports(struct packet *p, __u32 id, bool first)
{
	struct fragment_key key = {};
	struct fragment_value *known, value;

	if (!p)
		return DROP_MALFORMED_PACKET;
	key.saddr = p->flow.saddr;
	key.daddr = p->flow.daddr;
	key.id = id;
	key.cluster_id = p->flow.cluster_id;
	key.proto = p->flow.proto;
	if (first) {
		value.sport = p->flow.sport;
		value.dport = p->flow.dport;
		bpf_map_update_elem(&fragments, &key, &value, BPF_ANY);
		return 0;
	}
	known = bpf_map_lookup_elem(&fragments, &key);
	if (!known)
		return DROP_FRAGMENT_UNKNOWN;
	p->flow.sport = known->sport;
	p->flow.dport = known->dport;
	return 0;
}

static __always_inline int parse_l4(struct __sk_buff *skb, struct packet *p, void *l4, void *end)
{
	__u8 proto = p->flow.proto;

	if (proto == IPPROTO_TCP) {
		struct tcphdr *tcp = l4;

		if ((void *)(tcp + 1) > end || tcp->doff < 5)
			return DROP_MALFORMED_PACKET;
		p->flow.sport = tcp->source;
		p->flow.dport = tcp->dest;
		p->tcp_flags = ((__u8 *)tcp)[13];
	} else if (proto == IPPROTO_UDP || proto == IPPROTO_SCTP) {
		struct udphdr *udp = l4;

		if ((void *)(udp + 1) > end)
			return DROP_MALFORMED_PACKET;
		p->flow.sport = udp->source;
		p->flow.dport = udp->dest;
	} else if (proto == IPPROTO_ICMP) {
		struct icmphdr *icmp = l4;

		if ((void *)(icmp + 1) > end)
			return DROP_MALFORMED_PACKET;
		if (is_echo(icmp->type)) {
			if (icmp->type == ICMP_ECHO)
				p->flow.sport = icmp->echo_id;
			else
				p->flow.dport = icmp->echo_id;
		} else if (is_icmp_error(icmp->type)) {
			return parse_icmp_error(skb, p);
		} else {
			p->kind = PACKET_OTHER;
		}
	} else {
		p->kind = PACKET_OTHER;
	}
	return 0;
}

static __always_inline int parse_ipv4(struct __sk_buff *skb, struct packet *p)
{
	void *data, *end;
	struct iphdr *ip;
	__u32 header, total;
	__u16 fragment;
	int result;

	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	if (data + L3_OFFSET + sizeof(*ip) + sizeof(struct tcphdr) > end) {
		/* Short, or its headers are not in the linear part. */
		bpf_skb_pull_data(skb, skb->len < 128 ? skb->len : 128);
		data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
		if (data + L3_OFFSET + sizeof(*ip) > end)
			return DROP_MALFORMED_PACKET;
	}
	ip = data + L3_OFFSET;
	header = ip->ihl * 4;
	total = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || header < sizeof(*ip))
		return DROP_MALFORMED_PACKET;
	/* A length of 0 is what the kernel writes into packets over 64 KiB on their way to GSO. */
	if ((total < header || total > skb->len - L3_OFFSET) && !(total == 0 && skb->len > 0xffff))
		return DROP_MALFORMED_PACKET;

	addr_set_v4(&p->flow.saddr, ip->saddr);
	addr_set_v4(&p->flow.daddr, ip->daddr);
	p->source = p->flow.saddr;
	p->flow.proto = ip->protocol;
	p->ttl = ip->ttl;
	p->l4_offset = L3_OFFSET + header;
	fragment = bpf_ntohs(ip->frag_off);
	if (fragment & IP_OFFSET) {
		p->kind = PACKET_LATER_FRAGMENT;
		return fragment_ports(p, ip->id, false);
	}
	if (fragment & IP_MORE_FRAGMENTS) {
		__u32 id = ip->id;

		p->first_fragment = true;
		result = parse_l4(skb, p, (void *)ip + header, end);
		return result ? result : fragment_ports(p, id, true);
	}
	return parse_l4(skb, p, (void *)ip + header, end);
}

/* 0, a drop reason, or NOT_OURS for what is no IP. */
static __always_inline int parse(struct __sk_buff *skb, struct packet *p)
{
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return parse_ipv4(skb, p);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return DROP_UNSUPPORTED_L3;
	return NOT_OURS;
}
