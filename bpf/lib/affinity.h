/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Session affinity ClientIP: a client's next connection goes where its last one went, until
 * no connection began for the service's timeout or the service has lost that backend.
 */
#pragma once

#include "service.h"

static __always_inline void affinity_by_address(struct affinity_key *key, const struct addr *addr,
						__u16 cluster_id)
{
	key->client = *addr;
	key->cluster_id = cluster_id;
	key->kind = AFFINITY_ADDRESS;
}

/* A pod's sockets are one client whatever addresses they will get: a pod has a namespace of its own. */
static __always_inline void affinity_by_netns(struct affinity_key *key, __u64 cookie)
{
	__u32 *words = (__u32 *)key->client.bytes;

	words[0] = (__u32)cookie;
	words[1] = (__u32)(cookie >> 32);
	key->kind = AFFINITY_NETNS;
}

/* Where the client is sent again; 0 where it is new, too late, or its backend has left. */
static __always_inline __u32 affinity_find(const struct frontend_value *frontend, const struct affinity_key *client)
{
	struct member_key member = {};
	struct affinity_value *last = bpf_map_lookup_elem(&affinity, client);
	__u32 now = seconds();

	if (!last || now - last->used > frontend->affinity_timeout)
		return 0;
	member.service_id = client->service_id;
	member.backend_id = last->backend_id;
	if (!bpf_map_lookup_elem(&affinity_members, &member))
		return 0;
	if (last->used != now)
		last->used = now;
	return member.backend_id;
}

/*
 * The backend of a new connection, or 0. `client` is zero but for who it is; see affinity_by_*().
 * `preferred` is for clients without a past; 0: any.
 */
static __always_inline __u32 backend_for(const struct frontend_value *frontend, struct affinity_key *client,
					 __u32 preferred)
{
	struct affinity_value value;

	if (!(frontend->flags & FRONTEND_AFFINITY))
		return preferred ? preferred : backend_choose(frontend);
	client->service_id = frontend->service_id;
	value.backend_id = affinity_find(frontend, client);
	if (value.backend_id)
		return value.backend_id;
	value.backend_id = preferred ? preferred : backend_choose(frontend);
	value.used = seconds();
	if (value.backend_id)
		bpf_map_update_elem(&affinity, client, &value, BPF_ANY);
	return value.backend_id;
}
