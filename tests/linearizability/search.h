/*
 * The search for an order of one key's operations that explains what all clients saw.
 *
 * Finished operations form Lowe's doubly linked list of calls and returns: the ones that can come next are those called before
 * the list's first return; placing one takes its call and return out of the list. A combination of placed operations and the
 * register's state is visited once.
 *
 * Operations of unknown fate are not in the list. Such a one is placed only directly before an operation that is a reason for
 * it (lin_sees_change()): in any order that explains a history it can otherwise be left out, because all that it does is
 * raise the least revision of the next write, or be placed later. Of those with the same effect the one asked first is taken first. So a hundred of them that nobody saw
 * cost next to nothing.
 *
 * It must not know where operations come from, or other keys.
 */
#ifndef RAFT_KV_LIN_SEARCH_H
#define RAFT_KV_LIN_SEARCH_H

#include "tests/linearizability/register.h"

/* What may have happened before: the state, and which of the first operations of either kind are already placed. */
struct lin_start {
	struct lin_state state;
	bool *placed; /* owned; as many as lin_problem.n_carried */
	bool *done;   /* owned; as many as lin_problem.n_spanning */
};

struct lin_problem {
	struct lin_operation **known; /* by time of call */
	size_t n_known, n_spanning;   /* the first n_spanning were called before the starts */
	uint64_t cut; /* an order ends when what returned before this is placed; what returned later may be in it */
	struct lin_operation **unknown; /* by time of call; the first n_carried were called before any of known */
	size_t n_unknown, n_carried;
	bool reuse_unknown; /* each may take effect any number of times, except a cas by value */
	const struct lin_start *starts;
	size_t n_starts;
	size_t states_max;
	size_t ends_max; /* not 0: find every possible end, and give up when there are more */
};

/* Where the search got furthest, for people. */
#define LIN_TAIL 12u
#define LIN_BLOCKED 16u
struct lin_dead_end {
	size_t n_placed;			    /* of the finished ones */
	const struct lin_operation *tail[LIN_TAIL]; /* the last ones placed, of unknown fate included */
	size_t n_tail;
	struct lin_state before_tail;
	const struct lin_operation *blocked[LIN_BLOCKED]; /* can be next by time; the last must be */
	size_t n_blocked;
	size_t n_blocked_more;
	struct lin_state state;
};

struct lin_solution {
	enum lin_verdict verdict;
	uint64_t states;
	struct lin_start
		*ends; /* owned, `placed` of all of unknown, `done` of those of known that returned after the cut */
	size_t n_ends;
};

/* dead_end may be NULL. */
struct lin_solution lin_search(const struct lin_problem *problem, struct lin_dead_end *ret_dead_end);
void lin_solution_fini(struct lin_solution *solution);

#endif
