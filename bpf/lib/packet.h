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
#include "ipv6.h"
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
	__u16 quoted_offset;    /* PACKET_ICMP_ERROR: the quoted IP header */
	__u16 quoted_l4_offset; /* and what is behind it */
	__u8 kind;
	__u8 tcp_flags;
	__u8 ttl;
	bool first_fragment;
	bool v6;
	/* set on the way */
	bool translated;     /* by a service or source row: replies need one too */
	bool returned;       /* by a row made for replies */
	bool reply;
	bool dsr; /* has, or had, an option for the node of the backend: see dsr.h */
	__u16 mtu;  /* where it is too big for that: what would fit */
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
	p->quoted_l4_offset = p->quoted_offset + quoted.ihl * 4;
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

/*
 * Gives a later fragment the ports of the first, or remembers those of the first. `proto`: as every
 * fragment says it.
 */
__noinline int fragment_ports(struct packet *p, __u32 id, __u8 proto, bool first)
{
	struct fragment_key key = {};
	struct fragment_value *known, value = {};

	if (!p)
		return DROP_MALFORMED_PACKET;
	key.saddr = p->flow.saddr;
	key.daddr = p->flow.daddr;
	key.id = id;
	key.cluster_id = p->flow.cluster_id;
	key.proto = proto;
	if (first) {
		value.sport = p->flow.sport;
		value.dport = p->flow.dport;
		value.proto = p->flow.proto;
		bpf_map_update_elem(&fragments, &key, &value, BPF_ANY);
		return 0;
	}
	known = bpf_map_lookup_elem(&fragments, &key);
	if (!known)
		return DROP_FRAGMENT_UNKNOWN;
	p->flow.sport = known->sport;
	p->flow.dport = known->dport;
	p->flow.proto = known->proto;
	return 0;
}

/* Of a whole packet. `room`: its bytes from the transport header on. */
static __always_inline bool tcp_fits(const struct tcphdr *tcp, __s32 room)
{
	return tcp->doff * 4 <= room;
}

static __always_inline bool udp_fits(const struct udphdr *udp, __s32 room)
{
	__s32 length = bpf_ntohs(udp->len);

	return length >= (__s32)sizeof(*udp) && length <= room;
}

