/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses of services that this node answers for on its links (L2 announcement): no
 * device has them, so the kernel would not answer. The agent writes a row for an address
 * and device as long as it holds the service's lease.
 */
#pragma once

#include "arp.h"
#include "neighbour.h"

__noinline int answer_announced_arp(struct __sk_buff *skb)
{
	struct l2_responder_key key = {.ifindex = skb->ifindex};
	struct l2_responder_value *row;
	struct arp arp;
	__be32 sender, target;

	if (!arp_question(skb, &arp))
		return TC_ACT_OK;
	__builtin_memcpy(&sender, arp.sender_ip, 4);
	__builtin_memcpy(&target, arp.target_ip, 4);
	addr_set_v4(&key.addr, target);
	row = bpf_map_lookup_elem(&l2_responders, &key);
	/* Who asks for its own address announces it (RFC 5227, 3): another node has taken over. */
	if (!row || sender == target)
		return TC_ACT_OK;
	__sync_fetch_and_add(&row->answers, 1);
	return arp_answer(skb, &arp, arp.sender_mac, row->mac);
}

/* `skb` is IPv6 that never leaves its link: parse() said NOT_OURS. */
__noinline int answer_announced_neighbour(struct __sk_buff *skb)
{
	struct neighbour_answer answer = {};
	struct neighbour_message *m = &answer.message;
	struct l2_responder_key key = {.ifindex = skb->ifindex};
	struct l2_responder_value *row;
	struct addr sender;
	__u8 asker[6];

	if (!neighbour_question(skb, m))
		return TC_ACT_OK;
	__builtin_memcpy(&sender, &m->ip.saddr, sizeof(sender));
	__builtin_memcpy(&key.addr, &m->target, sizeof(key.addr));
	row = bpf_map_lookup_elem(&l2_responders, &key);
	/* From no address it looks for a duplicate (RFC 4862, 5.4): whoever holds the lease may take the address. */
	if (!row || addr_is_zero(&sender) || addr_equal(&sender, &key.addr))
		return TC_ACT_OK;
	__sync_fetch_and_add(&row->answers, 1);
	__builtin_memcpy(asker, m->eth.h_source, 6);
	return neighbour_tell(skb, &answer, asker, row->mac, NEIGHBOUR_SOLICITED_OVERRIDE);
}
