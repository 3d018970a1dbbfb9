/* SPDX-License-Identifier: Apache-2.0 */
#include "netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* Marks the route as ours in the kernel's table; the same number as PROTOCOL_ISTHMUS of the agent. */
#define RTPROT_ISTHMUS 0x69

struct request {
	struct nlmsghdr header;
	char body[2048];
};

static char words[256];

const char *netlink_words(void)
{
	return words;
}

bool ip_parse(const char *text, struct ip *out)
{
	char address[64];
	const char *slash = strchr(text, '/');
	size_t length = slash ? (size_t)(slash - text) : strlen(text);

	if (length >= sizeof(address))
		return false;
	memcpy(address, text, length);
	address[length] = 0;
	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, address, out->bytes) == 1) {
		out->family = AF_INET;
		out->size = 4;
	} else if (inet_pton(AF_INET6, address, out->bytes) == 1) {
		out->family = AF_INET6;
		out->size = 16;
	} else {
		return false;
	}
	out->prefixlen = out->size * 8;
	if (slash) {
		char *end;
		unsigned long bits = strtoul(slash + 1, &end, 10);

		if (end == slash + 1 || *end || bits > out->size * 8)
			return false;
		out->prefixlen = (unsigned int)bits;
	}
	return true;
}

bool mac_parse(const char *text, struct mac *out)
{
	unsigned char *b = out->bytes;
	int used = 0;

	return sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
		      &used) == 6 &&
	       used == (int)strlen(text);
}

int netlink_open(void)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK };
	struct timeval limit = { .tv_sec = 5 };
	int one = 1;
	int nl = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	words[0] = 0;
	if (nl < 0)
		return -errno;
	setsockopt(nl, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof(one));
	setsockopt(nl, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &one, sizeof(one));
	setsockopt(nl, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (bind(nl, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int error = -errno;

		close(nl);
		return error;
	}
	return nl;
}

static void request_start(struct request *request, int type, int flags, const void *header, size_t size)
{
	memset(request, 0, sizeof(*request));
	request->header.nlmsg_type = (unsigned short)type;
	request->header.nlmsg_flags = (unsigned short)(NLM_F_REQUEST | flags);
	request->header.nlmsg_len = (unsigned int)NLMSG_LENGTH(NLMSG_ALIGN(size));
	memcpy(request->body, header, size);
}

static struct rtattr *add(struct request *request, int type, const void *data, size_t size)
{
	size_t at = NLMSG_ALIGN(request->header.nlmsg_len);
	struct rtattr *attribute = (struct rtattr *)((char *)request + at);

	if (at + RTA_SPACE(size) > sizeof(*request))
		abort(); /* every caller's sizes are bounded well below */
	attribute->rta_type = (unsigned short)type;
	attribute->rta_len = (unsigned short)RTA_LENGTH(size);
	if (size)
		memcpy(RTA_DATA(attribute), data, size);
	request->header.nlmsg_len = (unsigned int)(at + RTA_ALIGN(attribute->rta_len));
	return attribute;
}

static struct rtattr *nest(struct request *request, int type)
{
	return add(request, type | NLA_F_NESTED, NULL, 0);
}

static void nest_end(struct request *request, struct rtattr *outer)
{
	outer->rta_len = (unsigned short)((char *)request + request->header.nlmsg_len - (char *)outer);
}

static void keep_words(const struct nlmsghdr *message, const struct nlmsgerr *error)
{
	size_t echoed = message->nlmsg_flags & NLM_F_CAPPED ? sizeof(struct nlmsghdr) :
							      NLMSG_ALIGN(error->msg.nlmsg_len);
	struct rtattr *attribute = (struct rtattr *)((char *)NLMSG_DATA(message) + sizeof(int) + echoed);
	long left = (long)message->nlmsg_len - ((char *)attribute - (char *)message);

	if (!(message->nlmsg_flags & NLM_F_ACK_TLVS))
		return;
	for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left))
		if (attribute->rta_type == NLMSGERR_ATTR_MSG)
			snprintf(words, sizeof(words), "%.*s", (int)RTA_PAYLOAD(attribute),
				 (char *)RTA_DATA(attribute));
}

typedef void (*on_message)(const struct nlmsghdr *message, void *context);

