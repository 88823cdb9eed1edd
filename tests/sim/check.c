/* What must hold in every state of every run (Raft paper, figure 3), checked from outside the code under test. */
#include "sim.h"

#include "daemon/assert.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void check_leader(struct sim *sim, unsigned number, const struct raft_status *status)
{
	uint64_t term = status->hard_state.term;
	if (term >= sim->leader_of_term_capacity) {
		uint64_t capacity = (term + 1) * 2;
		sim->leader_of_term = realloc(sim->leader_of_term, capacity * sizeof *sim->leader_of_term);
		raft_assert(sim->leader_of_term != NULL);
		memset(sim->leader_of_term + sim->leader_of_term_capacity, 0,
		       (capacity - sim->leader_of_term_capacity) * sizeof *sim->leader_of_term);
		sim->leader_of_term_capacity = capacity;
	}
	uint64_t *leader = &sim->leader_of_term[term];
	if (*leader == 0)
		sim->n_elections++;
	else if (*leader != number + 1)
		sim_fail(sim, "election safety: members %" PRIu64 " and %u both lead term %" PRIu64, *leader,
			 number + 1, term);
	*leader = number + 1;
	/* Leader completeness: it has every entry that was committed in an earlier term. */
	const struct raft *core = replica_core(sim->members[number].replica);
	uint64_t last = sim->committed_last;
	if (last > 0 && term > sim->committed[last].known_term && raft_term_at(core, last) != sim->committed[last].term)
		sim_fail(sim, "leader completeness: member %u leads term %" PRIu64 " without entry %" PRIu64,
			 number + 1, term, last);
}

void sim_check_member(struct sim *sim, unsigned number)
{
	struct sim_member *member = &sim->members[number];
	struct raft_status status;
	raft_get_status(replica_core(member->replica), &status);
	raft_check_invariants(replica_core(member->replica));
	raft_check_delta(&member->before, &status);
	if (status.role == RAFT_LEADER)
		check_leader(sim, number, &status);
	if (status.role != member->before.role || status.hard_state.term != member->before.hard_state.term)
		sim_note(sim, "%u is %s of term %" PRIu64 ", last %" PRIu64 " commit %" PRIu64, number + 1,
			 raft_role_name(status.role), status.hard_state.term, status.last_index, status.commit);
	member->before = status;
}

static struct sim_committed *committed_slot(struct sim *sim, uint64_t index)
{
	if (index >= sim->committed_capacity) {
		uint64_t capacity = (index + 1) * 2;
		sim->committed = realloc(sim->committed, capacity * sizeof *sim->committed);
		raft_assert(sim->committed != NULL);
		memset(sim->committed + sim->committed_capacity, 0,
		       (capacity - sim->committed_capacity) * sizeof *sim->committed);
		sim->committed_capacity = capacity;
	}
	return &sim->committed[index];
}

void sim_check_applied(struct sim *sim, unsigned number, uint64_t index, const struct raft_entry *entry)
{
	struct sim_committed *slot = committed_slot(sim, index);
	uint64_t hash = XXH3_64bits_withSeed(entry->data, entry->size, entry->type);
	uint64_t state_hash = kv_store_hash(sim->members[number].store);
	if (slot->term == 0) {
		struct raft_status status;
		raft_get_status(replica_core(sim->members[number].replica), &status);
		*slot = (struct sim_committed){.term = entry->term,
					       .known_term = status.hard_state.term,
					       .hash = hash,
					       .state_hash = state_hash};
		if (index > sim->committed_last)
			sim->committed_last = index;
		return;
	}
	if (slot->term != entry->term || slot->hash != hash)
		sim_fail(sim, "state machine safety: member %u applies another entry at index %" PRIu64, number + 1,
			 index);
	if (slot->state_hash != state_hash)
		sim_fail(sim, "member %u has another state after index %" PRIu64, number + 1, index);
}

void sim_check_calm(struct sim *sim)
{
	uint64_t applied = 0;
	unsigned leaders = 0;
	for (unsigned k = 0; k < sim->plan.n_members; k++) {
		struct replicator_status status;
		if (!sim->members[k].up)
			sim_fail(sim, "liveness: member %u is down after the calm", k + 1);
		replica_get_status(sim->members[k].replica, &status);
		leaders += status.role == RAFT_LEADER;
		if (k == 0)
			applied = status.applied;
		else if (status.applied + 50 < applied || applied + 50 < status.applied)
			sim_fail(sim, "liveness: member %u applied %" PRIu64 ", member 1 %" PRIu64, k + 1,
				 status.applied, applied);
	}
	if (leaders != 1)
		sim_fail(sim, "liveness: %u leaders after the calm", leaders);
}
