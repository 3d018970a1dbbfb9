/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every packet a program decides about is counted here once: forwarded, refused or
 * dropped, each drop with its reason. The names reach users through the object's BTF
 * (DROP_INVALID_SOURCE is shown as "invalid source"), so they are written to be read.
 * The counters outlive an upgrade by their number: a new reason goes to the end.
 */
#pragma once

#include "config.h"

enum reason {
	REASON_FORWARDED = 0,
	REASON_TO_STACK,
	REASON_REFUSED_NO_BACKEND,
	REASON_MASQUERADED,
	REASON_REFUSED_NO_SERVICE, /* a service address, but not a port of a service */
	REASON_ECHO_ANSWERED,
	REASON_RESET_BACKEND_GONE, /* a connection to a pod that is no more */
	REASON_SENDER_NOT_KNOWN_YET, /* out of the tunnel; beside what became of the packet */
	REASON_DSR_TOO_BIG, /* with the option; the client was told the size that fits */
	REASON_TUNNEL_TOO_BIG, /* for the way between the nodes; the pod was told the size that fits */
	DROP_MALFORMED_PACKET = 16,
	DROP_UNSUPPORTED_L3,
	DROP_INVALID_SOURCE,
	DROP_FRAGMENT_UNKNOWN,
	DROP_NO_TUNNEL_KEY,
	DROP_TUNNEL_FROM_UNKNOWN_NODE,
	DROP_TUNNEL_FOREIGN_IDENTITY,
	DROP_TUNNEL_TO_UNKNOWN,
	DROP_POD_SOURCE_OUTSIDE_TUNNEL,
	DROP_UNROUTABLE,
	DROP_NO_NAT_PORT,
	DROP_NAT_UNSUPPORTED_L4,
	DROP_NO_NAT_ROW,
	DROP_WRITE_FAILED,
	DROP_ENCAPSULATION_FAILED,
	DROP_SERVICE_INCONSISTENT,
	DROP_TUNNEL_FROM_POD,
	DROP_IPV6_EXTENSION_HEADER,
	DROP_LINK_SCOPE,
	DROP_NO_LOCAL_BACKEND, /* externalTrafficPolicy Local: backends are on other nodes */
	DROP_SOURCE_NOT_IN_RANGES, /* loadBalancerSourceRanges */
	DROP_TUNNEL_FOREIGN_SOURCE, /* an address that is another cluster's, or this node's */
	DROP_DSR_FORGED, /* an option that no node of this cluster would have written */
	DROP_DSR_FROM_POD,
	REASON_END,
};

enum direction {
	DIRECTION_NONE = 0,
	DIRECTION_INGRESS = 1, /* towards a local endpoint or the node */
	DIRECTION_EGRESS = 2,
	DIRECTION_SERVICE = 3,
};

#define METRIC_ROWS 256 /* 64 reasons of 4 directions */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, METRIC_ROWS);
	__type(key, __u32);
	__type(value, struct metric_value);
} metrics SEC(".maps");

/* Keeps the enums in the object's BTF, where the agent reads their names. */
const volatile enum reason reason_names = REASON_END;
const volatile enum direction direction_names = DIRECTION_NONE;

static __always_inline void count(struct __sk_buff *skb, enum reason reason, enum direction direction)
{
	__u32 index = reason * 4 + direction;
	struct metric_value *value = bpf_map_lookup_elem(&metrics, &index);

	if (value) {
		value->packets++;
		value->bytes += skb->len;
	}
}

static __always_inline int drop(struct __sk_buff *skb, enum reason reason, enum direction direction)
{
	count(skb, reason, direction);
	return TC_ACT_SHOT;
}
