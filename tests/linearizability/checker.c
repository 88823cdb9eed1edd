/*
 * Takes the events of a history, sorts them by key, and decides when a key is checked and what of it may be forgotten.
 *
 * A key is quiescent when none of its operations is open. The next ones are then called after all finished ones have
 * returned: all that matters of the past is what the register can be now, and which operations of unknown fate are still
 * to come. Every possible end of the search is kept as a start of the next one; there is rarely more than one.
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
#define ENDS_MAX 256u
/* Finding all ends is given up earlier than finding one. */
#define STATES_OF_ALL_ENDS_MAX 200000u
/* A key that is never quiescent is checked all the same, to fail early. */
#define OPEN_FACTOR 64u

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
	for (size_t k = 0; k < count; k++)
		free(starts[k].placed);
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

static bool was_known(const struct lin_operation *operation, uint64_t end)
{
	return operation->returned < end;
}

struct lin_problem lin_key_problem(const struct lin_checker *checker, const struct lin_key *key, uint64_t end)
{
	struct lin_list known = {0};
	struct lin_list unknown = {0};
	for (size_t k = 0; k < key->carried.count; k++)
		list_add(&unknown, key->carried.items[k]);
	for (size_t k = 0; k < key->recent.count; k++) {
		struct lin_operation *operation = key->recent.items[k];
		if (operation->called >= end)
			break;
		if (operation->result.outcome == LIN_FAILED)
			continue;
		if (was_known(operation, end))
			list_add(&known, operation);
		else if (operation->call.kind != LIN_GET)
			list_add(&unknown, operation);
	}
	return (struct lin_problem){.known = known.items,
				    .n_known = known.count,
				    .unknown = unknown.items,
				    .n_unknown = unknown.count,
				    .n_carried = key->carried.count,
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
	struct lin_problem problem = lin_key_problem(checker, key, LIN_NEVER);
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

/* Replaces the key's past by its possible ends. */
static void key_forget(struct lin_checker *checker, struct lin_key *key, const struct lin_problem *problem,
		       struct lin_solution *solution)
{
	size_t before = key->carried.count + key->recent.count;
	for (size_t k = 0; k < key->recent.count; k++) {
		struct lin_operation *operation = key->recent.items[k];
		if (operation->call.kind == LIN_GET || operation->result.outcome != LIN_UNKNOWN)
			lin_operation_free(operation);
	}
	struct lin_list carried = {0};
	for (size_t k = 0; k < problem->n_unknown; k++) {
		if (placed_everywhere(solution, k)) {
			lin_operation_free(problem->unknown[k]);
			continue;
		}
		for (size_t j = 0; j < solution->n_ends; j++)
			solution->ends[j].placed[carried.count] = solution->ends[j].placed[k];
		list_add(&carried, problem->unknown[k]);
	}
	free(key->recent.items);
	free(key->carried.items);
	starts_free(key->starts, key->n_starts);
	key->recent = (struct lin_list){0};
	key->carried = carried;
	key->starts = solution->ends;
	key->n_starts = solution->n_ends;
	key->forgotten += before - carried.count;
	checker->held -= before - carried.count;
	solution->ends = NULL;
	solution->n_ends = 0;
}

/* Checks a quiescent key and forgets what was checked, if the possible ends are few. */
static void key_settle(struct lin_checker *checker, struct lin_key *key)
{
	struct lin_problem problem = lin_key_problem(checker, key, LIN_NEVER);
	problem.ends_max = ENDS_MAX;
	if (problem.states_max > STATES_OF_ALL_ENDS_MAX)
		problem.states_max = STATES_OF_ALL_ENDS_MAX;
	struct lin_solution solution = lin_search(&problem, NULL);
	checker->statistics.states += solution.states;
	key->due = 2 * key->recent.count;
	if (solution.verdict == LIN_VIOLATION)
		note_verdict(checker, key, LIN_VIOLATION);
	if (solution.verdict == LIN_LINEARIZABLE) {
		key_forget(checker, key, &problem, &solution);
		key->due = checker->options.window;
	}
	lin_solution_fini(&solution);
	lin_problem_fini(&problem);
}

static void key_returned(struct lin_checker *checker, struct lin_key *key)
{
	assert(key->n_open > 0);
	key->n_open--;
	if (checker->options.window == 0 || key->recent.count < key->due || checker->verdict == LIN_VIOLATION)
		return;
	if (key->n_open == 0) {
		key_settle(checker, key);
	} else if (key->recent.count >= OPEN_FACTOR * key->due) {
		if (key_check(checker, key) == LIN_VIOLATION)
			note_verdict(checker, key, LIN_VIOLATION);
		key->due *= 2;
	}
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
	key->n_open++;
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
