/* See child.h. The result lies in shared memory, what the process says on its standard channels in a file without a name. */
#include "child.h"

#include "daemon/assert.h"

#include <ctype.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OUTPUT_MAX 16384u /* of what a process said, its end */

uint64_t sim_real_ms(void)
{
	struct timespec now;
	int r = clock_gettime(CLOCK_MONOTONIC, &now);
	raft_assert(r == 0);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static sigset_t awaited(void)
{
	sigset_t set;
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	return set;
}

/* Children inherit that: what a terminal sends to all of them ends none before its verdict. */
void sim_child_prepare(void)
{
	const sigset_t set = awaited();
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
}

bool sim_child_wait(void)
{
	const struct timespec timeout = {.tv_nsec = 200000000};
	const sigset_t set = awaited();
	int number = sigtimedwait(&set, NULL, &timeout); /* too early or too late does no harm: the caller asks every child */
	return number != SIGINT && number != SIGTERM;
}

static void child_main(const struct sim_plan *plan, struct sim_result *result, int output, pid_t parent)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	if (dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0)
		_exit(1);
	sim_run(plan, result, false);
	exit(0); /* not _exit(): leak checkers and coverage report at the exit */
}

void sim_child_start(struct sim_child *child, const struct sim_plan *plan)
{
	pid_t parent = getpid();
	*child = (struct sim_child){.seen_ms = sim_real_ms()};
	child->result = mmap(NULL, sizeof *child->result, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	child->output = memfd_create("raft-sim", MFD_CLOEXEC);
	raft_assert(child->result != MAP_FAILED && child->output >= 0);
	(void)fflush(NULL); /* or the child prints it again */
	child->pid = fork();
	raft_assert(child->pid >= 0);
	if (child->pid == 0)
		child_main(plan, child->result, child->output, parent);
}

static void child_forget(struct sim_child *child)
{
	(void)munmap(child->result, sizeof *child->result);
	(void)close(child->output);
	*child = (struct sim_child){0};
}

void sim_child_kill(struct sim_child *child)
{
	if (child->pid == 0)
		return;
	(void)kill(child->pid, SIGKILL);
	(void)waitpid(child->pid, NULL, 0);
	child_forget(child);
}

static char *child_output(const struct sim_child *child)
{
	struct stat status;
	if (fstat(child->output, &status) != 0 || status.st_size == 0)
		return NULL;
	size_t size = (size_t)status.st_size > OUTPUT_MAX ? OUTPUT_MAX : (size_t)status.st_size;
	char *text = malloc(size + 1);
	raft_assert(text != NULL);
	ssize_t n = pread(child->output, text, size, status.st_size - (off_t)size);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

/* The line of output with this text in it, without a journal's priority; false: there is none. */
static bool find_line(const char *output, const char *text, char *ret, size_t size)
{
	const char *found = output == NULL ? NULL : strstr(output, text);
	if (found == NULL)
		return false;
	const char *begin = found;
	while (begin > output && begin[-1] != '\n')
		begin--;
	if (strncmp(begin, "<2>", 3) == 0)
		begin += 3;
	(void)snprintf(ret, size, "%.*s", (int)strcspn(begin, "\n"), begin);
	return true;
}

static void explain(struct sim_verdict *verdict, int status, bool hung)
{
	char *why = verdict->failure;
	if (hung)
		(void)snprintf(why, SIM_FAILURE_MAX, "hangs: virtual time stands still");
	else if (verdict->result.failure[0] != '\0')
		(void)snprintf(why, SIM_FAILURE_MAX, "%s", verdict->result.failure);
	else if (find_line(verdict->output, "invariant broken: ", why, SIM_FAILURE_MAX) ||
		 find_line(verdict->output, "runtime error: ", why, SIM_FAILURE_MAX) ||
		 find_line(verdict->output, "SUMMARY: ", why, SIM_FAILURE_MAX))
		return;
	else if (WIFSIGNALED(status))
		(void)snprintf(why, SIM_FAILURE_MAX, "dies of signal %d, %s", WTERMSIG(status),
			       strsignal(WTERMSIG(status)));
	else
		(void)snprintf(why, SIM_FAILURE_MAX, "exits with %d", WEXITSTATUS(status));
}

/* The message up to its first colon, or its first words; of a broken invariant, the place. Numbers don't count, except those of
 * lines: in a smaller run it is another member or another index. */
static void failure_kind(const char *failure, bool place, char *ret)
{
	size_t n = 0;
	unsigned words = 0;
	for (const char *c = failure; *c != '\0' && n < SIM_FAILURE_MAX - 1; c++) {
		if (!place && (*c == ':' || (*c == ' ' && ++words == 6)))
			break;
		if (place || !isdigit((unsigned char)*c))
			ret[n++] = *c;
	}
	ret[n] = '\0';
}

bool sim_child_ended(struct sim_child *child, uint64_t hang_ms, struct sim_verdict *ret_verdict)
{
	int status;
	bool hung = false;
	uint64_t virtual_us = __atomic_load_n(&child->result->now_us, __ATOMIC_RELAXED);
	if (virtual_us != child->seen_us) {
		child->seen_us = virtual_us;
		child->seen_ms = sim_real_ms();
	}
	pid_t ended = waitpid(child->pid, &status, WNOHANG);
	raft_assert(ended >= 0);
	if (ended == 0) {
		if (sim_real_ms() - child->seen_ms < hang_ms)
			return false;
		hung = true;
		(void)kill(child->pid, SIGKILL);
		ended = waitpid(child->pid, &status, 0);
		raft_assert(ended == child->pid);
	}
	struct sim_verdict verdict = {.result = *child->result};
	verdict.passed = !hung && WIFEXITED(status) && WEXITSTATUS(status) == 0 && verdict.result.done;
	if (!verdict.passed) {
		verdict.output = child_output(child);
		explain(&verdict, status, hung);
		bool place = strstr(verdict.failure, "invariant broken: ") != NULL;
		failure_kind(verdict.failure, place, verdict.kind);
	}
	child_forget(child);
	*ret_verdict = verdict;
	return true;
}
