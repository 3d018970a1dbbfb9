/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "plan.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "netlink.h"

struct context {
	int host_netns;
	int pod_netns;
	int host; /* netlink sockets */
	int pod;
	char device[IFNAMSIZ]; /* the pod's device that was looked up last */
	int device_index;
	struct plan_result *result;
};

static int fail(struct context *context, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(context->result->why, sizeof(context->result->why), format, list);
	va_end(list);
	context->result->failed = true;
	return -1;
}

static int open_pod(struct context *context, const char *netns)
{
	struct stat ours, theirs;

	context->host_netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (context->host_netns < 0)
		return fail(context, "open /proc/self/ns/net: %s", strerror(errno));
	context->pod_netns = open(netns, O_RDONLY | O_CLOEXEC);
	if (context->pod_netns < 0)
		return fail(context, "open CNI_NETNS %s: %s", netns, strerror(errno));
	if (fstat(context->host_netns, &ours) || fstat(context->pod_netns, &theirs))
		return fail(context, "stat CNI_NETNS %s: %s", netns, strerror(errno));
	if (ours.st_ino == theirs.st_ino && ours.st_dev == theirs.st_dev)
		return fail(context, "CNI_NETNS %s is the node's own network namespace", netns);
	if (setns(context->pod_netns, CLONE_NEWNET))
		return fail(context, "enter CNI_NETNS %s: %s", netns, strerror(errno));
	context->pod = netlink_open();
	if (setns(context->host_netns, CLONE_NEWNET))
		return fail(context, "leave CNI_NETNS %s: %s", netns, strerror(errno));
	if (context->pod < 0)
		return fail(context, "open netlink in %s: %s", netns, strerror(-context->pod));
	return 0;
}

static int sysctl_set(struct context *context, bool pod, const char *name, const char *value)
{
	char path[256];
	int fd, error = 0;

	if (strstr(name, "..") || snprintf(path, sizeof(path), "/proc/sys/%s", name) >= (int)sizeof(path))
		return fail(context, "sysctl %s: not a name", name);
	if (pod && setns(context->pod_netns, CLONE_NEWNET))
		return fail(context, "enter the pod's namespace: %s", strerror(errno));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	/* A kernel without IPv6 lacks its parameters, and needs none. */
	if (fd < 0)
		error = errno == ENOENT ? 0 : errno;
	else if (write(fd, value, strlen(value)) < 0)
		error = errno;
	if (fd >= 0)
		close(fd);
	if (pod && setns(context->host_netns, CLONE_NEWNET))
		return fail(context, "leave the pod's namespace: %s", strerror(errno));
	return error ? fail(context, "sysctl %s=%s: %s", name, value, strerror(error)) : 0;
}

/* Splits off the next word; the last one of a line may hold spaces and is taken with `rest`. */
static char *word(char **rest)
{
	return strsep(rest, " ");
}

static int kernel(struct context *context, int error, const char *what, const char *object)
{
	const char *words = netlink_words();

	if (!error)
		return 0;
	return fail(context, "%s %s: %s%s%s", what, object, strerror(-error), *words ? ": " : "", words);
}

static int pod_device(struct context *context, const char *name)
{
	struct link_info link;
	int error;

	if (context->device_index && !strcmp(context->device, name))
		return 0;
	error = link_get(context->pod, name, &link);
	if (error)
		return kernel(context, error, "find in the pod device", name);
	snprintf(context->device, sizeof(context->device), "%s", name);
	context->device_index = link.index;
	return 0;
}

static int do_veth(struct context *context, char *rest)
{
	struct plan_result *result = context->result;
	char *host = word(&rest), *pod = word(&rest), *host_mac = word(&rest), *pod_mac = word(&rest);
	char *mtu = word(&rest);
	struct mac ours, theirs;
	struct link_info link;
	int error;

	if (!rest || !mac_parse(host_mac, &ours) || !mac_parse(pod_mac, &theirs) ||
	    strlen(host) >= sizeof(result->host) || strlen(pod) >= IFNAMSIZ)
		return fail(context, "plan: veth: wrong words");
	error = link_create_veth(context->host, host, &ours, pod, &theirs, (unsigned int)atoi(mtu),
				 context->pod_netns);
	if (error == -EEXIST && !link_get(context->host, host, &link)) {
		/* Left by an earlier try for the same container: the name is made of its ID. */
		error = link_delete(context->host, link.index);
		if (!error || error == -ENODEV)
			error = link_create_veth(context->host, host, &ours, pod, &theirs,
						 (unsigned int)atoi(mtu), context->pod_netns);
	}
	if (error == -EEXIST)
		return fail(context, "the pod's namespace already has a device %s", pod);
	if (error)
		return kernel(context, error, "create veth", host);
	memcpy(result->host, host, strlen(host) + 1);
	error = link_get(context->host, host, &link);
	if (error)
		return kernel(context, error, "find", host);
	result->host_index = link.index;
	if (pod_device(context, pod))
		return -1;
	result->pod_index = context->device_index;
	return kernel(context, link_set_alias(context->host, link.index, rest), "set alias of", host);
}

