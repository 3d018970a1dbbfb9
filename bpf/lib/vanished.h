/* SPDX-License-Identifier: Apache-2.0 */
/* Backends that are gone, not merely out of service: what is left of their connections ends at once. */
#pragma once

#include "target.h"

/*
 * Whether an address is in the range of some node's pods and no pod has it. Addresses of nodes
 * and of the world are never vanished: whoever has them answers for himself.
 */
__noinline int is_vanished(const struct addr *addr)
{
	struct ipcache_value *info;

	if (!addr || endpoint_find(addr, 0))
		return 0;
	info = ipcache_find(addr, 0);
	return info && (info->flags & IPCACHE_POD_RANGE);
}
