/*
 * What the core remembers of the log: of each entry its term and its size, nothing of its bytes.
 *
 * Terms are kept as runs (a log of a million entries has a handful of terms), sizes as running totals, so
 * that both the term of an entry and the largest batch that fits into so many bytes are binary searches.
 * Eight bytes an entry; nothing is allocated except by raft_log_reserve.
 *
 * Must not know: Raft's rules. Who may append or truncate what is decided by the callers.
 */
#ifndef RAFT_KV_RAFT_LOG_H
#define RAFT_KV_RAFT_LOG_H

#include <stddef.h>
#include <stdint.h>

/* Counted for every entry on top of its data: headers on the wire, and so that empty entries are not free. */
#define RAFT_LOG_ENTRY_OVERHEAD 32u

struct raft_log_run {
	uint64_t first_index;
	uint64_t term;
};

struct raft_log {
	uint64_t base_index; /* the log begins after it */
	uint64_t base_term;
	uint64_t base_total; /* bytes of everything up to base_index; only differences of totals mean anything */
	uint64_t last_index;
	uint64_t *totals; /* ring: bytes up to and including base_index + 1, + 2, … */
	size_t head;	  /* where base_index + 1 is */
	size_t capacity;  /* a power of two, or 0 */
	struct raft_log_run *runs;
	size_t n_runs;
	size_t runs_capacity;
};

void raft_log_init(struct raft_log *log, uint64_t base_index, uint64_t base_term);
void raft_log_fini(struct raft_log *log);

/* Makes room for n more entries in at most n_terms new terms, so that appending them cannot fail. 0 or -ENOMEM. */
int raft_log_reserve(struct raft_log *log, size_t n, size_t n_terms) __attribute__((warn_unused_result));
void raft_log_append(struct raft_log *log, uint64_t term, uint32_t size);
void raft_log_truncate(struct raft_log *log, uint64_t from);
void raft_log_compact(struct raft_log *log, uint64_t index);
void raft_log_reset(struct raft_log *log, uint64_t index, uint64_t term); /* empty, beginning after index */

uint64_t raft_log_term_at(const struct raft_log *log, uint64_t index); /* 0 outside base_index .. last_index */
uint64_t raft_log_last_term(const struct raft_log *log);
uint64_t raft_log_bytes(const struct raft_log *log, uint64_t after, uint64_t upto); /* of after + 1 .. upto */

/* The last entry of the largest batch that begins at first and has at most bytes_max bytes and n_max entries; at
 * least first itself. */
uint64_t raft_log_fit(const struct raft_log *log, uint64_t first, uint64_t bytes_max, uint64_t n_max);

/* The first entry, not before base_index + 1, that has the same term as the one at index. */
uint64_t raft_log_run_first(const struct raft_log *log, uint64_t index);

/* The last entry of the term, or 0 if the log has none. */
uint64_t raft_log_last_of_term(const struct raft_log *log, uint64_t term);

#endif
