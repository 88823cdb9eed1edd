/* One run: the world begins, events and faults happen in the order of their times, a calm follows, the world ends. */
#include "history.h"
#include "rogue.h"
#include "sim.h"

#include "daemon/assert.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Each write that is repeated is an entry more: where the window is small and the way long, hasty clients keep a cluster busy for
 * a while after they have asked for the last time. */
#define CALM_MORE 3u
#define TRIAL_PARTS 16u /* of a step */
/* Comparing states: a leader waits five seconds for answers, by a clock that drifts by a hundredth at most in the calm. */
#define COMPARE_US 5100000u

/* After the faults: long enough for many elections. */
static uint64_t calm_span_us(const struct sim_plan *plan)
{
	return 5000000 + 10 * (plan->election_min_us + plan->election_spread_us);
}

/* When nobody asks for anything any more: what was answered last still has to reach every member. A heartbeat tells that it is
 * committed, and each of these timeouts has some. */
static uint64_t quiet_span_us(const struct sim_plan *plan)
{
	return 4 * (plan->election_min_us + plan->election_spread_us);
}

static void handle(struct sim *sim, struct sim_event *event)
{
	struct sim_member *member = event->member < SIM_MEMBERS_MAX ? &sim->members[event->member] : NULL;
	switch (event->type) {
	case SIM_FRAME:
	case SIM_LINK:
		sim_network_event(sim, event);
		return;
	case SIM_DISK:
		if (!member->up || member->life != event->life)
			return;
		sim_disk_event(member->disk_files, event->number);
		sim_member_turn(sim, event->member);
		return;
	case SIM_WAKE:
		if (!member->up || member->life != event->life || member->wake_us != event->number)
			return;
		member->wake_us = 0;
		sim_member_turn(sim, event->member);
		return;
	case SIM_CLIENT:
		sim_client_event(sim, event->member);
		return;
	case SIM_ANSWER:
		sim_protocol_answered(sim, event);
		free(event->data);
		return;
	case SIM_FAULT:
		sim_fault_event(sim, event);
		return;
	}
}

static void world_begin(struct sim *sim)
{
	sim_network_new(sim);
	sim_checks_new(sim);
	sim_progress_new(sim);
	sim_reads_new(sim);
	sim_leases_new(sim);
	sim_snapshots_new(sim);
	sim_stale_new(sim);
	sim_operator_new(sim);
	sim_rogue_new(sim);
	sim_members_new(sim);
	sim_clients_begin(sim);
}

static void world_end(struct sim *sim)
{
	sim_members_free(sim);
	sim_network_free(sim);
	for (size_t k = 0; k < sim->heap_len; k++)
		free(sim->heap[k].data);
	free(sim->heap);
	sim_history_free(sim);
	sim_clients_end(sim);
	sim_checks_free(sim);
	sim_progress_free(sim);
	sim_reads_free(sim);
	sim_leases_free(sim);
	sim_snapshots_free(sim);
	sim_stale_free(sim);
	sim_operator_free(sim);
	sim_rogue_free(sim);
	(void)XXH3_freeState(sim->history);
	free(sim);
}

static void run_fault(struct sim *sim, const struct sim_fault *fault)
{
	if (sim_fault_run(sim, fault) > 0)
		sim->counts.faults[fault->kind]++;
}

static void check_reached(struct sim *sim)
{
	for (unsigned k = 0; k < SIM_COUNTS; k++)
		if (*sim_count(&sim->counts, k) < *sim_count(&sim->plan.reach, k))
			return;
	sim_fail(sim, "reached: what was asked for");
}

/* Whoever watches from another process sees how far the run is. */
static void tell_time(struct sim *sim)
{
	__atomic_store_n(&sim->result->now_us, sim->now_us, __ATOMIC_RELAXED);
}

/* Everything that happens until the given time. Of a fault and an event at the same time the fault is first. */
static void run_until(struct sim *sim, uint64_t end_us, size_t *fault)
{
	while (true) {
		uint64_t event_us = sim_next_us(sim);
		uint64_t fault_us =
			*fault < sim->plan.n_faults ? SIM_BEGIN_US + sim->plan.faults[*fault].time_us : UINT64_MAX;
		if ((event_us < fault_us ? event_us : fault_us) >= end_us)
			break;
		if (fault_us <= event_us) {
			sim->now_us = fault_us;
			tell_time(sim);
			run_fault(sim, &sim->plan.faults[(*fault)++]);
		} else {
			struct sim_event event;
			sim_next(sim, &event);
			sim->counts.events++;
			tell_time(sim);
			sim_trace_event(sim, &event);
			handle(sim, &event);
		}
		if (sim->plan.reaching)
			check_reached(sim);
	}
	sim->now_us = end_us;
	tell_time(sim);
}

/* While voters are missing, a leader waits five seconds for them before it says that states differ, and stops itself: that may
 * be at the very end. Those that stopped are started again, and get as long a calm as the others had. What somebody did not hear
 * of it the next leader says once more. */
