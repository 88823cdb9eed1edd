/*
 * Term runs and running totals of sizes; see log.h. Knows nothing of who appends and why.
 */
#include "log.h"
#include "../assert.h"

#include <errno.h>
#include <string.h>

#define LOG_CAPACITY_MIN 64u
#define LOG_SHRINK_FLOOR 4096u
#define LOG_RUNS_MIN 8u

static size_t log_count(const struct raft_log *log)
{
	return (size_t)(log->last_index - log->base_index);
}

static uint64_t log_total(const struct raft_log *log, uint64_t index)
{
	raft_assert(index >= log->base_index && index <= log->last_index);
	if (index == log->base_index)
		return log->base_total;
	return log->totals[(log->head + (size_t)(index - log->base_index - 1)) & (log->capacity - 1)];
}

void raft_log_init(struct raft_log *log, uint64_t base_index, uint64_t base_term)
{
	raft_assert((base_index == 0) == (base_term == 0));
	memset(log, 0, sizeof(*log));
	log->base_index = base_index;
	log->base_term = base_term;
	log->last_index = base_index;
	raft_assert(log_count(log) == 0);
}

void raft_log_fini(struct raft_log *log)
{
	free(log->totals);
	free(log->runs);
	memset(log, 0, sizeof(*log));
}

/* Moves the totals into a ring of the given capacity, which holds them. */
static int log_resize(struct raft_log *log, size_t capacity)
{
	size_t n = log_count(log);
	uint64_t *totals;

	raft_assert(capacity >= n && (capacity & (capacity - 1)) == 0);
	if (capacity > SIZE_MAX / sizeof(*totals))
		return -ENOMEM;
	totals = malloc(capacity * sizeof(*totals));
	if (!totals)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		totals[i] = log->totals[(log->head + i) & (log->capacity - 1)];
	free(log->totals);
	log->totals = totals;
	log->head = 0;
	log->capacity = capacity;
	return 0;
}

static int log_reserve_runs(struct raft_log *log, size_t n_terms)
{
	size_t capacity = log->runs_capacity ? log->runs_capacity : LOG_RUNS_MIN;
	struct raft_log_run *runs;

	if (n_terms <= log->runs_capacity - log->n_runs)
		return 0;
	if (n_terms > SIZE_MAX / 4 / sizeof(*runs) - log->n_runs)
		return -ENOMEM;
	while (capacity < log->n_runs + n_terms)
		capacity *= 2;
	runs = realloc(log->runs, capacity * sizeof(*runs));
	if (!runs)
		return -ENOMEM;
	log->runs = runs;
	log->runs_capacity = capacity;
	return 0;
}

int raft_log_reserve(struct raft_log *log, size_t n, size_t n_terms)
{
	size_t count = log_count(log);
	size_t capacity = log->capacity ? log->capacity : LOG_CAPACITY_MIN;

	raft_assert(n_terms <= n);
	raft_assert(count <= log->capacity);
	if (log_reserve_runs(log, n_terms) != 0)
		return -ENOMEM;
	if (n <= log->capacity - count)
		return 0;
	if (n > SIZE_MAX / 4 / sizeof(*log->totals) - count)
		return -ENOMEM;
	while (capacity < count + n)
		capacity *= 2;
	return log_resize(log, capacity);
}

void raft_log_append(struct raft_log *log, uint64_t term, uint32_t size)
{
	size_t count = log_count(log);
	uint64_t last_term = raft_log_last_term(log);
	uint64_t total = log_total(log, log->last_index) + size + RAFT_LOG_ENTRY_OVERHEAD;

	raft_assert(count < log->capacity);
	raft_assert(term > 0 && term >= last_term);
	if (log->n_runs == 0 || log->runs[log->n_runs - 1].term != term) {
		raft_assert(log->n_runs < log->runs_capacity);
		log->runs[log->n_runs++] = (struct raft_log_run){.first_index = log->last_index + 1, .term = term};
	}
	log->totals[(log->head + count) & (log->capacity - 1)] = total;
	log->last_index++;
}

