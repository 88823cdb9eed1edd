/* See jobs.h. */
#include "jobs.h"

#include "child.h"
#include "shrink.h"

#include "daemon/assert.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KINDS_MAX 8u	     /* of failures that are shrunk */
#define FAILED_SEEDS_MAX 50u /* that the summary names */

struct job {
	struct sim_child child; /* pid 0: free */
	struct sim_plan plan;
};

struct campaign {
	const struct sim_options *options;
	struct job jobs[SIM_JOBS_MAX];
	uint64_t next_seed;
	uint64_t begun_ms;
	uint64_t n_started, n_passed, n_failed;
	bool ended_early;
	uint64_t simulated_us;
	struct sim_counts counts; /* of all runs */
	struct sim_counts seeds;  /* in which each of them was more than 0 */
	struct sim_shrink failures[KINDS_MAX];
	unsigned n_kinds;
	uint64_t failed_seeds[FAILED_SEEDS_MAX];
};

void sim_options_plan(const struct sim_options *options, uint64_t seed, struct sim_plan *ret_plan)
{
	sim_plan_draw(ret_plan, seed, options->span_us);
	if (options->members != 0)
		ret_plan->members = options->members;
	ret_plan->reaching = options->goals.reaching;
	ret_plan->reach = options->goals.reach;
}

/* Those that are not 0, or all. */
static void print_counts(const struct sim_counts *counts, bool all)
{
	struct sim_counts copy = *counts;
	const char *between = "";
	for (unsigned k = 0; k < SIM_COUNTS; k++) {
		if (k == SIM_COUNTS - SIM_FAULT_KINDS)
			between = "; faults: ";
		if (!all && *sim_count(&copy, k) == 0)
			continue;
		printf("%s%s %" PRIu64, between, sim_count_name(k), *sim_count(&copy, k));
		between = ", ";
	}
}

void sim_print_passed(const struct sim_plan *plan, const struct sim_result *result)
{
	printf("seed %" PRIu64 ": ok, members %" PRIu64 ", %.1f s, ", plan->seed, plan->members,
	       (double)(result->now_us - SIM_BEGIN_US) / 1e6);
	print_counts(&result->counts, false);
	printf("; history %016" PRIx64 "\n", result->history);
}

static void print_goals(const struct sim_plan *plan)
{
	struct sim_counts copy = plan->reach;
	for (unsigned k = 0; k < SIM_COUNTS; k++)
		if (*sim_count(&copy, k) > 0)
			printf(" --reach %s=%" PRIu64, sim_count_name(k), *sim_count(&copy, k));
}

static void print_failed(const struct sim_options *options, const struct sim_plan *plan,
			 const struct sim_verdict *verdict)
{
	printf("seed %" PRIu64 ": FAILED at %" PRIu64 " us: %s\n", plan->seed, verdict->result.now_us,
	       verdict->failure);
	if (verdict->output != NULL && verdict->result.failure[0] == '\0')
		printf("%s\n", verdict->output);
	printf("    again: %s --seed %" PRIu64 " --seconds %" PRIu64, options->program, plan->seed,
	       options->span_us / 1000000);
	if (options->members != 0)
		printf(" --members %" PRIu64, options->members);
	print_goals(plan);
	printf(" --trace\n");
}

/* Takes the plan. */
static void remember_failure(struct campaign *campaign, struct sim_plan *plan, const struct sim_verdict *verdict)
{
	if (campaign->n_failed < FAILED_SEEDS_MAX)
		campaign->failed_seeds[campaign->n_failed] = plan->seed;
	campaign->n_failed++;
	bool known = campaign->n_kinds == KINDS_MAX;
	for (unsigned k = 0; k < campaign->n_kinds; k++)
		known = known || strcmp(campaign->failures[k].kind, verdict->kind) == 0;
	if (known || campaign->options->shrink_ms == 0) {
		sim_plan_fini(plan);
		return;
	}
	struct sim_shrink *failure = &campaign->failures[campaign->n_kinds++];
	*failure = (struct sim_shrink){.plan = *plan, .failed_us = verdict->result.now_us};
	memcpy(failure->kind, verdict->kind, sizeof failure->kind);
}