/* Sends one request; hands every answer to `each` until the kernel's last one. */
static int talk(int nl, struct request *request, on_message each, void *context)
{
	static unsigned int sequence;
	static char buffer[64 * 1024] __attribute__((aligned(8)));
	bool dump = (request->header.nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;

	words[0] = 0;
	request->header.nlmsg_seq = ++sequence;
	if (send(nl, request, request->header.nlmsg_len, 0) < 0)
		return -errno;
	for (;;) {
		ssize_t size = recv(nl, buffer, sizeof(buffer), 0);
		int left = (int)size;
		struct nlmsghdr *message = (struct nlmsghdr *)buffer;

		if (size < 0) {
			if (errno == EINTR)
				continue;
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		}
		for (; NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
			if (message->nlmsg_seq != sequence)
				continue;
			if (message->nlmsg_type == NLMSG_ERROR) {
				struct nlmsgerr *error = NLMSG_DATA(message);

				if (error->error)
					keep_words(message, error);
				return error->error;
			}
			if (message->nlmsg_type == NLMSG_DONE)
				return 0;
			if (each)
				each(message, context);
			if (!dump && !(request->header.nlmsg_flags & NLM_F_ACK))
				return 0;
		}
	}
}

static int change(int nl, struct request *request)
{
	request->header.nlmsg_flags |= NLM_F_ACK;
	return talk(nl, request, NULL, NULL);
}

int link_create_veth(int nl, const char *host, const struct mac *host_mac, const char *pod,
		     const struct mac *pod_mac, unsigned int mtu, int pod_netns)
{
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC };
	struct request request;
	struct rtattr *info, *data, *peer;

	request_start(&request, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof(header));
	add(&request, IFLA_IFNAME, host, strlen(host) + 1);
	add(&request, IFLA_ADDRESS, host_mac, sizeof(*host_mac));
	add(&request, IFLA_MTU, &mtu, sizeof(mtu));
	info = nest(&request, IFLA_LINKINFO);
	add(&request, IFLA_INFO_KIND, "veth", 4);
	data = nest(&request, IFLA_INFO_DATA);
	peer = add(&request, VETH_INFO_PEER, &header, sizeof(header));
	add(&request, IFLA_IFNAME, pod, strlen(pod) + 1);
	add(&request, IFLA_ADDRESS, pod_mac, sizeof(*pod_mac));
	add(&request, IFLA_MTU, &mtu, sizeof(mtu));
	add(&request, IFLA_NET_NS_FD, &pod_netns, sizeof(pod_netns));
	nest_end(&request, peer);
	nest_end(&request, data);
	nest_end(&request, info);
	return change(nl, &request);
}

static void take_link(const struct nlmsghdr *message, void *context)
{
	struct link_info *out = context;
	struct ifinfomsg *link = NLMSG_DATA(message);
	struct rtattr *attribute = IFLA_RTA(link);
	int left = (int)IFLA_PAYLOAD(message);

	out->index = link->ifi_index;
	out->up = link->ifi_flags & IFF_UP;
	for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
		if (attribute->rta_type == IFLA_MTU)
			memcpy(&out->mtu, RTA_DATA(attribute), sizeof(out->mtu));
		else if (attribute->rta_type == IFLA_ADDRESS && RTA_PAYLOAD(attribute) == sizeof(out->mac))
			memcpy(&out->mac, RTA_DATA(attribute), sizeof(out->mac));
		else if (attribute->rta_type == IFLA_IFALIAS)
			snprintf(out->alias, sizeof(out->alias), "%.*s", (int)RTA_PAYLOAD(attribute),
				 (char *)RTA_DATA(attribute));
	}
}

int link_get(int nl, const char *name, struct link_info *out)
{
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC };
	struct request request;

	memset(out, 0, sizeof(*out));
	request_start(&request, RTM_GETLINK, 0, &header, sizeof(header));
	add(&request, IFLA_IFNAME, name, strlen(name) + 1);
	return talk(nl, &request, take_link, out);
}

int link_set_alias(int nl, int index, const char *alias)
{
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC, .ifi_index = index };
	struct request request;

	request_start(&request, RTM_NEWLINK, 0, &header, sizeof(header));
	add(&request, IFLA_IFALIAS, alias, strlen(alias));
	return change(nl, &request);
}

int link_up(int nl, int index)
{
	struct ifinfomsg header = {
		.ifi_family = AF_UNSPEC,
		.ifi_index = index,
		.ifi_flags = IFF_UP,
		.ifi_change = IFF_UP,
	};
	struct request request;

	request_start(&request, RTM_NEWLINK, 0, &header, sizeof(header));
	return change(nl, &request);
}

int link_delete(int nl, int index)
{
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC, .ifi_index = index };
	struct request request;

	request_start(&request, RTM_DELLINK, 0, &header, sizeof(header));
	return change(nl, &request);
}

int address_add(int nl, int index, const struct ip *address)
{
	struct ifaddrmsg header = {
		.ifa_family = (unsigned char)address->family,
		.ifa_prefixlen = (unsigned char)address->prefixlen,
		.ifa_scope = RT_SCOPE_UNIVERSE,
		.ifa_index = (unsigned int)index,
	};
	unsigned int flags = IFA_F_NODAD;
	struct request request;

	request_start(&request, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &header, sizeof(header));
	add(&request, IFA_LOCAL, address->bytes, address->size);
	add(&request, IFA_ADDRESS, address->bytes, address->size);
	if (address->family == AF_INET6)
		add(&request, IFA_FLAGS, &flags, sizeof(flags));
	return change(nl, &request);
}

