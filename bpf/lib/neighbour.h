/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Neighbour discovery of pods (RFC 4861), as arp.h does it for IPv4: whatever address a pod
 * asks for is behind the host side of its veth. Nothing else of a link's own talk is answered
 * or forwarded.
 */
#pragma once

#include "checksum.h"
#include "packet.h"
#include "target.h"

#define NEIGHBOUR_HOPS 255 /* anything less was forwarded, and is forged */
#define NEIGHBOUR_OPTION_TARGET_MAC 2
#define NEIGHBOUR_ROUTER_SOLICITED_OVERRIDE 0xe0000000
#define NEIGHBOUR_SOLICITED_OVERRIDE 0x60000000

struct neighbour_message {
	struct ethhdr eth;
	struct ipv6 ip;
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 flags;
	struct addr target;
} __attribute__((packed));

struct neighbour_answer {
	struct neighbour_message message;
	__u8 option;
	__u8 option_length; /* in 8 bytes */
	__u8 mac[6];
} __attribute__((packed));

#define NEIGHBOUR_PAYLOAD (sizeof(struct neighbour_answer) - ETH_HLEN - sizeof(struct ipv6))

/* Reads a question for the MAC of an address; false where the packet, IPv6 of any kind, is none. */
static __always_inline bool neighbour_question(struct __sk_buff *skb, struct neighbour_message *m)
{
	return !bpf_skb_load_bytes(skb, 0, m, sizeof(*m)) && m->ip.next == IPPROTO_ICMPV6 &&
	       m->type == ICMPV6_NEIGHBOUR_SOLICITATION && !m->code && m->ip.hops == NEIGHBOUR_HOPS;
}

/* Turns the question in `answer` around: whoever asked (at `to`) is told `mac`, on the device it asked at. */
static __always_inline int neighbour_tell(struct __sk_buff *skb, struct neighbour_answer *answer, const __u8 *to,
					  const __u8 *mac, __u32 flags)
{
	struct neighbour_message *m = &answer->message;
	struct addr sender, target;

	__builtin_memcpy(&sender, &m->ip.saddr, sizeof(sender));
	__builtin_memcpy(&target, &m->target, sizeof(target));
	__builtin_memcpy(m->eth.h_dest, to, 6);
	__builtin_memcpy(m->eth.h_source, mac, 6);
	m->ip.payload = bpf_htons(NEIGHBOUR_PAYLOAD);
	__builtin_memcpy(&m->ip.saddr, &target, sizeof(target));
	__builtin_memcpy(&m->ip.daddr, &sender, sizeof(sender));
	m->type = ICMPV6_NEIGHBOUR_ADVERTISEMENT;
	m->checksum = 0;
	m->flags = bpf_htonl(flags);
	answer->option = NEIGHBOUR_OPTION_TARGET_MAC;
	answer->option_length = 1;
	__builtin_memcpy(answer->mac, mac, 6);
	m->checksum = checksum_ipv6(&sender, &target, IPPROTO_ICMPV6,
				    (void *)answer + ETH_HLEN + sizeof(struct ipv6), NEIGHBOUR_PAYLOAD);
	if (bpf_skb_change_tail(skb, sizeof(*answer), 0) || bpf_skb_store_bytes(skb, 0, answer, sizeof(*answer), 0))
		return TC_ACT_SHOT;
	return bpf_redirect(skb->ifindex, 0);
}

/* `skb` is IPv6 of a pod that never leaves a link: parse() said NOT_OURS. */
__noinline int answer_neighbour(struct __sk_buff *skb)
{
	struct neighbour_answer answer = {};
	struct neighbour_message *m = &answer.message;
	struct endpoint_value *endpoint;
	struct addr sender, target;

	if (!neighbour_question(skb, m))
		return drop(skb, DROP_LINK_SCOPE, DIRECTION_EGRESS);
	__builtin_memcpy(&sender, &m->ip.saddr, sizeof(sender));
	__builtin_memcpy(&target, &m->target, sizeof(target));
	/* From no address it looks for a duplicate: silence says there is none. */
	if (addr_is_zero(&sender) || addr_equal(&sender, &target))
		return TC_ACT_SHOT;
	endpoint = endpoint_find(&sender, 0);
	if (!endpoint || endpoint->ifindex != skb->ifindex)
		return drop(skb, DROP_INVALID_SOURCE, DIRECTION_EGRESS);
	return neighbour_tell(skb, &answer, endpoint->mac, endpoint->host_mac, NEIGHBOUR_ROUTER_SOLICITED_OVERRIDE);
}
