/*
 * The newest entries of the log, in memory: a ring of entries whose data lie in chunks.
 *
 * Entries are added and cut off at the end, and evicted at the front.  Chunks keep the data in place, so that a
 * pointer handed out stays valid until its entry leaves.  What this must not know: disks, records, durability:
 * the caller says how far it may evict.
 */
#ifndef RAFT_KV_STORAGE_LOG_CACHE_H
#define RAFT_KV_STORAGE_LOG_CACHE_H

#include "../entry.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct log_chunk;

struct log_cache {
	struct raft_entry *ring;
	size_t capacity; /* of the ring: 0 or a power of two */
	size_t head;	 /* where the oldest entry is */
	size_t count;
	uint64_t next_index; /* of the entry to be added next */
	struct log_chunk *oldest;
	struct log_chunk *newest;
	struct log_chunk *reserve; /* empty, for the next entries that do not fit into the newest */
	uint64_t bytes;		   /* of the entries held, with their share of the ring */
};

void log_cache_init(struct log_cache *cache, uint64_t next_index);
void log_cache_fini(struct log_cache *cache);

/* Makes sure that n_entries with data_bytes in all (each rounded up to 8) can be added, even after a cut, without
 * running out of memory. Returns 0 or -ENOMEM. */
int log_cache_reserve(struct log_cache *cache, size_t n_entries, size_t data_bytes) __attribute__((warn_unused_result));
/* Adds one entry at next_index; its room was reserved. Copies the data. */
void log_cache_add(struct log_cache *cache, const struct raft_entry *entry);
/* Removes the entries behind index; afterwards next_index is index + 1. */
void log_cache_cut(struct log_cache *cache, uint64_t index);
/* Removes all entries; afterwards next_index is the one given. */
void log_cache_begin(struct log_cache *cache, uint64_t next_index);
/* Removes entries from the front, none beyond index, while more than bytes_max are held. */
void log_cache_evict(struct log_cache *cache, uint64_t index, uint64_t bytes_max);
/* Gives back memory that a burst left behind. */
void log_cache_shrink(struct log_cache *cache);

/* First index held; next_index when nothing is. */
static inline uint64_t log_cache_first(const struct log_cache *cache)
{
	return cache->next_index - cache->count;
}

/* The entry at index, or NULL if it is not held. */
const struct raft_entry *log_cache_get(const struct log_cache *cache, uint64_t index);

#endif
