/*
 * A run in a process of its own, so that a broken invariant, a crash or a hang ends one run and not the others, and so that
 * whoever judges learns why. Knows nothing of seeds, options, or what is printed.
 */
#ifndef RAFT_KV_SIM_CHILD_H
#define RAFT_KV_SIM_CHILD_H

#include "sim.h"

#include <sys/types.h>

struct sim_child {
	pid_t pid; /* 0: none */
	int output;
	struct sim_result *result; /* shared with the process */
	uint64_t seen_us;	   /* of virtual time, seen last … */
	uint64_t seen_ms;	   /* … and when in real time */
};

struct sim_verdict {
	bool passed;
	struct sim_result result;
	char failure[SIM_FAILURE_MAX]; /* why, in one line */
	char kind[SIM_FAILURE_MAX];    /* what two failures of the same cause likely have in common */
	char *output;		       /* owned: what the process said when it did not die of sim_fail(); may be NULL */
};

/* Before the first child: from then on sim_child_wait() notices ends, and SIGINT and SIGTERM. */
void sim_child_prepare(void);

/* The plan is copied by fork. */
void sim_child_start(struct sim_child *child, const struct sim_plan *plan);

/* Waits until some child ends, for a fraction of a second at most. False: whoever started this process wants it to end. */
bool sim_child_wait(void) __attribute__((warn_unused_result));

/* True when it has ended; one whose virtual time has stood still for hang_ms of real time is made to end first. The verdict's output is the caller's. */
bool sim_child_ended(struct sim_child *child, uint64_t hang_ms, struct sim_verdict *ret_verdict);
void sim_child_kill(struct sim_child *child); /* without a verdict */

uint64_t sim_real_ms(void);

#endif
