/*
 * The entries of all logs of a run as one tree, and logs as paths in it: log matching (paper, figure 3) is that there is such
 * a tree.
 *
 * Must not know where entries come from.
 */
#include "check.h"

#include "daemon/assert.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ENTRY_OVERHEAD 32u /* what the core counts for an entry besides its data */

void *sim_check_grow(void *array, uint64_t *capacity, uint64_t index, size_t element_size)
{
	if (index < *capacity)
		return array;
	uint64_t grown = (index + 16) * 2;
	uint8_t *bytes = realloc(array, grown * element_size);
	raft_assert(bytes != NULL);
	memset(bytes + *capacity * element_size, 0, (grown - *capacity) * element_size);
	*capacity = grown;
	return bytes;
}

uint32_t sim_entry_find(const struct sim_checks *checks, uint64_t index, uint64_t term)
{
	bool known = index >= checks->floor && index - checks->floor < checks->by_index_capacity;
	uint32_t number = known ? checks->by_index[index - checks->floor] : 0;
	while (number != 0 && sim_entry(checks, number)->term != term)
		number = sim_entry(checks, number)->sibling;
	return number;
}

static uint32_t entry_add(struct sim_checks *checks, uint32_t before, const struct raft_entry *entry, uint64_t hash,
			  uint32_t config)
{
	uint64_t index = sim_entry(checks, before)->index + 1;
	uint64_t at = checks->n_entries - checks->forgotten;
	raft_assert(index >= checks->floor);
	checks->entries = sim_check_grow(checks->entries, &checks->entries_capacity, at, sizeof *checks->entries);
	checks->by_index = sim_check_grow(checks->by_index, &checks->by_index_capacity, index - checks->floor,
					  sizeof *checks->by_index);
	uint32_t number = checks->n_entries++;
	const struct sim_entry *previous = sim_entry(checks, before);
	checks->entries[at] = (struct sim_entry){
		.index = index,
		.term = entry->term,
		.time_ms = entry->time_ms,
		.hash = hash,
		.bytes = previous->bytes + entry->size + ENTRY_OVERHEAD,
		.commands = previous->commands + (entry->type == RAFT_ENTRY_COMMAND),
		.before = before,
		.sibling = checks->by_index[index - checks->floor],
		.config = config,
	};
	checks->by_index[index - checks->floor] = number;
	return number;
}

/* A founder that died before its first entry was durable led nobody and told nobody; it may found again, with other words. */
static bool never_was(const struct sim_checks *checks, uint32_t number, uint64_t hash, uint64_t time_ms)
{
	const struct sim_entry *known = sim_entry(checks, number);
	if (known->index != 1 || (known->hash == hash && known->time_ms == time_ms) || checks->committed_last > 0)
		return false;
	for (unsigned k = 0; k < SIM_MEMBERS_MAX; k++)
		if (sim_log_at(checks, &checks->members[k].shadow.log, 1) == number)
			return false;
	return true;
}

uint32_t sim_entry_note(struct sim *sim, uint32_t before, const struct raft_entry *entry, const char *where)
{
	struct sim_checks *checks = sim->checks;
	uint64_t index = sim_entry(checks, before)->index + 1;
	uint64_t hash = XXH3_64bits_withSeed(entry->data, entry->size, entry->type);
	uint32_t number = sim_entry_find(checks, index, entry->term);
	if (number == 0 || never_was(checks, number, hash, entry->time_ms)) {
		const struct sim_entry *previous = sim_entry(checks, before);
		if (entry->time_ms < previous->time_ms)
			sim_fail(sim,
				 "%s: time goes back along the log: entry %" PRIu64 " at %" PRIu64 " after %" PRIu64,
				 where, index, entry->time_ms, previous->time_ms);
		if (entry->term < previous->term)
			sim_fail(sim, "%s: entry %" PRIu64 " of term %" PRIu64 " follows one of term %" PRIu64, where,
				 index, entry->term, previous->term);
		uint32_t config = previous->config;
		if (entry->type == RAFT_ENTRY_CONFIG)
			config = sim_config_note(sim, config, index, entry, where);
		return entry_add(checks, before, entry, hash, config);
	}
	const struct sim_entry *known = sim_entry(checks, number);
	if (known->hash != hash || known->time_ms != entry->time_ms)
		sim_fail(sim, "log matching: %s: entry %" PRIu64 " of term %" PRIu64 " has other contents", where,
			 index, entry->term);
	if (known->before != before)
		sim_fail(sim, "log matching: %s: entry %" PRIu64 " of term %" PRIu64 " follows another log", where,
			 index, entry->term);
	return number;
}

