/*
 * Configurations from outside: decoded from the entries that hold them, they say who counts. A voter is a directory, not a
 * name: a member that lost its disk holds nothing and has voted for nobody.
 *
 * Must not know what the core believes is in force.
 */
#include "check.h"

#include "daemon/assert.h"

#include <inttypes.h>

#define READ_ENTRIES 64u /* taken from a log at once */

/* The configuration that a log brings with it ------------------------------------------------------------------- */

static uint32_t bits(const struct raft_config *config, bool voters)
{
	uint32_t set = 0;
	for (unsigned k = 0; k < config->n_members; k++) {
		const struct raft_config_member *member = &config->members[k];
		raft_assert(member->id >= 1 && member->id <= SIM_MEMBERS_MAX);
		if (!voters || member->role == RAFT_MEMBER_VOTER)
			set |= 1u << (member->id - 1);
	}
	return set;
}

uint32_t sim_config_note(struct sim *sim, uint32_t before, uint64_t index, const struct raft_entry *entry,
			 const char *where)
{
	struct sim_checks *checks = sim->checks;
	struct sim_config noted = {.index = index, .term = entry->term, .before = before};
	int r = raft_config_decode(entry->data, entry->size, &noted.config);
	if (r != RAFT_CONFIG_OK)
		sim_fail(sim, "%s: entry %" PRIu64 " is no configuration: %d", where, index, r);
	if (before == 0 && index != 1)
		sim_fail(sim, "%s: entry %" PRIu64 " founds a cluster behind the log's beginning", where, index);
	const char *problem =
		before > 0 ? raft_config_step_problem(&checks->configs[before].config, &noted.config) : NULL;
	if (problem != NULL)
		sim_fail(sim,
			 "%s: the configuration of entry %" PRIu64 " must not follow that of entry %" PRIu64 ": %s",
			 where, index, checks->configs[before].index, problem);
	sim_level_noted(sim, before > 0 ? &checks->configs[before].config : NULL, &noted.config, index);
	noted.members = bits(&noted.config, false);
	noted.voters = bits(&noted.config, true);
	uint32_t number = ++checks->n_configs;
	checks->configs = sim_check_grow(checks->configs, &checks->configs_capacity, number, sizeof *checks->configs);
	checks->configs[number] = noted;
	if (before > 0)
		sim_returns_config(sim, &checks->configs[before], &checks->configs[number]);
	return number;
}

const struct sim_config *sim_config_of(const struct sim_checks *checks, uint32_t entry)
{
	uint32_t number = sim_entry(checks, entry)->config;
	return number > 0 ? &checks->configs[number] : NULL;
}

bool sim_config_committed(const struct sim_checks *checks, uint32_t number)
{
	const struct sim_config *config = &checks->configs[number];
	if (config->index < checks->floor)
		return true; /* or nobody can tell any more */
	uint32_t entry = sim_check_committed_at(checks, config->index);
	return entry != 0 && sim_entry(checks, entry)->config == number;
}

/* A leader changes nothing before it has committed an entry of its term (dissertation, section 4.1, corrected in 2015): the change
 * of an earlier leader may turn out to be committed. */
static void check_changed_by(struct sim *sim, unsigned number, const struct sim_config *config)
{
	const struct sim_checks *checks = sim->checks;
	const struct sim_watch *watch = &checks->members[number];
	const struct sim_term *slot = sim_check_term(sim, config->term);
	struct raft_status status;
	raft_get_own_status(replica_core(sim->members[number].replica), &status);
	if (slot->leader != number + 1 || !sim_entry_known(checks, slot->first_entry))
		return;
	uint64_t first = sim_entry(checks, slot->first_entry)->index;
	if (config->index > first && status.commit < first && watch->before.commit < first)
		sim_fail(sim,
			 "member %u changes the membership with entry %" PRIu64 " and has not committed entry %" PRIu64
			 ", the first of term %" PRIu64,
			 number + 1, config->index, first, config->term);
}

