/* Depth first, without recursion. Start reading at lin_search(). */
#include "tests/linearizability/search.h"

#include "tests/linearizability/fingerprints.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* A call or a return of a finished operation; entry 0 is the list's head. */
struct entry {
	size_t operation;
	size_t match; /* the return of a call; 0 in a return */
	size_t previous, next;
};

/* One operation was placed. */
struct step {
	bool is_known;
	size_t index;  /* into known or unknown */
	size_t resume; /* entry where the search goes on when this was wrong */
	struct lin_state before;
	bool before_unseen;
};

struct search {
	const struct lin_problem *problem;
	struct entry *entries;
	size_t *twin;	   /* of an operation of unknown fate: the previous one with the same effect, +1; 0: none */
	size_t *calls;	   /* entries of the finished ones */
	bool *done;	   /* finished ones that are placed */
	size_t n_required; /* finished ones that returned before the cut and are not placed */
	bool *placed;	   /* of unknown fate */
	struct step *steps;
	size_t n_steps, steps_capacity, n_known_placed;
	struct lin_fingerprints visited;
	XXH128_hash_t set; /* of what is placed */
	struct lin_state state;
	bool unseen;   /* the last one placed was of unknown fate: what comes next must see it */
	size_t cursor; /* entry to try next */
	size_t next_unknown;
	struct lin_solution solution;
	size_t ends_capacity;
	struct lin_dead_end *dead_end;
};

/* The list ------------------------------------------------------------------------------------------------------------ */

struct moment {
	uint64_t time;
	size_t operation;
	bool is_call;
};

static int compare_moments(const void *a, const void *b)
{
	const struct moment *x = a;
	const struct moment *y = b;
	return x->time < y->time ? -1 : x->time > y->time;
}

static struct entry *list_new(const struct lin_problem *problem, size_t *calls)
{
	size_t n = 2 * problem->n_known;
	struct moment *moments = lin_alloc(n, sizeof *moments);
	struct entry *entries = lin_alloc(n + 1, sizeof *entries);
	for (size_t k = 0; k < problem->n_known; k++) {
		moments[2 * k] = (struct moment){problem->known[k]->called, k, true};
		moments[2 * k + 1] = (struct moment){problem->known[k]->returned, k, false};
	}
	qsort(moments, n, sizeof *moments, compare_moments);
	for (size_t k = 0; k < n; k++) {
		struct moment *moment = &moments[k];
		entries[k + 1] = (struct entry){.operation = moment->operation, .previous = k, .next = k + 2};
		if (moment->is_call)
			calls[moment->operation] = k + 1;
		else
			entries[calls[moment->operation]].match = k + 1;
	}
	entries[0].next = n > 0 ? 1 : 0;
	entries[0].previous = n;
	if (n > 0)
		entries[n].next = 0;
	free(moments);
	return entries;
}

static void entry_remove(struct entry *entries, size_t k)
{
	entries[entries[k].previous].next = entries[k].next;
	entries[entries[k].next].previous = entries[k].previous;
}

static void entry_restore(struct entry *entries, size_t k)
{
	entries[entries[k].previous].next = k;
	entries[entries[k].next].previous = k;
}

static bool is_call(const struct search *search, size_t k)
{
	return search->entries[k].match != 0;
}

static struct lin_operation *known_at(const struct search *search, size_t k)
{
	return search->problem->known[search->entries[k].operation];
}

/* Steps --------------------------------------------------------------------------------------------------------------- */

static void mark_set(struct search *search, const struct lin_operation *operation)
{
	search->set.low64 ^= operation->mark.low64;
	search->set.high64 ^= operation->mark.high64;
}

/* Never a cas by value: two of them could follow each other without end. One by revision leaves a higher revision behind. */
static bool is_reusable(const struct search *search, size_t unknown)
{
	return search->problem->reuse_unknown && !search->problem->unknown[unknown]->call.expects_value;
}

