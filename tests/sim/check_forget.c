/*
 * What no log leads back to any more can be forgotten: a run of any length needs little memory. Logs are compacted by the members
 * themselves, so this follows the one that lags behind most.
 */
#include "check.h"

#include <string.h>

#define FORGET_EVERY 16384u  /* entries committed since the last time */
#define RETIRE_AFTER 200000u /* a member that left the cluster, may have kept its log, and nobody cares */

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t needed_on(const struct sim_checks *checks, const struct sim_shadow *shadow)
{
	uint64_t index = checks->committed_last;
	for (uint64_t k = 0; k < shadow->n_segments; k++)
		index = least(index, shadow->segments[k].lowest);
	if (shadow->log.last > 0)
		index = least(index, sim_log_committed(checks, &shadow->log));
	return index;
}

/* The first index that this member's logs, on its platter or in memory, may lead to. */
static uint64_t needed_by(const struct sim *sim, unsigned number)
{
	const struct sim_checks *checks = sim->checks;
	const struct sim_watch *watch = &checks->members[number];
	uint64_t index = needed_on(checks, &watch->shadow);
	if (sim->members[number].up && watch->log.last > 0)
		index = least(index, watch->before.base_index);
	if (sim->members[number].up && watch->applied > 0)
		index = least(index, watch->applied);
	return index;
}

bool sim_check_is_forgotten(const struct sim *sim, unsigned number)
{
	return needed_on(sim->checks, &sim->checks->members[number].shadow) < sim->checks->floor;
}

static bool is_named(const struct sim *sim, unsigned number)
{
	const struct sim_checks *checks = sim->checks;
	const struct sim_config *config = sim_config_of(checks, sim_check_committed_at(checks, checks->committed_last));
	return config != NULL && (config->members >> number & 1) != 0;
}

static uint64_t find_floor(struct sim *sim)
{
	struct sim_checks *checks = sim->checks;
	uint64_t floor = least(sim_clients_floor(sim), checks->modelled);
	for (unsigned k = 0; k < sim_members(sim); k++) {
		struct sim_watch *watch = &checks->members[k];
		if (watch->retired || (sim->members[k].lost && !sim->members[k].up))
			continue;
		uint64_t index = needed_by(sim, k);
		if (checks->committed_last - index > RETIRE_AFTER && !is_named(sim, k))
			watch->retired = true;
		else
			floor = least(floor, index);
	}
	return floor;
}

/* The elements from `at` on move to the front; those behind the last one are zero. */
static void move_down(void *array, uint64_t capacity, uint64_t at, size_t element_size)
{
	uint8_t *bytes = array;
	memmove(bytes, bytes + at * element_size, (capacity - at) * element_size);
	memset(bytes + (capacity - at) * element_size, 0, at * element_size);
}

static void forget_entries(struct sim_checks *checks)
{
	uint32_t kept = checks->forgotten + 1;
	while (kept < checks->n_entries && sim_entry(checks, kept)->index < checks->floor)
		kept++;
	uint32_t n = kept - checks->forgotten - 1;
	if (n == 0)
		return;
	move_down(checks->entries + 1, checks->entries_capacity - 1, n, sizeof *checks->entries);
	checks->forgotten += n;
}

/* A directory that was put away waits for nobody: it comes back soon, or never. */
static void drop_away(struct sim *sim, uint64_t floor)
{
	for (unsigned k = 0; k < SIM_MEMBERS_MAX; k++)
		if (sim->members[k].elsewhere.incarnation != 0 &&
		    needed_on(sim->checks, &sim->checks->members[k].away.shadow) < floor)
			sim_fault_drop_away(sim, k);
}

static void shorten(const struct sim_checks *checks, struct sim_log *log)
{
	if (sim_log_committed(checks, log) >= checks->floor)
		sim_log_shorten(checks, log, checks->floor);
}

static void shorten_logs(struct sim *sim)
{
	struct sim_checks *checks = sim->checks;
	for (unsigned k = 0; k < SIM_MEMBERS_MAX; k++) {
		if (sim->members[k].elsewhere.incarnation != 0)
			shorten(checks, &checks->members[k].away.shadow.log);
		if (!checks->members[k].retired)
			shorten(checks, &checks->members[k].shadow.log);
	}
}

void sim_check_forget(struct sim *sim)
{
	struct sim_checks *checks = sim->checks;
	if (checks->committed_last < checks->forget_next)
		return;
	checks->forget_next = checks->committed_last + FORGET_EVERY;
	uint64_t floor = find_floor(sim);
	if (floor <= checks->floor)
		return;
	drop_away(sim, floor);
	uint64_t n = floor - checks->floor;
	checks->floor_state = sim_check_state_at(checks, floor);
	move_down(checks->by_index, checks->by_index_capacity, n, sizeof *checks->by_index);
	move_down(checks->committed, checks->committed_capacity, n, sizeof *checks->committed);
	checks->floor = floor;
	forget_entries(checks);
	shorten_logs(sim);
}
