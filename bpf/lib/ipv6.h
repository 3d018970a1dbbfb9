/* SPDX-License-Identifier: Apache-2.0 */
/* RFC 8200: the header and its extensions. */
#pragma once

#include "addr.h"
#include "drop.h"

struct ipv6 {
	__be32 version_class_flow;
	__be16 payload; /* bytes behind this header; 0 in packets over 64 KiB on their way to GSO */
	__u8 next;
	__u8 hops;
	struct addr saddr;
	struct addr daddr;
} __attribute__((packed, aligned(4)));

#define IPV6_HOP_BY_HOP 0
#define IPV6_ROUTING 43
#define IPV6_FRAGMENT 44
#define IPV6_DESTINATION 60
/* RFC 8200, 4.1 has six of these four kinds in an order that makes sense; nobody sends as many. */
#define IPV6_EXTENSIONS 6

#define IPV6_MORE_FRAGMENTS 1
#define IPV6_FRAGMENT_OFFSET 0xfff8

/* A way through a packet's headers. */
struct ipv6_chain {
	__u32 offset; /* of the header at hand, from the start of the frame */
	__u32 fragment_id;
	__u16 fragment; /* offset and more-fragments as on the wire, host order; 0: whole */
	__u8 next;      /* kind of the header at hand */
	__u8 pad;
};

static __always_inline bool ipv6_is(const __u8 *data)
{
	return data[0] >> 4 == 6;
}

static __always_inline bool ipv6_is_extension(__u8 next)
{
	return next == IPV6_HOP_BY_HOP || next == IPV6_ROUTING || next == IPV6_FRAGMENT ||
	       next == IPV6_DESTINATION;
}

/* ff00::/8 */
static __always_inline bool addr_is_multicast(const struct addr *addr)
{
	return addr->bytes[0] == 0xff;
}

/* fe80::/10 */
static __always_inline bool addr_is_link_local(const struct addr *addr)
{
	return addr->bytes[0] == 0xfe && (addr->bytes[1] & 0xc0) == 0x80;
}

/*
 * Goes on to the first header that is no extension, or to the inside of a later fragment.
 * Hop-by-hop options come first or not at all; a routing header with segments left would lead
 * to another destination than the one that was judged. 0 or a drop reason.
 */
__noinline int ipv6_skip_extensions(struct __sk_buff *skb, struct ipv6_chain *chain)
{
	struct {
		__u8 next;
		__u8 length; /* in 8 bytes, the first 8 not counted */
		__be16 fragment;
		__be32 id;
	} header;

	if (!chain)
		return DROP_MALFORMED_PACKET;
	for (int i = 0; i < IPV6_EXTENSIONS; i++) {
		if (!ipv6_is_extension(chain->next))
			return 0;
		if (bpf_skb_load_bytes(skb, chain->offset, &header, sizeof(header)))
			return DROP_MALFORMED_PACKET;
		switch (chain->next) {
		case IPV6_HOP_BY_HOP:
			if (i)
				return DROP_IPV6_EXTENSION_HEADER;
			break;
		case IPV6_ROUTING:
			/* Type and segments left are the two bytes after the length. */
			if (((__u8 *)&header.fragment)[1])
				return DROP_IPV6_EXTENSION_HEADER;
			break;
		case IPV6_FRAGMENT:
			if (chain->fragment)
				return DROP_IPV6_EXTENSION_HEADER;
			header.length = 0;
			chain->fragment = bpf_ntohs(header.fragment) & (IPV6_FRAGMENT_OFFSET | IPV6_MORE_FRAGMENTS);
			chain->fragment_id = header.id;
			break;
		}
		chain->offset += 8 + header.length * 8;
		chain->next = header.next;
		if (chain->fragment & IPV6_FRAGMENT_OFFSET)
			return 0;
	}
	return ipv6_is_extension(chain->next) ? DROP_IPV6_EXTENSION_HEADER : 0;
}
