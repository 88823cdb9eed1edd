/*
 * Says what is wrong with a history: the key, the shortest beginning that is already impossible, the order that gets furthest in
 * it, and what cannot come next there. It searches again; a verdict needs none of this.
 */
#include "tests/linearizability/checker.h"

#include <inttypes.h>
#include <stdlib.h>

/* Longer histories of unfinished searches are not shortened: it could take hours. */
#define STATES_OF_A_PREFIX_MAX 2000000u

static bool prefix_is_impossible(const struct lin_checker *checker, const struct lin_key *key, uint64_t end)
{
	struct lin_problem problem = lin_key_problem(checker, key, end, end);
	if (problem.states_max > STATES_OF_A_PREFIX_MAX)
		problem.states_max = STATES_OF_A_PREFIX_MAX;
	struct lin_solution solution = lin_search(&problem, NULL);
	bool impossible = solution.verdict == LIN_VIOLATION;
	lin_solution_fini(&solution);
	lin_problem_fini(&problem);
	return impossible;
}

static int compare_positions(const void *a, const void *b)
{
	const uint64_t *x = a;
	const uint64_t *y = b;
	return *x < *y ? -1 : *x > *y;
}

/* Every beginning of a linearizable history is linearizable: the first impossible one is found by halving. Returns where it
 * ends, just after a return. */
static uint64_t shortest_prefix(const struct lin_checker *checker, const struct lin_key *key)
{
	uint64_t *ends = lin_alloc(key->recent.count + 1, sizeof *ends);
	size_t n = 0;
	for (size_t k = 0; k < key->recent.count; k++)
		if (key->recent.items[k]->returned != LIN_NEVER)
			ends[n++] = key->recent.items[k]->returned + 1;
	qsort(ends, n, sizeof *ends, compare_positions);
	size_t low = 0;
	size_t high = n == 0 ? 0 : n - 1; /* ends[high] is impossible */
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (prefix_is_impossible(checker, key, ends[middle]))
			high = middle;
		else
			low = middle + 1;
	}
	uint64_t end = n == 0 ? LIN_NEVER : ends[high];
	free(ends);
	return end;
}

/* The text of a value that is known by its hash: something wrote it or was shown it. */
static const struct lin_operation *find_value(const struct lin_key *key, uint64_t hash)
{
	const struct lin_list *lists[] = {&key->recent, &key->carried};
	for (size_t j = 0; j < 2; j++)
		for (size_t k = 0; k < lists[j]->count; k++)
			if (lists[j]->items[k]->writes == hash || lists[j]->items[k]->reads == hash)
				return lists[j]->items[k];
	return NULL;
}

static void write_state(const struct lin_key *key, const struct lin_state *state, FILE *file)
{
	if (state->value == 0) {
		fputs("no such key", file);
		return;
	}
	const struct lin_operation *source = find_value(key, state->value);
	if (source == NULL)
		fputs("an earlier value", file);
	else
		lin_write_bytes(source->writes == state->value ? source->call.value : source->result.value, file);
	if (state->exact)
		fprintf(file, " revision %" PRIu64, state->revision);
}

static void write_tail(const struct lin_key *key, const struct lin_dead_end *end, uint64_t prefix, FILE *file)
{
	struct lin_state state = end->before_tail;
	fputs("    the register before them: ", file);
	write_state(key, &state, file);
	fputc('\n', file);
	for (size_t k = 0; k < end->n_tail; k++) {
		const struct lin_operation *operation = end->tail[k];
		bool known = operation->returned < prefix;
		struct lin_state after;
		if (lin_apply(operation, known, &state, &after) != NULL)
			abort();
		state = after;
		fputs("      ", file);
		lin_write_operation(operation, known, file);
		fputs("\n        => ", file);
		write_state(key, &state, file);
		fputc('\n', file);
	}
}

static void write_blocked(const struct lin_dead_end *end, FILE *file)
{
	for (size_t k = 0; k < end->n_blocked; k++) {
		struct lin_state after;
		const char *reason = lin_apply(end->blocked[k], true, &end->state, &after);
		fputs("      ", file);
		lin_write_operation(end->blocked[k], true, file);
		fprintf(file, "\n        %s%s\n", k == 0 ? "returned first of these and must come before that; " : "",
			reason == NULL ? "possible next, but leads nowhere either" : reason);
	}
	if (end->n_blocked_more > 0)
		fprintf(file, "      … and %zu more\n", end->n_blocked_more);
}

static void explain_violation(const struct lin_checker *checker, const struct lin_key *key, FILE *file)
{
	uint64_t prefix = shortest_prefix(checker, key);
	struct lin_dead_end *end = lin_alloc(1, sizeof *end);
	struct lin_problem problem = lin_key_problem(checker, key, prefix, prefix);
	struct lin_solution solution = lin_search(&problem, end);
	fprintf(file,
		"  the first %zu finished operations of the key (and %zu of unknown fate) cannot be put in an order; "
		"without the "
		"last return they could\n",
		key->forgotten + problem.n_known, problem.n_unknown);
	for (size_t k = 0; k < problem.n_known; k++)
		if (problem.known[k]->returned + 1 == prefix) {
			fputs("  the last return is that of\n      ", file);
			lin_write_operation(problem.known[k], true, file);
			fputc('\n', file);
		}
	if (key->forgotten > 0)
		fprintf(file, "  %zu operations were in order and are forgotten\n", key->forgotten);
	fprintf(file, "  the longest order places %zu of %zu%s; the last of them, in this order:\n", end->n_placed,
		problem.n_known, key->forgotten > 0 ? " that are not forgotten" : "");
	write_tail(key, end, prefix, file);
	fputs("    the register after them: ", file);
	write_state(key, &end->state, file);
	fputs("\n  what can come next by time, and why it cannot:\n", file);
	write_blocked(end, file);
	lin_solution_fini(&solution);
	lin_problem_fini(&problem);
	free(end);
}

void lin_explain(const struct lin_checker *checker, FILE *file)
{
	const struct lin_key *key = checker->culprit;
	if (key == NULL) {
		fputs("linearizable\n", file);
		return;
	}
	fputs(checker->verdict == LIN_VIOLATION ? "not linearizable: key " : "gave up: key ", file);
	lin_write_bytes(key->name, file);
	fputc('\n', file);
	if (checker->verdict == LIN_VIOLATION)
		explain_violation(checker, key, file);
	else
		fprintf(file, "  more than %zu combinations of its %zu operations were tried\n",
			checker->options.states_max, key->forgotten + key->carried.count + key->recent.count);
}
