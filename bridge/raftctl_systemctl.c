/*
 * systemctl as a child with its stdout in a pipe; see raftctl_systemctl.h. When the pipe ends, it has, too.
 */
#include "raftctl_systemctl.h"

#include "raftctl.h"
#include "raftctl_link.h"

#include "daemon/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGUMENTS_MAX 16u

extern char **environ;

/* Starts it; 0 and *ret_fd, the end of its stdout, or an error number. */
static int start(const char *const *arguments, pid_t *ret_pid, int *ret_fd)
{
	char *argv[ARGUMENTS_MAX + 2] = {(char[]){"systemctl"}};
	posix_spawn_file_actions_t actions;
	int ends[2];
	for (size_t k = 0; arguments[k] != NULL; k++) {
		raft_assert(k < ARGUMENTS_MAX);
		argv[k + 1] = (char *)(uintptr_t)arguments[k]; /* execve does not change them */
	}
	if (pipe2(ends, O_CLOEXEC) < 0)
		return errno;
	int r = posix_spawn_file_actions_init(&actions);
	if (r == 0) {
		r = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
		if (r == 0)
			r = posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
		if (r == 0)
			r = posix_spawnp(ret_pid, "systemctl", &actions, NULL, argv, environ);
		(void)posix_spawn_file_actions_destroy(&actions);
	}
	close(ends[1]);
	if (r != 0)
		close(ends[0]);
	else
		*ret_fd = ends[0];
	return r;
}

/* Reads to the end of the pipe; what does not fit is dropped. False: the deadline came first. */
static bool read_all(int fd, uint64_t deadline_us, char *output, size_t size)
{
	size_t len = 0;
	char rest[256];
	output[0] = '\0';
	for (;;) {
		uint64_t now = ctl_now_us();
		if (now >= deadline_us)
			return false;
		struct pollfd polled = {.fd = fd, .events = POLLIN};
		uint64_t wait_ms = (deadline_us - now) / 1000u + 1;
		int r = poll(&polled, 1, wait_ms > 60000 ? 60000 : (int)wait_ms);
		if (r <= 0)
			continue; /* the deadline, or a signal */
		bool full = len + 1 >= size;
		ssize_t n = full ? read(fd, rest, sizeof rest) : read(fd, output + len, size - 1 - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return true;
		len += full ? 0 : (size_t)n;
		output[len] = '\0';
	}
}

int ctl_systemctl(const char *const *arguments, uint64_t deadline_us, char *ret_output, size_t size)
{
	pid_t pid = 0;
	int fd = -1;
	int status;
	int r = start(arguments, &pid, &fd);
	if (r != 0)
		return ctl_fail(CTL_FAILED, "cannot run systemctl: %s", strerror(r));
	bool ended = read_all(fd, deadline_us, ret_output, size);
	if (!ended)
		(void)kill(pid, SIGTERM); /* only the one that waits: the job is systemd's */
	close(fd);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return ctl_fail(CTL_FAILED, "cannot wait for systemctl: %s", strerror(errno));
	if (!ended)
		return CTL_TIMEOUT;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return CTL_OK;
	return ctl_fail(CTL_FAILED, "systemctl %s failed", arguments[0]);
}