/* False when this combination was visited before. */
static bool visit(struct search *search, XXH128_hash_t mark, const struct lin_state *state, bool unseen)
{
	uint64_t parts[] = {search->set.low64 ^ mark.low64, search->set.high64 ^ mark.high64, state->value,
			    state->revision, (uint64_t)state->exact,
			    /* What may follow an unseen change depends on what it changed. */
			    unseen, unseen ? search->state.value : 0, unseen ? search->state.revision : 0,
			    unseen && search->state.exact};
	return lin_fingerprints_add(&search->visited, XXH3_128bits(parts, sizeof parts));
}

static void place_known(struct search *search, size_t k)
{
	mark_set(search, search->problem->known[k]);
	entry_remove(search->entries, search->calls[k]);
	entry_remove(search->entries, search->entries[search->calls[k]].match);
	search->done[k] = true;
	search->n_required -= search->problem->known[k]->returned < search->problem->cut;
}

static void take_back_known(struct search *search, size_t k)
{
	mark_set(search, search->problem->known[k]);
	entry_restore(search->entries, search->entries[search->calls[k]].match);
	entry_restore(search->entries, search->calls[k]);
	search->done[k] = false;
	search->n_required += search->problem->known[k]->returned < search->problem->cut;
}

static void place(struct search *search, bool is_known, size_t index, const struct lin_state *state)
{
	search->steps = lin_grow(search->steps, search->n_steps, &search->steps_capacity, sizeof *search->steps);
	search->steps[search->n_steps++] = (struct step){.is_known = is_known,
							 .index = index,
							 .resume = search->cursor,
							 .before = search->state,
							 .before_unseen = search->unseen};
	if (is_known) {
		place_known(search, index);
		search->n_known_placed++;
	} else if (!is_reusable(search, index)) {
		mark_set(search, search->problem->unknown[index]);
		search->placed[index] = true;
	}
	search->state = *state;
	search->unseen = !is_known;
	search->cursor = search->entries[0].next;
	search->next_unknown = 0;
}

static void take_back(struct search *search)
{
	struct step *step = &search->steps[--search->n_steps];
	search->cursor = step->resume;
	search->state = step->before;
	search->unseen = step->before_unseen;
	search->next_unknown = 0;
	if (step->is_known) {
		take_back_known(search, step->index);
		search->n_known_placed--;
		search->cursor = search->entries[step->resume].next;
		return;
	}
	if (!is_reusable(search, step->index))
		mark_set(search, search->problem->unknown[step->index]);
	search->placed[step->index] = false;
	search->next_unknown = step->index + 1;
}

/* Whether what must be placed soon can still be, once the register's revision is this. */
static bool leaves_room(const struct search *search, size_t except, uint64_t revision)
{
	for (size_t k = search->entries[0].next; is_call(search, k); k = search->entries[k].next)
		if (k != except && lin_revision_limit(known_at(search, k)) < revision)
			return false;
	return true;
}

/* The state before the last step, which was of unknown fate. */
static const struct lin_state *before_change(const struct search *search)
{
	return &search->steps[search->n_steps - 1].before;
}

static bool try_known(struct search *search)
{
	struct lin_operation *operation = known_at(search, search->cursor);
	struct lin_state state;
	if (lin_apply(operation, true, &search->state, &state) != NULL)
		return false;
	if (search->unseen && !lin_sees_change(operation, true, before_change(search), &search->state))
		return false;
	if (!leaves_room(search, search->cursor, state.revision) || !visit(search, operation->mark, &state, false))
		return false;
	place(search, true, search->entries[search->cursor].operation, &state);
	return true;
}

