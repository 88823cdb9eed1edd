/*
 * What must hold after every turn of a member (paper, figure 3), checked from outside the code under test, and at the end of
 * a run. check.h says where the rest is.
 */
#include "check.h"

#include "daemon/assert.h"
#include "daemon/transport/wire.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READ_ENTRIES 256u /* taken from the log at once */
#define BOUNDS_EVERY 16u  /* turns of a member */
#define STORE_EVERY 2048u

unsigned sim_check_quorum(const struct sim *sim)
{
	return (unsigned)sim->plan.members / 2 + 1;
}

struct sim_term *sim_check_term(struct sim *sim, uint64_t term)
{
	struct sim_checks *checks = sim->checks;
	checks->terms = sim_check_grow(checks->terms, &checks->terms_capacity, term, sizeof *checks->terms);
	return &checks->terms[term];
}

void sim_checks_new(struct sim *sim)
{
	struct sim_checks *checks = calloc(1, sizeof *checks);
	raft_assert(checks != NULL);
	checks->scratch = malloc(WIRE_ENTRIES_MAX * sizeof *checks->scratch);
	raft_assert(checks->scratch != NULL);
	uint64_t capacity = 0;
	checks->entries = sim_check_grow(NULL, &capacity, 0, sizeof *checks->entries);
	checks->entries_capacity = (uint32_t)capacity;
	checks->n_entries = 1;
	checks->model = model_new();
	sim->checks = checks;
}

void sim_checks_free(struct sim *sim)
{
	struct sim_checks *checks = sim->checks;
	for (unsigned k = 0; k < SIM_MEMBERS_MAX; k++) {
		free(checks->members[k].log.entries);
		free(checks->members[k].shadow.log.entries);
	}
	free(checks->entries);
	free(checks->by_index);
	free(checks->committed);
	free(checks->terms);
	free(checks->scratch);
	model_free(checks->model);
	free(checks);
	sim->checks = NULL;
}

/* The log ------------------------------------------------------------------------------------------------------ */

static void cut_log(struct sim *sim, unsigned number, uint64_t keep, bool led)
{
	struct sim_watch *watch = &sim->checks->members[number];
	if (led)
		sim_fail(sim, "leader append-only: member %u removes entries from %" PRIu64 " on", number + 1,
			 keep + 1);
	if (keep < watch->before.commit)
		sim_fail(sim, "member %u removes committed entry %" PRIu64, number + 1, keep + 1);
	watch->log.last = keep;
}

/* Follows what the core did to its log in this turn: nearly always nothing, or some entries more at the end. False: the log did
 * not take them, which must be the end of this life. */
static bool follow_log(struct sim *sim, unsigned number, const struct raft_status *status)
{
	struct sim_checks *checks = sim->checks;
	struct sim_watch *watch = &checks->members[number];
	struct replica *replica = sim->members[number].replica;
	const struct raft *core = replica_core(replica);
	bool led = watch->before.role == RAFT_LEADER && status->role == RAFT_LEADER &&
		   watch->before.hard_state.term == status->hard_state.term;
	uint64_t keep = watch->log.last < status->last_index ? watch->log.last : status->last_index;
	char where[32];
	while (keep > 0 && checks->entries[watch->log.entries[keep]].term != raft_term_at(core, keep))
		keep--;
	if (keep < watch->log.last)
		cut_log(sim, number, keep, led);
	if (watch->log.last == status->last_index)
		return true;
	(void)snprintf(where, sizeof where, "log of member %u", number + 1);
	while (watch->log.last < status->last_index) {
		struct raft_entry entries[READ_ENTRIES];
		uint32_t n = 0;
		int r = storage_read(replica_storage(replica), watch->log.last + 1, READ_ENTRIES, UINT32_MAX, entries,
				     &n);
		if (r == -EINVAL)
			return false;
		if (r != 0)
			sim_fail(sim, "member %u cannot read entry %" PRIu64 " that it has just appended: %d",
				 number + 1, watch->log.last + 1, r);
		for (uint32_t k = 0; k < n; k++) {
			uint32_t entry =
				sim_entry_note(sim, sim_log_at(&watch->log, watch->log.last), &entries[k], where);
			sim_log_push(&watch->log, entry);
			if (entries[k].term != raft_term_at(core, watch->log.last))
				sim_fail(sim, "member %u: core and log have other terms at %" PRIu64, number + 1,
					 watch->log.last);
		}
	}
	return true;
}

