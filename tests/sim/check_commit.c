/*
 * Commitment from outside: a leader commits what a majority of platters holds and only through an entry of its own term (paper,
 * section 5.4.2 and figure 8), everybody else only what a leader has committed, and every later leader has all of it.
 */
#include "check.h"

#include "daemon/assert.h"

#include <inttypes.h>

struct sim_committed *sim_check_committed(struct sim *sim, uint64_t index)
{
	struct sim_checks *checks = sim->checks;
	raft_assert(index >= checks->floor);
	checks->committed = sim_check_grow(checks->committed, &checks->committed_capacity, index - checks->floor,
					   sizeof *checks->committed);
	return &checks->committed[index - checks->floor];
}

uint32_t sim_check_committed_at(const struct sim_checks *checks, uint64_t index)
{
	bool known = index > 0 && index >= checks->floor && index <= checks->committed_last;
	return known ? sim_committed(checks, index)->entry : 0;
}

/* Leader completeness --------------------------------------------------------------------------------------- */

void sim_check_elected(struct sim *sim, unsigned number, uint64_t term)
{
	const struct sim_checks *checks = sim->checks;
	const struct sim_log *log = &checks->members[number].log;
	uint64_t last = checks->committed_last;
	while (last > checks->floor && sim_committed(checks, last)->term >= term)
		last--;
	/* Two logs that share this entry share all before it, so that one comparison stands for every committed entry. */
	if (sim_log_at(checks, log, last) != sim_check_committed_at(checks, last))
		sim_fail(sim, "leader completeness: member %u leads term %" PRIu64 " without entry %" PRIu64,
			 number + 1, term, last);
	const struct sim_config *config = sim_config_of(checks, sim_log_last(checks, log));
	if (config == NULL || !sim_config_elects(sim, config, term, number))
		sim_fail(sim, "member %u leads term %" PRIu64 " without a majority of votes on platters", number + 1,
			 term);
}

/* An earlier leader has committed more after later ones were elected. */
static void check_later_leaders(struct sim *sim, uint64_t term, uint64_t index)
{
	const struct sim_checks *checks = sim->checks;
	for (uint64_t later = term + 1; later <= checks->terms_last; later++) {
		uint32_t first = checks->terms[later].first_entry;
		if (!sim_entry_known(checks, first))
			continue;
		if (sim_entry_ancestor(checks, first, index) != sim_check_committed_at(checks, index))
			sim_fail(sim,
				 "leader completeness: entry %" PRIu64 " is committed in term %" PRIu64
				 ", and the leader of term %" PRIu64 " does not have it",
				 index, term, later);
	}
}

/* Committing --------------------------------------------------------------------------------------------------- */

/* By the configuration at the end of the leader's log, committed or not. It may be newer than the one that the leader counted by:
 * what it committed first in this turn may have let it change the configuration. Or older, in the middle of a turn that
 * changes it and commits more by the new one. */
static void check_majority(struct sim *sim, unsigned number, uint64_t index, uint32_t entry)
{
	const struct sim_checks *checks = sim->checks;
	const struct sim_watch *watch = &checks->members[number];
	uint32_t now = sim_entry(checks, sim_log_last(checks, &watch->log))->config;
	uint32_t before = watch->config;
	if (now > 0 && sim_config_holds(sim, &checks->configs[now], entry))
		return;
	if (before != 0 && before != now && sim_config_holds(sim, &checks->configs[before], entry))
		return;
	if (!sim_config_ahead_holds(sim, number, entry))
		sim_fail(sim, "member %u commits entry %" PRIu64 ", which no majority of platters holds", number + 1,
			 index);
}

/* The rule that a leader counts by: it must hold even where breaking it would do no harm this time. */
static void check_counting(struct sim *sim, unsigned number, uint64_t term, uint64_t index, uint32_t entry)
{
	const struct sim_checks *checks = sim->checks;
	if (sim_entry(checks, entry)->term != term)
		sim_fail(sim,
			 "commit rule: member %u leads term %" PRIu64 " and commits entry %" PRIu64 " of term %" PRIu64
			 " by counting",
			 number + 1, term, index, sim_entry(checks, entry)->term);
	check_majority(sim, number, index, entry);
}

/* Everything up to the entry is committed from now on. */
static void extend_committed(struct sim *sim, uint64_t term, uint32_t entry)
{
	struct sim_checks *checks = sim->checks;
	uint64_t last = sim_entry(checks, entry)->index;
	for (uint64_t index = last; index > checks->committed_last; index--) {
		struct sim_committed *slot = sim_check_committed(sim, index);
		slot->entry = entry;
		slot->term = term;
		entry = sim_entry(checks, entry)->before;
	}
	if (entry != sim_check_committed_at(checks, checks->committed_last))
		sim_fail(sim, "state machine safety: what term %" PRIu64 " commits does not continue entry %" PRIu64,
			 term, checks->committed_last);
	checks->committed_last = last;
	check_later_leaders(sim, term, last);
}

