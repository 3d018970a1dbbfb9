/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets that were sent to a backend which is gone, of all network namespaces: read by the agent,
 * which ends their connections. Only the fields that are used are declared; their places are
 * found when the program is loaded (CO-RE).
 */
#pragma once

#include <bpf/bpf_core_read.h>

#include "vanished.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct in6_addr___kernel {
	union {
		__be32 u6_addr32[4];
	} in6_u;
};

struct sock_common {
	__be32 skc_rcv_saddr;
	__u16 skc_num;
	unsigned char skc_state;
	struct in6_addr___kernel skc_v6_rcv_saddr;
};

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol;
};

struct tcp_sock {
	__u32 rcv_nxt;
	__u32 snd_nxt;
};

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	void *map;
	struct sock *sk;
	void *value;
};

#pragma clang attribute pop

/* Keeps the layout in the object's BTF, where the agent reads it. */
const volatile struct vanished_socket vanished_socket_layout = {};

SEC("iter/bpf_sk_storage_map")
int vanished_sockets(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct socket_service *told = ctx->value;
	struct sock *sk = ctx->sk;
	struct vanished_socket found = {};
	struct tcp_sock *tcp;

	if (!sk || !told)
		return 0;
	found.remote = told->backend_addr;
	if (!is_vanished(&found.remote))
		return 0;
	found.remote_port = told->backend_port;
	if (is_mapped(&found.remote)) {
		addr_set_v4(&found.local, sk->__sk_common.skc_rcv_saddr);
	} else {
		__u32 *words = (__u32 *)found.local.bytes;

		for (int i = 0; i < 4; i++)
			words[i] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[i];
	}
	/* Closed: its memory, and what is stored with it, stay until a grace period of RCU is over. */
	if (!sk->__sk_common.skc_num)
		return 0;
	found.local_port = bpf_htons(sk->__sk_common.skc_num);
	found.proto = sk->sk_protocol;
	found.cookie = bpf_get_socket_cookie(sk);
	tcp = bpf_skc_to_tcp_sock(sk);
	if (tcp) {
		found.receive_next = tcp->rcv_nxt;
		found.send_next = tcp->snd_nxt;
	}
	bpf_seq_write(ctx->meta->seq, &found, sizeof(found));
	return 0;
}
