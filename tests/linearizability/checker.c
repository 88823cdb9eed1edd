/*
 * Takes the events of a history, sorts them by key, and decides when a key is checked and what of it may be forgotten.
 *
 * The history of a key is cut where its oldest open operation was called: everything called before has returned. What returned
 * before the cut must be placed before the cut; what spans it may be. All that matters of the past is what the register can
 * be then, and which of those that span it and of those of unknown fate are already placed. Every possible end of the
 * search is kept as a start of the next one; there is rarely more than a few.
 */
#include "tests/linearizability/checker.h"

#include <assert.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#ifdef NDEBUG
#error "assertions stay on"
#endif

/* More possible ends than this are not kept: the key is checked again when it has twice as many operations. */
#define ENDS_MAX 1024u
/* Finding all ends is given up earlier than finding one. */
#define STATES_OF_ALL_ENDS_MAX 200000u

struct lin_checker *lin_new(const struct lin_options *options)
{
	struct lin_checker *checker = lin_alloc(1, sizeof *checker);
	checker->options = *options;
	if (checker->options.states_max == 0)
		checker->options.states_max = LIN_STATES_MAX;
	checker->verdict = LIN_LINEARIZABLE;
	return checker;
}

static void list_add(struct lin_list *list, struct lin_operation *operation)
{
	list->items = lin_grow(list->items, list->count, &list->capacity, sizeof(struct lin_operation *));
	list->items[list->count++] = operation;
}

/* Keys ---------------------------------------------------------------------------------------------------------------- */

static int compare_keys(const void *a, const void *b)
{
	const struct lin_key *x = a;
	const struct lin_key *y = b;
	if (x->name.size != y->name.size)
		return x->name.size < y->name.size ? -1 : 1;
	return memcmp(x->name.data, y->name.data, x->name.size);
}

static struct lin_start *starts_new(size_t count)
{
	return lin_alloc(count, sizeof(struct lin_start));
}

static void starts_free(struct lin_start *starts, size_t count)
{
	for (size_t k = 0; k < count; k++) {
		free(starts[k].placed);
		free(starts[k].done);
	}
	free(starts);
}

static struct lin_key *key_new(struct lin_checker *checker, struct lin_bytes name)
{
	struct lin_key *key = lin_alloc(1, sizeof *key);
	char *copy = lin_alloc(name.size, 1);
	memcpy(copy, name.data, name.size);
	key->name = (struct lin_bytes){.data = copy, .size = name.size};
	key->starts = starts_new(1); /* the key does not exist */
	key->n_starts = 1;
	key->due = checker->options.window;
	checker->keys = lin_grow(checker->keys, checker->n_keys, &checker->keys_capacity, sizeof(struct lin_key *));
	checker->keys[checker->n_keys++] = key;
	checker->statistics.keys++;
	return key;
}

static struct lin_key *key_get(struct lin_checker *checker, struct lin_bytes name)
{
	struct lin_key wanted = {.name = name};
	struct lin_key **found = tfind(&wanted, &checker->tree, compare_keys);
	if (found != NULL)
		return *found;
	struct lin_key *key = key_new(checker, name);
	void *node = tsearch(key, &checker->tree, compare_keys);
	assert(node != NULL);
	return key;
}

static void list_fini(struct lin_list *list)
{
	for (size_t k = 0; k < list->count; k++)
		lin_operation_free(list->items[k]);
	free(list->items);
	*list = (struct lin_list){0};
}

static void key_free(void *arg)
{
	struct lin_key *key = arg;
	list_fini(&key->carried);
	list_fini(&key->recent);
	starts_free(key->starts, key->n_starts);
	free((void *)key->name.data);
	free(key);
}

struct lin_checker *lin_free(struct lin_checker *checker)
{
	if (checker == NULL)
		return NULL;
	tdestroy(checker->tree, key_free);
	free(checker->keys);
	free(checker->open);
	free(checker->free_slots);
	free(checker);
	return NULL;
}

/* Checking ------------------------------------------------------------------------------------------------------------ */

struct lin_problem lin_key_problem(const struct lin_checker *checker, const struct lin_key *key, uint64_t called_end,
				   uint64_t returned_end)
{
	struct lin_list known = {0};
	struct lin_list unknown = {0};
	for (size_t k = 0; k < key->carried.count; k++)
		list_add(&unknown, key->carried.items[k]);
	for (size_t k = 0; k < key->recent.count; k++) {
		struct lin_operation *operation = key->recent.items[k];
		if (operation->called >= called_end)
			break;
		if (operation->result.outcome == LIN_FAILED)
			continue;
		if (operation->returned < returned_end || k < key->n_spanning)
			list_add(&known, operation);
		else if (operation->call.kind != LIN_GET)
			list_add(&unknown, operation);
	}
	return (struct lin_problem){.known = known.items,
				    .n_known = known.count,
				    .n_spanning = key->n_spanning,
				    .cut = LIN_NEVER,
				    .unknown = unknown.items,
				    .n_unknown = unknown.count,
				    .n_carried = key->carried.count,
				    .reuse_unknown = checker->options.reuse_unknown,
				    .starts = key->starts,
				    .n_starts = key->n_starts,
				    .states_max = checker->options.states_max};
}

