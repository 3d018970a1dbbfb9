/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection to the agent: a Unix stream of frames, each 4 bytes of length (network order, of what
 * follows), 1 byte of type, payload.
 *
 *   to the agent    Q  request: the CNI_* variables as NAME=VALUE, each ended by NUL, an empty one, then
 *                      standard input as it came
 *                   D  the plan is done: "HOST_IFINDEX POD_IFINDEX"
 *                   F  the plan failed, all plans of the call are rolled back: why
 *   from the agent  P  plan (plan.h); an ADD has two
 *                   R  result for standard output, exit 0
 *                   E  error JSON for standard output, exit 1
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct frame {
	char type;
	char *payload; /* NUL-terminated, to be freed */
	size_t size;
};

/* Milliseconds of the monotonic clock. */
long long now_ms(void);

/* Connects once; -1 if nobody listens. */
int agent_connect(const char *path);
bool agent_send(int fd, char type, const void *payload, size_t size, long long deadline);
/* False when the connection is lost or the deadline passes. */
bool agent_receive(int fd, struct frame *frame, long long deadline);
