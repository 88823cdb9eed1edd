/*
 * Members that run programs of different versions: which feature levels each knows, how that changes, and what must hold.
 *
 * A member's level only rises: an upgrade while it is down. What goes down is the attempt to start an older program on a
 * directory that holds something newer, which must be refused. So a level that is raised too early, or is forgotten, shows as a
 * member that is handed what its program does not know.
 */
#include "check.h"
#include "fault_steps.h"

#include "daemon/assert.h"

#include <inttypes.h>
#include <stdio.h>

#define QUICK_US 20000u /* for another program to be started, by a script */

/* Programs --------------------------------------------------------------------------------------------- */

unsigned sim_level_at_first(const struct sim_plan *plan, unsigned number)
{
	uint64_t more = plan->level_spread > 0 ? (plan->seed + number) % (plan->level_spread + 1) : 0;
	return plan->level + more < SIM_LEVEL_MAX ? (unsigned)(plan->level + more) : SIM_LEVEL_MAX;
}

unsigned sim_level_of_program(const struct sim *sim, unsigned number)
{
	const struct sim_member *member = &sim->members[number];
	return member->older_level > 0 ? member->older_level : member->level;
}

/* Some programs were built from somebody's working tree, and have no version. */
void sim_level_version(const struct sim *sim, unsigned number, char ret_version[SIM_VERSION_SIZE])
{
	unsigned level = sim_level_of_program(sim, number);
	if ((sim->plan.seed + number) % 16 == 0)
		(void)snprintf(ret_version, SIM_VERSION_SIZE, "level-%u", level);
	else
		(void)snprintf(ret_version, SIM_VERSION_SIZE, "0.%u.%u-1", level, number);
}

/* The next program is installed; the member is restarted for it. */
int sim_fault_upgrade(struct sim *sim, const struct sim_fault *fault)
{
	unsigned number = sim_fault_which(sim, fault);
	struct sim_member *member = &sim->members[number];
	if (member->level == SIM_LEVEL_MAX || member->older_level > 0)
		return 0;
	member->level++;
	sim_note(sim, "%u gets a program of level %u", number + 1, member->level);
	if (member->up) {
		sim_member_crash(sim, number, SIM_KILL);
		sim_fault_restart(sim, number, sim_fault_down_time(fault->c));
	}
	return 1;
}

static const struct sim_config *durable_config(const struct sim *sim, unsigned number)
{
	const struct sim_shadow *shadow = &sim->checks->members[number].shadow;
	return sim_config_of(sim->checks, sim_log_last(sim->checks, &shadow->log));
}

static unsigned durable_level(const struct sim *sim, unsigned number)
{
	const struct sim_config *config = durable_config(sim, number);
	return config != NULL ? config->config.level : RAFT_LEVEL_MIN;
}

/* An older program is started on what a newer one left, for one life: where the platter says for sure that it must not, and where
 * nothing newer has been written yet, so that nothing keeps it from starting. */
int sim_fault_downgrade(struct sim *sim, const struct sim_fault *fault)
{
	unsigned number = sim_fault_which(sim, fault);
	struct sim_member *member = &sim->members[number];
	unsigned level = durable_level(sim, number);
	unsigned older = level > RAFT_LEVEL_MIN ? level - 1 : RAFT_LEVEL_MIN;
	if (!member->up || member->expendable || member->level == older || sim->checks->members[number].retired)
		return 0;
	sim_note(sim, "%u gets an older program, of level %u", number + 1, older);
	sim_member_crash(sim, number, SIM_KILL);
	member->older_level = older;
	/* What the newer one promised may last still: nobody may have relied on it. */
	bool quick = sim->plan.lease_drift_ppm > 0 && fault->b % 2 == 0;
	sim_fault_restart(sim, number, quick ? 1 + fault->c % QUICK_US : sim_fault_down_time(fault->c));
	return 1;
}

/* As far as the member could read its platter, and whatever it has set aside: what is left of it says. */
void sim_level_started(struct sim *sim, unsigned number)
{
	const struct sim_member *member = &sim->members[number];
	if (member->older_level > 0 && durable_level(sim, number) > member->older_level)
		sim_fail(sim, "member %u starts with a program of level %u, and its platter asks for a newer one",
			 number + 1, member->older_level);
}

