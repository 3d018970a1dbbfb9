/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Direct server return: a client outside whose backend is on another node is sent there under its own address. An
 * option of the IP header names the frontend it asked for, and that node answers in the frontend's name, past this
 * one. TCP needs the option with the first packet, everything else with each. The options are Cilium's
 * (loadBalancer.dsrDispatch: opt).
 *
 * The client's address is in the header, so that nothing there says who added an option. It is believed for what it
 * says: a frontend that is open to this client anyway, asked by somebody outside. docs/datapath.md has the rest.
 */
#pragma once

#include "nat.h"
#include "service.h"
#include "target.h"

/* RFC 791, 3.1: copied to fragments, class 0, number 26. Nobody was given that number. */
#define DSR_OPTION_IPV4 0x9a
/* RFC 8200, 4.2: skipped by who does not know it, not changed on the way. */
#define DSR_OPTION_IPV6 0x1b

/* Cilium writes both fields with the least significant byte first. */
struct dsr_option {
	__u8 type;
	__u8 length; /* of all */
	__u16 port;
	__u32 addr;
};

/* A destination options header with nothing else in it. */
struct dsr_header {
	__u8 next;
	__u8 units; /* of 8 bytes behind the first 8 */
	__u8 type;
	__u8 length; /* of what follows */
	struct addr addr;
	__be16 port;
	__u16 pad;
};

#define DSR_HEADER_UNITS ((sizeof(struct dsr_header) - 8) / 8)
#define DSR_HEADER_LENGTH (sizeof(struct dsr_header) - 4)
#define IPV4_OPTIONS_OFFSET (L3_OFFSET + sizeof(struct iphdr))
#define IPV6_PAYLOAD_OFFSET (L3_OFFSET + sizeof(struct ipv6))
#define IP_DONT_FRAGMENT 0x4000

/* results beside 0 and drop reasons */
#define DSR_TAKEN 1
#define DSR_TOO_BIG 4

static __always_inline __u32 dsr_size(bool v6)
{
	return v6 ? sizeof(struct dsr_header) : sizeof(struct dsr_option);
}

/* Whether a packet is one that tells the other node which frontend is meant. */
static __always_inline bool dsr_tells(const struct packet *p)
{
	if (p->kind == PACKET_ICMP_ERROR)
		return false;
	return p->flow.proto != IPPROTO_TCP || (p->tcp_flags & (TCP_FLAG_SYN | TCP_FLAG_ACK)) == TCP_FLAG_SYN;
}

/* Whether an address is a node's or a pod's, of any cluster: they are no clients outside. */
static __always_inline bool is_inside(const struct addr *addr)
{
	struct ipcache_value *info = ipcache_find(addr, 0);

	return (info && !addr_is_zero(&info->tunnel)) || is_node(addr);
}

/* Whether a destination, as clients outside see it, is a service's. A backend in its node's own network may be one. */
static __always_inline bool is_frontend(const struct flow *flow)
{
	return frontend_find(&flow->daddr, flow->dport, flow->proto,
			     is_node_of_cluster(&flow->daddr, NODE_OWN_CLUSTER), false);
}

/*
 * Whether the backend `to` leads to may answer this client past this node: the frontend is to be served so, the client
 * is outside, and the backend is on a node of this cluster that is reached without a tunnel. A node of another cluster
 * may know nothing of the frontend, and its network may not let out what has the frontend's address. What is a frontend
 * itself would be balanced once more by its node.
 */
__noinline int dsr_possible(const struct packet *p, const struct frontend_value *frontend, const struct flow *to)
{
	struct node_key key = {};
	struct ipcache_value *info;
	struct node_value *node;

	if (!p || !frontend || !to)
		return 0;
	if (!(frontend->flags & FRONTEND_DSR) || to->cluster_id || is_inside(&p->flow.saddr) || is_frontend(to))
		return 0;
	info = ipcache_find(&to->daddr, 0);
	key.addr = info && !addr_is_zero(&info->tunnel) ? info->tunnel : to->daddr;
	node = bpf_map_lookup_elem(&nodes, &key);
	return node && (node->flags & (NODE_OWN_CLUSTER | NODE_DIRECT)) == (NODE_OWN_CLUSTER | NODE_DIRECT);
}

