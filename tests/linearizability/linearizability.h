/*
 * Is a history of requests to a key-value store linearizable? A checker after Wing & Gong (1993) with Lowe's improvements
 * (2017): each key is checked alone, and a combination of "these operations are placed" and "the register holds this" is
 * visited once. Events are fed one after another in the order in which they happened.
 *
 * It knows registers and histories. It must not know the store, the simulator, sockets, or how a history was recorded.
 */
#ifndef RAFT_KV_LINEARIZABILITY_H
#define RAFT_KV_LINEARIZABILITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum lin_kind { LIN_GET, LIN_PUT, LIN_DELETE, LIN_CAS };

enum lin_outcome {
	LIN_OK,	       /* a get found a value, a write was applied */
	LIN_NOT_FOUND, /* of a get or a delete: there was no such key */
	LIN_MISMATCH,  /* of a cas: the key had another revision or value */
	LIN_FAILED,    /* certainly without effect, now and later; a read that failed */
	LIN_UNKNOWN,   /* may have taken effect at any time after the call, may do so later, or never */
};

enum lin_verdict {
	LIN_LINEARIZABLE,
	LIN_VIOLATION,
	LIN_GAVE_UP, /* a limit was reached before anything was certain */
};

/* "The history does not say." Revision 0 means that the key did not exist. */
#define LIN_REVISION_NONE UINT64_MAX

struct lin_bytes {
	const void *data;
	size_t size;
};

struct lin_call {
	uint64_t time; /* for people; what counts is the order of the calls of lin_invoke and lin_return */
	uint64_t client;
	enum lin_kind kind;
	struct lin_bytes key;
	struct lin_bytes value;	 /* of a put or cas: what it writes */
	bool expects_value;	 /* of a cas: it compares the value, not the revision */
	uint64_t expected;	 /* the revision that a cas wants; 0: the key must not exist */
	struct lin_bytes wanted; /* the value that a cas wants */
};

struct lin_return {
	uint64_t time;
	enum lin_outcome outcome;
	struct lin_bytes value; /* what a get read */
	uint64_t revision;	/* of the write, of what was read, or that a cas found instead; LIN_REVISION_NONE */
};

/* Whenever a key has `window` operations more, what was called before its oldest open operation is checked and forgotten; 0
 * keeps everything until lin_finish(). */
struct lin_options {
	size_t window;
	/* With many operations of unknown fate it costs too much to keep account of which of them explains what. With this one
	 * may take effect more than once (except a cas by value): no false alarm, but that is not seen. */
	bool reuse_unknown;
	size_t states_max; /* combinations visited in one check of one key before it gives up; 32 to 64 bytes each */
};
#define LIN_STATES_MAX 8000000u

struct lin_checker;

struct lin_checker *lin_new(const struct lin_options *options);
struct lin_checker *lin_free(struct lin_checker *checker); /* NULL */

/* Returns the operation's number, for its return. An operation that never returns needs no call of lin_return. */
uint64_t lin_invoke(struct lin_checker *checker, const struct lin_call *call);
/* The outcome must be one that the operation can have: see lin_outcome_fits(). */
void lin_return(struct lin_checker *checker, uint64_t operation, const struct lin_return *outcome);
bool lin_outcome_fits(enum lin_kind kind, enum lin_outcome outcome);

/* What is known so far: a violation stays one. */
enum lin_verdict lin_verdict(const struct lin_checker *checker);
/* Checks what is left. No events may follow. */
enum lin_verdict lin_finish(struct lin_checker *checker);
/* For people, after a violation or when it gave up: the key, the operations, what cannot be placed and why. */
void lin_explain(const struct lin_checker *checker, FILE *file);

struct lin_statistics {
	uint64_t operations;
	uint64_t unknown;
	uint64_t keys;
	uint64_t states;	 /* visited, in all checks */
	uint64_t operations_max; /* held in memory at once */
};
struct lin_statistics lin_statistics(const struct lin_checker *checker);

#endif
