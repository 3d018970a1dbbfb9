/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Translated flows: pairs of rows, flow -> what it becomes and the way back. One kind of
 * row serves services, NodePorts, hairpins and masquerade.
 */
#pragma once

#include "conntrack.h"
#include "rewrite.h"

#define NAT_PORT_TRIES 32

/* One translation before it is installed. */
struct nat_pair {
	struct flow from;
	struct flow to;
	__u32 expires;
	__u32 backend_id;
	__u32 service_id;
	__u16 flags;
	__u16 pad;
};

static __always_inline bool nat_expired(const struct nat_value *row, __u32 now)
{
	return (__s32)(row->expires - now) <= 0;
}

static __always_inline bool flow_equal(const struct flow *a, const struct flow *b)
{
	return a->sport == b->sport && a->dport == b->dport && a->proto == b->proto &&
	       a->cluster_id == b->cluster_id && addr_equal(&a->saddr, &b->saddr) &&
	       addr_equal(&a->daddr, &b->daddr);
}

/* Writes the row of the way back; fails where another living flow has it, unless `steal`. */
static __noinline int nat_claim(const struct nat_pair *pair, bool steal)
{
	struct flow key;
	struct nat_value value = {};
	struct nat_value *taken;

	if (!pair)
		return -1;
	turn(&pair->to, &key);
	turn(&pair->from, &value.to);
	value.expires = pair->expires;
	value.backend_id = pair->backend_id;
	value.service_id = pair->service_id;
	value.flags = pair->flags | NAT_REPLY;
	if (!steal) {
		if (!bpf_map_update_elem(&nat, &key, &value, BPF_NOEXIST))
			return 0;
		taken = bpf_map_lookup_elem(&nat, &key);
		if (taken && !nat_expired(taken, seconds()) && !flow_equal(&taken->to, &value.to))
			return -1;
	}
	return bpf_map_update_elem(&nat, &key, &value, BPF_ANY);
}

static __noinline int nat_install_forward(const struct nat_pair *pair)
{
	struct nat_value value = {};

	if (!pair)
		return -1;
	value.to = pair->to;
	value.expires = pair->expires;
	value.backend_id = pair->backend_id;
	value.service_id = pair->service_id;
	value.flags = pair->flags;
	return bpf_map_update_elem(&nat, &pair->from, &value, BPF_ANY);
}

/* Finds a source port for pair->to (its saddr is set) and installs both rows. 0 or a drop reason. */
static __noinline int nat_install_source(struct nat_pair *pair)
{
	__u32 range = config.nat_port_max - config.nat_port_min + 1;
	__u32 port;

	if (!pair)
		return DROP_NO_NAT_PORT;
	pair->flags |= NAT_SOURCE;
	port = bpf_get_prandom_u32() % range;
	for (int i = 0; i < NAT_PORT_TRIES; i++) {
		pair->to.sport = bpf_htons((__u16)(config.nat_port_min + port));
		if (!nat_claim(pair, false))
			return nat_install_forward(pair) ? DROP_NO_NAT_PORT : 0;
		/* A step, not a random draw: two flows that meet here part on the next one. */
		port = (port + 1 + (bpf_get_prandom_u32() & 0xff)) % range;
	}
	return DROP_NO_NAT_PORT;
}

/* Installs both rows without choosing a port. */
static __noinline int nat_install(const struct nat_pair *pair)
{
	if (!pair)
		return DROP_NO_NAT_ROW;
	return nat_claim(pair, true) || nat_install_forward(pair) ? DROP_NO_NAT_ROW : 0;
}

/* Keeps a pair alive and notes its end. Both rows are reached at most once a second, and at FIN and RST. */
static __noinline int nat_keep(const struct packet *p, struct nat_value *row)
{
	struct flow key;
	struct nat_value *peer;
	__u32 now = seconds(), expires;
	bool tcp, ending;

	if (!p || !row)
		return 0;
	if (p->kind == PACKET_ICMP_ERROR)
		return 0;
	tcp = p->flow.proto == IPPROTO_TCP;
	ending = p->tcp_flags & (TCP_FLAG_FIN | TCP_FLAG_RST);
	if (row->flags & NAT_CLOSING)
		return 0;
	expires = now + (tcp ? LIFETIME_TCP : LIFETIME_OTHER);
	if (row->expires == expires && !ending)
		return 0;
	row->expires = expires;
	if (p->tcp_flags & TCP_FLAG_FIN)
		row->flags |= NAT_FIN;
	turn(&row->to, &key);
	peer = bpf_map_lookup_elem(&nat, &key);
	if (!peer)
		return 0;
	if ((p->tcp_flags & TCP_FLAG_RST) || ((row->flags & NAT_FIN) && (peer->flags & NAT_FIN))) {
		row->flags |= NAT_CLOSING;
		peer->flags |= NAT_CLOSING;
		row->expires = peer->expires = now + LIFETIME_CLOSING;
	} else if (!tcp) {
		peer->expires = expires;
	}
	return 0;
}

/* Translates by an existing row. 0 done, NOT_OURS no row, or a drop reason. */
static __noinline int nat_translate(struct __sk_buff *skb, struct packet *p)
{
	struct nat_value *row;
	struct flow to;

	if (!p)
		return DROP_NO_NAT_ROW;
	row = bpf_map_lookup_elem(&nat, &p->flow);
	if (!row || nat_expired(row, seconds()))
		return NOT_OURS;
	nat_keep(p, row);
	to = row->to;
	p->service_id = row->service_id;
	return rewrite(skb, p, &to);
}

/*
 * Gives the packet a source port of this node under `addr`, the same for the whole flow.
 * 0 or a drop reason.
 */
static __noinline int nat_source(struct __sk_buff *skb, struct packet *p, const struct addr *addr)
{
	struct nat_pair pair = {};
	int result;

	if (!p || !addr)
		return DROP_NO_NAT_PORT;
	result = nat_translate(skb, p);
	if (result != NOT_OURS)
		return result;
	if (p->kind != PACKET_PORTS)
		return p->kind == PACKET_OTHER ? DROP_NAT_UNSUPPORTED_L4 : DROP_NO_NAT_ROW;
	if (p->flow.proto == IPPROTO_ICMP && !p->flow.sport)
		return DROP_NO_NAT_ROW; /* an echo reply nobody asked for */
	pair.from = p->flow;
	pair.to = p->flow;
	pair.to.saddr = *addr;
	pair.service_id = p->service_id;
	pair.expires = seconds() + LIFETIME_OTHER;
	result = nat_install_source(&pair);
	return result ? result : rewrite(skb, p, &pair.to);
}