static int host_up(struct context *context, char *rest)
{
	char *name = word(&rest);
	struct link_info link;
	int error = link_get(context->host, name, &link);

	if (error)
		return kernel(context, error, "find", name);
	if (!rest || strcmp(rest, link.alias))
		return fail(context, "%s is not the device of this container", name);
	return kernel(context, link_up(context->host, link.index), "set up", name);
}

static int check_link(struct context *context, char *rest)
{
	char *device = word(&rest), *mac = word(&rest), *mtu = word(&rest);
	struct link_info link;
	struct mac wanted;
	int error;

	if (!mtu || !mac_parse(mac, &wanted))
		return fail(context, "plan: check-link: wrong words");
	error = link_get(context->pod, device, &link);
	if (error)
		return kernel(context, error, "find in the pod device", device);
	if (memcmp(&link.mac, &wanted, sizeof(wanted)))
		return fail(context, "device %s of the pod has another MAC address than %s", device, mac);
	if (link.mtu != (unsigned int)atoi(mtu))
		return fail(context, "device %s of the pod has MTU %u, expected %s", device, link.mtu, mtu);
	if (!link.up)
		return fail(context, "device %s of the pod is down", device);
	return 0;
}

static int do_line(struct context *context, char *line)
{
	char *rest = line;
	char *verb = word(&rest);
	struct ip address, via;
	struct mac mac;

	if (!rest)
		return fail(context, "plan: %s: wrong words", verb);
	if (!strcmp(verb, "delete")) {
		char *name = word(&rest);

		if (!rest)
			return fail(context, "plan: delete: wrong words");
		return kernel(context, plan_delete(name, rest), "delete", name);
	}
	if (!strcmp(verb, "host-up"))
		return host_up(context, rest);
	if (!strcmp(verb, "host-sysctl") || !strcmp(verb, "pod-sysctl")) {
		bool pod = verb[0] == 'p';
		char *name = word(&rest);

		if (!rest)
			return fail(context, "plan: %s: wrong words", verb);
		if (pod && context->pod < 0)
			return fail(context, "plan: %s: no CNI_NETNS", verb);
		return sysctl_set(context, pod, name, rest);
	}
	if (context->pod < 0)
		return fail(context, "plan: %s: no CNI_NETNS", verb);
	if (!strcmp(verb, "veth"))
		return do_veth(context, rest);
	if (!strcmp(verb, "check-link"))
		return check_link(context, rest);

	char *device = word(&rest);

	if (pod_device(context, device))
		return -1;
	if (!strcmp(verb, "pod-up"))
		return kernel(context, link_up(context->pod, context->device_index), "set up", device);

	char *first = word(&rest), *second = word(&rest), *third = word(&rest);

	if (!first || !ip_parse(first, &address))
		return fail(context, "plan: %s %s: not an address", verb, first ? first : "");
	if (!strcmp(verb, "pod-address"))
		return kernel(context, address_add(context->pod, context->device_index, &address), "add address",
			      first);
	if (!strcmp(verb, "check-address"))
		return kernel(context, address_exists(context->pod, context->device_index, &address),
			      "the pod's address", first);
	if (!strcmp(verb, "pod-neighbour")) {
		if (!second || !mac_parse(second, &mac))
			return fail(context, "plan: pod-neighbour: wrong words");
		return kernel(context, neighbour_set(context->pod, context->device_index, &address, &mac),
			      "set neighbour", first);
	}

	bool gateway = second && strcmp(second, "-");

	if (!second || (gateway && !ip_parse(second, &via)))
		return fail(context, "plan: %s: wrong gateway", verb);
	if (!strcmp(verb, "pod-route"))
		return kernel(context,
			      route_set(context->pod, context->device_index, &address, gateway ? &via : NULL,
					third ? (unsigned int)atoi(third) : 0),
			      "set route", first);
	if (!strcmp(verb, "check-route"))
		return kernel(context,
			      route_exists(context->pod, context->device_index, &address, gateway ? &via : NULL),
			      "the pod's route", first);
	return fail(context, "plan: unknown command %s: is this executable older than the agent?", verb);
}

void plan_run(char *plan, const char *netns, struct plan_result *result)
{
	struct context context = { .host_netns = -1, .pod_netns = -1, .host = -1, .pod = -1, .result = result };
	char *line;

	context.host = netlink_open();
	if (context.host < 0)
		fail(&context, "open netlink: %s", strerror(-context.host));
	else if (!netns || !open_pod(&context, netns))
		while ((line = strsep(&plan, "\n")))
			if (*line && do_line(&context, line))
				break;
	if (context.host >= 0)
		close(context.host);
	if (context.pod >= 0)
		close(context.pod);
	if (context.pod_netns >= 0)
		close(context.pod_netns);
	if (context.host_netns >= 0)
		close(context.host_netns);
}

int plan_delete(const char *name, const char *alias)
{
	struct link_info link;
	int nl = netlink_open();
	int error;

	if (nl < 0)
		return nl;
	error = link_get(nl, name, &link);
	if (!error && (!strcmp(alias, "-") || !strcmp(alias, link.alias)))
		error = link_delete(nl, link.index);
	close(nl);
	return error == -ENODEV ? 0 : error;
}