/* `room`: bytes of the packet from its transport header on; a frame may have more, which pad it. */
static __always_inline int parse_l4(struct __sk_buff *skb, struct packet *p, void *l4, void *end, __s32 room)
{
	__u8 proto = p->flow.proto;

	if (proto == IPPROTO_TCP) {
		struct tcphdr *tcp = l4;

		if ((void *)(tcp + 1) > end || room < (__s32)sizeof(*tcp) || tcp->doff < 5 ||
		    (!p->first_fragment && !tcp_fits(tcp, room)))
			return DROP_MALFORMED_PACKET;
		p->flow.sport = tcp->source;
		p->flow.dport = tcp->dest;
		p->tcp_flags = ((__u8 *)tcp)[13];
	} else if (proto == IPPROTO_UDP || proto == IPPROTO_SCTP) {
		struct udphdr *udp = l4;

		if ((void *)(udp + 1) > end || room < (__s32)sizeof(*udp) ||
		    (proto == IPPROTO_UDP && !p->first_fragment && !udp_fits(udp, room)))
			return DROP_MALFORMED_PACKET;
		p->flow.sport = udp->source;
		p->flow.dport = udp->dest;
	} else if (proto == IPPROTO_ICMP) {
		struct icmphdr *icmp = l4;

		if ((void *)(icmp + 1) > end || room < (__s32)sizeof(*icmp))
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
	__s32 room;
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
	addr_set_v4(&p->flow.saddr, ip->saddr);
	addr_set_v4(&p->flow.daddr, ip->daddr);
	p->source = p->flow.saddr;
	/* A length of 0 is what the kernel writes into packets over 64 KiB on their way to GSO. */
	if (!total && skb->len > 0xffff)
		total = skb->len - L3_OFFSET;
	if (total < header || total > skb->len - L3_OFFSET)
		return DROP_MALFORMED_PACKET;
	room = total - header;
	p->flow.proto = ip->protocol;
	p->ttl = ip->ttl;
	p->l4_offset = L3_OFFSET + header;
	fragment = bpf_ntohs(ip->frag_off);
	if (fragment & IP_OFFSET) {
		p->kind = PACKET_LATER_FRAGMENT;
		return fragment_ports(p, ip->id, p->flow.proto, false);
	}
	if (fragment & IP_MORE_FRAGMENTS) {
		__u32 id = ip->id;

		p->first_fragment = true;
		result = parse_l4(skb, p, (void *)ip + header, end, room);
		return result ? result : fragment_ports(p, id, p->flow.proto, true);
	}
	return parse_l4(skb, p, (void *)ip + header, end, room);
}

/* As parse_icmp_error. A quoted packet may have extension headers, too. */
__noinline int parse_icmpv6_error(struct __sk_buff *skb, struct packet *p)
{
	struct ipv6_chain chain = {};
	struct ipv6 quoted;
	__be16 ports[4];

	if (!p)
		return DROP_MALFORMED_PACKET;
	p->quoted_offset = p->l4_offset + sizeof(struct icmphdr);
	if (bpf_skb_load_bytes(skb, p->quoted_offset, &quoted, sizeof(quoted)) || !ipv6_is((__u8 *)&quoted))
		return DROP_MALFORMED_PACKET;
	/* The error goes to whom the quoted packet came from, or it is no answer to it. */
	if (!addr_equal(&quoted.saddr, &p->flow.daddr))
		return DROP_MALFORMED_PACKET;
	chain.offset = p->quoted_offset + sizeof(quoted);
	chain.next = quoted.next;
	if (ipv6_skip_extensions(skb, &chain) || bpf_skb_load_bytes(skb, chain.offset, ports, sizeof(ports)))
		return DROP_MALFORMED_PACKET;

	p->kind = PACKET_ICMP_ERROR;
	p->quoted_l4_offset = chain.offset;
	p->flow.saddr = quoted.daddr;
	p->flow.proto = chain.next;
	if (chain.fragment & IPV6_FRAGMENT_OFFSET) {
		p->flow.sport = p->flow.dport = 0;
	} else if (chain.next == IPPROTO_TCP || chain.next == IPPROTO_UDP || chain.next == IPPROTO_SCTP) {
		p->flow.sport = ports[1];
		p->flow.dport = ports[0];
	} else if (chain.next == IPPROTO_ICMPV6) {
		__u8 type = *(__u8 *)ports;

		p->flow.dport = type == ICMPV6_ECHO ? ports[2] : 0;
		p->flow.sport = type == ICMPV6_ECHOREPLY ? ports[2] : 0;
	}
	return 0;
}

/* `room`: bytes of the packet from its transport header on. */
static __always_inline int parse_l4_ipv6(struct __sk_buff *skb, struct packet *p, __s32 room)
{
	union {
		struct tcphdr tcp;
		struct udphdr udp;
		struct icmphdr icmp;
	} l4;

	switch (p->flow.proto) {
	case IPPROTO_TCP:
		if (room < (__s32)sizeof(l4.tcp) ||
		    bpf_skb_load_bytes(skb, p->l4_offset, &l4.tcp, sizeof(l4.tcp)) || l4.tcp.doff < 5 ||
		    (!p->first_fragment && !tcp_fits(&l4.tcp, room)))
			return DROP_MALFORMED_PACKET;
		p->flow.sport = l4.tcp.source;
		p->flow.dport = l4.tcp.dest;
		p->tcp_flags = ((__u8 *)&l4.tcp)[13];
		return 0;
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		if (room < (__s32)sizeof(l4.udp) ||
		    bpf_skb_load_bytes(skb, p->l4_offset, &l4.udp, sizeof(l4.udp)) ||
		    (p->flow.proto == IPPROTO_UDP && !p->first_fragment && !udp_fits(&l4.udp, room)))
			return DROP_MALFORMED_PACKET;
		p->flow.sport = l4.udp.source;
		p->flow.dport = l4.udp.dest;
		return 0;
	case IPPROTO_ICMPV6:
		if (room < (__s32)sizeof(l4.icmp) ||
		    bpf_skb_load_bytes(skb, p->l4_offset, &l4.icmp, sizeof(l4.icmp)))
			return DROP_MALFORMED_PACKET;
		if (l4.icmp.type == ICMPV6_ECHO)
			p->flow.sport = l4.icmp.echo_id;
		else if (l4.icmp.type == ICMPV6_ECHOREPLY)
			p->flow.dport = l4.icmp.echo_id;
		else if (is_icmpv6_of_link(l4.icmp.type))
			return NOT_OURS;
		else if (!(l4.icmp.type & 128))
			return parse_icmpv6_error(skb, p);
		else
			p->kind = PACKET_OTHER;
		return 0;
	default:
		p->kind = PACKET_OTHER;
		return 0;
	}
}

/* 0, a drop reason, or NOT_OURS for what never leaves its link: neighbour discovery, multicast. */
__noinline int parse_ipv6(struct __sk_buff *skb, struct packet *p)
{
	struct ipv6_chain chain = {};
	struct ipv6 ip;
	__u32 end;
	int result;

	if (!p || bpf_skb_load_bytes(skb, L3_OFFSET, &ip, sizeof(ip)) || !ipv6_is((__u8 *)&ip))
		return DROP_MALFORMED_PACKET;
	p->v6 = true;
	p->flow.saddr = ip.saddr;
	p->flow.daddr = ip.daddr;
	p->source = ip.saddr;
	end = L3_OFFSET + sizeof(ip) + bpf_ntohs(ip.payload);
	if (!ip.payload && skb->len > 0xffff)
		end = skb->len;
	if (end > skb->len)
		return DROP_MALFORMED_PACKET;
	p->ttl = ip.hops;
	chain.offset = L3_OFFSET + sizeof(ip);
	chain.next = ip.next;
	if (ipv6_is_extension(chain.next)) {
		result = ipv6_skip_extensions(skb, &chain);
		if (result)
			return result;
	}
	if (addr_is_multicast(&ip.daddr) || addr_is_link_local(&ip.saddr) || addr_is_zero(&ip.saddr))
		return NOT_OURS;
	p->l4_offset = chain.offset;
	p->flow.proto = chain.next;
	if (chain.fragment & IPV6_FRAGMENT_OFFSET) {
		p->kind = PACKET_LATER_FRAGMENT;
		return fragment_ports(p, chain.fragment_id, IPV6_FRAGMENT, false);
	}
	p->first_fragment = chain.fragment & IPV6_MORE_FRAGMENTS;
	result = parse_l4_ipv6(skb, p, end - chain.offset);
	if (result || !p->first_fragment)
		return result;
	return fragment_ports(p, chain.fragment_id, IPV6_FRAGMENT, true);
}

/* 0, a drop reason, or NOT_OURS for what is no IP and for what never leaves its link. */
static __always_inline int parse(struct __sk_buff *skb, struct packet *p)
{
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return parse_ipv4(skb, p);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(skb, p);
	return NOT_OURS;
}
