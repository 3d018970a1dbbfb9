/* SPDX-License-Identifier: Apache-2.0 */
/* Who may send us VXLAN, and as whom. */
#pragma once

#include "forward.h"

/*
 * Whether a node we know may send as this identity: one of its cluster, or a reserved one.
 * `host` (1) never leaves a node: other nodes send as remote-node. 0 or a drop reason.
 */
static __always_inline int tunnel_sender(const struct node_key *key, __u32 vni, __u32 *cluster_id)
{
	struct node_value *node;

	node = bpf_map_lookup_elem(&nodes, key);
	if (!node || (node->flags & NODE_LOCAL))
		return DROP_TUNNEL_FROM_UNKNOWN_NODE;
	*cluster_id = node->cluster_id;
	if (vni > IDENTITY_HOST && vni <= IDENTITY_LAST_WELL_KNOWN)
		return 0;
	if ((vni & ((1 << config.cluster_shift) - 1)) >= IDENTITY_FIRST_ALLOCATED &&
	    vni >> config.cluster_shift == node->cluster_id)
		return 0;
	return DROP_TUNNEL_FOREIGN_IDENTITY;
}

/*
 * Whether a node of that cluster may send from this address: not from one that is another
 * cluster's, a pod's or a node's, nor from one of this node. What nobody has is the world's,
 * which a node may forward. Counts senders that should be known one by one and are not. 0 or 1.
 */
__noinline int is_foreign_source(struct __sk_buff *skb, const struct addr *source, __u32 cluster_id)
{
	struct ipcache_value *info;
	struct node_value *node;
	struct node_key key = {};

	if (!source)
		return 1;
	info = ipcache_find(source, 0);
	if (info && !addr_is_zero(&info->tunnel)) {
		key.addr = info->tunnel;
		if (info->flags & IPCACHE_POD_RANGE)
			count(skb, REASON_SENDER_NOT_KNOWN_YET, DIRECTION_INGRESS);
	} else {
		key.addr = *source;
	}
	node = bpf_map_lookup_elem(&nodes, &key);
	if (node)
		return node->cluster_id != cluster_id || (node->flags & NODE_LOCAL);
	return !!endpoint_find(source, 0);
}

/* What the VXLAN device found in the packet it unpacked. 0 or a drop reason. */
static __always_inline int tunnel_source(struct __sk_buff *skb, __u32 *identity, __u32 *cluster_id)
{
	struct bpf_tunnel_key tunnel = {};
	struct node_key key;

	/* Asked for the wrong family the kernel refuses. */
	if (!bpf_skb_get_tunnel_key(skb, &tunnel, sizeof(tunnel), 0))
		addr_set_v4(&key.addr, bpf_htonl(tunnel.remote_ipv4));
	else if (!bpf_skb_get_tunnel_key(skb, &tunnel, sizeof(tunnel), BPF_F_TUNINFO_IPV6))
		__builtin_memcpy(&key.addr, tunnel.remote_ipv6, sizeof(key.addr));
	else
		return DROP_NO_TUNNEL_KEY;
	*identity = tunnel.tunnel_id;
	return tunnel_sender(&key, tunnel.tunnel_id, cluster_id);
}

/* RFC 7348: what stands between the outer and the inner IP header. */
struct vxlan {
	struct udphdr udp;
	__be32 flags;
	__be32 vni;
	struct ethhdr eth;
} __attribute__((packed));

#define VXLAN_HAS_VNI 0x08000000

/* linux/bpf.h of 6.3 and later: the packet is of another IP version from now on */
#define ADJ_ROOM_DECAP_L3_IPV4 (1ull << 7)
#define ADJ_ROOM_DECAP_L3_IPV6 (1ull << 8)

#define SOURCE_IS_CHECKED 0xffffffff

/* The rest of a packet's way in, whoever unpacked it. `cluster_id` is the sender's, or SOURCE_IS_CHECKED. */
__noinline int from_tunnel(struct __sk_buff *skb, __u32 identity, __u32 cluster_id)
{
	struct packet p = {};
	int result = parse(skb, &p);

	if (result)
		return drop(skb, result == NOT_OURS ? DROP_UNSUPPORTED_L3 : result, DIRECTION_INGRESS);
	if (cluster_id != SOURCE_IS_CHECKED && is_foreign_source(skb, &p.source, cluster_id))
		return drop(skb, DROP_TUNNEL_FOREIGN_SOURCE, DIRECTION_INGRESS);
	p.src_identity = identity;
	return forward(skb, &p, ORIGIN_OVERLAY);
}

