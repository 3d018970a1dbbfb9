/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows of every map, written once. The TypeScript side reads these layouts from
 * the object's BTF (src/datapath/layout.ts); nothing here is repeated by hand there.
 *
 * Fields of type __be16/__be32 are network order and encoded as such by the TypeScript
 * side; every other integer is host order. `struct addr` is 16 bytes, IPv4 as
 * ::ffff:a.b.c.d (RFC 4291, 2.5.5.2), so that both families share every map.
 * cluster_id is 0 for the cluster's own address space.
 */
#pragma once

struct addr {
	__u8 bytes[16];
} __attribute__((aligned(4)));

/* --- ipcache: prefix -> who is it and where (LPM) --------------------------------- */
struct ipcache_key {
	__u32 prefixlen; /* 32 (cluster_id, pad) + length of the 128-bit prefix */
	__u16 cluster_id;
	__u16 pad;
	struct addr addr;
};

#define IPCACHE_POD_RANGE 1 /* a node's pod CIDR: pods that are there have a row of their own */

struct ipcache_value {
	__u32 identity;     /* security identity; cluster ID in bits 16..23 (255 clusters) */
	struct addr tunnel; /* node that hosts it; all zero: not behind a tunnel */
	__u8 encrypt_key;
	__u8 flags; /* IPCACHE_* */
	__u16 pad;
};

/* --- unmasqueraded: prefixes where pods keep their address ------------------------ */
struct prefix_key {
	__u32 prefixlen; /* of the 128 bits */
	struct addr addr;
};

struct prefix_value {
	__u32 flags; /* none yet */
};

/* --- masquerade_addresses: under which address pods leave by an uplink -------------- */
struct masquerade_key {
	__u32 ifindex;
	__u32 family; /* AF_INET, AF_INET6 */
};

struct masquerade_value {
	struct addr addr;
};

/* --- endpoints: addresses served by this node ------------------------------------- */
struct endpoint_key {
	__u16 cluster_id;
	__u16 pad;
	struct addr addr;
};

#define ENDPOINT_HOST 1 /* an address of the node itself: hand to the stack */

struct endpoint_value {
	__u32 ifindex; /* host side of the pod's veth */
	__u32 identity;
	__u32 endpoint_id;
	__u32 policy_set;
	__u8 mac[6];      /* inside the pod */
	__u8 host_mac[6]; /* host side of the veth */
	__u32 flags;      /* ENDPOINT_* */
};

/* --- nodes: who may send us VXLAN, and whose NodePorts are ours -------------------- */
struct node_key {
	struct addr addr;
};

#define NODE_LOCAL 1       /* this node */
#define NODE_OWN_CLUSTER 2 /* a node of this cluster: NodePort frontends apply */
#define NODE_DIRECT 4      /* packets for its pods leave without a tunnel */
#define NODE_ROUTES 8      /* it may send so itself */

struct node_value {
	__u16 cluster_id; /* numeric ID of the node's cluster, also for the own one */
	__u16 flags;      /* NODE_* */
};

/* --- services ---------------------------------------------------------------------- */
/* A frontend. NodePort frontends have the unspecified address of their family, ::ffff:0.0.0.0 or ::. */
struct frontend_key {
	struct addr addr;
	__be16 port;
	__u8 proto; /* IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP */
	__u8 scope; /* 0: from outside the cluster, 1: from inside, for traffic policies */
};

#define FRONTEND_AFFINITY 1   /* session affinity by client address */
#define FRONTEND_NODEPORT 2
#define FRONTEND_EXTERNAL 4   /* LoadBalancer or externalIPs address */
#define FRONTEND_LOCAL 8      /* traffic policy Local: backends are this node's only */
#define FRONTEND_TWO_SCOPES 16 /* of scope 0: clients inside the cluster use the row of scope 1 */
#define FRONTEND_SOURCE_RANGES 32 /* only clients with a row in source_ranges may connect */
#define FRONTEND_MAGLEV 64 /* packets take their backend from the table in maglev, where there is one */
#define FRONTEND_DSR 128   /* clients outside are answered by the backend's node, where that is possible */
#define FRONTEND_SOURCE_RANGES_DENY 256 /* with FRONTEND_SOURCE_RANGES: those with a row may not */

