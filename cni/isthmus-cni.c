/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CNI plugin (CNI specification 0.3.1 to 1.1.0): ADD, DEL, CHECK, STATUS, GC, VERSION.
 *
 * It decides nothing: it hands its environment and standard input to the agent, does what the agent's
 * plan says in the pod's namespace (the agent never enters one), and prints the agent's answer. Without
 * an agent ADD waits for one and then asks to be tried again (code 11); DEL deletes the pod's device
 * itself and leaves a note for the agent, because a pod must be able to die at any time.
 *
 * Run under the name `loopback` it is that plugin instead (loopback.h).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"
#include "error.h"
#include "loopback.h"
#include "plan.h"

#define SUPPORTED "\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\""

struct call {
	const char *command;
	const char *container;
	const char *netns;
	const char *ifname;
	char version[16]; /* the configuration's cniVersion */
	char *input;
	size_t input_size;
	const char *socket;
	const char *releases;
	long long deadline;
};

extern char **environ;

static const char *env(const char *name, const char *otherwise)
{
	const char *value = getenv(name);

	return value && *value ? value : otherwise;
}

/* The configuration's cniVersion, found without a JSON parser: its value can hold no escape. */
static void find_version(const char *input, char out[16])
{
	const char *at = strstr(input, "\"cniVersion\"");
	size_t length;

	if (!at)
		return;
	at += strlen("\"cniVersion\"");
	at += strspn(at, " \t\r\n:");
	if (*at++ != '"')
		return;
	length = strspn(at, "0123456789.");
	if (at[length] == '"' && length > 0 && length < 16) {
		memcpy(out, at, length);
		out[length] = 0;
	}
}

static char *read_input(size_t *size)
{
	size_t room = 16 * 1024, used = 0;
	char *input = malloc(room + 1);

	while (input) {
		ssize_t got = read(STDIN_FILENO, input + used, room - used);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			free(input);
			return NULL;
		}
		if (got == 0) {
			input[used] = 0;
			*size = used;
			return input;
		}
		used += (size_t)got;
		if (used == room) {
			char *larger = realloc(input, (room *= 2) + 1);

			if (!larger)
				free(input);
			input = larger;
		}
	}
	return NULL;
}

static bool send_request(int fd, const struct call *call)
{
	size_t size = call->input_size + 1;
	char *payload, *at;
	bool sent;

	for (char **each = environ; *each; each++)
		if (!strncmp(*each, "CNI_", 4))
			size += strlen(*each) + 1;
	payload = malloc(size);
	if (!payload)
		return false;
	at = payload;
	for (char **each = environ; *each; each++) {
		size_t length = strlen(*each) + 1;

		if (strncmp(*each, "CNI_", 4))
			continue;
		memcpy(at, *each, length);
		at += length;
	}
	*at++ = 0;
	if (call->input_size)
		memcpy(at, call->input, call->input_size);
	sent = agent_send(fd, 'Q', payload, size, call->deadline);
	free(payload);
	return sent;
}

enum outcome { ANSWERED_OK, ANSWERED_ERROR, UNREACHABLE, LOST };

/*
 * One conversation: request, plans with their reports, answer (printed). When the agent goes away in the middle, what
 * the plan made is undone, so that the next try starts from nothing.
 */
static enum outcome converse(const struct call *call)
{
	struct plan_result done = { 0 };
	enum outcome outcome = LOST;
	struct frame frame;
	int fd = agent_connect(call->socket);

	if (fd < 0)
		return UNREACHABLE;
	if (send_request(fd, call)) {
		while (outcome == LOST && agent_receive(fd, &frame, call->deadline)) {
			if (frame.type == 'R' || frame.type == 'E') {
				fwrite(frame.payload, 1, frame.size, stdout);
				outcome = frame.type == 'R' ? ANSWERED_OK : ANSWERED_ERROR;
			} else if (frame.type == 'P') {
				char report[700];
				bool needs_pod = !strcmp(call->command, "ADD") || !strcmp(call->command, "CHECK");

				plan_run(frame.payload, needs_pod && !done.host_index ? call->netns : NULL, &done);
				if (done.failed && *done.host) {
					plan_delete(done.host, "-");
					done.host[0] = 0;
				}
				if (done.failed)
					snprintf(report, sizeof(report), "%s", done.why);
				else
					snprintf(report, sizeof(report), "%d %d", done.host_index,
						 done.pod_index);
				if (!agent_send(fd, done.failed ? 'F' : 'D', report, strlen(report),
						call->deadline)) {
					free(frame.payload);
					break;
				}
			}
			free(frame.payload);
		}
	}
	close(fd);
	if (outcome != ANSWERED_OK && *done.host)
		plan_delete(done.host, "-");
	return outcome;
}

/* For commands that need the agent: waits for it until the deadline. */
static int ask(const struct call *call, int code_without)
{
	bool seen = false;

	for (;;) {
		struct timespec pause = { .tv_nsec = 20 * 1000 * 1000 };
		enum outcome outcome = converse(call);

		if (outcome == ANSWERED_OK)
			return 0;
		if (outcome == ANSWERED_ERROR)
			return 1;
		seen = seen || outcome == LOST;
		if (now_ms() + 20 >= call->deadline)
			break;
		nanosleep(&pause, NULL);
	}
	return print_error(call->version, code_without,
			   seen ? "the Isthmus agent did not answer" : "the Isthmus agent is not running",
			   call->socket);
}

