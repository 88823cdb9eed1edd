/*
 * Trials: after all other faults one stays for a while. The others must elect a leader, keep it and serve the clients all the
 * time; a cluster that is merely safe does not pass. Then that fault ends, too, and the calm follows.
 */
#include "fault_steps.h"

#include "daemon/assert.h"

#include <inttypes.h>
#include <stdlib.h>

#define ELECTIONS_MAX 3u /* of members that nothing disturbs */
#define BACKLOG_US 1000000u
#define BURSTS 4u
#define BURST_COMMANDS 16u
#define BURST_SIZE 4096u
#define DRIP_COMMANDS 6u
#define TIMEOUTS_OF_STEP 8u /* a step lasts so many election timeouts, the longest */

struct sim_trial {
	enum sim_trial_kind kind;
	unsigned leader, other; /* whom it is about */
	uint64_t elections, writes;
	uint64_t backlog_us; /* of what slow members had to apply when these were counted */
};

static uint64_t election_max_us(const struct sim *sim)
{
	return sim->plan.election_min_us + sim->plan.election_spread_us;
}

static bool is_voter(const struct sim *sim, unsigned member)
{
	return ((sim->committed.voters >> member) & 1) != 0;
}

/* With one voter more away there is still a majority. */
static bool spares_one(const struct sim *sim)
{
	unsigned voters = 0, away = 0;
	for (unsigned k = 0; k < sim_members(sim); k++) {
		voters += is_voter(sim, k);
		away += is_voter(sim, k) && !sim->members[k].up;
	}
	return voters > 0 && away + 1 <= (voters - 1) / 2;
}

/* A leader that is heard in time is never deposed: heartbeats come before the shortest timeout, whatever the delays. */
static bool heartbeats_arrive(const struct sim *sim)
{
	const struct sim_plan *plan = &sim->plan;
	uint64_t late_us = 2 * (plan->delay_min_us + plan->delay_spread_us) + plan->sync_min_us + plan->sync_spread_us;
	return plan->heartbeat_us + plan->heartbeat_us / 2 + late_us < plan->election_min_us;
}

uint64_t sim_trial_begin(struct sim *sim)
{
	if (sim->plan.trial == SIM_TRIAL_NONE || sim->plan.members == 1)
		return 0;
	sim->trial = calloc(1, sizeof *sim->trial);
	raft_assert(sim->trial != NULL);
	sim->trial->kind = (enum sim_trial_kind)sim->plan.trial;
	sim_note(sim, "trial %u", (unsigned)sim->trial->kind);
	return 1000000 + TIMEOUTS_OF_STEP * election_max_us(sim);
}

/* Some other voter that is up. */
static unsigned neighbour(const struct sim *sim, unsigned member)
{
	for (unsigned k = 1; k < sim_members(sim); k++) {
		unsigned other = (member + k) % sim_members(sim);
		if (sim->members[other].up && is_voter(sim, other))
			return other;
	}
	return member;
}

static bool fills_slowly(const struct sim *sim)
{
	return sim->plan.trial_background == SIM_BACKGROUND_QUEUE;
}

/* As much as its leader takes before the first of it is committed. */
static void fill_log(struct sim *sim, unsigned leader)
{
	for (unsigned k = 0; k < BURSTS; k++)
		sim_client_burst(sim, leader, BURST_COMMANDS, BURST_SIZE);
}

static void all_together(struct sim *sim)
{
	sim->even = true;
	uint64_t killed = 0;
	for (unsigned k = 0; k < sim_members(sim); k++) {
		sim_clock_set(sim, k, 0, 0);
		if (!sim->members[k].up)
			continue;
		killed |= (uint64_t)1 << k;
		sim_member_crash(sim, k, SIM_KILL);
	}
	for (unsigned k = 0; k < sim_members(sim); k++)
		if (((killed >> k) & 1) != 0)
			sim_member_start(sim, k);
}

/* All of the disk; or all but the log, so that the log grows and no snapshot lets go of it. */
static void hang(struct sim *sim, unsigned leader)
{
	struct sim_disk_faults *faults = &sim->members[leader].disk_faults;
	uint64_t until_us = sim->now_us + 3600000000u;
	if (sim->plan.trial_background == 0) {
		faults->stall_until_us = until_us;
		return;
	}
	faults->background_until_us = until_us;
	if (!fills_slowly(sim))
		fill_log(sim, leader);
}

static void impose(struct sim *sim)
{
	struct sim_trial *trial = sim->trial;
	trial->leader = sim_fault_leader(sim);
	trial->other = neighbour(sim, trial->leader);
	uint64_t one = (uint64_t)1 << trial->leader;
	uint64_t other = (uint64_t)1 << trial->other;
	switch (trial->kind) {
	case SIM_TRIAL_DEAF:
		sim_network_cut(sim, sim_fault_between(sim, one, ~one, 1), true);
		return;
	case SIM_TRIAL_DOWN:
		sim_member_crash(sim, trial->leader, SIM_KILL);
		return;
	case SIM_TRIAL_HANGING:
		hang(sim, trial->leader);
		return;
	case SIM_TRIAL_APART:
		sim_network_cut(sim, sim_fault_between(sim, one, other, 2), true);
		return;
	case SIM_TRIAL_GONE:
		sim_network_cut(sim, sim_fault_between(sim, other, ~other, 2), true);
		return;
	case SIM_TRIAL_TOGETHER:
		all_together(sim);
		return;
	case SIM_TRIAL_NONE:
	case SIM_TRIAL_QUIET:
		return;
	}
}