struct wanted {
	int index;
	const struct ip *prefix;
	const struct ip *via;
	bool found;
};

static bool holds(struct rtattr *attribute, const struct ip *address)
{
	return RTA_PAYLOAD(attribute) == address->size &&
	       !memcmp(RTA_DATA(attribute), address->bytes, address->size);
}

static void match_address(const struct nlmsghdr *message, void *context)
{
	struct wanted *wanted = context;
	struct ifaddrmsg *row = NLMSG_DATA(message);
	struct rtattr *attribute = IFA_RTA(row);
	int left = (int)IFA_PAYLOAD(message);

	if ((int)row->ifa_index != wanted->index || row->ifa_prefixlen != wanted->prefix->prefixlen)
		return;
	for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left))
		if ((attribute->rta_type == IFA_LOCAL || attribute->rta_type == IFA_ADDRESS) &&
		    holds(attribute, wanted->prefix))
			wanted->found = true;
}

int address_exists(int nl, int index, const struct ip *address)
{
	struct ifaddrmsg header = {
		.ifa_family = (unsigned char)address->family,
		.ifa_index = (unsigned int)index,
	};
	struct wanted wanted = { .index = index, .prefix = address };
	struct request request;
	int error;

	request_start(&request, RTM_GETADDR, NLM_F_DUMP, &header, sizeof(header));
	error = talk(nl, &request, match_address, &wanted);
	return error ? error : wanted.found ? 0 : -ENOENT;
}

int neighbour_set(int nl, int index, const struct ip *address, const struct mac *mac)
{
	struct ndmsg header = {
		.ndm_family = (unsigned char)address->family,
		.ndm_ifindex = index,
		.ndm_state = NUD_PERMANENT,
	};
	struct request request;

	request_start(&request, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &header, sizeof(header));
	add(&request, NDA_DST, address->bytes, address->size);
	add(&request, NDA_LLADDR, mac, sizeof(*mac));
	return change(nl, &request);
}

int route_set(int nl, int index, const struct ip *prefix, const struct ip *via, unsigned int mtu)
{
	struct rtmsg header = {
		.rtm_family = (unsigned char)prefix->family,
		.rtm_dst_len = (unsigned char)prefix->prefixlen,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_ISTHMUS,
		.rtm_scope = via ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK,
		.rtm_type = RTN_UNICAST,
	};
	struct request request;

	request_start(&request, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &header, sizeof(header));
	if (prefix->prefixlen)
		add(&request, RTA_DST, prefix->bytes, prefix->size);
	add(&request, RTA_OIF, &index, sizeof(index));
	if (via)
		add(&request, RTA_GATEWAY, via->bytes, via->size);
	if (mtu) {
		struct rtattr *metrics = nest(&request, RTA_METRICS);

		add(&request, RTAX_MTU, &mtu, sizeof(mtu));
		nest_end(&request, metrics);
	}
	return change(nl, &request);
}

static void match_route(const struct nlmsghdr *message, void *context)
{
	struct wanted *wanted = context;
	struct rtmsg *row = NLMSG_DATA(message);
	struct rtattr *attribute = RTM_RTA(row);
	int left = (int)RTM_PAYLOAD(message);
	bool destination = wanted->prefix->prefixlen == 0, device = false, gateway = wanted->via == NULL;

	if (row->rtm_table != RT_TABLE_MAIN || row->rtm_dst_len != wanted->prefix->prefixlen)
		return;
	for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
		if (attribute->rta_type == RTA_DST)
			destination = holds(attribute, wanted->prefix);
		else if (attribute->rta_type == RTA_OIF)
			device = !memcmp(RTA_DATA(attribute), &wanted->index, sizeof(wanted->index));
		else if (attribute->rta_type == RTA_GATEWAY)
			gateway = wanted->via && holds(attribute, wanted->via);
	}
	if (destination && device && gateway)
		wanted->found = true;
}

int route_exists(int nl, int index, const struct ip *prefix, const struct ip *via)
{
	struct rtmsg header = { .rtm_family = (unsigned char)prefix->family };
	struct wanted wanted = { .index = index, .prefix = prefix, .via = via };
	struct request request;
	int error;

	request_start(&request, RTM_GETROUTE, NLM_F_DUMP, &header, sizeof(header));
	error = talk(nl, &request, match_route, &wanted);
	return error ? error : wanted.found ? 0 : -ENOENT;
}