void sim_check_config(struct sim *sim, unsigned number)
{
	const struct sim_checks *checks = sim->checks;
	struct sim_watch *watch = &sim->checks->members[number];
	uint32_t config = sim_entry(checks, sim_log_last(checks, &watch->log))->config;
	if (config == watch->config)
		return;
	watch->config = config;
	uint32_t before = config > 0 ? checks->configs[config].before : 0;
	if (before == 0)
		return;
	check_changed_by(sim, number, &checks->configs[config]);
	uint64_t index = checks->configs[before].index;
	if (index > checks->committed_last ||
	    sim_log_at(checks, &watch->log, index) != sim_check_committed_at(checks, index))
		sim_fail(sim,
			 "member %u has the configuration of entry %" PRIu64 ", and that of entry %" PRIu64
			 " is not committed",
			 number + 1, checks->configs[config].index, index);
}

/* Who counts ---------------------------------------------------------------------------------------------------- */

static uint64_t incarnation_in(const struct sim_config *config, unsigned number)
{
	const struct raft_config_member *member = raft_config_find(&config->config, number + 1);
	raft_assert(member != NULL);
	return member->incarnation;
}

/* This directory is the one that the configuration means. */
static bool is_meant(const struct sim_config *config, unsigned number, uint64_t incarnation)
{
	uint64_t meant = incarnation_in(config, number);
	return incarnation != 0 && (meant == 0 || meant == incarnation);
}

bool sim_config_names(const struct sim *sim, const struct sim_config *config, unsigned number)
{
	return (config->members >> number & 1) != 0 &&
	       is_meant(config, number, sim->checks->members[number].shadow.identity.incarnation);
}

bool sim_config_names_voter(const struct sim *sim, const struct sim_config *config, unsigned number)
{
	return (config->voters >> number & 1) != 0 && sim_config_names(sim, config, number);
}

static bool is_majority(const struct sim_config *config, uint32_t set)
{
	return __builtin_popcount(set & config->voters) >= __builtin_popcount(config->voters) / 2 + 1;
}

/* Those whose directory holds the entry, or did when it was lost: what that one acknowledged may arrive later. */
bool sim_config_holds(const struct sim *sim, const struct sim_config *config, uint32_t entry)
{
	const struct sim_checks *checks = sim->checks;
	uint64_t index = sim_entry(checks, entry)->index;
	uint32_t set = 0;
	for (unsigned k = 0; k < sim_members(sim); k++)
		if (sim_config_names_voter(sim, config, k) &&
		    sim_log_at(checks, &checks->members[k].shadow.log, index) == entry)
			set |= 1u << k;
	for (size_t k = 0; k < checks->n_former; k++) {
		const struct sim_former *former = &checks->former[k];
		if ((config->voters >> former->member & 1) != 0 &&
		    is_meant(config, former->member, former->incarnation) &&
		    sim_entry_ancestor(checks, former->last, index) == entry)
			set |= 1u << former->member;
	}
	return is_majority(config, set);
}

/* From its log, which may be ahead of what the checks have followed: a turn that changes the configuration can commit by it. */
bool sim_config_ahead_holds(const struct sim *sim, unsigned number, uint32_t entry)
{
	struct storage *storage = replica_storage(sim->members[number].replica);
	struct raft_entry entries[READ_ENTRIES];
	uint64_t index = sim->checks->members[number].log.last + 1;
	uint32_t n = 0;
	for (; storage_read(storage, index, READ_ENTRIES, UINT32_MAX, entries, &n) == 0 && n > 0; index += n)
		for (uint32_t k = 0; k < n; k++) {
			struct sim_config config = {.index = index + k, .term = entries[k].term};
			if (entries[k].type != RAFT_ENTRY_CONFIG ||
			    raft_config_decode(entries[k].data, entries[k].size, &config.config) != RAFT_CONFIG_OK)
				continue;
			config.members = bits(&config.config, false);
			config.voters = bits(&config.config, true);
			if (sim_config_holds(sim, &config, entry))
				return true;
		}
	return false;
}