/* Leadership --------------------------------------------------------------------------------------------------- */

void sim_check_leads(struct sim *sim, unsigned number, uint64_t term)
{
	struct sim_term *slot = sim_check_term(sim, term);
	if (slot->leader == number + 1)
		return;
	if (slot->leader != 0)
		sim_fail(sim, "election safety: members %u and %u both lead term %" PRIu64, slot->leader, number + 1,
			 term);
	slot->leader = number + 1;
	if (term > sim->checks->terms_last)
		sim->checks->terms_last = term;
	sim->counts.elections++;
}

static void check_leader(struct sim *sim, unsigned number, const struct raft_status *status)
{
	struct sim_checks *checks = sim->checks;
	const struct sim_watch *watch = &checks->members[number];
	uint64_t term = status->hard_state.term;
	sim_check_leads(sim, number, term);
	if (watch->before.role == RAFT_LEADER && watch->before.hard_state.term == term)
		return;
	sim_check_elected(sim, number, term);
	uint64_t first = watch->log.last;
	while (first > 1 && checks->entries[watch->log.entries[first - 1]].term == term)
		first--;
	sim_check_term(sim, term)->first_entry = sim_log_at(&watch->log, first);
	if (first == 0 || checks->entries[watch->log.entries[first]].term != term)
		sim_fail(sim, "member %u leads term %" PRIu64 " and has no entry of it", number + 1, term);
}

/* A turn ------------------------------------------------------------------------------------------------------- */

static void check_monotonic(struct sim *sim, unsigned number, const struct raft_status *before,
			    const struct raft_status *after)
{
	uint64_t term = after->hard_state.term;
	if (term < before->hard_state.term)
		sim_fail(sim, "member %u: term goes back from %" PRIu64 " to %" PRIu64, number + 1,
			 before->hard_state.term, term);
	if (term == before->hard_state.term && before->hard_state.vote != RAFT_NO_MEMBER &&
	    before->hard_state.vote != after->hard_state.vote)
		sim_fail(sim, "member %u votes twice in term %" PRIu64, number + 1, term);
	if (after->commit < before->commit)
		sim_fail(sim, "member %u: commit goes back from %" PRIu64 " to %" PRIu64, number + 1, before->commit,
			 after->commit);
}

void sim_check_turn(struct sim *sim, unsigned number)
{
	struct sim_watch *watch = &sim->checks->members[number];
	const struct raft *core = replica_core(sim->members[number].replica);
	struct raft_status status;
	raft_get_status(core, &status);
	raft_check_invariants(core);
	raft_check_delta(&watch->before, &status);
	check_monotonic(sim, number, &watch->before, &status);
	if (watch->cut_short)
		sim_fail(sim, "member %u goes on, but its log has not taken what it appended", number + 1);
	watch->cut_short = !follow_log(sim, number, &status);
	if (watch->cut_short)
		return;
	if (status.role == RAFT_LEADER)
		check_leader(sim, number, &status);
	sim_check_commit(sim, number, &watch->before, &status);
	if (status.role != watch->before.role || status.hard_state.term != watch->before.hard_state.term)
		sim_note(sim, "%u is %s of term %" PRIu64 ", last %" PRIu64 " commit %" PRIu64, number + 1,
			 raft_role_name(status.role), status.hard_state.term, status.last_index, status.commit);
	watch->before = status;
	sim_check_applied_turn(sim, number);
	watch->turns++;
	if (watch->turns % BOUNDS_EVERY == 0)
		sim_check_bounds(sim, number, &status);
	if (watch->turns % STORE_EVERY == 0)
		sim_check_store(sim, number);
}

