/* SPDX-License-Identifier: Apache-2.0
 *
 * A client that never waits for one request before it begins the next, so that a backend in the dark does not slow it
 * down: load ADDRESS PORT PER_SECOND TIMEOUT_MS [SECONDS]
 *
 * Each request is a connection of its own: GET /hostname. A line each when it ends: begin (CLOCK_MONOTONIC,
 * milliseconds), how long it took (ms), outcome (ok, refused, timeout, error), and what answered or '-'. Ends after
 * SECONDS, or with its standard input. What others kept from it is not held against them: an answer that is there counts
 * however late this process gets to read it, and times in which it did not run are lines of their own: since when, for how
 * long, `stalled`, '-'.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST 4096
/* Milliseconds that a process may have to wait for the processor without a word about it. */
#define STALL 100

struct request {
	double begin;
	int sent;
	size_t length;
	char answer[1024];
};

/* One more: standard input. */
static struct pollfd polled[MOST + 1];
static struct request requests[MOST];
static int open_requests;
static const char question[] = "GET /hostname HTTP/1.0\r\n\r\n";

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e3 + time.tv_nsec / 1e6;
}

static void end(int at, const char *outcome)
{
	struct request *request = &requests[at];
	const char *body = strstr(request->answer, "\r\n\r\n");
	const char *name = body && body[4] ? body + 4 : "-";

	printf("%.1f %.1f %s %.63s\n", request->begin, now() - request->begin, outcome, name);
	close(polled[at].fd);
	open_requests--;
	polled[at] = polled[open_requests];
	requests[at] = requests[open_requests];
}

static void begin(const struct sockaddr *to, socklen_t length)
{
	int fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct request *request = &requests[open_requests];

	if (fd < 0 || open_requests == MOST) {
		fprintf(stderr, "load: %s\n", fd < 0 ? strerror(errno) : "too many requests at once");
		exit(1);
	}
	memset(request, 0, sizeof *request);
	request->begin = now();
	polled[open_requests] = (struct pollfd){ .fd = fd, .events = POLLOUT };
	open_requests++;
	if (connect(fd, to, length) < 0 && errno != EINPROGRESS)
		end(open_requests - 1, errno == ECONNREFUSED ? "refused" : "error");
}

static void progress(int at)
{
	struct request *request = &requests[at];
	int fd = polled[at].fd, problem = 0;
	socklen_t size = sizeof problem;

	if (!request->sent) {
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &size);
		if (problem || send(fd, question, sizeof question - 1, MSG_NOSIGNAL) < 0) {
			end(at, problem == ECONNREFUSED ? "refused" : "error");
			return;
		}
		request->sent = 1;
		polled[at].events = POLLIN;
		return;
	}
	ssize_t got = recv(fd, request->answer + request->length,
			   sizeof request->answer - 1 - request->length, 0);
	if (got > 0)
		request->length += got;
	else if (got == 0)
		end(at, strstr(request->answer, " 200 ") ? "ok" : "error");
	else if (errno != EAGAIN)
		end(at, errno == ECONNREFUSED ? "refused" : "error");
}

int main(int count, char **words)
{
	struct sockaddr_in to4 = { .sin_family = AF_INET };
	struct sockaddr_in6 to6 = { .sin6_family = AF_INET6 };
	const struct sockaddr *to = (void *)&to4;
	socklen_t length = sizeof to4;

	if (count < 5) {
		fprintf(stderr, "usage: load ADDRESS PORT PER_SECOND TIMEOUT_MS [SECONDS]\n");
		return 2;
	}
	to4.sin_port = to6.sin6_port = htons(atoi(words[2]));
	if (inet_pton(AF_INET, words[1], &to4.sin_addr) != 1) {
		if (inet_pton(AF_INET6, words[1], &to6.sin6_addr) != 1)
			return 2;
		to = (void *)&to6;
		length = sizeof to6;
	}
	double pause = 1e3 / atof(words[3]), patience = atof(words[4]);
	double until = count > 5 ? now() + atof(words[5]) * 1e3 : 1e300;
	double next = now();
	int ends = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (!ends || open_requests) {
		double time = now();

		if (!ends && time >= next) {
			begin(to, length);
			/* A pause of the whole machine is no reason for a burst after it. */
			next = time - next > 1e3 ? time + pause : next + pause;
		}
		polled[open_requests] = (struct pollfd){ .fd = 0, .events = ends ? 0 : POLLIN };
		double wait = ends ? 10 : next - now();
		wait = wait > 0 ? wait : 0;
		poll(polled, open_requests + 1, wait > 0 ? (int)wait + 1 : 0);
		double late = now() - time - wait;
		if (late > STALL)
			printf("%.1f %.1f stalled -\n", time, late);
		if (polled[open_requests].revents || now() > until)
			ends = 1;
		for (int at = open_requests - 1; at >= 0; at--)
			if (polled[at].revents)
				progress(at);
			else if (time - requests[at].begin > patience)
				end(at, "timeout");
	}
	return 0;
}
