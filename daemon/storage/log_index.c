/*
 * Where entries are on the disk, and their terms.  See log_index.h.
 */
#include "daemon/storage/log_index.h"

#include "daemon/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RUN_BYTES (64u * 1024u)

void log_index_init(struct log_index *index)
{
	*index = (struct log_index){.run_ended = true};
}

void log_index_fini(struct log_index *index)
{
	free(index->runs);
	free(index->terms);
	log_index_init(index);
}

/* Grows an array for n more items of the given size. */
static int reserve(void **items, size_t *capacity, size_t count, size_t n, size_t size)
{
	if (n > SIZE_MAX / 4 - count)
		return -ENOMEM;
	if (count + n <= *capacity)
		return 0;
	size_t wanted = *capacity > 0 ? *capacity * 2 : 16;
	if (wanted < count + n)
		wanted = count + n;
	void *grown = reallocarray(*items, wanted, size);
	if (!grown)
		return -ENOMEM;
	*items = grown;
	*capacity = wanted;
	return 0;
}

int log_index_reserve_run(struct log_index *index)
{
	void *items = index->runs;
	int r = reserve(&items, &index->runs_capacity, index->n_runs, 1, sizeof(*index->runs));
	index->runs = items;
	return r;
}

void log_index_add_record(struct log_index *index, uint64_t first_index, uint64_t sequence, uint64_t offset,
			  uint32_t length)
{
	raft_assert(index->n_runs < index->runs_capacity);
	raft_assert(offset <= UINT32_MAX - length);
	if (index->n_runs > 0 && !index->run_ended) {
		struct log_run *last = &index->runs[index->n_runs - 1];
		raft_assert(last->first_index < first_index);
		if (last->sequence == sequence && last->length < RUN_BYTES) {
			raft_assert(offset >= (uint64_t)last->offset + last->length);
			last->length = (uint32_t)(offset + length - last->offset);
			return;
		}
	}
	index->runs[index->n_runs++] = (struct log_run){
		.first_index = first_index, .sequence = sequence, .offset = (uint32_t)offset, .length = length};
	index->run_ended = false;
}

size_t log_index_find(const struct log_index *index, uint64_t entry)
{
	size_t low = 0;
	size_t high = index->n_runs; /* the first run that begins after entry lies in [low, high] */
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (index->runs[middle].first_index <= entry)
			low = middle + 1;
		else
			high = middle;
	}
	return low > 0 ? low - 1 : index->n_runs;
}

int log_index_reserve_terms(struct log_index *index, size_t n)
{
	void *items = index->terms;
	int r = reserve(&items, &index->terms_capacity, index->n_terms, n, sizeof(*index->terms));
	index->terms = items;
	return r;
}

void log_index_add_term(struct log_index *index, uint64_t entry, uint64_t term)
{
	raft_assert(term > 0);
	if (index->n_terms > 0) {
		raft_assert(index->terms[index->n_terms - 1].first_index < entry);
		if (index->terms[index->n_terms - 1].term == term)
			return;
	}
	raft_assert(index->n_terms < index->terms_capacity);
	index->terms[index->n_terms++] = (struct log_term){.first_index = entry, .term = term};
}

/* How many items begin at or before entry. */
static size_t terms_before(const struct log_index *index, uint64_t entry)
{
	size_t low = 0;
	size_t high = index->n_terms;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (index->terms[middle].first_index <= entry)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

uint64_t log_index_term(const struct log_index *index, uint64_t entry)
{
	size_t n = terms_before(index, entry);
	return n > 0 ? index->terms[n - 1].term : 0;
}

void log_index_begin(struct log_index *index, uint64_t entry, uint64_t term)
{
	index->n_runs = 0;
	index->n_terms = 0;
	index->run_ended = true;
	if (entry > 0)
		log_index_add_term(index, entry, term);
}

void log_index_cut(struct log_index *index, uint64_t entry)
{
	while (index->n_runs > 0 && index->runs[index->n_runs - 1].first_index > entry)
		index->n_runs--;
	index->run_ended = true;
	index->n_terms = terms_before(index, entry);
}

void log_index_forget(struct log_index *index, uint64_t sequence, uint64_t base)
{
	size_t runs = 0;
	while (runs < index->n_runs && index->runs[runs].sequence < sequence)
		runs++;
	if (runs > 0)
		memmove(index->runs, index->runs + runs, (index->n_runs - runs) * sizeof(*index->runs));
	index->n_runs -= runs;
	if (index->n_runs == 0)
		index->run_ended = true;

	/* The item that covers base covers what follows it, too. */
	size_t terms = terms_before(index, base);
	if (terms > 1) {
		terms--;
		memmove(index->terms, index->terms + terms, (index->n_terms - terms) * sizeof(*index->terms));
		index->n_terms -= terms;
	}
}
