/* SPDX-License-Identifier: Apache-2.0
 *
 * The load end of the benchmarks: one static program, so that it runs alike in a pod, in a node's
 * namespaces and in a bare network namespace.
 *
 *   probe serve PORT                   echo every byte; one thread per connection; ends with its standard input
 *   probe rtt ADDRESS PORT COUNT       COUNT one-byte round trips on one connection
 *   probe connect ADDRESS PORT SECONDS THREADS
 *                                      connect, one byte there and back, reset; as often as possible
 *   probe send ADDRESS PORT SECONDS    one stream, as fast as it goes, to `probe sink`
 *   probe sink PORT                    read and forget
 *
 * Results are one line of JSON; times are microseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in peer;

static double seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static void die(const char *what)
{
	fprintf(stderr, "probe: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void set_nodelay(int fd)
{
	int one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* ---- servers ---- */

static int echoing;

static void *attend(void *argument)
{
	int fd = (int)(long)argument;
	static __thread char buffer[1 << 18];
	ssize_t got;

	set_nodelay(fd);
	while ((got = read(fd, buffer, echoing ? 1 : sizeof buffer)) > 0)
		if (echoing && write(fd, buffer, got) != got)
			break;
	close(fd);
	return NULL;
}

/* A server ends when whoever started it closes its input: that works through `kubectl exec -i` too. */
static void *end_with_input(void *unused)
{
	char byte;

	(void)unused;
	while (read(0, &byte, 1) > 0)
		;
	exit(0);
}

static void listen_on(int port)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	pthread_attr_t small;
	pthread_t watcher;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&any, sizeof any) || listen(fd, 4096))
		die("listen");
	pthread_create(&watcher, NULL, end_with_input, NULL);
	pthread_attr_init(&small);
	pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
	for (;;) {
		int client = accept(fd, NULL, NULL);
		pthread_t thread;
		if (client >= 0 && pthread_create(&thread, &small, attend, (void *)(long)client))
			close(client);
	}
}

/* ---- one connection, COUNT round trips ---- */

static void round_trips(long count)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	double *took = malloc(count * sizeof *took);
	char byte = 'x';

	if (connect(fd, (struct sockaddr *)&peer, sizeof peer))
		die("connect");
	set_nodelay(fd);
	for (long i = -1000; i < count; i++) {
		double start = seconds();
		if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
			die("round trip");
		if (i >= 0)
			took[i] = (seconds() - start) * 1e6;
	}
	qsort(took, count, sizeof *took, by_value);
	printf("{\"count\":%ld,\"p50\":%.2f,\"p90\":%.2f,\"p99\":%.2f}\n", count, took[count / 2],
	       took[count * 9 / 10], took[count * 99 / 100]);
}

/* ---- new connections ---- */

#define MAX_THREADS 64
#define KEEP 200000

static double until;
static long done[MAX_THREADS], failed[MAX_THREADS];
static double *latency[MAX_THREADS];

static void *connect_often(void *argument)
{
	long me = (long)argument;
	struct linger reset = {1, 0};
	struct timeval patience = {2, 0};
	char byte = 'x';

	while (seconds() < until) {
		double start = seconds();
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
		set_nodelay(fd);
		if (connect(fd, (struct sockaddr *)&peer, sizeof peer) || write(fd, &byte, 1) != 1 ||
		    read(fd, &byte, 1) != 1)
			failed[me]++;
		else {
			if (done[me] < KEEP)
				latency[me][done[me]] = (seconds() - start) * 1e6;
			done[me]++;
		}
		close(fd);
	}
	return NULL;
}

static void connections(double length, int threads)
{
	pthread_t thread[MAX_THREADS];
	double start = seconds(), *all;
	long good = 0, bad = 0, kept = 0;

	if (threads < 1 || threads > MAX_THREADS)
		threads = 1;
	until = start + length;
	for (long i = 0; i < threads; i++) {
		latency[i] = malloc(KEEP * sizeof(double));
		pthread_create(&thread[i], NULL, connect_often, (void *)i);
	}
	for (int i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	length = seconds() - start;
	all = malloc((size_t)threads * KEEP * sizeof *all);
	for (int i = 0; i < threads; i++) {
		good += done[i];
		bad += failed[i];
		for (long j = 0; j < done[i] && j < KEEP; j++)
			all[kept++] = latency[i][j];
	}
	qsort(all, kept, sizeof *all, by_value);
	printf("{\"ok\":%ld,\"failed\":%ld,\"perSecond\":%.0f,\"p50\":%.1f,\"p99\":%.1f}\n", good, bad,
	       good / length, kept ? all[kept / 2] : 0, kept ? all[kept * 99 / 100] : 0);
}

/* ---- one stream ---- */

static void stream(double length)
{
	static char buffer[1 << 17];
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	double start, sent = 0;

	if (connect(fd, (struct sockaddr *)&peer, sizeof peer))
		die("connect");
	start = seconds();
	while (seconds() < start + length) {
		ssize_t wrote = write(fd, buffer, sizeof buffer);
		if (wrote < 0)
			die("write");
		sent += wrote;
	}
	printf("{\"gbit\":%.3f}\n", sent * 8 / (seconds() - start) / 1e9);
}

int main(int count, char **word)
{
	signal(SIGPIPE, SIG_IGN);
	if (count == 3 && (!strcmp(word[1], "serve") || !strcmp(word[1], "sink"))) {
		echoing = !strcmp(word[1], "serve");
		listen_on(atoi(word[2]));
	}
	if (count < 5) {
		fprintf(stderr, "usage: probe serve|sink PORT, rtt ADDRESS PORT COUNT,\n"
				"       connect ADDRESS PORT SECONDS THREADS, send ADDRESS PORT SECONDS\n");
		return 2;
	}
	peer.sin_family = AF_INET;
	peer.sin_port = htons(atoi(word[3]));
	if (inet_pton(AF_INET, word[2], &peer.sin_addr) != 1) {
		fprintf(stderr, "probe: %s is not an IPv4 address\n", word[2]);
		return 2;
	}
	if (!strcmp(word[1], "rtt"))
		round_trips(atol(word[4]));
	else if (!strcmp(word[1], "connect"))
		connections(atof(word[4]), count > 5 ? atoi(word[5]) : 1);
	else if (!strcmp(word[1], "send"))
		stream(atof(word[4]));
	else
		return 2;
	return 0;
}
