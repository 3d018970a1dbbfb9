/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Translated flows: pairs of rows, flow -> what it becomes and the way back. One kind of
 * row serves services, NodePorts, hairpins and masquerade.
 */
#pragma once

#include "conntrack.h"
#include "rewrite.h"

#define NAT_PORT_TRIES 32
#define NAT_PORT_FREE_TRIES 4

/* What a new flow may take from another: nothing, what an ended connection still holds, anything. */
enum nat_claim {
	CLAIM_FREE,
	CLAIM_ENDED,
	CLAIM_ANY,
};

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

/*
 * Room for a translation in the making: with it on the stack the longest chain of calls
 * would pass the verifier's 512 bytes. Programs of tc run with softirqs off, so that one a
 * CPU is enough.
 */
struct nat_scratch {
	struct nat_pair pair;
	struct flow key;
	struct flow ended;
	struct nat_value value;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nat_scratch);
} nat_scratch SEC(".maps");

static __always_inline struct nat_scratch *nat_room(void)
{
	__u32 index = 0;

	return bpf_map_lookup_elem(&nat_scratch, &index);
}

static __always_inline bool nat_expired(const struct nat_value *row, __u32 now)
{
	return (__s32)(row->expires - now) <= 0;
}

/* Whether a row is of a connection that has ended, as far as this node can see. */
static __always_inline bool nat_over(const struct nat_value *row)
{
	return (row->flags & NAT_CLOSING) || ((row->flags & NAT_DSR) && (row->flags & NAT_FIN));
}

static __always_inline bool flow_equal(const struct flow *a, const struct flow *b)
{
	return a->sport == b->sport && a->dport == b->dport && a->proto == b->proto &&
	       a->cluster_id == b->cluster_id && addr_equal(&a->saddr, &b->saddr) &&
	       addr_equal(&a->daddr, &b->daddr);
}

static __always_inline void nat_fill(struct nat_value *value, const struct nat_pair *pair, __u16 flags)
{
	value->expires = pair->expires;
	value->backend_id = pair->backend_id;
	value->service_id = pair->service_id;
	value->flags = flags;
	value->pad = 0;
}

/*
 * Removes the row of the way there of the pair whose way back is `taken`: the port is about to be another flow's.
 * Where the old flow has got another port meanwhile its row stays.
 */
static __always_inline void nat_forget(struct nat_scratch *room, const struct nat_value *taken)
{
	struct nat_value *there;

	turn(&taken->to, &room->ended);
	there = bpf_map_lookup_elem(&nat, &room->ended);
	if (there && flow_equal(&there->to, &room->pair.to))
		bpf_map_delete_elem(&nat, &room->ended);
}

/* Writes the row of the way back; fails where another flow has it that may not be taken for one that begins. */
__noinline int nat_claim(enum nat_claim how)
{
	struct nat_scratch *room = nat_room();
	struct nat_value *taken;

	if (!room)
		return -1;
	turn(&room->pair.to, &room->key);
	turn(&room->pair.from, &room->value.to);
	nat_fill(&room->value, &room->pair, room->pair.flags | NAT_REPLY);
	if (how != CLAIM_ANY) {
		if (!bpf_map_update_elem(&nat, &room->key, &room->value, BPF_NOEXIST))
			return 0;
		taken = bpf_map_lookup_elem(&nat, &room->key);
		if (taken && !nat_expired(taken, seconds()) && !flow_equal(&taken->to, &room->value.to)) {
			if (how == CLAIM_FREE || !(taken->flags & NAT_CLOSING))
				return -1;
			nat_forget(room, taken);
		}
	}
	return bpf_map_update_elem(&nat, &room->key, &room->value, BPF_ANY);
}

__noinline int nat_install_forward(void)
{
	struct nat_scratch *room = nat_room();

	if (!room)
		return -1;
	room->value.to = room->pair.to;
	nat_fill(&room->value, &room->pair, room->pair.flags);
	return bpf_map_update_elem(&nat, &room->pair.from, &room->value, BPF_ANY);
}

/*
 * Finds a source port for the pair in the making (to.saddr is set) and installs it. A port rests for LIFETIME_CLOSING
 * after its connection's end, as in TIME-WAIT (RFC 9293), unless free ones are hard to find: a node that opens many
 * short connections to one destination would run out of ports otherwise, and TCP tells the new connection from what is
 * left of the old by sequence numbers and timestamps (RFC 6191). 0 or a drop reason.
 */
__noinline int nat_install_source(void)
{
	struct nat_scratch *room = nat_room();
	__u32 range = config.nat_port_max - config.nat_port_min + 1;
	__u32 port;

	if (!room)
		return DROP_NO_NAT_PORT;
	room->pair.flags |= NAT_SOURCE;
	port = bpf_get_prandom_u32() % range;
	for (int i = 0; i < NAT_PORT_TRIES; i++) {
		room->pair.to.sport = bpf_htons((__u16)(config.nat_port_min + port));
		if (!nat_claim(i < NAT_PORT_FREE_TRIES ? CLAIM_FREE : CLAIM_ENDED))
			return nat_install_forward() ? DROP_NO_NAT_PORT : 0;
		/* Once around a small range, else a random step: two flows that meet here part again. */
		port = (port + 1 + (range > NAT_PORT_TRIES ? bpf_get_prandom_u32() & 0xff : 0)) % range;
	}
	return DROP_NO_NAT_PORT;
}