static void judge(struct campaign *campaign, struct job *job, struct sim_verdict *verdict)
{
	campaign->simulated_us += verdict->result.now_us - SIM_BEGIN_US;
	for (unsigned k = 0; k < SIM_COUNTS; k++) {
		uint64_t n = *sim_count(&verdict->result.counts, k);
		*sim_count(&campaign->counts, k) += n;
		*sim_count(&campaign->seeds, k) += n > 0;
	}
	if (verdict->passed) {
		campaign->n_passed++;
		if (!campaign->options->quiet)
			sim_print_passed(&job->plan, &verdict->result);
		sim_plan_fini(&job->plan);
	} else {
		print_failed(campaign->options, &job->plan, verdict);
		remember_failure(campaign, &job->plan, verdict);
	}
	free(verdict->output);
	(void)fflush(stdout);
}

static bool more_to_start(const struct campaign *campaign)
{
	const struct sim_options *options = campaign->options;
	if (options->run_ms > 0)
		return sim_real_ms() - campaign->begun_ms < options->run_ms;
	return campaign->n_started <= options->last_seed - options->first_seed;
}

/* Starts and judges what there is to start and to judge; false when nothing is left. */
static bool turn(struct campaign *campaign)
{
	bool any = false;
	for (unsigned k = 0; k < campaign->options->jobs; k++) {
		struct job *job = &campaign->jobs[k];
		struct sim_verdict verdict;
		if (job->child.pid != 0 && sim_child_ended(&job->child, campaign->options->hang_ms, &verdict))
			judge(campaign, job, &verdict);
		if (job->child.pid == 0 && more_to_start(campaign)) {
			sim_options_plan(campaign->options, campaign->next_seed++, &job->plan);
			sim_child_start(&job->child, &job->plan);
			campaign->n_started++;
		}
		any = any || job->child.pid != 0;
	}
	return any;
}

/* Runs under way give no verdict any more. */
static void give_up(struct campaign *campaign)
{
	for (unsigned k = 0; k < campaign->options->jobs; k++) {
		struct job *job = &campaign->jobs[k];
		if (job->child.pid == 0)
			continue;
		sim_child_kill(&job->child);
		sim_plan_fini(&job->plan);
		campaign->n_started--;
	}
	campaign->ended_early = true;
}

static unsigned count_loud(struct sim_plan *plan)
{
	unsigned n = 0;
	for (unsigned k = 0; k < SIM_PARAMETER_COUNT; k++)
		n += *sim_plan_parameter(plan, k) != sim_parameters[k].quiet;
	return n;
}

static void write_replay(const struct sim_options *options, const struct sim_shrink *failure)
{
	char path[4096];
	(void)snprintf(path, sizeof path, "%s/raft-sim-%" PRIu64 ".replay", options->directory, failure->plan.seed);
	FILE *file = fopen(path, "we");
	if (file != NULL) {
		(void)fprintf(file, "# %s --replay %s --trace\n# fails at %" PRIu64 " us: %s\n", options->program, path,
			      failure->failed_us, failure->kind);
		sim_plan_write(&failure->plan, file);
	}
	if (file == NULL || fclose(file) != 0) {
		printf("    %s cannot be written\n", path);
		return;
	}
	printf("    again: %s --replay %s --trace\n", options->program, path);
}