void raft_log_truncate(struct raft_log *log, uint64_t from)
{
	raft_assert(from > log->base_index);
	raft_assert(from <= log->last_index);
	log->last_index = from - 1;
	while (log->n_runs > 0 && log->runs[log->n_runs - 1].first_index >= from)
		log->n_runs--;
}

/* The run that holds index, which is after the base. */
static size_t log_find_run(const struct raft_log *log, uint64_t index)
{
	size_t low = 0;
	size_t high = log->n_runs - 1;

	raft_assert(log->n_runs > 0);
	raft_assert(index >= log->runs[0].first_index && index <= log->last_index);
	if (index >= log->runs[high].first_index)
		return high; /* nearly always: the newest term */
	while (low < high) {
		size_t mid = low + (high - low + 1) / 2;

		if (log->runs[mid].first_index <= index)
			low = mid;
		else
			high = mid - 1;
	}
	return low;
}

void raft_log_compact(struct raft_log *log, uint64_t index)
{
	uint64_t term = raft_log_term_at(log, index);
	uint64_t total = log_total(log, index);
	size_t run;

	raft_assert(index > log->base_index && index <= log->last_index);
	raft_assert(term > 0);
	run = log_find_run(log, index);
	if (index == log->last_index || (run + 1 < log->n_runs && log->runs[run + 1].first_index == index + 1))
		run++; /* the whole run goes */
	else
		log->runs[run].first_index = index + 1;
	memmove(log->runs, log->runs + run, (log->n_runs - run) * sizeof(*log->runs));
	log->n_runs -= run;
	log->head = (log->head + (size_t)(index - log->base_index)) & (log->capacity - 1);
	log->base_index = index;
	log->base_term = term;
	log->base_total = total;
	if (log->capacity > LOG_SHRINK_FLOOR && log_count(log) < log->capacity / 8)
		(void)log_resize(log, log->capacity / 4); /* a ring that stays large is no harm */
}

void raft_log_reset(struct raft_log *log, uint64_t index, uint64_t term)
{
	raft_assert(index > 0 && term > 0);
	log->base_index = index;
	log->base_term = term;
	log->base_total = 0;
	log->last_index = index;
	log->head = 0;
	log->n_runs = 0;
	raft_assert(log_count(log) == 0);
}

uint64_t raft_log_term_at(const struct raft_log *log, uint64_t index)
{
	raft_assert(log->base_index <= log->last_index);
	if (index < log->base_index || index > log->last_index)
		return 0;
	if (index == log->base_index)
		return log->base_term;
	return log->runs[log_find_run(log, index)].term;
}

uint64_t raft_log_last_term(const struct raft_log *log)
{
	return log->n_runs > 0 ? log->runs[log->n_runs - 1].term : log->base_term;
}

uint64_t raft_log_bytes(const struct raft_log *log, uint64_t after, uint64_t upto)
{
	raft_assert(after <= upto);
	return log_total(log, upto) - log_total(log, after);
}

uint64_t raft_log_fit(const struct raft_log *log, uint64_t first, uint64_t bytes_max, uint64_t n_max)
{
	uint64_t low = first;
	uint64_t high = log->last_index;
	uint64_t before;

	raft_assert(first > log->base_index && first <= log->last_index);
	raft_assert(n_max >= 1);
	if (high - first >= n_max)
		high = first + n_max - 1;
	before = log_total(log, first - 1);
	while (low < high) {
		uint64_t mid = low + (high - low + 1) / 2;

		if (log_total(log, mid) - before <= bytes_max)
			low = mid;
		else
			high = mid - 1;
	}
	return low;
}

uint64_t raft_log_run_first(const struct raft_log *log, uint64_t index)
{
	raft_assert(index > log->base_index);
	return log->runs[log_find_run(log, index)].first_index;
}

uint64_t raft_log_last_of_term(const struct raft_log *log, uint64_t term)
{
	raft_assert(term > 0);
	for (size_t i = log->n_runs; i > 0; i--) {
		if (log->runs[i - 1].term == term)
			return i == log->n_runs ? log->last_index : log->runs[i].first_index - 1;
		if (log->runs[i - 1].term < term)
			return 0;
	}
	return log->base_term == term ? log->base_index : 0;
}