uint32_t sim_entry_ancestor(const struct sim_checks *checks, uint32_t entry, uint64_t index)
{
	if (index < checks->floor || (entry != 0 && !sim_entry_known(checks, entry)))
		return 0;
	while (sim_entry(checks, entry)->index > index)
		entry = sim_entry(checks, entry)->before;
	return sim_entry(checks, entry)->index == index ? entry : 0;
}

/* Logs ------------------------------------------------------------------------------------------------------------ */

uint32_t sim_log_at(const struct sim_checks *checks, const struct sim_log *log, uint64_t index)
{
	if (index == 0 || index < checks->floor || index > log->last)
		return 0;
	if (index > log->base)
		return log->entries[index - log->base - 1];
	uint32_t entry = sim_check_committed_at(checks, index);
	raft_assert(entry != 0);
	return entry;
}

void sim_log_push(struct sim_log *log, uint32_t entry)
{
	uint64_t at = log->last++ - log->base;
	log->entries = sim_check_grow(log->entries, &log->capacity, at, sizeof *log->entries);
	log->entries[at] = entry;
}

void sim_log_cut(struct sim_log *log, uint64_t keep)
{
	raft_assert(keep <= log->last);
	log->last = keep;
	if (keep < log->base)
		log->base = keep;
}

void sim_log_begin(struct sim_log *log, uint64_t index)
{
	log->base = log->last = index;
}

void sim_log_lead_to(const struct sim_checks *checks, struct sim_log *log, uint32_t entry)
{
	uint64_t last = sim_entry(checks, entry)->index;
	uint64_t base = last;
	for (uint32_t at = entry; base > checks->floor && at != sim_check_committed_at(checks, base); base--)
		at = sim_entry(checks, at)->before;
	sim_log_begin(log, base);
	log->last = last;
	if (last > base)
		log->entries = sim_check_grow(log->entries, &log->capacity, last - base - 1, sizeof *log->entries);
	for (uint64_t index = last; index > base; index--) {
		log->entries[index - base - 1] = entry;
		entry = sim_entry(checks, entry)->before;
	}
}

void sim_log_shorten(const struct sim_checks *checks, struct sim_log *log, uint64_t index)
{
	if (index <= log->base)
		return;
	raft_assert(sim_log_at(checks, log, index) == sim_check_committed_at(checks, index));
	if (log->last > index)
		memmove(log->entries, log->entries + (index - log->base), (log->last - index) * sizeof *log->entries);
	log->base = index;
}

void sim_log_copy(struct sim_log *log, const struct sim_log *from)
{
	uint64_t n = from->last - from->base;
	if (n > 0) {
		log->entries = sim_check_grow(log->entries, &log->capacity, n - 1, sizeof *log->entries);
		memcpy(log->entries, from->entries, n * sizeof *log->entries);
	}
	log->base = from->base;
	log->last = from->last;
}

uint64_t sim_log_committed(const struct sim_checks *checks, const struct sim_log *log)
{
	uint64_t index = log->last < checks->committed_last ? log->last : checks->committed_last;
	while (index > log->base && sim_log_at(checks, log, index) != sim_check_committed_at(checks, index))
		index--;
	return index;
}