/* Whether something that can come directly afterwards is a reason for operation `index` of unknown fate, which makes `state`. */
static bool has_reason(const struct search *search, size_t index, const struct lin_state *state, uint64_t deadline)
{
	for (size_t k = search->entries[0].next; is_call(search, k); k = search->entries[k].next) {
		const struct lin_operation *next = known_at(search, k);
		if (next->reads != 0 && next->reads != state->value) /* most of them */
			continue;
		if (lin_sees_change(next, true, &search->state, state))
			return true;
	}
	for (size_t k = 0; k < search->problem->n_unknown; k++) {
		const struct lin_operation *other = search->problem->unknown[k];
		if (other->called > deadline)
			break;
		if (k != index && !search->placed[k] && other->call.kind == LIN_CAS &&
		    lin_sees_change(other, false, &search->state, state))
			return true;
	}
	return false;
}

/* The cursor is at the list's first return: whatever is placed now was called before it. */
static bool try_unknown(struct search *search)
{
	const struct lin_problem *problem = search->problem;
	uint64_t deadline = known_at(search, search->cursor)->returned;
	for (size_t k = search->next_unknown; k < problem->n_unknown; k++) {
		struct lin_operation *operation = problem->unknown[k];
		XXH128_hash_t mark = is_reusable(search, k) ? (XXH128_hash_t){0} : operation->mark;
		struct lin_state state;
		if (operation->called > deadline)
			break;
		if (search->placed[k] || (search->twin[k] != 0 && !search->placed[search->twin[k] - 1]))
			continue;
		if (lin_apply(operation, false, &search->state, &state) != NULL)
			continue;
		if (search->unseen && (operation->call.kind != LIN_CAS ||
				       !lin_sees_change(operation, false, before_change(search), &search->state)))
			continue;
		if (!leaves_room(search, 0, state.revision) || !has_reason(search, k, &state, deadline) ||
		    !visit(search, mark, &state, true))
			continue;
		place(search, false, k, &state);
		return true;
	}
	return false;
}

/* Ends ---------------------------------------------------------------------------------------------------------------- */

/* Everything that must be is placed; what returned after the cut can as well be placed from the start that this becomes.
 * False when there are too many ends. */
static bool keep_end(struct search *search)
{
	struct lin_solution *solution = &search->solution;
	if (solution->n_ends == search->problem->ends_max)
		return false;
	solution->ends = lin_grow(solution->ends, solution->n_ends, &search->ends_capacity, sizeof *solution->ends);
	bool *placed = lin_alloc(search->problem->n_unknown, sizeof *placed);
	memcpy(placed, search->placed, search->problem->n_unknown * sizeof *placed);
	bool *done = lin_alloc(search->problem->n_known, sizeof *done);
	size_t n_done = 0;
	for (size_t k = 0; k < search->problem->n_known; k++)
		if (search->problem->known[k]->returned >= search->problem->cut)
			done[n_done++] = search->done[k];
	solution->ends[solution->n_ends++] = (struct lin_start){.state = search->state, .placed = placed, .done = done};
	return true;
}

static const struct lin_operation *step_operation(const struct search *search, const struct step *step)
{
	return step->is_known ? search->problem->known[step->index] : search->problem->unknown[step->index];
}

static void keep_dead_end(struct search *search)
{
	struct lin_dead_end *end = search->dead_end;
	if (end == NULL || (end->n_blocked > 0 && search->n_known_placed <= end->n_placed) || search->unseen)
		return;
	*end = (struct lin_dead_end){.n_placed = search->n_known_placed, .state = search->state};
	end->n_tail = search->n_steps < LIN_TAIL ? search->n_steps : LIN_TAIL;
	const struct step *tail = &search->steps[search->n_steps - end->n_tail];
	end->before_tail = end->n_tail > 0 ? tail->before : search->state;
	for (size_t k = 0; k < end->n_tail; k++)
		end->tail[k] = step_operation(search, &tail[k]);
	/* The one that must be next comes first. */
	end->blocked[end->n_blocked++] = known_at(search, search->cursor);
	for (size_t k = search->entries[0].next; is_call(search, k); k = search->entries[k].next) {
		if (known_at(search, k) == end->blocked[0])
			continue;
		if (end->n_blocked < LIN_BLOCKED)
			end->blocked[end->n_blocked++] = known_at(search, k);
		else
			end->n_blocked_more++;
	}
}