#define UNPACK_LEFT -1 /* as it is, to the device */
#define UNPACK_DROPPED -2

/*
 * Unpacks a packet for a pod of this node at the uplink already: no socket, no metadata, no
 * second pass through the device's queue. Everything else (for the node itself, with IP
 * options, malformed) goes on to the device, where from_overlay judges it the same way.
 * `outer_v6` is a constant. The sender's identity (24 bits), or UNPACK_*.
 */
static __always_inline int unpack_as(struct __sk_buff *skb, bool outer_v6)
{
	const __u32 outer = outer_v6 ? sizeof(struct ipv6) : sizeof(struct iphdr);
	const __u32 room = outer + sizeof(struct vxlan);
	const __u32 need = L3_OFFSET + room + sizeof(struct iphdr);
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct endpoint_value *endpoint;
	struct node_key sender;
	struct vxlan *v;
	struct addr pod, source;
	bool v6;
	__u32 vni, cluster_id = 0;
	int result;

	if (data + need > end) {
		if (skb->len < need || bpf_skb_pull_data(skb, need))
			return UNPACK_LEFT;
		data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
		if (data + need > end)
			return UNPACK_LEFT;
	}
	v = data + L3_OFFSET + outer;
	if (!(v->flags & bpf_htonl(VXLAN_HAS_VNI)))
		return UNPACK_LEFT;
	if (!outer_v6 &&
	    (((struct iphdr *)(data + L3_OFFSET))->frag_off & bpf_htons(IP_OFFSET | IP_MORE_FRAGMENTS)))
		return UNPACK_LEFT;
	v6 = v->eth.h_proto == bpf_htons(ETH_P_IPV6);
	if (v6) {
		struct ipv6 *inner = (void *)(v + 1);

		if ((void *)(inner + 1) > end || !ipv6_is((__u8 *)inner))
			return UNPACK_LEFT;
		pod = inner->daddr;
		source = inner->saddr;
	} else {
		struct iphdr *inner = (void *)(v + 1);

		if (v->eth.h_proto != bpf_htons(ETH_P_IP) || inner->version != 4)
			return UNPACK_LEFT;
		addr_set_v4(&pod, inner->daddr);
		addr_set_v4(&source, inner->saddr);
	}
	endpoint = endpoint_find(&pod, 0);
	if (!endpoint || (endpoint->flags & ENDPOINT_HOST))
		return UNPACK_LEFT;
	vni = bpf_ntohl(v->vni) >> 8;
	if (outer_v6)
		sender.addr = ((struct ipv6 *)(data + L3_OFFSET))->saddr;
	else
		addr_set_v4(&sender.addr, ((struct iphdr *)(data + L3_OFFSET))->saddr);
	result = tunnel_sender(&sender, vni, &cluster_id);
	if (!result && is_foreign_source(skb, &source, cluster_id))
		result = DROP_TUNNEL_FOREIGN_SOURCE;
	if (result) {
		drop(skb, result, DIRECTION_INGRESS);
		return UNPACK_DROPPED;
	}
	/* Segments of a GSO packet are as long inside as they were outside. */
	if (bpf_skb_adjust_room(skb, -(__s32)room, BPF_ADJ_ROOM_MAC,
				BPF_F_ADJ_ROOM_FIXED_GSO |
					(v6 == outer_v6 ? 0 :
					 v6	       ? ADJ_ROOM_DECAP_L3_IPV6 :
							 ADJ_ROOM_DECAP_L3_IPV4)))
		return UNPACK_LEFT;
	if (v6 != outer_v6) {
		__be16 proto = v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);

		if (bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_proto), &proto, sizeof(proto), 0)) {
			drop(skb, DROP_WRITE_FAILED, DIRECTION_INGRESS);
			return UNPACK_DROPPED;
		}
	}
	return vni;
}

__noinline int unpack_ipv4(struct __sk_buff *skb)
{
	return unpack_as(skb, false);
}

__noinline int unpack_ipv6(struct __sk_buff *skb)
{
	return unpack_as(skb, true);
}
