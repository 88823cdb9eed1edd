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
	uint32_t number = index < checks->by_index_capacity ? checks->by_index[index] : 0;
	while (number != 0 && checks->entries[number].term != term)
		number = checks->entries[number].sibling;
	return number;
}

static uint32_t entry_add(struct sim_checks *checks, uint32_t before, const struct raft_entry *entry, uint64_t hash)
{
	uint64_t capacity = checks->entries_capacity;
	uint64_t index = checks->entries[before].index + 1;
	checks->entries = sim_check_grow(checks->entries, &capacity, checks->n_entries, sizeof *checks->entries);
	checks->entries_capacity = (uint32_t)capacity;
	checks->by_index =
		sim_check_grow(checks->by_index, &checks->by_index_capacity, index, sizeof *checks->by_index);
	uint32_t number = checks->n_entries++;
	const struct sim_entry *previous = &checks->entries[before];
	checks->entries[number] = (struct sim_entry){
		.index = index,
		.term = entry->term,
		.time_ms = entry->time_ms,
		.hash = hash,
		.bytes = previous->bytes + entry->size + ENTRY_OVERHEAD,
		.commands = previous->commands + (entry->type == RAFT_ENTRY_COMMAND),
		.before = before,
		.sibling = checks->by_index[index],
	};
	checks->by_index[index] = number;
	return number;
}

uint32_t sim_entry_note(struct sim *sim, uint32_t before, const struct raft_entry *entry, const char *where)
{
	struct sim_checks *checks = sim->checks;
	uint64_t index = checks->entries[before].index + 1;
	uint64_t hash = XXH3_64bits_withSeed(entry->data, entry->size, entry->type);
	uint32_t number = sim_entry_find(checks, index, entry->term);
	if (number == 0) {
		const struct sim_entry *previous = &checks->entries[before];
		if (entry->time_ms < previous->time_ms)
			sim_fail(sim,
				 "%s: time goes back along the log: entry %" PRIu64 " at %" PRIu64 " after %" PRIu64,
				 where, index, entry->time_ms, previous->time_ms);
		if (entry->term < previous->term)
			sim_fail(sim, "%s: entry %" PRIu64 " of term %" PRIu64 " follows one of term %" PRIu64, where,
				 index, entry->term, previous->term);
		return entry_add(checks, before, entry, hash);
	}
	const struct sim_entry *known = &checks->entries[number];
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
	while (checks->entries[entry].index > index)
		entry = checks->entries[entry].before;
	return checks->entries[entry].index == index ? entry : 0;
}

uint32_t sim_log_at(const struct sim_log *log, uint64_t index)
{
	return index <= log->last && index > 0 ? log->entries[index] : 0;
}

void sim_log_push(struct sim_log *log, uint32_t entry)
{
	log->entries = sim_check_grow(log->entries, &log->capacity, ++log->last, sizeof *log->entries);
	log->entries[log->last] = entry;
}

void sim_log_copy(struct sim_log *log, const struct sim_log *from)
{
	log->entries = sim_check_grow(log->entries, &log->capacity, from->last, sizeof *log->entries);
	if (from->last > 0)
		memcpy(log->entries, from->entries, (from->last + 1) * sizeof *log->entries);
	log->last = from->last;
}