void lin_problem_fini(struct lin_problem *problem)
{
	free(problem->known);
	free(problem->unknown);
	*problem = (struct lin_problem){0};
}

static void note_verdict(struct lin_checker *checker, struct lin_key *key, enum lin_verdict verdict)
{
	if (verdict == LIN_LINEARIZABLE || checker->verdict == LIN_VIOLATION)
		return;
	if (verdict == LIN_GAVE_UP && checker->verdict == LIN_GAVE_UP)
		return;
	checker->verdict = verdict;
	checker->culprit = key;
}

/* Whether some order explains the key's history so far. */
static enum lin_verdict key_check(struct lin_checker *checker, struct lin_key *key)
{
	struct lin_problem problem = lin_key_problem(checker, key, LIN_NEVER, LIN_NEVER);
	struct lin_solution solution = lin_search(&problem, NULL);
	enum lin_verdict verdict = solution.verdict;
	checker->statistics.states += solution.states;
	lin_solution_fini(&solution);
	lin_problem_fini(&problem);
	return verdict;
}

/* An operation that is placed at every possible end has happened: nothing more can come of it. */
static bool placed_everywhere(const struct lin_solution *solution, size_t k)
{
	for (size_t j = 0; j < solution->n_ends; j++)
		if (!solution->ends[j].placed[k])
			return false;
	return true;
}

static bool same_ends(const struct lin_start *a, const struct lin_start *b, size_t n_carried, size_t n_spanning)
{
	return lin_same_state(&a->state, &b->state) && memcmp(a->placed, b->placed, n_carried) == 0 &&
	       memcmp(a->done, b->done, n_spanning) == 0;
}

/* Ends that differ only in which operations of unknown fate they used are one when these may be used again. */
static void merge_ends(struct lin_solution *solution, const struct lin_list *carried, size_t n_spanning)
{
	size_t n = 0;
	for (size_t j = 0; j < solution->n_ends; j++) {
		struct lin_start *end = &solution->ends[j];
		for (size_t k = 0; k < carried->count; k++)
			if (!carried->items[k]->call.expects_value)
				end->placed[k] = false;
		size_t same = 0;
		while (same < n && !same_ends(&solution->ends[same], end, carried->count, n_spanning))
			same++;
		if (same < n) {
			free(end->placed);
			free(end->done);
		} else {
			solution->ends[n++] = *end;
		}
	}
	solution->n_ends = n;
}

/* A cas that wants a revision which the register has left behind will never succeed. */
static bool comes_too_late(const struct lin_operation *operation, const struct lin_solution *solution)
{
	if (operation->call.kind != LIN_CAS || operation->call.expects_value || operation->call.expected == 0)
		return false;
	for (size_t j = 0; j < solution->n_ends; j++)
		if (solution->ends[j].state.revision <= operation->call.expected)
			return false;
	return true;
}

/* Those of unknown fate that are not used up; the others are gone. */
static struct lin_list carry(const struct lin_problem *problem, struct lin_solution *solution)
{
	struct lin_list carried = {0};
	for (size_t k = 0; k < problem->n_unknown; k++) {
		if (placed_everywhere(solution, k) || comes_too_late(problem->unknown[k], solution)) {
			lin_operation_free(problem->unknown[k]);
			continue;
		}
		for (size_t j = 0; j < solution->n_ends; j++)
			solution->ends[j].placed[carried.count] = solution->ends[j].placed[k];
		list_add(&carried, problem->unknown[k]);
	}
	return carried;
}

/* What was called before the cut and is not needed any more is gone. Returns the rest: what spans the cut comes first. */
static struct lin_list keep_recent(struct lin_key *key, uint64_t cut, size_t *ret_spanning)
{
	struct lin_list rest = {0};
	*ret_spanning = 0;
	for (size_t k = 0; k < key->recent.count; k++) {
		struct lin_operation *operation = key->recent.items[k];
		enum lin_outcome outcome = operation->result.outcome;
		bool finished = outcome != LIN_UNKNOWN && outcome != LIN_FAILED;
		if (operation->called >= cut) {
			list_add(&rest, operation);
		} else if (finished && operation->returned >= cut) {
			list_add(&rest, operation);
			++*ret_spanning;
		} else if (outcome != LIN_UNKNOWN || operation->call.kind == LIN_GET) {
			lin_operation_free(operation);
		}
	}
	return rest;
}