struct frontend_value {
	__u32 service_id; /* names the slot rows and the reverse_nat row; never 0 */
	__u32 count;      /* slots 0..count-1 are valid; 0: refuse at once */
	__u32 affinity_timeout; /* seconds */
	__u32 flags;      /* FRONTEND_* */
};

/* Who may connect to a frontend with FRONTEND_SOURCE_RANGES (LPM). */
struct source_range_key {
	__u32 prefixlen; /* 32 (service_id) + length of the 128-bit prefix */
	__u32 service_id;
	struct addr addr;
};

struct source_range_value {
	__u32 pad;
};

/*
 * An address that belongs to services, whatever their ports: what no frontend takes is refused
 * and echo is answered, so that nothing sent to it leaves the node.
 */
struct service_address_key {
	struct addr addr;
};

struct service_address_value {
	__u32 pad;
};

struct slot_key {
	__u32 service_id;
	__u32 slot;
};

struct slot_value {
	__u32 backend_id;
};

struct backend_key {
	__u32 backend_id;
};

struct backend_value {
	struct addr addr;
	__be16 port;
	__u8 proto;
	__u8 flags;
	__u16 cluster_id; /* 0: reachable in the own address space */
	__u16 pad;
};

/*
 * Session affinity: the backend a client had last. The client is an address, or a network
 * namespace where a socket asks: it has no address of its own yet.
 */
struct affinity_key {
	struct addr client; /* AFFINITY_NETNS: the namespace's cookie, then zeros */
	__u32 service_id;
	__u16 cluster_id; /* of the client's address space */
	__u8 kind; /* AFFINITY_* */
	__u8 pad;
};

#define AFFINITY_ADDRESS 0
#define AFFINITY_NETNS 1

struct affinity_value {
	__u32 backend_id;
	__u32 used; /* CLOCK_MONOTONIC, seconds: when a connection last began */
};

/* A backend that a service with affinity has at present: without its row a client is sent elsewhere. */
struct member_key {
	__u32 service_id;
	__u32 backend_id;
};

struct member_value {
	__u32 pad;
};

/* --- flows -------------------------------------------------------------------------- */
/*
 * One direction of a flow. ICMP echo has its identifier in the requester's port and 0 in
 * the other. Rows of `conntrack` are keyed by the flow with its lower (address, port) end
 * as source, so that one row and one lookup serve both directions; rows of `nat` are keyed
 * by the flow as it arrives.
 */
struct flow {
	struct addr saddr;
	struct addr daddr;
	__be16 sport;
	__be16 dport;
	__u16 cluster_id;
	__u8 proto;
	__u8 pad;
};

#define CONNTRACK_INITIATOR_HIGH 1 /* the key's destination end sent the first packet */
#define CONNTRACK_NAT 2            /* replies have a row in `nat` */
#define CONNTRACK_SYN 4            /* the first packet was a TCP SYN */
#define CONNTRACK_REPLIED 8        /* both ends have sent */
#define CONNTRACK_FIN_INITIATOR 16
#define CONNTRACK_FIN_RESPONDER 32
#define CONNTRACK_RST 64
#define CONNTRACK_DSR 128 /* the backend's node answers in the service's name, past the one that chose */

struct conntrack_value {
	__u32 expires; /* CLOCK_MONOTONIC, seconds */
	__u32 identity; /* security identity of the end that sent the first packet */
	__u32 service_id; /* the service it came through, or 0 */
	__u16 flags; /* CONNTRACK_* */
	__u16 pad;
};

#define NAT_REPLY 1   /* made for the replies of the flow in `to`, turned around */
#define NAT_SERVICE 2 /* the destination is a frontend: backend_id says what was chosen */
#define NAT_SOURCE 4  /* the source is a port of this node */
#define NAT_FIN 8     /* a FIN went this way */
#define NAT_CLOSING 16
#define NAT_DSR 32    /* answers do not come through the node that chose: each node sees one direction */

