/*
 * Where the log's entries are on the disk, and their terms: what is kept of entries that are no longer in memory.
 *
 * Runs: records one after the other in one segment whose entries are consecutive.  A run is about RUN_BYTES long and
 * found by its first index; to read an entry the run is read whole.  That costs some 24 bytes for 64 KiB of
 * log, where one item a record would cost as much for 512.  A cut of the log ends the last run, so that within a
 * run no index occurs twice.
 *
 * Terms: one item wherever the term changes.
 *
 * What this must not know: bytes, disks, caches.
 */
#ifndef RAFT_KV_STORAGE_LOG_INDEX_H
#define RAFT_KV_STORAGE_LOG_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct log_run {
	uint64_t first_index;
	uint64_t sequence; /* of the segment */
	uint32_t offset;
	uint32_t length; /* up to the end of its last record */
};

struct log_term {
	uint64_t first_index;
	uint64_t term;
};

struct log_index {
	struct log_run *runs;
	size_t n_runs;
	size_t runs_capacity;
	bool run_ended; /* by a cut: the next record begins a new one */
	struct log_term *terms;
	size_t n_terms;
	size_t terms_capacity;
};

void log_index_init(struct log_index *index);
void log_index_fini(struct log_index *index);

/* Room for one more record. Returns 0 or -ENOMEM. */
int log_index_reserve_run(struct log_index *index) __attribute__((warn_unused_result));
/* Adds a record that holds entries from first_index on. */
void log_index_add_record(struct log_index *index, uint64_t first_index, uint64_t sequence, uint64_t offset,
			  uint32_t length);
/* The number of the run that holds entry, or n_runs if none does. */
size_t log_index_find(const struct log_index *index, uint64_t entry);

/* Room for n more changes of term. Returns 0 or -ENOMEM. */
int log_index_reserve_terms(struct log_index *index, size_t n) __attribute__((warn_unused_result));
void log_index_add_term(struct log_index *index, uint64_t entry, uint64_t term);
/* The term of an entry, 0 if it is not known. The caller knows where the log ends. */
uint64_t log_index_term(const struct log_index *index, uint64_t entry);

/* The log begins anew behind entry, of which only the term is known: forgets all else. Needs room for one change of
 * term. */
void log_index_begin(struct log_index *index, uint64_t entry, uint64_t term);
/* The log is cut: forgets what lies behind entry. */
void log_index_cut(struct log_index *index, uint64_t entry);
/* Segments before sequence are gone, and entries up to base with them: forgets both. */
void log_index_forget(struct log_index *index, uint64_t sequence, uint64_t base);

#endif
