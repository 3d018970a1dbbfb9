/* SPDX-License-Identifier: Apache-2.0 */
#include "agent.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define LARGEST_FRAME (16u << 20)

long long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

int agent_connect(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof(address.sun_path))
		return -1;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		close(fd);
		return -1;
	}
	return fd;
}

static bool wait_for(int fd, short events, long long deadline)
{
	for (;;) {
		struct pollfd wait = { .fd = fd, .events = events };
		long long left = deadline - now_ms();
		int ready;

		if (left < 0)
			left = 0;
		ready = poll(&wait, 1, left > 1000000 ? 1000000 : (int)left);
		if (ready > 0)
			return true;
		if (ready == 0 || errno != EINTR)
			return false;
	}
}

static bool send_all(int fd, const char *data, size_t size, long long deadline)
{
	while (size) {
		ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);

		if (sent < 0) {
			if ((errno == EAGAIN && wait_for(fd, POLLOUT, deadline)) || errno == EINTR)
				continue;
			return false;
		}
		data += sent;
		size -= (size_t)sent;
	}
	return true;
}

static bool receive_all(int fd, char *data, size_t size, long long deadline)
{
	while (size) {
		ssize_t got = recv(fd, data, size, 0);

		if (got == 0)
			return false;
		if (got < 0) {
			if ((errno == EAGAIN && wait_for(fd, POLLIN, deadline)) || errno == EINTR)
				continue;
			return false;
		}
		data += got;
		size -= (size_t)got;
	}
	return true;
}

bool agent_send(int fd, char type, const void *payload, size_t size, long long deadline)
{
	char header[5];
	uint32_t length = htonl((uint32_t)(size + 1));

	memcpy(header, &length, 4);
	header[4] = type;
	return send_all(fd, header, sizeof(header), deadline) && send_all(fd, payload, size, deadline);
}

bool agent_receive(int fd, struct frame *frame, long long deadline)
{
	char header[5];
	uint32_t length;

	frame->payload = NULL;
	if (!receive_all(fd, header, sizeof(header), deadline))
		return false;
	memcpy(&length, header, 4);
	length = ntohl(length);
	if (length < 1 || length > LARGEST_FRAME)
		return false;
	frame->type = header[4];
	frame->size = length - 1;
	frame->payload = malloc(frame->size + 1);
	if (!frame->payload)
		return false;
	if (!receive_all(fd, frame->payload, frame->size, deadline)) {
		free(frame->payload);
		frame->payload = NULL;
		return false;
	}
	frame->payload[frame->size] = 0;
	return true;
}
