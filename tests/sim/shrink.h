/* Makes the plan of a run that fails smaller while it fails in the same way, by trying: fewer members and faults, less time,
 * quiet parameters. Prints nothing. */
#ifndef RAFT_KV_SIM_SHRINK_H
#define RAFT_KV_SIM_SHRINK_H

#include "child.h"

struct sim_shrink {
	struct sim_plan plan; /* in: of a run that failed; out: the smallest found. Owned by the caller */
	char kind[SIM_FAILURE_MAX];
	uint64_t failed_us;   /* when it failed, in virtual time; kept up to date */
	uint64_t deadline_ms; /* sim_real_ms() by which to stop */
	unsigned tries;
};

void sim_shrink(struct sim_shrink *shrink);

#endif
