/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums of packets that a program makes itself (RFC 1071). */
#pragma once

#include "addr.h"

static __always_inline __u16 fold(__s64 sum)
{
	sum = (sum & 0xffff) + ((__u64)sum >> 16 & 0xffffffff);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* Over the pseudo header of RFC 8200, 8.1, and `size` bytes, a multiple of 4, whose own checksum is 0. */
static __always_inline __u16 checksum_ipv6(const struct addr *saddr, const struct addr *daddr, __u8 proto,
					   const void *data, __u32 size)
{
	__be32 length_and_proto[2] = { bpf_htonl(size), bpf_htonl(proto) };
	__s64 sum;

	sum = bpf_csum_diff(NULL, 0, (__be32 *)saddr, sizeof(*saddr), 0);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)daddr, sizeof(*daddr), sum);
	sum = bpf_csum_diff(NULL, 0, length_and_proto, sizeof(length_and_proto), sum);
	return fold(bpf_csum_diff(NULL, 0, (__be32 *)data, size, sum));
}
