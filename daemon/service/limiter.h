/*
 * Decides which log lines are repetition: at most LIMITER_LINES_MAX of one source in LIMITER_WINDOW_US are let through, the
 * rest is counted, so that one bad peer cannot flood the journal, whose socket blocks when it is full.
 *
 * Pure: the time is handed in. What this must not know: where lines go.
 */
#ifndef RAFT_KV_SERVICE_LIMITER_H
#define RAFT_KV_SERVICE_LIMITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LIMITER_LINES_MAX 10u
#define LIMITER_WINDOW_US 5000000u
#define LIMITER_SOURCES_MAX 64u /* more noisy sources than this at a time share slots, the quietest giving way */
#define LIMITER_NAME_MAX 64u

/* A source is a call site, known by its format string, and the event: one site may log many kinds of events. */
struct limiter_source {
	const void *site; /* compared, never followed; NULL: the slot is free */
	uint64_t since_us;
	uint32_t lines; /* let through since since_us */
	uint32_t suppressed;
	char event[LIMITER_NAME_MAX];  /* a copy, shortened; empty for none */
	char format[LIMITER_NAME_MAX]; /* likewise */
};

/* Zero-initialise. */
struct limiter {
	struct limiter_source sources[LIMITER_SOURCES_MAX];
};

/* True when the line is to be written. event may be NULL. */
bool limiter_allow(struct limiter *limiter, const char *format, const char *event, uint64_t now_us);

/* Takes out one source whose window is over and that had lines suppressed, to be reported: *ret_source is a copy. False when
 * there is none (left). */
bool limiter_take_suppressed(struct limiter *limiter, uint64_t now_us, struct limiter_source *ret_source);

#endif