/* While leadership is handed over nobody leads for a moment, and the step may end in it. */
uint64_t sim_trial_patience_us(const struct sim *sim)
{
	return sim_fault_leader(sim) == sim_members(sim) ? election_max_us(sim) : 0;
}

static void expect_leader(const struct sim *sim)
{
	if (sim_fault_leader(sim) == sim_members(sim))
		sim_fail(sim, "liveness: nobody leads after %u election timeouts, trial %u", TIMEOUTS_OF_STEP,
			 (unsigned)sim->trial->kind);
}

/* A hand-over to somebody who does not answer ends by itself. */
static void hand_over(struct sim *sim)
{
	unsigned leader = sim_fault_leader(sim);
	if (leader < sim_members(sim) && leader != sim->trial->other)
		sim_member_transfer(sim, leader, sim->trial->other + 1);
}

static void remember(struct sim *sim)
{
	sim->trial->elections = sim->counts.elections;
	sim->trial->writes = sim->answered_writes;
	sim->trial->backlog_us = sim_members_apply_us(sim);
}

static bool is_background(const struct sim *sim)
{
	return sim->trial->kind == SIM_TRIAL_HANGING && sim->plan.trial_background != 0;
}

static void fill_again(struct sim *sim)
{
	if (is_background(sim) && !fills_slowly(sim) && sim->members[sim->trial->leader].up)
		fill_log(sim, sim->trial->leader);
}

/* Behind thousands of entries that slow members have still to apply the first answer may take longer; the calm waits for it. A new
 * leader may have been behind as many at the beginning, and be through with them only now. */
static void expect_writes(const struct sim *sim)
{
	bool behind = sim->trial->backlog_us >= BACKLOG_US || sim_members_apply_us(sim) >= BACKLOG_US;
	if (sim->answered_writes == sim->trial->writes && !behind)
		sim_fail(sim, "liveness: no write was answered in trial %u", (unsigned)sim->trial->kind);
}

static void expect_peace(const struct sim *sim, unsigned elections_max)
{
	const struct sim_trial *trial = sim->trial;
	uint64_t elections = sim->counts.elections - trial->elections;
	if (elections > elections_max && heartbeats_arrive(sim))
		sim_fail(sim, "liveness: %" PRIu64 " elections in trial %u, with a majority that nothing disturbs",
			 elections, (unsigned)trial->kind);
}

/* Only with equal logs could a member that hears no leader win the votes of those that do: so nobody writes meanwhile. */
static void step_apart(struct sim *sim, unsigned step)
{
	if (step == 0) {
		sim_clients_silence(sim);
	} else if (step == 1) {
		impose(sim);
		remember(sim);
	} else if (step == 2) {
		expect_peace(sim, 0);
		remember(sim);
		sim->silent = false;
		sim_clients_calm(sim);
	} else {
		expect_writes(sim);
	}
}

void sim_trial_step(struct sim *sim, unsigned step)
{
	struct sim_trial *trial = sim->trial;
	expect_leader(sim);
	if (step == 0 && trial->kind != SIM_TRIAL_TOGETHER && !spares_one(sim))
		trial->kind = SIM_TRIAL_QUIET;
	if (trial->kind == SIM_TRIAL_APART) {
		step_apart(sim, step);
		return;
	}
	if (step == 0) {
		impose(sim);
	} else if (step == 1) {
		remember(sim);
		fill_again(sim);
	} else if (step == SIM_TRIAL_STEPS - 1) {
		expect_writes(sim);
		expect_peace(sim, ELECTIONS_MAX);
	}
	if (step == 2 && is_background(sim)) { /* by now its log is as long as it may be */
		sim->trial->writes = sim->answered_writes;
		sim->trial->backlog_us = sim_members_apply_us(sim);
	}
	if (trial->kind == SIM_TRIAL_GONE && step < SIM_TRIAL_STEPS - 1)
		hand_over(sim);
}

/* Never more than the others may still have to commit: nothing is refused before too much waits for the leader's own disk. */
void sim_trial_tend(struct sim *sim)
{
	const struct sim_member *leader = &sim->members[sim->trial->leader];
	if (is_background(sim) && fills_slowly(sim) && leader->up &&
	    leader->disk_faults.background_until_us > sim->now_us)
		sim_client_burst(sim, sim->trial->leader, DRIP_COMMANDS, BURST_SIZE);
}

void sim_trial_anew(struct sim *sim)
{
	remember(sim);
}

void sim_trial_end(struct sim *sim)
{
	if (sim->trial == NULL)
		return;
	free(sim->trial);
	sim->trial = NULL;
	sim->even = false;
	sim_faults_calm(sim);
}