void sim_check_commit(struct sim *sim, unsigned number, const struct raft_status *before,
		      const struct raft_status *status)
{
	struct sim_checks *checks = sim->checks;
	uint64_t index = status->commit;
	uint32_t entry = sim_log_at(checks, &checks->members[number].log, index);
	if (index == before->commit)
		return;
	if (entry == 0)
		sim_fail(sim, "member %u commits entry %" PRIu64 " and has no such entry", number + 1, index);
	if (status->role == RAFT_LEADER)
		check_counting(sim, number, status->hard_state.term, index, entry);
	if (index > checks->committed_last) {
		/* It may have led when the turn began and have stepped down since. */
		if (status->role != RAFT_LEADER && before->role != RAFT_LEADER)
			sim_fail(sim, "member %u follows and commits entry %" PRIu64 ", no leader has committed it",
				 number + 1, index);
		uint64_t term = status->role == RAFT_LEADER ? status->hard_state.term : before->hard_state.term;
		check_counting(sim, number, term, index, entry);
		extend_committed(sim, term, entry);
	}
	if (entry != sim_check_committed_at(checks, index))
		sim_fail(sim, "member %u commits entry %" PRIu64 " of term %" PRIu64 ", another one is committed",
			 number + 1, index, sim_entry(checks, entry)->term);
}

void sim_check_commit_now(struct sim *sim, unsigned number, uint64_t index)
{
	const struct sim_checks *checks = sim->checks;
	struct raft_status status;
	if (index <= checks->committed_last)
		return;
	raft_get_status(replica_core(sim->members[number].replica), &status);
	if (status.commit < index)
		sim_fail(sim, "member %u speaks of entry %" PRIu64 " as committed, its commit index is %" PRIu64,
			 number + 1, index, status.commit);
	sim_check_commit(sim, number, &checks->members[number].before, &status);
}

/* Applying ----------------------------------------------------------------------------------------------------- */

void sim_check_applied(struct sim *sim, unsigned number, uint64_t index, const struct raft_entry *entry)
{
	struct sim_watch *watch = &sim->checks->members[number];
	if (watch->retired)
		return;
	uint64_t hash = XXH3_64bits_withSeed(entry->data, entry->size, entry->type);
	uint64_t state_hash = kv_store_hash(sim->members[number].store);
	if (index <= watch->applied)
		sim_fail(sim, "member %u applies entry %" PRIu64 " after entry %" PRIu64, number + 1, index,
			 watch->applied);
	sim_check_commit_now(sim, number, index);
	watch->applied = index;
	watch->applied_commands++;
	struct sim_committed *slot = sim_check_committed(sim, index);
	if (!slot->applied) {
		slot->applied = true;
		slot->applied_term = entry->term;
		slot->applied_hash = hash;
		slot->state_hash = state_hash;
	}
	if (slot->applied_term != entry->term || slot->applied_hash != hash)
		sim_fail(sim, "state machine safety: member %u applies another entry at index %" PRIu64, number + 1,
			 index);
	if (slot->state_hash != state_hash)
		sim_fail(sim, "member %u has another state after index %" PRIu64, number + 1, index);
}

void sim_check_applied_turn(struct sim *sim, unsigned number)
{
	const struct sim_checks *checks = sim->checks;
	const struct sim_watch *watch = &checks->members[number];
	uint32_t entry = sim_check_committed_at(checks, watch->applied);
	if (watch->applied == 0)
		return;
	if (entry == 0 || watch->applied > watch->before.commit)
		sim_fail(sim, "member %u applies entry %" PRIu64 ", which is not committed", number + 1,
			 watch->applied);
	const struct sim_committed *slot =
		sim_committed(checks, watch->applied); /* of no command: the store began there */
	if (slot->applied && (sim_entry(checks, entry)->term != slot->applied_term ||
			      sim_entry(checks, entry)->hash != slot->applied_hash))
		sim_fail(sim, "member %u applies another entry than the committed one at index %" PRIu64, number + 1,
			 watch->applied);
	if (sim_entry(checks, entry)->commands != watch->applied_commands)
		sim_fail(sim, "member %u has applied %" PRIu64 " commands up to entry %" PRIu64 ", there are %" PRIu64,
			 number + 1, watch->applied_commands, watch->applied, sim_entry(checks, entry)->commands);
}