/* Whether a packet and the option are too big for the way to `to`; then p->mtu is what would fit without it. */
__noinline int dsr_too_big(struct __sk_buff *skb, struct packet *p, const struct flow *to)
{
	struct bpf_fib_lookup fib = {};
	__be16 fragment;
	__u32 size;

	if (!p || !to)
		return 0;
	/* Segments of a GSO packet leave one by one. */
	size = skb->gso_size ? p->l4_offset - L3_OFFSET + sizeof(struct udphdr) + skb->gso_size : skb->len - L3_OFFSET;
	size += dsr_size(p->v6);
	/* Without DF the kernel's stack makes fragments of it, each with the option. */
	if (size <= IPV6_MIN_MTU || size > 0xffff ||
	    (!p->v6 && (bpf_skb_load_bytes(skb, L3_OFFSET + offsetof(struct iphdr, frag_off), &fragment, 2) ||
			!(fragment & bpf_htons(IP_DONT_FRAGMENT)))))
		return 0;
	fib.tot_len = size;
	fib.ifindex = config.host_ifindex;
	fib.l4_protocol = to->proto;
	fib.sport = to->sport;
	fib.dport = to->dport;
	if (p->v6) {
		fib.family = AF_INET6;
		__builtin_memcpy(fib.ipv6_src, &to->saddr, sizeof(fib.ipv6_src));
		__builtin_memcpy(fib.ipv6_dst, &to->daddr, sizeof(fib.ipv6_dst));
	} else {
		fib.family = AF_INET;
		fib.ipv4_src = addr_v4(&to->saddr);
		fib.ipv4_dst = addr_v4(&to->daddr);
	}
	if (bpf_fib_lookup(skb, &fib, sizeof(fib), 0) != FIB_FRAGMENTATION_NEEDED)
		return 0;
	p->mtu = fib.mtu_result - dsr_size(p->v6);
	return 1;
}

/*
 * The IPv4 header after `words` of 4 bytes were added behind its first 20 (or, negative, taken away), whose sum is
 * `sum`. Header and checksum together keep the sum they had.
 */
static __always_inline int dsr_fix_ipv4(struct __sk_buff *skb, const struct iphdr *ip, int words, __s64 sum)
{
	struct iphdr fixed = *ip;

	fixed.ihl = ip->ihl + words;
	/* 0 is what the kernel writes into packets over 64 KiB on their way to GSO. */
	if (ip->tot_len)
		fixed.tot_len = bpf_htons(bpf_ntohs(ip->tot_len) + words * 4);
	sum = bpf_csum_diff((__be32 *)ip, 4, (__be32 *)&fixed, 4, sum);
	return bpf_skb_store_bytes(skb, L3_OFFSET, &fixed, 4, 0) ||
	       bpf_l3_csum_replace(skb, IP_CHECK_OFFSET, 0, sum, 0);
}

__noinline int dsr_add_ipv4(struct __sk_buff *skb, const struct packet *p)
{
	struct dsr_option option = { .type = DSR_OPTION_IPV4, .length = sizeof(option) };
	struct iphdr ip;

	if (!p || bpf_skb_load_bytes(skb, L3_OFFSET, &ip, sizeof(ip)) || ip.ihl > 15 - sizeof(option) / 4)
		return -1;
	option.port = bpf_ntohs(p->flow.dport);
	option.addr = bpf_ntohl(addr_v4(&p->flow.daddr));
	return bpf_skb_adjust_room(skb, sizeof(option), BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_FIXED_GSO) ||
	       bpf_skb_store_bytes(skb, IPV4_OPTIONS_OFFSET, &option, sizeof(option), 0) ||
	       dsr_fix_ipv4(skb, &ip, sizeof(option) / 4, bpf_csum_diff(NULL, 0, (__be32 *)&option, sizeof(option), 0));
}

__noinline int dsr_add_ipv6(struct __sk_buff *skb, const struct packet *p)
{
	struct dsr_header header = { .units = DSR_HEADER_UNITS, .type = DSR_OPTION_IPV6, .length = DSR_HEADER_LENGTH };
	struct {
		__be16 payload;
		__u8 next;
		__u8 hops;
	} base;

	if (!p || bpf_skb_load_bytes(skb, L3_OFFSET + offsetof(struct ipv6, payload), &base, sizeof(base)))
		return -1;
	header.next = base.next;
	header.addr = p->flow.daddr;
	header.port = p->flow.dport;
	base.next = IPV6_DESTINATION;
	if (base.payload)
		base.payload = bpf_htons(bpf_ntohs(base.payload) + sizeof(header));
	return bpf_skb_adjust_room(skb, sizeof(header), BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_FIXED_GSO) ||
	       bpf_skb_store_bytes(skb, IPV6_PAYLOAD_OFFSET, &header, sizeof(header), BPF_F_RECOMPUTE_CSUM) ||
	       bpf_skb_store_bytes(skb, L3_OFFSET + offsetof(struct ipv6, payload), &base, sizeof(base),
				   BPF_F_RECOMPUTE_CSUM);
}

