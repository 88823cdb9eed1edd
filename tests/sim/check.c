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
	checks->entries = sim_check_grow(NULL, &checks->entries_capacity, 0, sizeof *checks->entries);
	checks->n_entries = 1;
	checks->model = model_new();
	sim->checks = checks;
}

void sim_checks_free(struct sim *sim)
{
	struct sim_checks *checks = sim->checks;
	for (unsigned k = 0; k < SIM_MEMBERS_MAX; k++) {
		free(checks->members[k].log.entries);
		sim_durable_free(&checks->members[k].shadow);
		sim_durable_free(&checks->members[k].away.shadow);
	}
	free(checks->entries);
	free(checks->by_index);
	free(checks->configs);
	free(checks->former);
	free(checks->committed);
	free(checks->terms);
	free(checks->scratch);
	model_free(checks->model);
	free(checks);
	sim->checks = NULL;
}

/* The log ------------------------------------------------------------------------------------------------------ */

static void cut_log(struct sim *sim, unsigned number, uint64_t keep, uint64_t term, bool led)
{
	struct sim_watch *watch = &sim->checks->members[number];
	uint32_t removed = sim_log_at(sim->checks, &watch->log, keep + 1);
	if (led)
		sim_fail(sim, "leader append-only: member %u removes entries from %" PRIu64 " on", number + 1,
			 keep + 1);
	if (keep < watch->before.commit)
		sim_fail(sim, "member %u removes committed entry %" PRIu64, number + 1, keep + 1);
	if (removed != 0 && watch->before.hard_state.term == term && !sim_leader_lacks(sim, term, keep + 1, removed))
		sim_fail(sim, "member %u removes entry %" PRIu64 ", which the leader of term %" PRIu64 " has, too",
			 number + 1, keep + 1, term);
	sim_log_cut(&watch->log, keep);
}

/* The core's log begins behind a snapshot that it did not lead to. */
static void follow_reset(struct sim *sim, unsigned number, uint64_t base, uint64_t term)
{
	struct sim_checks *checks = sim->checks;
	struct sim_watch *watch = &checks->members[number];
	const struct sim_snapshot *snapshot = sim_snapshot_find(&watch->shadow, base);
	if (snapshot == NULL || snapshot->refused || snapshot->term != term)
		sim_fail(sim, "member %u begins its log behind entry %" PRIu64 " without a snapshot of it", number + 1,
			 base);
	if (watch->before.commit > base)
		sim_fail(sim, "member %u begins its log behind entry %" PRIu64 " and removes committed ones",
			 number + 1, base);
	sim_log_begin(&watch->log, base);
	if (watch->restored != base)
		sim_fail(sim,
			 "member %u begins its log behind entry %" PRIu64 ", and its store has not loaded the snapshot",
			 number + 1, base);
	watch->restored = 0;
}

/* What the core forgot in front is committed and in a snapshot. */
static void follow_base(struct sim *sim, unsigned number, uint64_t base, uint64_t term)
{
	struct sim_checks *checks = sim->checks;
	struct sim_watch *watch = &checks->members[number];
	uint32_t entry = sim_log_at(checks, &watch->log, base);
	if (entry == 0 || sim_entry(checks, entry)->term != term)
		follow_reset(sim, number, base, term);
	entry = sim_log_at(checks, &watch->log, base);
	if (entry != sim_check_committed_at(checks, base) || sim_snapshot_newest(&watch->shadow) < base)
		sim_fail(sim, "member %u begins its log behind entry %" PRIu64 ", which no snapshot holds", number + 1,
			 base);
	sim_log_shorten(checks, &watch->log, base);
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
	char where[32];
	if (status->base_index != watch->before.base_index)
		follow_base(sim, number, status->base_index, raft_term_at(core, status->base_index));
	uint64_t keep = watch->log.last < status->last_index ? watch->log.last : status->last_index;
	while (keep > status->base_index &&
	       sim_entry(checks, sim_log_at(checks, &watch->log, keep))->term != raft_term_at(core, keep))
		keep--;
	if (keep < watch->log.last)
		cut_log(sim, number, keep, status->hard_state.term, led);
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
			uint32_t before = sim_log_last(checks, &watch->log);
			sim_log_push(&watch->log, sim_entry_note(sim, before, &entries[k], where));
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
	while (first > 1 && sim_entry(checks, sim_log_at(checks, &watch->log, first - 1))->term == term)
		first--;
	sim_check_term(sim, term)->first_entry = sim_log_at(checks, &watch->log, first);
	if (sim_entry(checks, sim_log_at(checks, &watch->log, first))->term != term)
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
	if (watch->retired)
		return;
	raft_get_status(core, &status);
	raft_check_invariants(core);
	raft_check_delta(&watch->before, &status);
	check_monotonic(sim, number, &watch->before, &status);
	if (watch->cut_short)
		sim_fail(sim, "member %u goes on, but its log has not taken what it appended", number + 1);
	watch->cut_short = !follow_log(sim, number, &status);
	if (watch->cut_short)
		return;
	if (watch->restored != 0)
		sim_fail(sim,
			 "member %u has loaded the snapshot of entry %" PRIu64 ", and its log begins behind %" PRIu64,
			 number + 1, watch->restored, status.base_index);
	if (status.role == RAFT_LEADER)
		check_leader(sim, number, &status);
	sim_check_commit(sim, number, &watch->before, &status);
	sim_check_config(sim, number);
	sim_progress_turn(sim, number, &watch->before, &status);
	sim_reads_turn(sim, number);
	if (status.role != watch->before.role || status.hard_state.term != watch->before.hard_state.term)
		sim_note(sim, "%u is %s of term %" PRIu64 ", last %" PRIu64 " commit %" PRIu64, number + 1,
			 raft_role_name(status.role), status.hard_state.term, status.last_index, status.commit);
	watch->before = status;
	sim_check_applied_turn(sim, number);
	sim_check_forget(sim);
	watch->turns++;
	if (watch->turns % BOUNDS_EVERY == 0) {
		sim_check_bounds(sim, number, &status);
		sim_check_proved(sim, number);
	}
	if (watch->turns % STORE_EVERY == 0)
		sim_check_store(sim, number);
}

