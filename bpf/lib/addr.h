/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses of 16 bytes, IPv4 mapped; compared and copied by words. */
#pragma once

#include "config.h"

static __always_inline __u32 addr_word(const struct addr *addr, int index)
{
	return ((const __u32 *)addr->bytes)[index];
}

/* The IPv4 address of a mapped one, network order. */
static __always_inline __be32 addr_v4(const struct addr *addr)
{
	return addr_word(addr, 3);
}

static __always_inline void addr_set_v4(struct addr *addr, __be32 v4)
{
	__u32 *words = (__u32 *)addr->bytes;

	words[0] = 0;
	words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = v4;
}

static __always_inline bool addr_equal(const struct addr *a, const struct addr *b)
{
	return addr_word(a, 3) == addr_word(b, 3) && addr_word(a, 2) == addr_word(b, 2) &&
	       addr_word(a, 1) == addr_word(b, 1) && addr_word(a, 0) == addr_word(b, 0);
}

static __always_inline bool addr_is_zero(const struct addr *a)
{
	return !(addr_word(a, 0) | addr_word(a, 1) | addr_word(a, 2) | addr_word(a, 3));
}

static __always_inline bool is_mapped(const struct addr *addr)
{
	return addr_word(addr, 2) == bpf_htonl(0xffff) && !(addr_word(addr, 0) | addr_word(addr, 1));
}

static __always_inline bool is_loopback(const struct addr *addr)
{
	if (is_mapped(addr))
		return addr->bytes[12] == 127;
	return !addr_word(addr, 0) && !addr_word(addr, 1) && !addr_word(addr, 2) &&
	       addr_word(addr, 3) == bpf_htonl(1);
}

/* Any total order does: it only has to be the same for both directions of a flow. */
static __always_inline int addr_compare(const struct addr *a, const struct addr *b)
{
	for (int i = 3; i >= 0; i--) {
		__u32 x = addr_word(a, i), y = addr_word(b, i);

		if (x != y)
			return x < y ? -1 : 1;
	}
	return 0;
}

static __always_inline void config_addr(struct addr *to, const volatile struct addr *from)
{
	const volatile __u32 *words = (const volatile __u32 *)from->bytes;

	for (int i = 0; i < 4; i++)
		((__u32 *)to->bytes)[i] = words[i];
}

static __always_inline bool addr_is_config(const struct addr *a, const volatile struct addr *b)
{
	const volatile __u32 *words = (const volatile __u32 *)b->bytes;

	return addr_word(a, 3) == words[3] && addr_word(a, 2) == words[2] &&
	       addr_word(a, 1) == words[1] && addr_word(a, 0) == words[0];
}

/* This node's addresses in the family of a packet. */
static __always_inline const volatile struct addr *node_ip(bool v6)
{
	return v6 ? &config.node_ip6 : &config.node_ip;
}

static __always_inline const volatile struct addr *internal_ip(bool v6)
{
	return v6 ? &config.internal_ip6 : &config.internal_ip;
}

static __always_inline const volatile struct addr *hairpin_ip(bool v6)
{
	return v6 ? &config.hairpin_ip6 : &config.hairpin_ip;
}

/* Whether this node has the address on its uplink, in either family. */
static __always_inline bool is_node_ip(const struct addr *addr)
{
	return addr_is_config(addr, &config.node_ip) || addr_is_config(addr, &config.node_ip6);
}
