/* SPDX-License-Identifier: Apache-2.0
 *
 * Looks at pinned maps of a node's datapath every 0.2 ms (of many services, 0.2 ms later for each ten) and says
 * when they change: what writes them is asked nothing and loses little CPU. Rows are those of bpf/types.h.
 *
 *   map-watch services FOLDER         ADDRESS lines of services on standard input, ended by an empty line: each
 *                                     has port 80/TCP; prints "STAMP ADDRESS BACKEND" whenever the first backend
 *                                     of one is another (0.0.0.0: it has none)
 *   map-watch cilium-services FOLDER  the same in the maps of a node with Cilium 1.19, FOLDER being its
 *                                     /sys/fs/bpf/tc/globals
 *   map-watch endpoints FOLDER ID FILE
 *                                     addresses on standard input, ended by an empty line; prints "STAMP file"
 *                                     when FILE is there, then "STAMP all" when the ipcache knows each address as
 *                                     one of cluster ID; ID 0: of any other cluster. The pin may yet have to be made
 *
 *   map-watch filled FOLDER COUNT     addresses of services as above; waits for the pins, which an agent may yet
 *                                     have to make, and prints "STAMP all" when each service has COUNT slots, all
 *                                     leading to backends; COUNT 0: when none of them is there
 *
 * First it prints "ready". Stamps are microseconds of CLOCK_MONOTONIC. FOLDER holds the pins, such as
 * /proc/PID/root/sys/fs/bpf/isthmus/maps. It ends with its standard input.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../../bpf/types.h"

static void die(const char *what)
{
	fprintf(stderr, "map-watch: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int open_pin(const char *folder, const char *name)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	union bpf_attr attr = { .pathname = (uintptr_t)path };
	int fd = syscall(SYS_bpf, BPF_OBJ_GET, &attr, sizeof attr);
	if (fd < 0)
		die(path);
	return fd;
}

/* Finds the pin called NAME_<hash>, with room for 256 characters; 0 where there is none. */
static int find_pin(const char *folder, const char *name, char *pin)
{
	size_t length = strlen(name);
	DIR *list = opendir(folder);
	int found = 0;
	if (!list)
		die(folder);
	for (struct dirent *entry; (entry = readdir(list));)
		if (!strncmp(entry->d_name, name, length) && entry->d_name[length] == '_') {
			/* One of the agent's maps is called by the name of another and more. */
			if (strchr(entry->d_name + length + 1, '_'))
				continue;
			snprintf(pin, 256, "%s", entry->d_name);
			found = 1;
		}
	closedir(list);
	return found;
}

static int open_map(const char *folder, const char *name)
{
	char pin[256];
	if (!find_pin(folder, name, pin))
		snprintf(pin, sizeof pin, "%s", name);
	return open_pin(folder, pin);
}

static int lookup(int map, const void *key, void *value)
{
	union bpf_attr attr = { .map_fd = map, .key = (uintptr_t)key, .value = (uintptr_t)value };
	return syscall(SYS_bpf, BPF_MAP_LOOKUP_ELEM, &attr, sizeof attr);
}

static void say(const char *format, const char *a, const char *b)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	printf("%lld ", now.tv_sec * 1000000LL + now.tv_nsec / 1000);
	printf(format, a, b);
	fflush(stdout);
}

/* Rests between two looks at `rows` rows; ends the program with its standard input. */
static void rest(int rows)
{
	struct pollfd input = { .fd = 0, .events = POLLIN };
	struct timespec pause = { .tv_nsec = 200000LL * (1 + rows / 10) };
	if (ppoll(&input, 1, &pause, NULL) > 0)
		exit(0);
}

static struct addr mapped(struct in_addr from)
{
	struct addr addr = { .bytes = { [10] = 0xff, [11] = 0xff } };
	memcpy(addr.bytes + 12, &from, 4);
	return addr;
}

static struct in_addr *addresses;
static int count;

static void read_addresses(void)
{
	char line[64];
	while (fgets(line, sizeof line, stdin) && line[0] != '\n') {
		line[strcspn(line, "\n")] = 0;
		addresses = realloc(addresses, (count + 1) * sizeof *addresses);
		if (inet_pton(AF_INET, line, &addresses[count++]) != 1)
			die(line);
	}
}

static int frontends, slots, backends;

/* Finds the address of a service's first backend, 0 where it has none; -1 between two writes of the agent. */
static int first_backend(struct in_addr service, struct in_addr *backend)
{
	struct frontend_key key = { .addr = mapped(service), .port = htons(80), .proto = IPPROTO_TCP };
	struct frontend_value frontend;
	if (lookup(frontends, &key, &frontend) || !frontend.count)
		return 0;
	struct slot_key slot = { .service_id = frontend.service_id };
	struct backend_value value;
	struct slot_value named;
	if (lookup(slots, &slot, &named) || lookup(backends, &named, &value))
		return -1;
	memcpy(backend, value.addr.bytes + 12, 4);
	return 0;
}

