/* SPDX-License-Identifier: Apache-2.0 */
/* RFC 792 and RFC 4443. (linux/icmp.h pulls in C library headers that have no BPF flavour.) */
#pragma once

#include <linux/types.h>

#define ICMP_ECHOREPLY 0
#define ICMP_DEST_UNREACH 3
#define ICMP_SOURCE_QUENCH 4
#define ICMP_ECHO 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12

#define ICMP_PORT_UNREACHABLE 3 /* codes of ICMP_DEST_UNREACH */
#define ICMP_FRAGMENTATION_NEEDED 4

#define ICMPV6_DEST_UNREACH 1
#define ICMPV6_PACKET_TOO_BIG 2
#define ICMPV6_TIME_EXCEEDED 3
#define ICMPV6_PARAMETER_PROBLEM 4
#define ICMPV6_ECHO 128
#define ICMPV6_ECHOREPLY 129
#define ICMPV6_NEIGHBOUR_SOLICITATION 135
#define ICMPV6_NEIGHBOUR_ADVERTISEMENT 136

#define ICMPV6_PORT_UNREACHABLE 4 /* code of ICMPV6_DEST_UNREACH */

static __always_inline bool is_icmp(__u8 proto)
{
	return proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6;
}

/*
 * Multicast listeners, routers, neighbours (RFC 2710, 3810, 4861, 3122): what is said on a
 * link about the link, and never forwarded.
 */
static __always_inline bool is_icmpv6_of_link(__u8 type)
{
	return (type >= 130 && type <= 137) || (type >= 141 && type <= 143) || (type >= 148 && type <= 153);
}

struct icmphdr {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be16 echo_id;
	__be16 echo_sequence;
};
