/*
 * Many runs: each in a process of its own, some at a time, a verdict line for each and a summary of all. What fails is shrunk
 * at the end, once for each kind of failure.
 */
#ifndef RAFT_KV_SIM_JOBS_H
#define RAFT_KV_SIM_JOBS_H

#include "sim.h"

#define SIM_JOBS_MAX 256u

struct sim_options {
	const char *program; /* as the user called it: for the commands that are printed */
	uint64_t first_seed, last_seed;
	uint64_t run_ms;  /* of real time to begin new runs in; 0: as many as there are seeds */
	uint64_t hang_ms; /* of real time in which a run's virtual time may stand still */
	uint64_t span_us;
	uint64_t members;      /* 0: the seed decides */
	struct sim_plan goals; /* only what it is to reach */
	unsigned jobs;
	bool quiet;
	bool table;	       /* the summary is one */
	uint64_t shrink_ms;    /* of real time for each shrinking; 0: none */
	const char *directory; /* for replay files */
};

/* The plan of a seed under these options. */
void sim_options_plan(const struct sim_options *options, uint64_t seed, struct sim_plan *ret_plan);

/* Returns the number of runs that failed, or that were asked for and did not happen: SIGINT and SIGTERM end it early, with a
 * summary. */
uint64_t sim_jobs_run(const struct sim_options *options);

void sim_print_passed(const struct sim_plan *plan, const struct sim_result *result);

#endif
