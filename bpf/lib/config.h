/* SPDX-License-Identifier: Apache-2.0 */
/* What everything includes: kernel headers, the rows, and the agent's configuration. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../types.h"

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_ICMPV6 58

#define IDENTITY_HOST 1
#define IDENTITY_WORLD 2
#define IDENTITY_REMOTE_NODE 6
#define IDENTITY_LAST_WELL_KNOWN 8 /* ingress */
#define IDENTITY_FIRST_ALLOCATED 256 /* within a cluster's 16 bits */

/* In .rodata: set before load, so that the verifier sees constants. */
volatile const struct config config = {};

static __always_inline __u32 seconds(void)
{
	return (__u32)(bpf_ktime_get_coarse_ns() / 1000000000ull);
}