/* Rows of cilium_lb4_services_v2 and cilium_lb4_backends_v3; slot 0 is the frontend. */
struct cilium_service_key {
	__u32 address;
	__u16 port, slot;
	__u8 proto, scope, pad[2];
};
struct cilium_service {
	__u32 backend;
	__u16 count, reverse;
	__u8 flags[2], pad[2];
};
struct cilium_backend {
	__u32 address;
	__u16 port;
	__u8 proto, flags;
	__u16 cluster;
	__u8 pad[2];
};

static int first_backend_of_cilium(struct in_addr service, struct in_addr *backend)
{
	struct cilium_service_key key = { .address = service.s_addr, .port = htons(80), .proto = IPPROTO_TCP };
	struct cilium_service value;
	struct cilium_backend row;
	if (lookup(frontends, &key, &value) || !value.count)
		return 0;
	key.slot = 1;
	if (lookup(frontends, &key, &value) || lookup(backends, &value.backend, &row))
		return -1;
	backend->s_addr = row.address;
	return 0;
}

static void watch_services(int (*first)(struct in_addr, struct in_addr *))
{
	struct in_addr *last = calloc(count, sizeof *last);
	memset(last, 0xff, count * sizeof *last);
	for (;; rest(count))
		for (int i = 0; i < count; i++) {
			struct in_addr backend = { 0 };
			/* Between two writes of the agent: the next look tells. */
			if (first(addresses[i], &backend) || backend.s_addr == last[i].s_addr)
				continue;
			last[i] = backend;
			char service[INET_ADDRSTRLEN], address[INET_ADDRSTRLEN];
			inet_ntop(AF_INET, &addresses[i], service, sizeof service);
			inet_ntop(AF_INET, &backend, address, sizeof address);
			say("%s %s\n", service, address);
		}
}

static void watch_endpoints(const char *folder, __u32 cluster, const char *file)
{
	char pin[256];
	struct stat state;
	while (stat(file, &state))
		rest(1);
	say("file\n", "", "");
	while (!find_pin(folder, "ipcache", pin))
		rest(1);
	int ipcache = open_map(folder, "ipcache");
	for (int i = 0; i < count; rest(1))
		/* Each is looked at until it is there, and never again. */
		for (; i < count; i++) {
			struct ipcache_key key = { .prefixlen = 32 + 128, .addr = mapped(addresses[i]) };
			struct ipcache_value value;
			if (lookup(ipcache, &key, &value))
				break;
			if (cluster ? value.identity >> 16 != cluster : value.identity >> 16 == 0)
				break;
		}
	say("all\n", "", "");
	for (;; usleep(10000))
		rest(1);
}

/* Whether a service has these many slots, each with its backend; with none, whether it is gone. */
static int is_filled(struct in_addr service, __u32 slots_wanted)
{
	struct frontend_key key = { .addr = mapped(service), .port = htons(80), .proto = IPPROTO_TCP };
	struct frontend_value frontend;
	if (lookup(frontends, &key, &frontend))
		return slots_wanted == 0;
	if (slots_wanted == 0 || frontend.count != slots_wanted)
		return 0;
	struct slot_key slot = { .service_id = frontend.service_id };
	for (; slot.slot < slots_wanted; slot.slot++) {
		struct slot_value named;
		struct backend_value value;
		if (lookup(slots, &slot, &named) || lookup(backends, &named, &value))
			return 0;
	}
	return 1;
}

static void wait_filled(const char *folder, __u32 slots_wanted)
{
	char pin[256];
	for (const char **name = (const char *[]){ "frontends", "slots", "backends", NULL }; *name; name++)
		while (!find_pin(folder, *name, pin))
			rest(1);
	frontends = open_map(folder, "frontends");
	slots = open_map(folder, "slots");
	backends = open_map(folder, "backends");
	/* Each is looked at until it is as wanted, and never again. */
	for (int i = 0; i < count; rest(1))
		while (i < count && is_filled(addresses[i], slots_wanted))
			i++;
	say("all\n", "", "");
	for (;; usleep(10000))
		rest(1);
}

int main(int argc, char **argv)
{
	/* Names are looked up while the input is read: nothing may be left in a buffer for poll() to miss. */
	setvbuf(stdin, NULL, _IONBF, 0);
	if (argc < 3)
		return 2;
	read_addresses();
	puts("ready");
	fflush(stdout);
	if (!strcmp(argv[1], "services")) {
		frontends = open_map(argv[2], "frontends");
		slots = open_map(argv[2], "slots");
		backends = open_map(argv[2], "backends");
		watch_services(first_backend);
	} else if (!strcmp(argv[1], "cilium-services")) {
		frontends = open_pin(argv[2], "cilium_lb4_services_v2");
		backends = open_pin(argv[2], "cilium_lb4_backends_v3");
		watch_services(first_backend_of_cilium);
	} else if (!strcmp(argv[1], "filled") && argc == 4)
		wait_filled(argv[2], atoi(argv[3]));
	else if (argc == 5)
		watch_endpoints(argv[2], atoi(argv[3]), argv[4]);
	return 2;
}