static void run_diverged(struct sim *sim, size_t *fault)
{
	uint64_t span_us = calm_span_us(&sim->plan);
	for (unsigned more = 0; more < CALM_MORE && sim->now_us < sim->diverged_us + span_us; more++) {
		run_until(sim, sim->diverged_us + span_us, fault);
		run_until(sim, sim->now_us + sim_members_apply_us(sim) + quiet_span_us(&sim->plan), fault);
	}
}

/* Who has no hash of the entry that a leader asks about, because it started or installed a snapshot behind it, does not answer: the
 * round takes all its time however many checkpoints pass meanwhile, and so may the next one, about the newest, before two that
 * differ count as undecided. */
static void run_wrong(struct sim *sim, size_t *fault)
{
	if (sim_members_wrong(sim) == SIM_MEMBERS_MAX)
		return;
	sim_note(sim, "a wrong state has not been found out: two more rounds");
	run_until(sim, sim->now_us + 2 * COMPARE_US + quiet_span_us(&sim->plan), fault);
	run_diverged(sim, fault);
}

/* A step of the trial, and then what it asks for. */
static uint64_t run_step(struct sim *sim, uint64_t now_us, uint64_t step_us, size_t *fault)
{
	for (unsigned part = 1; part < TRIAL_PARTS; part++) {
		run_until(sim, now_us + step_us / TRIAL_PARTS * part, fault);
		sim_trial_tend(sim);
	}
	run_until(sim, now_us + step_us, fault);
	return now_us + step_us;
}

/* Returns the time at which the trial, if there is one, is over. A leader may stop itself for what a wrong state, which is gone, has
 * said: while voters are missing that takes five seconds. What the step asks for is counted anew from then on, and has as long. */
static uint64_t run_trial(struct sim *sim, uint64_t now_us, size_t *fault)
{
	uint64_t step_us = sim_trial_begin(sim);
	for (unsigned step = 0; step_us > 0 && step < SIM_TRIAL_STEPS; step++) {
		uint64_t began_us = now_us;
		now_us = run_step(sim, now_us, step_us, fault);
		for (unsigned more = 0; more < CALM_MORE && sim->diverged_us >= began_us; more++) {
			sim_trial_anew(sim);
			began_us = now_us;
			now_us = run_step(sim, now_us, step_us, fault);
		}
		now_us += sim_trial_patience_us(sim);
		run_until(sim, now_us, fault);
		sim_trial_step(sim, step);
	}
	sim_trial_end(sim);
	return now_us;
}

static struct sim_random generator(const struct sim_plan *plan, const char *name)
{
	return (struct sim_random){XXH3_64bits_withSeed(name, strlen(name), ~plan->seed)};
}

static struct sim *sim_new(const struct sim_plan *plan, struct sim_result *result, bool trace)
{
	struct sim *sim = calloc(1, sizeof *sim);
	raft_assert(sim != NULL);
	sim->plan = *plan;
	sim->result = result;
	sim->trace = trace;
	sim->now_us = SIM_BEGIN_US;
	sim->random_network = generator(plan, "network");
	sim->random_disk = generator(plan, "disk");
	sim->random_client = generator(plan, "client");
	sim->random_member = generator(plan, "member");
	sim->history = XXH3_createState();
	raft_assert(sim->history != NULL);
	(void)XXH3_64bits_reset(sim->history);
	return sim;
}

void sim_run(const struct sim_plan *plan, struct sim_result *result, bool trace)
{
	struct sim *sim = sim_new(plan, result, trace);
	uint64_t calm_us = SIM_BEGIN_US + plan->span_us;
	size_t fault = 0;
	world_begin(sim);
	run_until(sim, calm_us, &fault);
	uint64_t operations = sim->counts.operations;
	sim->calm = true;
	sim_note(sim, "calm");
	sim_faults_calm(sim);
	sim->silent = false;
	sim_clients_calm(sim);
	fault = plan->n_faults;
	calm_us += sim_members_apply_us(sim); /* before that nobody could be answered */
	run_until(sim, calm_us, &fault);
	calm_us = run_trial(sim, calm_us, &fault);
	run_until(sim, calm_us + calm_span_us(plan) / 2, &fault);
	sim_clients_silence(sim);
	calm_us += calm_span_us(plan);
	run_until(sim, calm_us, &fault);
	for (unsigned more = 0; more < CALM_MORE && sim_clients_wait(sim); more++)
		run_until(sim, calm_us += calm_span_us(plan), &fault);
	calm_us += sim_members_apply_us(sim); /* thousands of entries may have been committed in the last moments */
	run_until(sim, calm_us + quiet_span_us(plan), &fault);
	run_diverged(sim, &fault);
	run_wrong(sim, &fault);
	sim_clients_check_calm(sim);
	sim_check_calm(sim);
	sim_members_check_calm(sim);
	sim_history_check(sim);
	if (sim->counts.operations <= operations)
		sim_fail(sim, "liveness: no client was answered after the calm");
	result->counts = sim->counts;
	result->history = XXH3_64bits_digest(sim->history);
	result->done = true;
	world_end(sim);
}
