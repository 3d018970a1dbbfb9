/* SPDX-License-Identifier: Apache-2.0 */
#include "loopback.h"

#include <stdio.h>
#include <string.h>

#include "error.h"
#include "plan.h"

static int print_result(const char *netns, const char *version)
{
	/* Results before 1.0.0 tell the family of an address. */
	bool old = version[0] == '0';

	printf("{\"cniVersion\":\"%s\",\"interfaces\":[{\"name\":\"lo\",\"mac\":\"00:00:00:00:00:00\",\"sandbox\":",
	       version);
	print_json_text(netns);
	printf("}],\"ips\":[{%s\"interface\":0,\"address\":\"127.0.0.1/8\"}],\"dns\":{}}\n",
	       old ? "\"version\":\"4\"," : "");
	return 0;
}

int loopback(const char *command, const char *netns, const char *version)
{
	bool add = !strcmp(command, "ADD"), check = !strcmp(command, "CHECK");
	char plan[64];
	struct plan_result done = { 0 };

	/* The device goes with its namespace. */
	if (!add && !check)
		return 0;
	if (!*netns)
		return print_error(version, CODE_INVALID_ENVIRONMENT, "CNI_NETNS is missing", "");
	snprintf(plan, sizeof(plan), add ? "pod-up lo\n" : "check-link lo 00:00:00:00:00:00 65536\n");
	plan_run(plan, netns, &done);
	if (done.failed)
		return print_error(version, CODE_KERNEL, "set up the pod's loopback device", done.why);
	return add ? print_result(netns, version) : 0;
}
