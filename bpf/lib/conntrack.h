/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connection tracking: one row a flow, found by both directions with one lookup at each
 * hook. A row in use is written at most once a second, when its expiry moves.
 */
#pragma once

#include "packet.h"

#define LIFETIME_TCP 8000
#define LIFETIME_TCP_SYN 60
#define LIFETIME_CLOSING 10
#define LIFETIME_OTHER 60

/* Writes the key of both directions; true where the packet comes from the key's higher end. */
static __always_inline bool conntrack_key(const struct flow *flow, struct flow *key)
{
	int order = addr_compare(&flow->saddr, &flow->daddr);

	if (order < 0 || (order == 0 && flow->sport <= flow->dport)) {
		*key = *flow;
		return false;
	}
	key->saddr = flow->daddr;
	key->daddr = flow->saddr;
	key->sport = flow->dport;
	key->dport = flow->sport;
	key->cluster_id = flow->cluster_id;
	key->proto = flow->proto;
	key->pad = 0;
	return true;
}

static __always_inline __u32 conntrack_lifetime(__u8 proto, __u16 flags)
{
	if (proto != IPPROTO_TCP)
		return LIFETIME_OTHER;
	if (flags & CONNTRACK_RST)
		return LIFETIME_CLOSING;
	if ((flags & (CONNTRACK_FIN_INITIATOR | CONNTRACK_FIN_RESPONDER)) ==
	    (CONNTRACK_FIN_INITIATOR | CONNTRACK_FIN_RESPONDER))
		return LIFETIME_CLOSING;
	return (flags & CONNTRACK_REPLIED) || !(flags & CONNTRACK_SYN) ? LIFETIME_TCP : LIFETIME_TCP_SYN;
}

static __always_inline bool conntrack_closed(__u16 flags)
{
	return (flags & CONNTRACK_RST) ||
	       ((flags & CONNTRACK_FIN_INITIATOR) && (flags & CONNTRACK_FIN_RESPONDER));
}

static __always_inline __u16 conntrack_observe(const struct packet *p, bool reply, __u16 flags)
{
	if (reply)
		flags |= CONNTRACK_REPLIED;
	if (p->tcp_flags & TCP_FLAG_FIN)
		flags |= reply ? CONNTRACK_FIN_RESPONDER : CONNTRACK_FIN_INITIATOR;
	if (p->tcp_flags & TCP_FLAG_RST)
		flags |= CONNTRACK_RST;
	return flags;
}

/* A flow's first packet, or the first after its row expired. */
__noinline int conntrack_create(const struct packet *p, const struct flow *key, bool high, __u32 now)
{
	struct conntrack_value value = {};
	struct flow own;

	if (!p || !key)
		return -1;
	/* A key in memory that a caller gave is refused before Linux 6.3. */
	own = *key;
	value.identity = p->src_identity;
	value.service_id = p->service_id;
	value.flags = (high ? CONNTRACK_INITIATOR_HIGH : 0) | (p->translated ? CONNTRACK_NAT : 0) |
		      (p->dsr ? CONNTRACK_DSR : 0);
	if ((p->tcp_flags & (TCP_FLAG_SYN | TCP_FLAG_ACK)) == TCP_FLAG_SYN)
		value.flags |= CONNTRACK_SYN;
	value.flags = conntrack_observe(p, false, value.flags);
	value.expires = now + conntrack_lifetime(p->flow.proto, value.flags);
	return bpf_map_update_elem(&conntrack, &own, &value, BPF_ANY);
}

/*
 * Tracks the packet and sets p->reply. Returns the flags of its row (without CONNTRACK_NAT
 * unless replies are to be translated), 0 for a new flow.
 */
static __always_inline __u16 track(struct packet *p)
{
	struct flow key;
	struct conntrack_value *row;
	bool high = conntrack_key(&p->flow, &key);
	__u32 now = seconds();

	p->reply = false;
	row = bpf_map_lookup_elem(&conntrack, &key);
	if (row) {
		__u16 flags = row->flags;
		bool reply = high != !!(flags & CONNTRACK_INITIATOR_HIGH);
		bool reopened = conntrack_closed(flags) &&
				(p->tcp_flags & (TCP_FLAG_SYN | TCP_FLAG_ACK)) == TCP_FLAG_SYN;

		if ((__s32)(row->expires - now) > 0 && !reopened) {
			__u16 observed;
			__u32 expires;

			p->reply = reply;
			if (p->kind == PACKET_ICMP_ERROR)
				return flags;
			observed = conntrack_observe(p, reply, flags);
			if (p->translated && !reply)
				observed |= CONNTRACK_NAT;
			expires = now + conntrack_lifetime(p->flow.proto, observed);
			if (observed != flags)
				row->flags = observed;
			/* A closing row is not prolonged by what still trickles in. */
			if (row->expires != expires && !(conntrack_closed(flags)))
				row->expires = expires;
			return observed;
		}
	}
	/* A reply whose row was forgotten (evicted, expired): the other end began. */
	p->reply = p->returned;
	if (p->kind != PACKET_ICMP_ERROR)
		conntrack_create(p, &key, high != p->returned, now);
	return 0;
}