static void shrink_failure(const struct sim_options *options, struct sim_shrink *failure)
{
	const struct sim_plan before = failure->plan; /* its faults are not looked at afterwards */
	unsigned loud = count_loud(&failure->plan);
	failure->deadline_ms = sim_real_ms() + options->shrink_ms;
	sim_shrink(failure);
	printf("seed %" PRIu64 " shrunk in %u runs: members %" PRIu64 " -> %" PRIu64 ", faults %zu -> %zu, "
	       "parameters %u -> %u, seconds %.3f -> %.3f\n",
	       before.seed, failure->tries, before.members, failure->plan.members, before.n_faults,
	       failure->plan.n_faults, loud, count_loud(&failure->plan), (double)before.span_us / 1e6,
	       (double)failure->plan.span_us / 1e6);
	write_replay(options, failure);
	sim_plan_fini(&failure->plan);
	(void)fflush(stdout);
}

static void print_rows(const struct campaign *campaign, const char *what, unsigned first, unsigned end)
{
	struct sim_counts counts = campaign->counts, seeds = campaign->seeds;
	printf("| %s | times | in seeds |\n|---|---:|---:|\n", what);
	for (unsigned k = first; k < end; k++)
		printf("| `%s` | %" PRIu64 " | %" PRIu64 " |\n", sim_count_name(k), *sim_count(&counts, k),
		       *sim_count(&seeds, k));
	printf("\n");
}

/* In the form in which READMEs and reports have their tables. */
static void print_table(const struct campaign *campaign)
{
	const unsigned counters = SIM_COUNTS - SIM_FAULT_KINDS;
	uint64_t faults = 0;
	for (unsigned k = 0; k < SIM_FAULT_KINDS; k++)
		faults += campaign->counts.faults[k];
	print_rows(campaign, "fault", counters, SIM_COUNTS);
	print_rows(campaign, "what happened", 0, counters);
	printf("| in all | |\n|---|---:|\n| seeds | %" PRIu64 " |\n| simulated hours | %.2f |\n| faults | %" PRIu64
	       " |\n\n",
	       campaign->n_started, (double)campaign->simulated_us / 3.6e9, faults);
}

static void print_sum(const struct campaign *campaign)
{
	printf("sum: ");
	print_counts(&campaign->counts, true);
	printf("\n");
}

static void print_summary(const struct campaign *campaign, uint64_t real_ms)
{
	double simulated = (double)campaign->simulated_us / 1e6;
	double real = (double)(real_ms + 1) / 1e3;
	if (campaign->options->table)
		print_table(campaign);
	else
		print_sum(campaign);
	printf("%" PRIu64 " passed, %" PRIu64 " failed: %" PRIu64 " seeds from %" PRIu64
	       ", %.2f simulated hours in %.1f s, %.0f times real time\n",
	       campaign->n_passed, campaign->n_failed, campaign->n_started, campaign->options->first_seed,
	       simulated / 3600, real, simulated / real);
	if (campaign->n_failed == 0)
		return;
	printf("failed:");
	for (unsigned k = 0; k < campaign->n_failed && k < FAILED_SEEDS_MAX; k++)
		printf(" %" PRIu64, campaign->failed_seeds[k]);
	printf("%s\n", campaign->n_failed > FAILED_SEEDS_MAX ? " and more" : "");
}

uint64_t sim_jobs_run(const struct sim_options *options)
{
	struct campaign *campaign = calloc(1, sizeof *campaign);
	raft_assert(campaign != NULL && options->jobs <= SIM_JOBS_MAX);
	campaign->options = options;
	campaign->next_seed = options->first_seed;
	campaign->begun_ms = sim_real_ms();
	sim_child_prepare();
	while (turn(campaign))
		if (!sim_child_wait()) {
			give_up(campaign);
			break;
		}
	uint64_t real_ms = sim_real_ms() - campaign->begun_ms;
	for (unsigned k = 0; k < campaign->n_kinds; k++)
		shrink_failure(options, &campaign->failures[k]);
	print_summary(campaign, real_ms);
	uint64_t failed = campaign->n_failed;
	if (campaign->ended_early && options->run_ms == 0)
		failed += options->last_seed - options->first_seed + 1 - campaign->n_started;
	free(campaign);
	return failed;
}
