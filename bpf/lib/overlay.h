/* SPDX-License-Identifier: Apache-2.0 */
/* Who may send us VXLAN, and as whom. */
#pragma once

#include "packet.h"

/*
 * The identity in the VNI, if the outer source is a node we know and the identity one that
 * its cluster may use. `host` (1) never leaves a node: other nodes send as remote-node.
 * 0 or a drop reason.
 */
static __always_inline int tunnel_source(struct __sk_buff *skb, __u32 *identity)
{
	struct bpf_tunnel_key tunnel = {};
	struct node_key key;
	struct node_value *node;
	__u32 local;

	if (bpf_skb_get_tunnel_key(skb, &tunnel, sizeof(tunnel), 0))
		return DROP_NO_TUNNEL_KEY;
	addr_set_v4(&key.addr, bpf_htonl(tunnel.remote_ipv4));
	node = bpf_map_lookup_elem(&nodes, &key);
	if (!node || (node->flags & NODE_LOCAL))
		return DROP_TUNNEL_FROM_UNKNOWN_NODE;
	*identity = tunnel.tunnel_id;
	local = tunnel.tunnel_id & 0xffff;
	if (tunnel.tunnel_id > IDENTITY_HOST && tunnel.tunnel_id <= IDENTITY_LAST_WELL_KNOWN)
		return 0;
	if (local >= IDENTITY_FIRST_ALLOCATED && tunnel.tunnel_id >> 16 == node->cluster_id)
		return 0;
	return DROP_TUNNEL_FOREIGN_IDENTITY;
}
