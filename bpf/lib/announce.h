/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses of services that this node answers for on its links (L2 announcement): no
 * device has them, so the kernel would not answer. The agent writes a row for an address
 * and device as long as it holds the service's lease.
 *
 * IPv6: a neighbour solicitation (RFC 4861, 4.3) for a row's address is to be answered
 * here as well, where the uplink has parsed it; keys have 16 bytes already.
 */
#pragma once

#include "arp.h"

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
