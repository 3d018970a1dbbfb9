/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plan is what the agent asks for: one command a line, words separated by one space, done in order.
 * The last word of `veth`, `delete` and `host-up` runs to the end of the line.
 *
 *   veth HOST POD HOST_MAC POD_MAC MTU ALIAS   create both ends, the pod's in its namespace, both down;
 *                                              a device HOST left from an earlier try is replaced
 *   delete HOST ALIAS                          delete HOST if its alias is ALIAS ("-": any)
 *   pod-sysctl NAME VALUE                      NAME as below /proc/sys; one the kernel lacks is skipped
 *   host-sysctl NAME VALUE
 *   host-up HOST ALIAS                         HOST must have the alias ALIAS
 *   pod-up DEV
 *   pod-address DEV PREFIX
 *   pod-neighbour DEV ADDRESS MAC              permanent
 *   pod-route DEV PREFIX VIA MTU               VIA "-": on the link; MTU 0: the device's
 *   check-link DEV MAC MTU                     fails unless the pod has DEV so, and up
 *   check-address DEV PREFIX
 *   check-route DEV PREFIX VIA
 */
#pragma once
#include <stdbool.h>

struct plan_result {
	bool failed;
	char why[640];
	/* The host side of the veth that a plan of this call made: to be deleted if the call fails later. */
	char host[16];
	int host_index;
	int pod_index;
};

/*
 * Runs a plan (NUL-terminated, changed while read). `netns` may be NULL when no command needs the pod's.
 * `result` starts as zeros and is kept from plan to plan of one call.
 */
void plan_run(char *plan, const char *netns, struct plan_result *result);

/* Deletes a device of the node's namespace whose alias matches ("-": any). 0, also if there is none. */
int plan_delete(const char *name, const char *alias);
