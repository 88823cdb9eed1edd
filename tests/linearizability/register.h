/*
 * One operation of a history, and the register that every key is: what an operation demands of it, and what it makes of it.
 *
 * Values are compared by 64 bits of XXH3. It must not know how an order of the operations is searched.
 */
#ifndef RAFT_KV_LIN_REGISTER_H
#define RAFT_KV_LIN_REGISTER_H

#include "tests/linearizability/linearizability.h"

#include <xxhash.h>

#define LIN_NEVER UINT64_MAX

struct lin_operation {
	struct lin_call call;	  /* value and wanted are owned; key is the key's */
	struct lin_return result; /* value is owned; LIN_UNKNOWN while it is open */
	uint64_t called;	  /* positions in the history */
	uint64_t returned;	  /* LIN_NEVER: open, or of unknown fate */
	bool open;
	uint64_t writes, reads, wants; /* hashes of the values; 0: none */
	uint64_t effect;	       /* equal in operations that do the same, should they ever happen */
	XXH128_hash_t mark; /* the operation in a set of operations: the set is the exclusive or of its marks */
};

/* The register between two operations. */
struct lin_state {
	uint64_t value;	   /* hash; 0: the key does not exist */
	uint64_t revision; /* of the last change: exactly this, or at least this */
	bool exact;	   /* never while the key does not exist */
};

/*
 * Returns NULL and the state after the operation, or says why it cannot take place in this state. With fate_known the
 * operation must end as the history says; otherwise it must have an effect: one without is one that never happened.
 */
const char *lin_apply(const struct lin_operation *operation, bool fate_known, const struct lin_state *state,
		      struct lin_state *ret_state) __attribute__((warn_unused_result));

bool lin_same_state(const struct lin_state *a, const struct lin_state *b);

/*
 * Whether `operation`, coming directly after a change of unknown fate that made `after` of `before`, gives a reason for that
 * change. It gives none when it can take place in `before` and the change can then be left out (the operation
 * overwrites it) or come directly after the operation (which did not learn anything from it).
 */
bool lin_sees_change(const struct lin_operation *operation, bool fate_known, const struct lin_state *before,
		     const struct lin_state *after);

/* Revisions only grow: a finished operation cannot take place any more in a state with a higher revision than this. */
uint64_t lin_revision_limit(const struct lin_operation *operation);

/* Takes copies of the values; the key's bytes must outlive the operation. */
struct lin_operation *lin_operation_new(const struct lin_call *call, uint64_t called, uint64_t number);
void lin_operation_return(struct lin_operation *operation, const struct lin_return *outcome, uint64_t returned);
struct lin_operation *lin_operation_free(struct lin_operation *operation); /* NULL */

/* For people. */
void lin_write_bytes(struct lin_bytes bytes, FILE *file);
void lin_write_operation(const struct lin_operation *operation, bool fate_known, FILE *file);

/* Memory, or the end of the program. */
void *lin_alloc(size_t count, size_t size) __attribute__((malloc, warn_unused_result)); /* zeroed */
void *lin_grow(void *array, size_t count, size_t *capacity, size_t size) __attribute__((warn_unused_result));

#endif