/* The host side's name is made of the attachment (FNV-1a, 44 bits), so that it is known without an agent. */
static void host_name(const struct call *call, char out[16])
{
	uint64_t hash = 0xcbf29ce484222325ull;
	const char *parts[] = { call->container, "/", call->ifname };

	for (unsigned int part = 0; part < 3; part++)
		for (const char *at = parts[part]; *at; at++)
			hash = (hash ^ (unsigned char)*at) * 0x100000001b3ull;
	snprintf(out, 16, "ist%011llx", (unsigned long long)(hash & 0xfffffffffffull));
}

static bool leave_note(const struct call *call, char *path, size_t size)
{
	char parent[512];
	int fd;

	snprintf(parent, sizeof(parent), "%s", call->releases);
	for (char *slash = strchr(parent + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		mkdir(parent, 0755);
		*slash = '/';
	}
	mkdir(parent, 0700);
	if (snprintf(path, size, "%s/%s@%s", call->releases, call->container, call->ifname) >= (int)size) {
		errno = ENAMETOOLONG;
		return false;
	}
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	close(fd);
	return true;
}

static int delete_without_agent(const struct call *call)
{
	char host[16], alias[320], note[1024];
	int error;

	host_name(call, host);
	snprintf(alias, sizeof(alias), "%s/%s", call->container, call->ifname);
	error = plan_delete(host, alias);
	if (error)
		return print_error(call->version, CODE_IO, "delete the pod's device", strerror(-error));
	if (!leave_note(call, note, sizeof(note)))
		return print_error(call->version, CODE_IO, "queue the release of the pod's address", strerror(errno));
	/* An agent that began to listen meanwhile may have read its queue already: tell it as well. */
	if (converse(call) == ANSWERED_OK)
		unlink(note);
	return 0;
}

static int delete(const struct call *call)
{
	enum outcome outcome = converse(call);

	if (outcome == ANSWERED_OK)
		return 0;
	if (outcome == ANSWERED_ERROR)
		return 1;
	return delete_without_agent(call);
}

static bool plain_name(const char *text, size_t longest)
{
	return *text && strlen(text) <= longest && !strchr(text, '/') && !strchr(text, ' ') &&
	       !strchr(text, '\n') && strcmp(text, ".") && strcmp(text, "..");
}

static int check_environment(const struct call *call)
{
	bool pod = !strcmp(call->command, "ADD") || !strcmp(call->command, "CHECK");

	if (!pod && strcmp(call->command, "DEL"))
		return 0;
	if (!plain_name(call->container, 250))
		return print_error(call->version, CODE_INVALID_ENVIRONMENT, "CNI_CONTAINERID is missing or not a name",
				   call->container);
	if (!plain_name(call->ifname, 15))
		return print_error(call->version, CODE_INVALID_ENVIRONMENT, "CNI_IFNAME is missing or not a name",
				   call->ifname);
	if (pod && !*call->netns)
		return print_error(call->version, CODE_INVALID_ENVIRONMENT, "CNI_NETNS is missing", "");
	return 0;
}

static int version(const struct call *call)
{
	printf("{\"cniVersion\":\"%s\",\"supportedVersions\":[" SUPPORTED "]}\n", call->version);
	return 0;
}

/* Not a question to wait with: the runtime asks again. */
static int status(struct call *call)
{
	call->deadline = now_ms() + 2000;
	switch (converse(call)) {
	case ANSWERED_OK:
		return 0;
	case ANSWERED_ERROR:
		return 1;
	default:
		return print_error(call->version, CODE_NOT_AVAILABLE, "the Isthmus agent is not running",
				   call->socket);
	}
}

int main(int count, char **arguments)
{
	struct call call = {
		.command = env("CNI_COMMAND", ""),
		.container = env("CNI_CONTAINERID", ""),
		.netns = env("CNI_NETNS", ""),
		.ifname = env("CNI_IFNAME", ""),
		.version = "1.0.0",
		.socket = env("ISTHMUS_CNI_SOCK", "/run/isthmus/cni.sock"),
		.releases = env("ISTHMUS_CNI_RELEASES", "/run/isthmus/cni-release"),
	};
	/* How long a command may wait for the agent: a pod's start may wait for an agent's restart. */
	bool add = !strcmp(call.command, "ADD");
	const char *limit = env("ISTHMUS_CNI_TIMEOUT_MS", NULL);

	call.deadline = now_ms() + (limit ? atoll(limit) : add ? 30000 : 10000);
	if (!strcmp(call.command, "")) {
		fprintf(stderr, "isthmus-cni: a CNI plugin, run by a container runtime (CNI_COMMAND is not set)\n");
		return print_error(call.version, CODE_INVALID_ENVIRONMENT, "CNI_COMMAND is missing", "");
	}
	call.input = read_input(&call.input_size);
	if (!call.input)
		return print_error(call.version, CODE_IO, "read the configuration from standard input", strerror(errno));
	find_version(call.input, call.version);
	if (!strcmp(call.command, "VERSION"))
		return version(&call);
	if (count > 0 && !strcmp(basename(arguments[0]), "loopback"))
		return loopback(call.command, call.netns, call.version);
	if (check_environment(&call))
		return 1;
	if (!strcmp(call.command, "DEL"))
		return delete(&call);
	if (!strcmp(call.command, "STATUS"))
		return status(&call);
	if (add || !strcmp(call.command, "CHECK") || !strcmp(call.command, "GC"))
		return ask(&call, CODE_TRY_AGAIN_LATER);
	return print_error(call.version, CODE_INVALID_ENVIRONMENT, "CNI_COMMAND is not known", call.command);
}
