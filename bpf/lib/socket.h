/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Services at the socket: connect() and sendmsg() go to a backend, getpeername() and
 * recvmsg() show the frontend. Packets then cost nothing. One body for both families; an
 * AF_INET6 socket reaches IPv4 by mapped addresses.
 */
#pragma once

#include "affinity.h"

#define SOCKET_ALLOW 1
#define SOCKET_REFUSE 0
#define ECONNREFUSED 111

static __always_inline void socket_addr4(const struct bpf_sock_addr *ctx, struct addr *addr)
{
	addr_set_v4(addr, ctx->user_ip4);
}

static __always_inline void socket_addr6(const struct bpf_sock_addr *ctx, struct addr *addr)
{
	__u32 *words = (__u32 *)addr->bytes;

	words[0] = ctx->user_ip6[0];
	words[1] = ctx->user_ip6[1];
	words[2] = ctx->user_ip6[2];
	words[3] = ctx->user_ip6[3];
}

static __always_inline void socket_addr(const struct bpf_sock_addr *ctx, bool v6, struct addr *addr)
{
	if (v6)
		socket_addr6(ctx, addr);
	else
		socket_addr4(ctx, addr);
}

static __always_inline void socket_set(struct bpf_sock_addr *ctx, bool v6, const struct addr *addr, __be16 port)
{
	if (v6) {
		ctx->user_ip6[0] = addr_word(addr, 0);
		ctx->user_ip6[1] = addr_word(addr, 1);
		ctx->user_ip6[2] = addr_word(addr, 2);
		ctx->user_ip6[3] = addr_word(addr, 3);
	} else {
		ctx->user_ip4 = addr_v4(addr);
	}
	ctx->user_port = port;
}

/* The frontend a socket addresses, if any. Loopback is the node's only in the node's own namespace. */
static __always_inline struct frontend_value *socket_frontend(struct bpf_sock_addr *ctx, const struct addr *addr,
							      __be16 port)
{
	bool host = bpf_get_netns_cookie(ctx) == config.host_netns_cookie;
	struct frontend_value *frontend;

	if (ctx->protocol != IPPROTO_TCP && ctx->protocol != IPPROTO_UDP)
		return NULL;
	/* A pod's loopback is its own. */
	if (!host && ((config.flags & CONFIG_SOCKET_HOST_ONLY) || is_loopback(addr)))
		return NULL;
	frontend = frontend_find(addr, port, ctx->protocol, false, true);
	if (frontend)
		/* Who may connect depends on the address that the socket will get: the packets are judged. */
		return frontend->flags & FRONTEND_SOURCE_RANGES ? NULL : frontend;
	if (!is_loopback(addr) && !is_node_of_cluster(addr, NODE_OWN_CLUSTER))
		return NULL;
	frontend = frontend_find(addr, port, ctx->protocol, true, false);
	if (!frontend || !(frontend->flags & FRONTEND_TWO_SCOPES))
		return frontend;
	/* externalTrafficPolicy Local: another node's port is for that node to answer, as for any machine. */
	if (!is_loopback(addr) && !is_node_of_cluster(addr, NODE_LOCAL))
		return NULL;
	return frontend_find(addr, port, ctx->protocol, true, true);
}

static __always_inline void socket_remember_peer(struct bpf_sock_addr *ctx, const struct backend_value *backend,
						 const struct addr *frontend_addr, __be16 port, __u32 service_id)
{
	struct socket_peer_key key = {};
	struct socket_peer_value value = {};

	key.cookie = bpf_get_socket_cookie(ctx);
	key.backend_addr = backend->addr;
	key.backend_port = backend->port;
	value.frontend_addr = *frontend_addr;
	value.frontend_port = port;
	value.service_id = service_id;
	bpf_map_update_elem(&socket_peers, &key, &value, BPF_ANY);
}

static __always_inline int socket_refused(void)
{
	bpf_set_retval(-ECONNREFUSED);
	return SOCKET_REFUSE;
}

static __always_inline struct backend_value *socket_backend(struct bpf_sock_addr *ctx,
							    const struct frontend_value *frontend)
{
	struct affinity_key client = {};

	affinity_by_netns(&client, bpf_get_netns_cookie(ctx));
	return backend_find(backend_for(frontend, &client, 0));
}