/* Coming back: with all that the platter holds, and faithful to everything that anybody was told before. */
void sim_check_started(struct sim *sim, unsigned number)
{
	struct sim_watch *watch = &sim->checks->members[number];
	const struct sim_shadow *shadow = &watch->shadow;
	const struct raft *core = replica_core(sim->members[number].replica);
	struct raft_status status;
	raft_get_status(core, &status);
	uint64_t term = status.hard_state.term, vote = status.hard_state.vote;
	if (shadow->shrunk)
		sim_fail(sim, "member %u starts although synced records of its log are gone", number + 1);
	if (term != shadow->term || vote != shadow->vote || status.last_index != shadow->log.last)
		sim_fail(sim,
			 "member %u starts with term %" PRIu64 " vote %" PRIu64 " last %" PRIu64
			 ", its platter holds term %" PRIu64 " vote %" PRIu64 " last %" PRIu64,
			 number + 1, term, vote, status.last_index, shadow->term, shadow->vote, shadow->log.last);
	for (uint64_t index = 1; index <= status.last_index; index++)
		if (sim->checks->entries[shadow->log.entries[index]].term != raft_term_at(core, index))
			sim_fail(sim, "member %u starts with another entry %" PRIu64 " than its platter holds",
				 number + 1, index);
	if (term < watch->sent_term)
		sim_fail(sim, "member %u starts in term %" PRIu64 " and was in term %" PRIu64, number + 1, term,
			 watch->sent_term);
	if (term == watch->sent_vote_term && vote != watch->sent_vote)
		sim_fail(sim, "member %u forgot its vote in term %" PRIu64, number + 1, term);
	sim_log_copy(&watch->log, &shadow->log);
	watch->before = (struct raft_status){.id = status.id, .hard_state = status.hard_state};
	watch->before.base_index = status.base_index;
	sim_check_commit(sim, number, &watch->before, &status);
	watch->before = status;
	watch->applied = 0;
	watch->applied_commands = 0;
	watch->cut_short = false;
	if (sim->checks->committed_last > 0)
		sim_check_survives(sim, sim->checks->committed_last);
}

/* The end ------------------------------------------------------------------------------------------------------ */

void sim_check_calm(struct sim *sim)
{
	const struct sim_checks *checks = sim->checks;
	uint64_t applied = 0, hash = 0;
	unsigned leaders = 0, seen = 0;
	for (unsigned k = 0; k < sim->plan.members; k++) {
		struct replicator_status status;
		if (sim->members[k].lost)
			continue;
		if (!sim->members[k].up)
			sim_fail(sim, "liveness: member %u is down after the calm", k + 1);
		replica_get_status(sim->members[k].replica, &status);
		sim_check_store(sim, k);
		leaders += status.role == RAFT_LEADER;
		if (seen++ == 0) {
			applied = status.applied;
			hash = kv_store_hash(sim->members[k].store);
		}
		if (status.applied != applied || status.last_index != applied)
			sim_fail(sim, "liveness: member %u applied %" PRIu64 " of %" PRIu64 ", another one %" PRIu64,
				 k + 1, status.applied, status.last_index, applied);
		if (kv_store_hash(sim->members[k].store) != hash)
			sim_fail(sim, "member %u has another state after index %" PRIu64, k + 1, applied);
	}
	if (leaders != 1)
		sim_fail(sim, "liveness: %u leaders after the calm", leaders);
	if (applied != checks->committed_last)
		sim_fail(sim, "liveness: %" PRIu64 " of %" PRIu64 " committed entries are applied after the calm",
			 applied, checks->committed_last);
	for (uint64_t index = 1; index <= checks->committed_last; index++)
		sim_check_survives(sim, index);
}
