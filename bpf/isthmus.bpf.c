/* SPDX-License-Identifier: Apache-2.0 */
/* The datapath: one program a hook. docs/datapath.md draws the roads between them. */
#include "lib/arp.h"
#include "lib/bind.h"
#include "lib/forward.h"
#include "lib/neighbour.h"
#include "lib/overlay.h"
#include "lib/socket.h"
#include "lib/socket-iterator.h"
#include "lib/uplink.h"

/* Ingress of the host side of a pod's veth: what the pod sends. */
SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	struct endpoint_value *source;
	struct packet p = {};
	int result;

	if (skb->protocol == bpf_htons(ETH_P_ARP))
		return answer_arp(skb);
	result = parse(skb, &p);
	if (result == NOT_OURS && p.v6)
		return answer_neighbour(skb);
	if (result)
		return drop(skb, result == NOT_OURS ? DROP_UNSUPPORTED_L3 : result, DIRECTION_EGRESS);
	/* An error speaks of a packet that the pod itself got: its flow has the pod's address, too. */
	source = endpoint_find(&p.source, 0);
	if (!source || source->ifindex != skb->ifindex || !addr_equal(&p.source, &p.flow.saddr))
		return drop(skb, DROP_INVALID_SOURCE, DIRECTION_EGRESS);
	/* Only a node may say in whose name another one is to answer. */
	if ((config.flags & CONFIG_DIRECT) && dsr_may_have(skb) && dsr_has(skb))
		return drop(skb, DROP_DSR_FROM_POD, DIRECTION_EGRESS);
	p.src_identity = source->identity;
	return forward(skb, &p, ORIGIN_POD);
}

/* Egress of isthmus_host: what the node itself sends to pods, and what it routes to them. */
SEC("tc")
int from_host(struct __sk_buff *skb)
{
	struct packet p = {};
	int result = parse(skb, &p);

	if (result)
		return result == NOT_OURS ? TC_ACT_SHOT : drop(skb, result, DIRECTION_EGRESS);
	p.src_identity = identity_of(&p.source);
	return forward(skb, &p, ORIGIN_HOST);
}

/* Ingress of isthmus_vxlan: what other nodes send to our pods. */
SEC("tc")
int from_overlay(struct __sk_buff *skb)
{
	__u32 identity = 0, cluster_id = 0;
	int result = tunnel_source(skb, &identity, &cluster_id);

	return result ? drop(skb, result, DIRECTION_INGRESS) : from_tunnel(skb, identity, cluster_id);
}

/* Ingress of an uplink: NodePorts, replies to masqueraded flows, direct traffic to pods. */
SEC("tc")
int from_netdev(struct __sk_buff *skb)
{
	return uplink_in(skb);
}

/* Egress of an uplink: masquerade. */
SEC("tc")
int to_netdev(struct __sk_buff *skb)
{
	return uplink_out(skb);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