/* Replaces the key's past by its possible ends. */
static void key_forget(struct lin_checker *checker, struct lin_key *key, const struct lin_problem *problem,
		       struct lin_solution *solution)
{
	size_t n_spanning;
	size_t before = key->carried.count + key->recent.count;
	struct lin_list recent = keep_recent(key, problem->cut, &n_spanning);
	struct lin_list carried = carry(problem, solution);
	if (checker->options.reuse_unknown)
		merge_ends(solution, &carried, n_spanning);
	free(key->recent.items);
	free(key->carried.items);
	starts_free(key->starts, key->n_starts);
	key->recent = recent;
	key->carried = carried;
	key->n_spanning = n_spanning;
	key->starts = solution->ends;
	key->n_starts = solution->n_ends;
	size_t gone = before - carried.count - recent.count;
	key->forgotten += gone;
	checker->held -= gone;
	solution->ends = NULL;
	solution->n_ends = 0;
}

/* Everything that was called earlier has returned, or its client gave it up. */
static uint64_t key_cut(const struct lin_checker *checker, const struct lin_key *key)
{
	for (size_t k = 0; k < key->recent.count; k++)
		if (key->recent.items[k]->open)
			return key->recent.items[k]->called;
	return checker->position;
}

/* Checks what was called before the cut and forgets it, if its possible ends are few. */
static void key_settle(struct lin_checker *checker, struct lin_key *key)
{
	uint64_t cut = key_cut(checker, key);
	struct lin_problem problem = lin_key_problem(checker, key, cut, LIN_NEVER);
	problem.cut = cut;
	problem.ends_max = ENDS_MAX;
	if (problem.states_max > STATES_OF_ALL_ENDS_MAX)
		problem.states_max = STATES_OF_ALL_ENDS_MAX;
	struct lin_solution solution = lin_search(&problem, NULL);
	checker->statistics.states += solution.states;
	if (solution.verdict == LIN_VIOLATION)
		note_verdict(checker, key, LIN_VIOLATION);
	if (solution.verdict == LIN_LINEARIZABLE)
		key_forget(checker, key, &problem, &solution);
	/* Twice as many when little could be forgotten. */
	key->due = key->recent.count +
		   (key->recent.count > checker->options.window ? key->recent.count : checker->options.window);
	lin_solution_fini(&solution);
	lin_problem_fini(&problem);
}

static void key_returned(struct lin_checker *checker, struct lin_key *key)
{
	if (checker->options.window > 0 && key->recent.count >= key->due && checker->verdict != LIN_VIOLATION)
		key_settle(checker, key);
}

/* Events -------------------------------------------------------------------------------------------------------------- */

uint64_t lin_invoke(struct lin_checker *checker, const struct lin_call *call)
{
	assert(call->key.size > 0);
	struct lin_key *key = key_get(checker, call->key);
	struct lin_operation *operation =
		lin_operation_new(call, checker->position++, checker->statistics.operations++);
	operation->call.key = key->name;
	list_add(&key->recent, operation);
	checker->held++;
	if (checker->held > checker->statistics.operations_max)
		checker->statistics.operations_max = checker->held;
	size_t slot = checker->n_open;
	if (checker->n_free_slots > 0) {
		slot = checker->free_slots[--checker->n_free_slots];
	} else {
		checker->open =
			lin_grow(checker->open, checker->n_open, &checker->open_capacity, sizeof *checker->open);
		checker->n_open++;
	}
	checker->open[slot].operation = operation;
	checker->open[slot].key = key;
	return slot;
}

void lin_return(struct lin_checker *checker, uint64_t slot, const struct lin_return *outcome)
{
	assert(slot < checker->n_open && checker->open[slot].operation != NULL);
	lin_operation_return(checker->open[slot].operation, outcome, checker->position++);
	if (outcome->outcome == LIN_UNKNOWN)
		checker->statistics.unknown++;
	checker->open[slot].operation = NULL;
	checker->free_slots = lin_grow(checker->free_slots, checker->n_free_slots, &checker->free_slots_capacity,
				       sizeof *checker->free_slots);
	checker->free_slots[checker->n_free_slots++] = slot;
	key_returned(checker, checker->open[slot].key);
}

enum lin_verdict lin_verdict(const struct lin_checker *checker)
{
	return checker->verdict;
}

enum lin_verdict lin_finish(struct lin_checker *checker)
{
	for (size_t k = 0; k < checker->n_open; k++)
		if (checker->open[k].operation != NULL)
			checker->statistics.unknown++;
	for (size_t k = 0; k < checker->n_keys && checker->verdict != LIN_VIOLATION; k++)
		note_verdict(checker, checker->keys[k], key_check(checker, checker->keys[k]));
	return checker->verdict;
}

struct lin_statistics lin_statistics(const struct lin_checker *checker)
{
	return checker->statistics;
}