static __always_inline int socket_connect(struct bpf_sock_addr *ctx, bool v6)
{
	struct frontend_value *frontend;
	struct socket_service *told;
	struct backend_value *backend;
	__be16 port = ctx->user_port;
	struct addr addr;

	socket_addr(ctx, v6, &addr);
	frontend = socket_frontend(ctx, &addr, port);
	if (!frontend) {
		/* A socket that was connected to a service before is not any more. */
		if (ctx->sk)
			bpf_sk_storage_delete(&socket_services, ctx->sk);
		return SOCKET_ALLOW;
	}
	backend = socket_backend(ctx, frontend);
	if (!backend)
		return socket_refused();
	if (v6 && !is_mapped(&addr) && is_mapped(&backend->addr))
		return socket_refused();
	if (ctx->sk) {
		told = bpf_sk_storage_get(&socket_services, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		if (told) {
			told->frontend_addr = addr;
			told->frontend_port = port;
			told->backend_addr = backend->addr;
			told->backend_port = backend->port;
			told->service_id = frontend->service_id;
		}
	}
	socket_set(ctx, v6, &backend->addr, backend->port);
	return SOCKET_ALLOW;
}

static __always_inline int socket_sendmsg(struct bpf_sock_addr *ctx, bool v6)
{
	struct frontend_value *frontend;
	struct backend_value *backend;
	__be16 port = ctx->user_port;
	struct addr addr;

	socket_addr(ctx, v6, &addr);
	frontend = socket_frontend(ctx, &addr, port);
	if (!frontend)
		return SOCKET_ALLOW;
	backend = socket_backend(ctx, frontend);
	if (!backend)
		return socket_refused();
	socket_remember_peer(ctx, backend, &addr, port, frontend->service_id);
	socket_set(ctx, v6, &backend->addr, backend->port);
	return SOCKET_ALLOW;
}

/* recvmsg() and getpeername(): the backend's address becomes the one the process used. */
static __always_inline int socket_show(struct bpf_sock_addr *ctx, bool v6, bool datagrams)
{
	struct socket_peer_value *peer;
	struct socket_peer_key key = {};
	struct socket_service *told;
	struct addr addr;

	socket_addr(ctx, v6, &addr);
	told = ctx->sk ? bpf_sk_storage_get(&socket_services, ctx->sk, NULL, 0) : NULL;
	if (told && told->backend_port == ctx->user_port && addr_equal(&told->backend_addr, &addr)) {
		socket_set(ctx, v6, &told->frontend_addr, told->frontend_port);
		return SOCKET_ALLOW;
	}
	if (!datagrams)
		return SOCKET_ALLOW;
	key.cookie = bpf_get_socket_cookie(ctx);
	key.backend_addr = addr;
	key.backend_port = ctx->user_port;
	peer = bpf_map_lookup_elem(&socket_peers, &key);
	if (peer)
		socket_set(ctx, v6, &peer->frontend_addr, peer->frontend_port);
	return SOCKET_ALLOW;
}

SEC("cgroup/connect4")
int sock4_connect(struct bpf_sock_addr *ctx)
{
	return socket_connect(ctx, false);
}

SEC("cgroup/sendmsg4")
int sock4_sendmsg(struct bpf_sock_addr *ctx)
{
	return socket_sendmsg(ctx, false);
}

SEC("cgroup/recvmsg4")
int sock4_recvmsg(struct bpf_sock_addr *ctx)
{
	return socket_show(ctx, false, true);
}

SEC("cgroup/getpeername4")
int sock4_getpeername(struct bpf_sock_addr *ctx)
{
	return socket_show(ctx, false, false);
}

SEC("cgroup/connect6")
int sock6_connect(struct bpf_sock_addr *ctx)
{
	return socket_connect(ctx, true);
}

SEC("cgroup/sendmsg6")
int sock6_sendmsg(struct bpf_sock_addr *ctx)
{
	return socket_sendmsg(ctx, true);
}

SEC("cgroup/recvmsg6")
int sock6_recvmsg(struct bpf_sock_addr *ctx)
{
	return socket_show(ctx, true, true);
}

SEC("cgroup/getpeername6")
int sock6_getpeername(struct bpf_sock_addr *ctx)
{
	return socket_show(ctx, true, false);
}
