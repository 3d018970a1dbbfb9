/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A port that is a NodePort is taken: what comes to it goes to the service, and a process of the
 * node that could bind it would wait for nothing. It is told at once that the address is in use.
 */
#pragma once

#include "socket.h"

#define EADDRINUSE 98

static __always_inline bool is_nodeport(const struct bpf_sock_addr *ctx, bool v6)
{
	struct frontend_key key = {};

	key.port = ctx->user_port;
	key.proto = ctx->protocol;
	if (!v6)
		addr_set_v4(&key.addr, 0);
	return bpf_map_lookup_elem(&frontends, &key);
}

static __always_inline int socket_bind(struct bpf_sock_addr *ctx, bool v6)
{
	struct addr addr;

	if (!(config.flags & CONFIG_PROTECT_NODEPORTS) || !ctx->user_port ||
	    (ctx->protocol != IPPROTO_TCP && ctx->protocol != IPPROTO_UDP) ||
	    bpf_get_netns_cookie(ctx) != config.host_netns_cookie)
		return SOCKET_ALLOW;
	socket_addr(ctx, v6, &addr);
	/* An IPv6 socket at the unspecified address takes the port of both families, unless it says otherwise. */
	if ((v6 && !is_mapped(&addr) && is_nodeport(ctx, true)) ||
	    ((!v6 || is_mapped(&addr) || addr_is_zero(&addr)) && is_nodeport(ctx, false))) {
		bpf_set_retval(-EADDRINUSE);
		return SOCKET_REFUSE;
	}
	return SOCKET_ALLOW;
}

SEC("cgroup/bind4")
int sock4_bind(struct bpf_sock_addr *ctx)
{
	return socket_bind(ctx, false);
}

SEC("cgroup/bind6")
int sock6_bind(struct bpf_sock_addr *ctx)
{
	return socket_bind(ctx, true);
}