bool sim_config_elects(const struct sim *sim, const struct sim_config *config, uint64_t term, unsigned candidate)
{
	const struct sim_checks *checks = sim->checks;
	uint32_t set = 0;
	for (unsigned k = 0; k < sim_members(sim); k++) {
		const struct sim_shadow *shadow = &checks->members[k].shadow;
		if (sim_config_names_voter(sim, config, k) &&
		    (shadow->term > term || (shadow->term == term && shadow->vote == candidate + 1)))
			set |= 1u << k;
	}
	for (size_t k = 0; k < checks->n_former; k++) {
		const struct sim_former *former = &checks->former[k];
		if ((config->voters >> former->member & 1) != 0 &&
		    is_meant(config, former->member, former->incarnation) &&
		    (former->term > term || (former->term == term && former->vote == candidate + 1)))
			set |= 1u << former->member;
	}
	return is_majority(config, set);
}

/* One that names it again may follow, which it has not heard of. */
bool sim_check_left_out(const struct sim *sim, unsigned number)
{
	const struct sim_checks *checks = sim->checks;
	uint32_t config = sim_entry(checks, sim_check_committed_at(checks, checks->committed_last))->config;
	for (; config > 0 && checks->configs[config].index >= sim->members[number].view.index;
	     config = checks->configs[config].before)
		if ((checks->configs[config].members >> number & 1) == 0)
			return true;
	return false;
}

/* What would be lost --------------------------------------------------------------------------------------------- */

static bool is_up_to_date(const struct sim_checks *checks, unsigned candidate, unsigned voter)
{
	const struct sim_log *one = &checks->members[candidate].shadow.log;
	const struct sim_log *other = &checks->members[voter].shadow.log;
	uint64_t term = sim_entry(checks, sim_log_last(checks, one))->term;
	uint64_t other_term = sim_entry(checks, sim_log_last(checks, other))->term;
	return term > other_term || (term == other_term && one->last >= other->last);
}

/* Members that could vote and do not have the entry. */
static uint32_t those_without(const struct sim *sim, uint32_t entry)
{
	const struct sim_checks *checks = sim->checks;
	uint64_t index = sim_entry(checks, entry)->index;
	uint32_t set = 0;
	for (unsigned k = 0; k < sim_members(sim); k++)
		if (!sim->members[k].lost && sim_log_at(checks, &checks->members[k].shadow.log, index) != entry)
			set |= 1u << k;
	return set;
}

/* With the configurations that the platters hold now: each candidate goes by that of its own log, and is voted for by
 * those whose logs are not ahead of its own. */
void sim_check_survives(struct sim *sim, uint64_t index)
{
	const struct sim_checks *checks = sim->checks;
	uint32_t without = those_without(sim, sim_check_committed_at(checks, index));
	for (unsigned candidate = 0; candidate < sim_members(sim); candidate++) {
		const struct sim_log *log = &checks->members[candidate].shadow.log;
		const struct sim_config *config = sim_config_of(checks, sim_log_last(checks, log));
		uint32_t votes = 0;
		if ((without >> candidate & 1) == 0 || config == NULL || !sim_config_names(sim, config, candidate))
			continue;
		for (unsigned k = 0; k < sim_members(sim); k++)
			if ((without >> k & 1) != 0 && sim_config_names_voter(sim, config, k) &&
			    is_up_to_date(checks, candidate, k))
				votes |= 1u << k;
		if (is_majority(config, votes))
			sim_fail(sim, "committed entry %" PRIu64 " is lost: member %u may be elected without it, by %x",
				 index, candidate + 1, votes);
	}
}

/* In the end ----------------------------------------------------------------------------------------------------- */

bool sim_check_belongs(struct sim *sim, unsigned number)
{
	const struct sim_checks *checks = sim->checks;
	const struct sim_config *config = sim_config_of(checks, sim_check_committed_at(checks, checks->committed_last));
	if (sim->members[number].lost || config == NULL || (config->members >> number & 1) == 0)
		return false;
	const struct raft_config_member *member = raft_config_find(&config->config, number + 1);
	if (member->role == RAFT_MEMBER_JOINING || !sim_config_names(sim, config, number))
		sim_fail(sim, "liveness: member %u has not become a voter in the calm", number + 1);
	return true;
}