/*
 * What a flow becomes. Rows come in pairs: flow -> to, and turned(to) -> turned(flow).
 */
struct nat_value {
	struct flow to;
	__u32 expires; /* CLOCK_MONOTONIC, seconds */
	__u32 backend_id;
	__u32 service_id;
	__u16 flags; /* NAT_* */
	__u16 pad;
};

/* Ports of a fragmented datagram, learnt from its first fragment. */
struct fragment_key {
	struct addr saddr;
	struct addr daddr;
	__u32 id;
	__u16 cluster_id;
	__u8 proto; /* IPv6: that of the fragment header, 44 */
	__u8 pad;
};

struct fragment_value {
	__be16 sport;
	__be16 dport;
	__u8 proto; /* what IPv6 says in the first fragment only */
	__u8 pad[3];
};

/* --- sockets ------------------------------------------------------------------------ */
/* What a connected socket was told it talks to, and what it really talks to. */
struct socket_service {
	struct addr frontend_addr;
	struct addr backend_addr;
	__be16 frontend_port;
	__be16 backend_port;
	__u32 service_id;
};

/* The same for datagrams of unconnected sockets: the address to show in recvmsg(). */
struct socket_peer_key {
	__u64 cookie;
	struct addr backend_addr;
	__be16 backend_port;
	__u16 pad;
	__u32 pad2;
};

struct socket_peer_value {
	struct addr frontend_addr;
	__be16 frontend_port;
	__u16 pad;
	__u32 service_id;
};

/* --- announced addresses: what this node answers for on a link ----------------------- */
struct l2_responder_key {
	struct addr addr;
	__u32 ifindex;
};

struct l2_responder_value {
	__u8 mac[6]; /* of the device */
	__u16 pad;
	__u32 answers; /* given since the row was written */
};

/* A connected socket whose backend is gone, as the iterator over sockets tells it. */
struct vanished_socket {
	struct addr local;
	struct addr remote;
	__be16 local_port;
	__be16 remote_port;
	__u32 proto;
	__u32 receive_next; /* of TCP: the sequence numbers a reset must have */
	__u32 send_next;
	__u64 cookie;
};

/* --- metrics: index = reason * 4 + direction ----------------------------------------- */
struct metric_value {
	__u64 packets;
	__u64 bytes;
};

/* --- what an agent tells the programs when it loads them ----------------------------- */
#define CONFIG_SOCKET_HOST_ONLY 1 /* translate sockets of the host's network namespace only */
#define CONFIG_UNPACK_BY_DEVICE 2 /* leave VXLAN to the device, and to its receive offload */
#define CONFIG_PROTECT_NODEPORTS 4 /* processes of the node can not bind a NodePort */
#define CONFIG_DIRECT 8            /* pods of nodes with NODE_DIRECT are routed, and any may be heard so */
#define CONFIG_UNMASQUERADED 16    /* `unmasqueraded` has rows */

/* Of the two addresses of a kind, that of a family the cluster does not have is all zero. */
struct config {
	struct addr node_ip;     /* on the uplink: source of tunnels and masquerade */
	struct addr node_ip6;
	struct addr internal_ip; /* on isthmus_host: source of host-to-pod traffic */
	struct addr internal_ip6;
	struct addr hairpin_ip;  /* source shown to a pod that reaches itself by a service */
	struct addr hairpin_ip6;
	__u64 host_netns_cookie; /* SO_NETNS_COOKIE of the node's network namespace */
	__u32 host_ifindex;      /* isthmus_host */
	__u32 vxlan_ifindex;     /* isthmus_vxlan */
	__u32 flags;             /* CONFIG_* */
	__u32 maglev_size;       /* entries of a Maglev table; 0: there are none */
	__u32 maglev_seed;       /* the same on all nodes of a cluster */
	__u16 cluster_id;        /* numeric, also in identities */
	__u16 nat_port_min;      /* host order */
	__u16 nat_port_max;
	__be16 vxlan_port;
	__u8 host_mac[6];        /* of isthmus_host */
	__u8 cluster_shift;      /* bits of an identity below its cluster's ID: 16, or 15 in a mesh of 511 clusters */
	__u8 pad;
};
