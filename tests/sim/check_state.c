/*
 * States of the store: all members have the same after the same entry, whether they applied everything before or began with a
 * snapshot.
 */
#include "check.h"

#include "daemon/assert.h"

#include <inttypes.h>

/* Entries that are no commands leave the state as it was. */
uint64_t sim_check_state_at(const struct sim_checks *checks, uint64_t index)
{
	while (index > checks->floor && !sim_committed(checks, index)->applied)
		index--;
	if (index > checks->floor)
		return sim_committed(checks, index)->state_hash;
	if (index > 0)
		return checks->floor_state;
	struct kv_store *empty = kv_store_new();
	raft_assert(empty != NULL);
	uint64_t hash = kv_store_hash(empty);
	kv_store_free(empty);
	return hash;
}

void sim_check_loaded(struct sim *sim, unsigned number, uint64_t index)
{
	struct sim_checks *checks = sim->checks;
	struct sim_watch *watch = &checks->members[number];
	struct kv_stats stats;
	if (index > checks->committed_last)
		sim_fail(sim, "member %u begins with a snapshot of entry %" PRIu64 ", which is not committed",
			 number + 1, index);
	kv_store_check(sim->members[number].store);
	kv_store_stats(sim->members[number].store, &stats);
	if (stats.applied > index)
		sim_fail(sim, "member %u: the snapshot of entry %" PRIu64 " holds entry %" PRIu64, number + 1, index,
			 stats.applied);
	if (kv_store_hash(sim->members[number].store) != sim_check_state_at(checks, index))
		sim_fail(sim, "member %u: the snapshot of entry %" PRIu64 " brings another state", number + 1, index);
	watch->applied = index;
	watch->applied_commands = sim_entry(checks, sim_check_committed_at(checks, index))->commands;
}

/* Its log begins anew behind the snapshot in this very turn: that is looked at when the turn ends. */
void sim_check_restored(struct sim *sim, unsigned number, uint64_t index)
{
	struct sim_watch *watch = &sim->checks->members[number];
	if (sim->members[number].replica == NULL || watch->retired)
		return; /* it is starting: sim_check_started looks at it */
	sim_check_loaded(sim, number, index);
	watch->restored = index;
}

unsigned sim_members_wrong(const struct sim *sim)
{
	uint64_t there = 0;
	for (unsigned k = 0; k < sim_members(sim); k++)
		there |= (uint64_t)sim->members[k].up << k;
	for (unsigned k = 0; k < sim_members(sim); k++) {
		const struct sim_member *member = &sim->members[k];
		struct raft_status status;
		/* Of an only voter nobody can say that it is wrong. */
		if (!member->up || !member->wrong_state || !sim_member_belongs(sim, k) ||
		    sim->committed.voters == 1u << k || (sim->committed.voters & ~there) != 0)
			continue;
		raft_get_status(replica_core(member->replica), &status);
		if (status.commit > member->wrong_since + 4 * sim->plan.checkpoint_entries)
			return k;
	}
	return SIM_MEMBERS_MAX;
}

void sim_members_check_calm(const struct sim *sim)
{
	unsigned wrong = sim_members_wrong(sim);
	if (wrong < SIM_MEMBERS_MAX)
		sim_fail(sim, "member %u has another state than the others since entry %llu, and goes on", wrong + 1,
			 (unsigned long long)sim->members[wrong].wrong_since);
}
