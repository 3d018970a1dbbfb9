/*
 * Delays what a TAP device carries, each way: link-relay DEVICE MILLISECONDS.
 * The router sends a link's packets into the device, addressed to the device itself, and this program gives
 * them back later. The kernel's own means (netem) is missing on many kernels. TAP and not TUN, because
 * the kernel takes segments inside VXLAN whole only with an Ethernet header.
 *
 * One thread, one queue in the order of arrival, because every packet waits equally long. Segments of up to
 * 64 KiB stay whole where the kernel can hand them over (IFF_VNET_HDR), which is what makes it fast enough.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* Offloads of kernels newer than Debian 12's headers. */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif
#ifndef TUN_F_UDP_TUNNEL_GSO
#define TUN_F_UDP_TUNNEL_GSO 0x080
#define TUN_F_UDP_TUNNEL_GSO_CSUM 0x100
#endif

enum {
	LARGEST = 65536 + 128,
	/* More than this in flight is lost, as in the buffer of any real link: 1 Gbit/s for 2 s. */
	LIMIT = 256 << 20,
};

struct packet {
	struct packet *next;
	uint64_t due;
	size_t length;
	unsigned char bytes[];
};

static struct packet *first, **last = &first;
static size_t queued;

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void fail(const char *what)
{
	fprintf(stderr, "link-relay: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int open_device(const char *name)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	const unsigned segments = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
	/* The most first: each kernel takes what it knows. The packet's header grows with what it describes. */
	const struct {
		unsigned offloads;
		int header;
	} steps[] = {
		{ segments | TUN_F_USO4 | TUN_F_USO6 | TUN_F_UDP_TUNNEL_GSO | TUN_F_UDP_TUNNEL_GSO_CSUM, 24 },
		{ segments | TUN_F_USO4 | TUN_F_USO6, 10 },
		{ segments, 10 },
	};
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		fail("/dev/net/tun");
	strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	if (ioctl(fd, TUNSETIFF, &request) < 0)
		fail(name);
	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++)
		if (ioctl(fd, TUNSETVNETHDRSZ, &steps[i].header) == 0 &&
		    ioctl(fd, TUNSETOFFLOAD, steps[i].offloads) == 0)
			return fd;
	fail("offloads");
	return -1;
}

/* Takes up to a batch of packets from the device. */
static void receive(int fd, uint64_t delay)
{
	static unsigned char buffer[LARGEST];

	for (int i = 0; i < 64; i++) {
		ssize_t length = read(fd, buffer, sizeof(buffer));
		struct packet *packet;

		if (length < 0) {
			if (errno == EAGAIN || errno == EINTR)
				return;
			fail("read");
		}
		if (queued + length > LIMIT)
			continue;
		packet = malloc(sizeof(*packet) + length);
		if (!packet)
			continue;
		packet->next = NULL;
		packet->due = now() + delay;
		packet->length = length;
		memcpy(packet->bytes, buffer, length);
		*last = packet;
		last = &packet->next;
		queued += length;
	}
}

/* Gives back what has waited long enough. */
static void send_due(int fd)
{
	uint64_t time = now();

	while (first && first->due <= time) {
		struct packet *packet = first;

		first = packet->next;
		if (!first)
			last = &first;
		queued -= packet->length;
		/* A packet that the kernel refuses is lost, as it would be on a wire. */
		(void)!write(fd, packet->bytes, packet->length);
		free(packet);
	}
}

int main(int argc, char **argv)
{
	double milliseconds = argc == 3 ? atof(argv[2]) : -1;
	uint64_t delay = milliseconds * 1e6;
	int fd;

	if (milliseconds < 0) {
		fprintf(stderr, "usage: link-relay DEVICE MILLISECONDS\n");
		return 2;
	}
	fd = open_device(argv[1]);
	puts("ready");
	fflush(stdout);
	for (;;) {
		struct pollfd wait = { .fd = fd, .events = POLLIN };
		struct timespec timeout, *until = NULL;

		if (first) {
			uint64_t time = now(), left = first->due > time ? first->due - time : 0;

			timeout.tv_sec = left / 1000000000;
			timeout.tv_nsec = left % 1000000000;
			until = &timeout;
		}
		if (ppoll(&wait, 1, until, NULL) < 0 && errno != EINTR)
			fail("poll");
		if (wait.revents & POLLIN)
			receive(fd, delay);
		send_due(fd);
	}
}