/* From one start. */
static enum lin_verdict explore(struct search *search)
{
	search->cursor = search->entries[0].next;
	for (;;) {
		if (search->visited.count > search->problem->states_max)
			return LIN_GAVE_UP;
		if (search->n_required == 0) {
			if (search->problem->ends_max == 0)
				return LIN_LINEARIZABLE;
			if (!keep_end(search))
				return LIN_GAVE_UP;
			if (search->n_steps == 0)
				return LIN_VIOLATION;
			take_back(search);
		} else if (is_call(search, search->cursor)) {
			if (!try_known(search))
				search->cursor = search->entries[search->cursor].next;
		} else if (!try_unknown(search)) {
			keep_dead_end(search);
			if (search->n_steps == 0)
				return LIN_VIOLATION;
			take_back(search);
		}
	}
}

static void search_init(struct search *search, const struct lin_problem *problem)
{
	*search = (struct search){.problem = problem, .solution.verdict = LIN_VIOLATION};
	search->calls = lin_alloc(problem->n_known, sizeof *search->calls);
	search->done = lin_alloc(problem->n_known, sizeof *search->done);
	search->entries = list_new(problem, search->calls);
	for (size_t k = 0; k < problem->n_known; k++)
		search->n_required += problem->known[k]->returned < problem->cut;
	search->placed = lin_alloc(problem->n_unknown, sizeof *search->placed);
	search->twin = lin_alloc(problem->n_unknown, sizeof *search->twin);
	lin_fingerprints_init(&search->visited);
	for (size_t k = 1; k < problem->n_unknown; k++)
		for (size_t j = k; j > 0 && search->twin[k] == 0; j--)
			if (problem->unknown[j - 1]->effect == problem->unknown[k]->effect)
				search->twin[k] = j;
}

static void search_begin(struct search *search, const struct lin_start *start)
{
	search->state = start->state;
	search->set = (XXH128_hash_t){0};
	search->unseen = false;
	search->next_unknown = 0;
	for (size_t k = 0; k < search->problem->n_unknown; k++) {
		search->placed[k] = k < search->problem->n_carried && start->placed[k];
		if (search->placed[k])
			mark_set(search, search->problem->unknown[k]);
	}
	for (size_t k = 0; k < search->problem->n_spanning; k++)
		if (start->done[k])
			place_known(search, k);
}

static void search_end(struct search *search, const struct lin_start *start)
{
	for (size_t k = search->problem->n_spanning; k-- > 0;)
		if (start->done[k])
			take_back_known(search, k);
}

struct lin_solution lin_search(const struct lin_problem *problem, struct lin_dead_end *ret_dead_end)
{
	struct search search;
	search_init(&search, problem);
	if (ret_dead_end != NULL)
		*ret_dead_end = (struct lin_dead_end){0};
	search.dead_end = ret_dead_end;
	for (size_t k = 0; k < problem->n_starts; k++) {
		search_begin(&search, &problem->starts[k]);
		enum lin_verdict verdict = explore(&search);
		if (verdict != LIN_VIOLATION) {
			search.solution.verdict = verdict;
			break;
		}
		assert(search.n_steps == 0 && search.n_known_placed == 0);
		search_end(&search, &problem->starts[k]);
	}
	if (search.solution.verdict == LIN_VIOLATION && search.solution.n_ends > 0)
		search.solution.verdict = LIN_LINEARIZABLE;
	search.solution.states = search.visited.count;
	lin_fingerprints_fini(&search.visited);
	free(search.steps);
	free(search.twin);
	free(search.placed);
	free(search.entries);
	free(search.done);
	free(search.calls);
	return search.solution;
}

void lin_solution_fini(struct lin_solution *solution)
{
	for (size_t k = 0; k < solution->n_ends; k++) {
		free(solution->ends[k].placed);
		free(solution->ends[k].done);
	}
	free(solution->ends);
	*solution = (struct lin_solution){.verdict = solution->verdict};
}