/*
 * Before a packet is translated to `to`: the frontend it is for goes into an option, if this packet is one that has
 * to tell. 0, DSR_TOO_BIG, or a drop reason.
 */
__noinline int dsr_tell(struct __sk_buff *skb, struct packet *p, const struct flow *to)
{
	if (!p || !to)
		return DROP_WRITE_FAILED;
	if (!dsr_tells(p))
		return 0;
	if (dsr_too_big(skb, p, to))
		return DSR_TOO_BIG;
	if (p->v6 ? dsr_add_ipv6(skb, p) : dsr_add_ipv4(skb, p))
		return DROP_WRITE_FAILED;
	p->l4_offset += dsr_size(p->v6);
	p->dsr = true;
	return 0;
}

/* Installs the pair in the making; if the backend talks with the client's port already, with a port of this node. */
__noinline int dsr_install(const struct addr *own)
{
	struct nat_scratch *room = nat_room();

	if (!room || !own)
		return DROP_NO_NAT_ROW;
	if (!nat_claim(CLAIM_FREE))
		return nat_install_forward() ? DROP_NO_NAT_ROW : 0;
	room->pair.flags &= ~NAT_DSR;
	room->pair.to.saddr = *own;
	return nat_install_source();
}

/* Whether the header, which may not be in the linear part, may have such an option. */
static __always_inline bool dsr_may_have(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = data + L3_OFFSET;

		return (void *)(ip + 1) > end || ip->ihl > 5;
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6 *ip = data + L3_OFFSET;

		return (void *)(ip + 1) > end || ip->next == IPV6_DESTINATION;
	}
	return false;
}

struct dsr_head_ipv4 {
	struct iphdr ip;
	struct dsr_option option;
};

struct dsr_head_ipv6 {
	struct ipv6 ip;
	struct dsr_header header;
};

/* Whether the packet has the option. */
static __always_inline bool dsr_read_ipv4(struct __sk_buff *skb, struct dsr_head_ipv4 *head)
{
	return !bpf_skb_load_bytes(skb, L3_OFFSET, head, sizeof(*head)) && head->ip.ihl > 5 &&
	       head->option.type == DSR_OPTION_IPV4;
}

static __always_inline bool dsr_read_ipv6(struct __sk_buff *skb, struct dsr_head_ipv6 *head)
{
	return !bpf_skb_load_bytes(skb, L3_OFFSET, head, sizeof(*head)) && head->ip.next == IPV6_DESTINATION &&
	       head->header.type == DSR_OPTION_IPV6;
}

static __always_inline int dsr_take_ipv4(struct __sk_buff *skb, struct addr *frontend, __be16 *port)
{
	struct dsr_head_ipv4 head;
	__s64 sum;

	if (!dsr_read_ipv4(skb, &head))
		return 0;
	addr_set_v4(frontend, head.ip.daddr);
	if (!endpoint_find(frontend, 0))
		return 0;
	if (head.ip.ihl < 5 + sizeof(head.option) / 4 || head.option.length != sizeof(head.option) ||
	    (head.ip.tot_len && bpf_ntohs(head.ip.tot_len) < head.ip.ihl * 4))
		return DROP_MALFORMED_PACKET;
	addr_set_v4(frontend, bpf_htonl(head.option.addr));
	*port = bpf_htons(head.option.port);
	sum = bpf_csum_diff((__be32 *)&head.option, sizeof(head.option), NULL, 0, 0);
	if (bpf_skb_adjust_room(skb, -(__s32)sizeof(head.option), BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_FIXED_GSO) ||
	    dsr_fix_ipv4(skb, &head.ip, -(int)(sizeof(head.option) / 4), sum))
		return DROP_WRITE_FAILED;
	/* With the option its sum has left what the network card summed up, and the header came to make up for it. */
	bpf_csum_update(skb, bpf_csum_diff(NULL, 0, (__be32 *)&head.option, sizeof(head.option), 0));
	return DSR_TAKEN;
}