/* In the calm nobody has an older program any more than the one that was installed last. */
void sim_levels_calm(struct sim *sim)
{
	for (unsigned k = 0; k < sim_members(sim); k++) {
		struct sim_member *member = &sim->members[k];
		if (member->older_level > 0 && member->up) {
			sim_member_crash(sim, k, SIM_KILL);
			sim_fault_restart(sim, k, 0);
		}
		member->older_level = 0;
	}
}

bool sim_level_refused(struct sim *sim, unsigned number)
{
	struct sim_member *member = &sim->members[number];
	if (sim_level_of_program(sim, number) >= sim->checks->level_highest)
		sim_fail(sim, "member %u knows levels up to %u and says that this is not enough", number + 1,
			 sim_level_of_program(sim, number));
	sim->counts.too_old++;
	member->older_level = 0;
	if (member->level < sim->checks->level_highest)
		member->level = sim->checks->level_highest; /* what the journal told the operator to do */
	return true;
}

/* What must hold --------------------------------------------------------------------------------------- */

void sim_level_noted(struct sim *sim, const struct raft_config *before, const struct raft_config *config,
		     uint64_t index)
{
	struct sim_checks *checks = sim->checks;
	if (config->level > checks->level_highest)
		checks->level_highest = config->level;
	if (before != NULL && config->level < before->level)
		sim_fail(sim, "entry %" PRIu64 " takes the cluster back from level %u to %u", index, before->level,
			 config->level);
	if (before != NULL && before->level == config->level)
		return;
	for (unsigned k = 0; k < config->n_members; k++) {
		unsigned number = (unsigned)config->members[k].id - 1;
		if (sim->members[number].level < config->level)
			sim_fail(sim, "entry %" PRIu64 " raises the cluster to level %u, and member %u knows %u", index,
				 config->level, number + 1, sim->members[number].level);
	}
}

/* A log, or a snapshot, that ends with this entry. */
void sim_level_sent(struct sim *sim, unsigned from, unsigned to, uint32_t entry)
{
	const struct sim_config *config = entry != 0 ? sim_config_of(sim->checks, entry) : NULL;
	unsigned level = config != NULL ? config->config.level : RAFT_LEVEL_MIN;
	if (level > sim->members[to].level)
		sim_fail(sim, "member %u sends something of level %u to member %u, which knows %u", from + 1, level,
			 to + 1, sim->members[to].level);
}

/* The committed configuration is in the member's log, or in front of it. While it is not, what the member has instead is a change
 * that an earlier leader made and that came to nothing: its index may be higher and its level lower until somebody tells the
 * member. */
static bool has_committed_config(const struct sim *sim, unsigned number)
{
	uint64_t term = raft_term_at(replica_core(sim->members[number].replica), sim->committed.index);
	raft_assert(sim->committed.term != 0); /* who sees first that it is committed has it still */
	return term == 0 || term == sim->committed.term;
}

/* A configuration that the member has, and the one that is committed. */
void sim_level_seen(struct sim *sim, unsigned number, const struct raft_config *config, uint64_t index)
{
	if (config->level > sim_level_of_program(sim, number))
		sim_fail(sim, "member %u is at level %u and knows %u", number + 1, config->level,
			 sim_level_of_program(sim, number));
	if (index >= sim->committed.index && config->level < sim->committed.level && has_committed_config(sim, number))
		sim_fail(sim,
			 "member %u is at level %u as of entry %" PRIu64 ", the cluster was at %u by entry %" PRIu64,
			 number + 1, config->level, index, sim->committed.level, sim->committed.index);
}

/* Everybody that belongs to the cluster was heard in the calm: the level is that of the oldest program. */
void sim_level_check_calm(struct sim *sim)
{
	unsigned lowest = SIM_LEVEL_MAX;
	for (unsigned k = 0; k < sim_members(sim); k++) {
		if ((sim->committed.members >> k & 1) == 0)
			continue;
		if (sim->members[k].lost)
			return; /* it may know less */
		if (sim->members[k].level < lowest)
			lowest = sim->members[k].level;
	}
	if (sim->committed.level != lowest)
		sim_fail(sim, "liveness: the feature level is %u after the calm, and all members know %u",
			 sim->committed.level, lowest);
}
