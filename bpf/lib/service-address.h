/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is sent to a service's address besides its ports: TCP and UDP are refused, echo is
 * answered for the service, everything else is dropped. Nothing leaves the node.
 */
#pragma once

#include "refuse.h"
#include "rewrite.h"
#include "service.h"

static __always_inline int swap_ip_addresses(struct __sk_buff *skb, bool v6)
{
	__u8 addrs[32];

	if (v6)
		return bpf_skb_load_bytes(skb, IPV6_ADDRS_OFFSET, addrs, 32) ||
		       bpf_skb_store_bytes(skb, IPV6_ADDRS_OFFSET, addrs + 16, 16, 0) ||
		       bpf_skb_store_bytes(skb, IPV6_ADDRS_OFFSET + 16, addrs, 16, 0);
	return bpf_skb_load_bytes(skb, IP_ADDRS_OFFSET, addrs, 8) ||
	       bpf_skb_store_bytes(skb, IP_ADDRS_OFFSET, addrs + 4, 4, 0) ||
	       bpf_skb_store_bytes(skb, IP_ADDRS_OFFSET + 4, addrs, 4, 0);
}

/* Makes an echo request its reply. Swapped addresses change no checksum, the type does. */
__noinline int answer_echo(struct __sk_buff *skb, struct packet *p)
{
	__u8 types[2], request, reply;

	if (!p || p->kind != PACKET_PORTS || p->first_fragment ||
	    bpf_skb_load_bytes(skb, p->l4_offset, types, sizeof(types)))
		return -1;
	request = p->v6 ? ICMPV6_ECHO : ICMP_ECHO;
	reply = p->v6 ? ICMPV6_ECHOREPLY : ICMP_ECHOREPLY;
	if (types[0] != request)
		return -1;
	if (bpf_l4_csum_replace(skb, p->l4_offset + ICMP_CHECK_OFFSET, bpf_htons(request << 8),
				bpf_htons(reply << 8), 2) ||
	    bpf_skb_store_bytes(skb, p->l4_offset, &reply, 1, 0) || swap_ip_addresses(skb, p->v6) || swap_macs(skb))
		return -1;
	return 0;
}

/* `flags` as for refuse(). */
static __always_inline int answer_for_service(struct __sk_buff *skb, struct packet *p, __u64 flags)
{
	if (!is_icmp(p->flow.proto))
		return refuse(skb, p, REASON_REFUSED_NO_SERVICE, flags);
	if (answer_echo(skb, p))
		return drop(skb, REASON_REFUSED_NO_SERVICE, DIRECTION_SERVICE);
	count(skb, REASON_ECHO_ANSWERED, DIRECTION_SERVICE);
	return bpf_redirect(skb->ifindex, flags);
}
