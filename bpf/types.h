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

struct ipcache_value {
	__u32 identity;     /* security identity; cluster ID in bits 16..23 (255 clusters) */
	struct addr tunnel; /* node that hosts it; all zero: not behind a tunnel */
	__u8 encrypt_key;
	__u8 flags; /* IPCACHE_* */
	__u16 pad;
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

struct node_value {
	__u16 cluster_id; /* numeric ID of the node's cluster, also for the own one */
	__u16 flags;      /* NODE_* */
};

/* --- services ---------------------------------------------------------------------- */
/* A frontend. NodePort frontends have an all-zero addr: they match any node address. */
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

struct frontend_value {
	__u32 service_id; /* names the slot rows and the reverse_nat row; never 0 */
	__u32 count;      /* slots 0..count-1 are valid; 0: refuse at once */
	__u32 affinity_timeout; /* seconds */
	__u32 flags;      /* FRONTEND_* */
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

/* service_id -> the address a client thinks it talks to */
struct reverse_nat_key {
	__u32 service_id;
};

struct reverse_nat_value {
	struct addr addr;
	__be16 port;
	__u16 pad;
};
