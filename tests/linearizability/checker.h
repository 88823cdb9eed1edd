/*
 * The inside of a checker: keys, their operations, and when they are checked. For checker.c and explain.c only.
 */
#ifndef RAFT_KV_LIN_CHECKER_H
#define RAFT_KV_LIN_CHECKER_H

#include "tests/linearizability/search.h"

/* A list of operations by time of call. */
struct lin_list {
	struct lin_operation **items;
	size_t count, capacity;
};

struct lin_key {
	struct lin_bytes name; /* owned */
	/* What was not forgotten yet: those of unknown fate that were asked before, and all that were called since. */
	struct lin_list carried;
	struct lin_list recent;
	struct lin_start *starts; /* what the register may have been when the oldest of recent was called */
	size_t n_starts;
	size_t n_spanning; /* the first of recent: finished, called before the starts, perhaps placed in some of them */
	size_t forgotten;  /* operations */
	size_t due;	   /* number of recent operations at which the key is checked next */
};

struct lin_checker {
	struct lin_options options;
	void *tree; /* of keys by name: tsearch(3) */
	struct lin_key **keys;
	size_t n_keys, keys_capacity;
	struct {
		struct lin_operation *operation; /* NULL: free */
		struct lin_key *key;
	} * open;
	size_t n_open, open_capacity;
	size_t *free_slots;
	size_t n_free_slots, free_slots_capacity;
	uint64_t position; /* in the history: events so far */
	size_t held;	   /* operations in memory */
	enum lin_verdict verdict;
	struct lin_key *culprit; /* of the verdict */
	struct lin_statistics statistics;
};

/* The history of a key, or a part: what was called at `called_end`, a position, or later does not exist; what returned at
 * `returned_end` or later counts as of unknown fate. Owns two arrays. */
struct lin_problem lin_key_problem(const struct lin_checker *checker, const struct lin_key *key, uint64_t called_end,
				   uint64_t returned_end);
void lin_problem_fini(struct lin_problem *problem);

#endif