/* Installs the pair in the making without choosing a port. */
__noinline int nat_install(void)
{
	return nat_claim(CLAIM_ANY) || nat_install_forward() ? DROP_NO_NAT_ROW : 0;
}

/* Keeps a pair alive and notes its end. Both rows are reached at most once a second, and at FIN and RST. */
__noinline int nat_keep(const struct packet *p, struct nat_value *row)
{
	struct flow key;
	struct nat_value *peer;
	__u32 now = seconds(), expires;
	bool tcp, syn, ending, closing, half_closed, reopened = false;

	if (!p || !row)
		return 0;
	if (p->kind == PACKET_ICMP_ERROR)
		return 0;
	tcp = p->flow.proto == IPPROTO_TCP;
	/* Of a row that sees one direction only the SYN may be the last for long, and it holds no port. */
	syn = (p->tcp_flags & TCP_FLAG_SYN) && !(row->flags & NAT_DSR);
	ending = p->tcp_flags & (TCP_FLAG_FIN | TCP_FLAG_RST);
	if (row->flags & NAT_CLOSING) {
		/* The same ports again: a new connection begins on the rows of the old one. */
		if ((p->tcp_flags & (TCP_FLAG_SYN | TCP_FLAG_ACK)) != TCP_FLAG_SYN)
			return 0;
		row->flags &= ~(NAT_CLOSING | NAT_FIN);
		row->expires = 0;
		reopened = true;
	}
	/* One direction has ended, and the other one is not seen here: no more than a pause is waited for. */
	half_closed = (row->flags & NAT_DSR) && ((row->flags & NAT_FIN) || (p->tcp_flags & TCP_FLAG_FIN));
	/* A SYN asked again, or its answer, is no connection yet: who never gets one must not keep ports for hours. */
	expires = now + (tcp && !syn && !half_closed ? LIFETIME_TCP : LIFETIME_OTHER);
	if (!ending && (row->expires == expires || (syn && (__s32)(row->expires - expires) > 0)))
		return 0;
	row->expires = expires;
	if (p->tcp_flags & TCP_FLAG_FIN)
		row->flags |= NAT_FIN;
	turn(&row->to, &key);
	peer = bpf_map_lookup_elem(&nat, &key);
	closing = (p->tcp_flags & TCP_FLAG_RST) || ((row->flags & NAT_FIN) && peer && (peer->flags & NAT_FIN));
	if (closing) {
		row->flags |= NAT_CLOSING;
		row->expires = now + LIFETIME_CLOSING;
	}
	if (!peer)
		return 0;
	if (closing) {
		peer->flags |= NAT_CLOSING;
		peer->expires = now + LIFETIME_CLOSING;
	} else if (reopened) {
		peer->flags &= ~(NAT_CLOSING | NAT_FIN);
		peer->expires = expires;
	} else if (!syn || (__s32)(peer->expires - expires) < 0) {
		peer->expires = expires;
	}
	return 0;
}

/* Translates by an existing row. 0 done, NOT_OURS no row, or a drop reason. */
__noinline int nat_translate(struct __sk_buff *skb, struct packet *p)
{
	struct nat_value *row;
	struct flow to;

	if (!p)
		return DROP_NO_NAT_ROW;
	/* A key in memory that a caller gave is refused before Linux 6.3: it is copied. */
	to = p->flow;
	row = bpf_map_lookup_elem(&nat, &to);
	if (!row || nat_expired(row, seconds()))
		return NOT_OURS;
	nat_keep(p, row);
	to = row->to;
	p->service_id = row->service_id;
	return rewrite(skb, p, &to);
}

/* Gives a packet back the flow that it had before it was translated, for an answer to its sender. 0 or a drop reason. */
__noinline int nat_undo(struct __sk_buff *skb, struct packet *p)
{
	struct nat_value *row;
	struct flow flow;

	if (!p)
		return DROP_NO_NAT_ROW;
	turn(&p->flow, &flow);
	row = bpf_map_lookup_elem(&nat, &flow);
	if (!row)
		return DROP_NO_NAT_ROW;
	turn(&row->to, &flow);
	return rewrite(skb, p, &flow);
}

/*
 * Gives the packet a source port of this node under `addr`, the same for the whole flow.
 * 0 or a drop reason.
 */
__noinline int nat_source(struct __sk_buff *skb, struct packet *p, const struct addr *addr)
{
	struct nat_scratch *room;
	int result;

	if (!p || !addr)
		return DROP_NO_NAT_PORT;
	result = nat_translate(skb, p);
	if (result != NOT_OURS)
		return result;
	if (p->kind != PACKET_PORTS)
		return p->kind == PACKET_OTHER ? DROP_NAT_UNSUPPORTED_L4 : DROP_NO_NAT_ROW;
	if (is_icmp(p->flow.proto) && !p->flow.sport)
		return DROP_NO_NAT_ROW; /* an echo reply nobody asked for */
	room = nat_room();
	if (!room)
		return DROP_NO_NAT_PORT;
	room->pair.from = p->flow;
	room->pair.to = p->flow;
	room->pair.to.saddr = *addr;
	room->pair.backend_id = 0;
	room->pair.service_id = p->service_id;
	room->pair.flags = 0;
	room->pair.expires = seconds() + LIFETIME_OTHER;
	result = nat_install_source();
	return result ? result : rewrite(skb, p, &room->pair.to);
}