static __always_inline int dsr_take_ipv6(struct __sk_buff *skb, struct addr *frontend, __be16 *port)
{
	struct dsr_head_ipv6 head;

	if (!dsr_read_ipv6(skb, &head))
		return 0;
	*frontend = head.ip.daddr;
	if (!endpoint_find(frontend, 0))
		return 0;
	if (head.header.units != DSR_HEADER_UNITS || head.header.length != DSR_HEADER_LENGTH ||
	    (head.ip.payload && bpf_ntohs(head.ip.payload) < sizeof(head.header)))
		return DROP_MALFORMED_PACKET;
	*frontend = head.header.addr;
	*port = head.header.port;
	head.ip.next = head.header.next;
	if (head.ip.payload)
		head.ip.payload = bpf_htons(bpf_ntohs(head.ip.payload) - sizeof(head.header));
	if (bpf_skb_adjust_room(skb, -(__s32)sizeof(head.header), BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_FIXED_GSO) ||
	    bpf_skb_store_bytes(skb, L3_OFFSET + offsetof(struct ipv6, payload), &head.ip.payload, 4,
				BPF_F_RECOMPUTE_CSUM))
		return DROP_WRITE_FAILED;
	return DSR_TAKEN;
}

/*
 * Takes the option out of a packet for an address of this node, and leaves the frontend in the pair in the making.
 * 0: there is none. DSR_TAKEN, or a drop reason. It counts as the first option only, where nodes write it.
 */
__noinline int dsr_take(struct __sk_buff *skb)
{
	struct nat_scratch *room = nat_room();

	if (!room)
		return 0;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return dsr_take_ipv4(skb, &room->pair.from.daddr, &room->pair.from.dport);
	return dsr_take_ipv6(skb, &room->pair.from.daddr, &room->pair.from.dport);
}

/* Whether a packet has the option. */
__noinline int dsr_has(struct __sk_buff *skb)
{
	struct dsr_head_ipv4 v4;
	struct dsr_head_ipv6 v6;

	return skb->protocol == bpf_htons(ETH_P_IP) ? dsr_read_ipv4(skb, &v4) : dsr_read_ipv6(skb, &v6);
}

/*
 * Judges what dsr_take() found, and makes the row by which the answers of this node get the frontend's name.
 * 0 or a drop reason.
 */
__noinline int dsr_accept(struct packet *p)
{
	struct nat_scratch *room = nat_room();
	struct frontend_value *frontend;
	struct nat_value *row;
	struct addr asked;
	__be16 port;
	__u32 now = seconds();

	if (!p || !room)
		return DROP_NO_NAT_ROW;
	/* Its ports, and the row, are those of the first fragment. */
	if (p->kind == PACKET_LATER_FRAGMENT && p->flow.proto == IPPROTO_UDP)
		return 0;
	if (p->kind != PACKET_PORTS || (p->flow.proto != IPPROTO_TCP && p->flow.proto != IPPROTO_UDP) ||
	    !dsr_tells(p) || is_inside(&p->flow.saddr))
		return DROP_DSR_FORGED;
	if (is_frontend(&p->flow))
		return DROP_DSR_FORGED;
	asked = room->pair.from.daddr;
	port = room->pair.from.dport;
	frontend = frontend_find(&asked, port, p->flow.proto, is_node_of_cluster(&asked, NODE_OWN_CLUSTER), false);
	if (!frontend || !(frontend->flags & (FRONTEND_NODEPORT | FRONTEND_EXTERNAL)) ||
	    (frontend->flags & FRONTEND_LOCAL))
		return DROP_DSR_FORGED;
	if (!source_allowed(frontend, &p->flow.saddr))
		return DROP_SOURCE_NOT_IN_RANGES;
	p->translated = true;
	p->dsr = true;
	p->service_id = frontend->service_id;
	turn(&p->flow, &room->key);
	row = bpf_map_lookup_elem(&nat, &room->key);
	/* Each datagram says the same again: the row is written once a second. */
	if (row && p->flow.proto == IPPROTO_UDP && row->expires == now + LIFETIME_OTHER &&
	    row->to.sport == port && addr_equal(&row->to.saddr, &asked))
		return 0;
	room->pair.from = p->flow;
	room->pair.from.daddr = asked;
	room->pair.from.dport = port;
	room->pair.to = p->flow;
	room->pair.backend_id = 0;
	room->pair.service_id = frontend->service_id;
	room->pair.flags = NAT_SERVICE | NAT_DSR;
	room->pair.expires = now + LIFETIME_OTHER;
	return nat_claim(CLAIM_ANY) ? DROP_NO_NAT_ROW : 0;
}
