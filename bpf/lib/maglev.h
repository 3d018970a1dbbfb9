/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Maglev: packets of one flow find one backend on whatever node they arrive, and keep it when
 * others come or go. src/loadbalancer/maglev.ts makes the tables.
 */
#pragma once

#include "packet.h"
#include "service.h"

static __always_inline __u64 hash_mix(__u64 hash, __u32 word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15ull;
	return hash ^ (hash >> 29);
}

/*
 * Of the whole flow, or of the client's address alone: then all of a client's connections agree
 * without anything being remembered.
 */
static __always_inline __u32 flow_hash(const struct flow *flow, bool client_only)
{
	__u64 hash = config.maglev_seed;

	for (int i = 0; i < 4; i++)
		hash = hash_mix(hash, addr_word(&flow->saddr, i));
	if (!client_only) {
		for (int i = 0; i < 4; i++)
			hash = hash_mix(hash, addr_word(&flow->daddr, i));
		hash = hash_mix(hash, (__u32)bpf_ntohs(flow->sport) << 16 | bpf_ntohs(flow->dport));
		hash = hash_mix(hash, flow->proto);
	}
	return (__u32)(hash >> 32);
}

/* The backend the table has for a flow; 0 where there is no table, or its entry is older than the backends. */
static __always_inline __u32 maglev_choose(const struct frontend_value *frontend, const struct flow *flow)
{
	__u32 service_id = frontend->service_id, entry, pair_index, backend_id;
	__u64 *pair;
	void *table;

	if (!config.maglev_size || !(frontend->flags & FRONTEND_MAGLEV))
		return 0;
	table = bpf_map_lookup_elem(&maglev, &service_id);
	if (!table)
		return 0;
	entry = flow_hash(flow, frontend->flags & FRONTEND_AFFINITY) % config.maglev_size;
	pair_index = entry / 2;
	pair = bpf_map_lookup_elem(table, &pair_index);
	if (!pair)
		return 0;
	backend_id = entry & 1 ? *pair >> 32 : (__u32)*pair;
	return backend_find(backend_id) ? backend_id : 0;
}
