/* The process that holds a pod's namespaces: it sleeps, collects orphans, and leaves when told. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void leave(int number)
{
	(void)number;
	_exit(0);
}

static void collect(int number)
{
	(void)number;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

int main(void)
{
	struct sigaction leaving = { .sa_handler = leave };
	struct sigaction collecting = { .sa_handler = collect, .sa_flags = SA_NOCLDSTOP };

	sigaction(SIGINT, &leaving, NULL);
	sigaction(SIGTERM, &leaving, NULL);
	sigaction(SIGCHLD, &collecting, NULL);
	for (;;)
		pause();
}