/* Coming back ---------------------------------------------------------------------------------------------------- */

/* Faithful to everything that anybody was told before. */
static void check_faith(struct sim *sim, unsigned number, const struct raft_status *status)
{
	const struct sim_watch *watch = &sim->checks->members[number];
	uint64_t term = status->hard_state.term;
	if (term < watch->sent_term)
		sim_fail(sim, "member %u starts in term %" PRIu64 " and was in term %" PRIu64, number + 1, term,
			 watch->sent_term);
	if (term == watch->sent_vote_term && status->hard_state.vote != watch->sent_vote)
		sim_fail(sim, "member %u forgot its vote in term %" PRIu64, number + 1, term);
}

/* With all that the platter holds. */
static void check_recovered(struct sim *sim, unsigned number, const struct raft_status *status)
{
	const struct sim_checks *checks = sim->checks;
	struct sim_watch *watch = &sim->checks->members[number];
	struct sim_shadow *shadow = &watch->shadow;
	const struct raft *core = replica_core(sim->members[number].replica);
	uint64_t term = shadow->term, vote = shadow->vote;
	uint64_t base_term = raft_term_at(core, status->base_index);
	if (shadow->shrunk)
		sim_fail(sim, "member %u starts although synced records of its log are gone", number + 1);
	sim_durable_rest(checks, shadow, sim_snapshot_newest_good(shadow));
	if (shadow->rests_on_snapshot && status->base_index != shadow->log.last &&
	    sim_platter_excused(sim->members[number].disk_files))
		sim_durable_pass_over(checks, shadow, status->base_index);
	if (shadow->rests_on_snapshot && base_term > term) {
		term = base_term;
		vote = RAFT_NO_MEMBER;
	}
	sim_log_copy(&watch->log, &shadow->log);
	if (status->hard_state.term != term || status->hard_state.vote != vote || status->last_index != watch->log.last)
		sim_fail(sim,
			 "member %u starts with term %" PRIu64 " vote %" PRIu64 " last %" PRIu64
			 ", its platter holds term %" PRIu64 " vote %" PRIu64 " last %" PRIu64,
			 number + 1, status->hard_state.term, status->hard_state.vote, status->last_index, term, vote,
			 watch->log.last);
	for (uint64_t index = status->base_index > 0 ? status->base_index : 1; index <= status->last_index; index++)
		if (sim_entry(checks, sim_log_at(checks, &watch->log, index))->term != raft_term_at(core, index))
			sim_fail(sim, "member %u starts with another entry %" PRIu64 " than its platter holds",
				 number + 1, index);
	if (status->base_index > 0)
		follow_base(sim, number, status->base_index, base_term);
}

void sim_check_started(struct sim *sim, unsigned number)
{
	struct sim_checks *checks = sim->checks;
	struct sim_watch *watch = &checks->members[number];
	struct raft_status status;
	if (watch->retired)
		return;
	raft_get_status(replica_core(sim->members[number].replica), &status);
	check_recovered(sim, number, &status);
	check_faith(sim, number, &status);
	watch->before = (struct raft_status){.id = status.id, .hard_state = status.hard_state};
	watch->before.base_index = status.base_index;
	watch->config = sim_entry(checks, sim_log_last(checks, &watch->log))->config;
	sim_check_commit(sim, number, &watch->before, &status);
	watch->before = status;
	watch->cut_short = false;
	sim_check_bounds_started(sim, number);
	sim_offers_started(sim, number);
	sim_check_loaded(sim, number, status.base_index);
	if (checks->committed_last > 0)
		sim_check_survives(sim, checks->committed_last);
}

/* The end ------------------------------------------------------------------------------------------------------ */

void sim_check_calm(struct sim *sim)
{
	const struct sim_checks *checks = sim->checks;
	uint64_t applied = 0, hash = 0;
	unsigned leaders = 0, seen = 0;
	for (unsigned k = 0; k < sim_members(sim); k++) {
		struct replicator_status status;
		if (!sim_check_belongs(sim, k))
			continue;
		if (!sim->members[k].up)
			sim_fail(sim, "liveness: member %u is down after the calm", k + 1);
		replica_get_status(sim->members[k].replica, &status);
		sim_check_store(sim, k);
		sim_check_disk(sim, k);
		sim_check_proved(sim, k);
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
	sim_level_check_calm(sim);
	if (leaders != 1)
		sim_fail(sim, "liveness: %u leaders after the calm", leaders);
	if (applied != checks->committed_last)
		sim_fail(sim, "liveness: %" PRIu64 " of %" PRIu64 " committed entries are applied after the calm",
			 applied, checks->committed_last);
	sim_check_survives(sim, checks->committed_last);
}
