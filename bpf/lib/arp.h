/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pod's neighbour is always the host side of its veth. Its questions are answered here,
 * so that no pod can write the node's neighbour table.
 */
#pragma once

#include "target.h"

#define ARPOP_REQUEST 1
#define ARPOP_REPLY 2

/* RFC 826 for Ethernet and IPv4. */
struct arp {
	struct ethhdr eth;
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[6];
	__u8 sender_ip[4];
	__u8 target_mac[6];
	__u8 target_ip[4];
} __attribute__((packed));

/* Reads a question for an IPv4 address; false where the packet is none. */
static __always_inline bool arp_question(struct __sk_buff *skb, struct arp *arp)
{
	return !bpf_skb_load_bytes(skb, 0, arp, sizeof(*arp)) && arp->operation == bpf_htons(ARPOP_REQUEST) &&
	       arp->protocol == bpf_htons(ETH_P_IP) && arp->hardware_length == 6 && arp->protocol_length == 4;
}

/* Turns a question around: whoever asked (at `to`) is told `mac`, on the device it asked at. */
static __always_inline int arp_answer(struct __sk_buff *skb, struct arp *arp, const __u8 *to, const __u8 *mac)
{
	__be32 sender, target;

	__builtin_memcpy(&sender, arp->sender_ip, 4);
	__builtin_memcpy(&target, arp->target_ip, 4);
	__builtin_memcpy(arp->eth.h_dest, to, 6);
	__builtin_memcpy(arp->eth.h_source, mac, 6);
	arp->operation = bpf_htons(ARPOP_REPLY);
	__builtin_memcpy(arp->target_mac, to, 6);
	__builtin_memcpy(arp->sender_mac, mac, 6);
	__builtin_memcpy(arp->target_ip, &sender, 4);
	__builtin_memcpy(arp->sender_ip, &target, 4);
	if (bpf_skb_store_bytes(skb, 0, arp, sizeof(*arp), 0))
		return TC_ACT_SHOT;
	return bpf_redirect(skb->ifindex, 0);
}

__noinline int answer_arp(struct __sk_buff *skb)
{
	struct endpoint_value *endpoint;
	struct addr sender_addr;
	struct arp arp;
	__be32 sender, target;

	if (!arp_question(skb, &arp))
		return TC_ACT_SHOT;
	__builtin_memcpy(&sender, arp.sender_ip, 4);
	__builtin_memcpy(&target, arp.target_ip, 4);
	addr_set_v4(&sender_addr, sender);
	endpoint = endpoint_find(&sender_addr, 0);
	/* A question about its own address looks for a duplicate: silence says there is none. */
	if (!endpoint || endpoint->ifindex != skb->ifindex || sender == target)
		return TC_ACT_SHOT;
	return arp_answer(skb, &arp, endpoint->mac, endpoint->host_mac);
}
