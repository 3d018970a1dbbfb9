/* SPDX-License-Identifier: Apache-2.0 */
/* Who may send us VXLAN, and as whom. */
#pragma once

#include "forward.h"

/*
 * Whether a node we know may send as this identity: one of its cluster, or a reserved one.
 * `host` (1) never leaves a node: other nodes send as remote-node. 0 or a drop reason.
 */
static __always_inline int tunnel_sender(__be32 node_ip, __u32 vni)
{
	struct node_key key;
	struct node_value *node;

	addr_set_v4(&key.addr, node_ip);
	node = bpf_map_lookup_elem(&nodes, &key);
	if (!node || (node->flags & NODE_LOCAL))
		return DROP_TUNNEL_FROM_UNKNOWN_NODE;
	if (vni > IDENTITY_HOST && vni <= IDENTITY_LAST_WELL_KNOWN)
		return 0;
	if ((vni & 0xffff) >= IDENTITY_FIRST_ALLOCATED && vni >> 16 == node->cluster_id)
		return 0;
	return DROP_TUNNEL_FOREIGN_IDENTITY;
}

/* What the VXLAN device found in the packet it unpacked. 0 or a drop reason. */
static __always_inline int tunnel_source(struct __sk_buff *skb, __u32 *identity)
{
	struct bpf_tunnel_key tunnel = {};

	if (bpf_skb_get_tunnel_key(skb, &tunnel, sizeof(tunnel), 0))
		return DROP_NO_TUNNEL_KEY;
	*identity = tunnel.tunnel_id;
	return tunnel_sender(bpf_htonl(tunnel.remote_ipv4), tunnel.tunnel_id);
}

/* RFC 7348, as it stands on the wire. */
struct vxlan_packet {
	struct ethhdr outer_eth;
	struct iphdr outer;
	struct udphdr udp;
	__be32 flags;
	__be32 vni;
	struct ethhdr eth;
	struct iphdr inner;
} __attribute__((packed));

#define VXLAN_HAS_VNI 0x08000000
#define VXLAN_ROOM 50 /* outer IP, UDP, VXLAN, inner Ethernet */

/* The rest of a packet's way in, whoever unpacked it. */
__noinline int from_tunnel(struct __sk_buff *skb, __u32 identity)
{
	struct packet p = {};
	int result = parse(skb, &p);

	if (result)
		return drop(skb, result == NOT_OURS ? DROP_UNSUPPORTED_L3 : result, DIRECTION_INGRESS);
	p.src_identity = identity;
	return forward(skb, &p, ORIGIN_OVERLAY);
}

/*
 * Unpacks a packet for a pod of this node at the uplink already: no socket, no metadata, no
 * second pass through the device's queue. Everything else (for the node itself, with IP
 * options, malformed) goes on to the device, where from_overlay judges it the same way.
 */
static __always_inline int unpack(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct vxlan_packet *v = data;
	struct endpoint_value *endpoint;
	struct addr pod;
	__u32 vni;
	int result;

	if (config.flags & CONFIG_UNPACK_BY_DEVICE)
		return TC_ACT_OK;
	if ((void *)(v + 1) > end) {
		if (skb->len < sizeof(*v) || bpf_skb_pull_data(skb, sizeof(*v)))
			return TC_ACT_OK;
		data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
		v = data;
		if ((void *)(v + 1) > end)
			return TC_ACT_OK;
	}
	if (!(v->flags & bpf_htonl(VXLAN_HAS_VNI)) || v->eth.h_proto != bpf_htons(ETH_P_IP) ||
	    v->inner.version != 4 || (v->outer.frag_off & bpf_htons(IP_OFFSET | IP_MORE_FRAGMENTS)))
		return TC_ACT_OK;
	addr_set_v4(&pod, v->inner.daddr);
	endpoint = endpoint_find(&pod, 0);
	if (!endpoint || (endpoint->flags & ENDPOINT_HOST))
		return TC_ACT_OK;
	vni = bpf_ntohl(v->vni) >> 8;
	result = tunnel_sender(v->outer.saddr, vni);
	if (result)
		return drop(skb, result, DIRECTION_INGRESS);
	/* Segments of a GSO packet are as long inside as they were outside. */
	if (bpf_skb_adjust_room(skb, -VXLAN_ROOM, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO))
		return TC_ACT_OK;
	return from_tunnel(skb, vni);
}
