/*
 * The session's window of unanswered writes: which number each has, what must be sent next, what became of every copy
 * that was sent. Pure: no I/O, no clock; the time is handed in. bridge/session.c drives it.
 *
 * A write waits without a number until it is sent for the first time. Numbers are consecutive, and the store applies
 * them without gaps; a write that failed before any member appended it therefore either gives its number
 * back (no later one may be in a log) or is replaced by a command that does nothing.
 *
 *     waiting --take--> numbered --done--> gone
 *        |                 |--- expired, surely nowhere, last ones --> number given back, gone
 *        |                 |--- expired, surely nowhere, others after it --> voided: KV_NOTHING in its place
 *        `--- expired -->  `--- expired, maybe appended --> abandoned: stays and is resent until its fate is known
 *
 * Epochs: the whole window is resent after window_restart, which begins a new epoch. A rejection counts as a
 * cause to restart only if it answers a copy of the current epoch, so that one cause restarts once.
 */
#ifndef RAFT_KV_WINDOW_H
#define RAFT_KV_WINDOW_H

#include "kv/limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WINDOW_NUMBERED_MAX (KV_SESSION_WINDOW / 2)
#define WINDOW_NUMBERED_BYTES_MAX (16u * 1024u * 1024u) /* sent and unanswered: more only queues at the leader */
#define WINDOW_WAITING_MAX 65536u
#define WINDOW_WAITING_BYTES_MAX (64u * 1024u * 1024u)

/* Embedded in the caller's object; everything but size and deadline_ms belongs to the window. */
struct window_write {
	uint64_t sequence; /* 0: not numbered */
	uint64_t deadline_ms;
	uint32_t size;	 /* bytes of its command, for the limits */
	uint16_t copies; /* sent, and not known to have been rejected. Saturates, and then never falls again */
	uint8_t cause;	 /* why the last copy was rejected (the caller's code), 0: none was */
	bool abandoned;	 /* its client has been answered "unknown" */
	bool voided;	 /* its client has been answered a failure; it does nothing now */
	bool in_flight;	 /* a copy of the current epoch is unanswered */
};

struct window_ring {
	struct window_write **slots;
	uint64_t head; /* positions only grow; the slot is position & (capacity - 1) */
	uint64_t tail;
	uint64_t capacity;
};

struct window {
	struct window_ring numbered; /* position = sequence; a slot is NULL once its write is done */
	struct window_ring waiting;
	uint64_t next;	      /* sequence to be sent next in this epoch */
	uint64_t next_expiry; /* no write below it is to be answered by window_expire */
	uint64_t epoch;
	uint64_t n_in_flight;
	size_t numbered_bytes;
	size_t waiting_bytes;
};

void window_init(struct window *window);
/* Frees the rings, not the writes. */
void window_fini(struct window *window);

/* True when a write may be added. */
bool window_has_room(const struct window *window);
bool window_is_empty(const struct window *window);

/* Adds a write at the end; size and deadline_ms are set, deadlines do not decrease. 0 or -ENOMEM. */
int window_push(struct window *window, struct window_write *write) __attribute__((warn_unused_result));

/* The next write to be sent, numbered if it was not; NULL when there is none or the window's limits are reached. Then
 * window_sent for all that were taken, or window_untake back to the first one. */
struct window_write *window_take(struct window *window);
void window_sent(struct window *window, uint64_t first, uint64_t end);
void window_untake(struct window *window, uint64_t first);

/* The lowest sequence number without an answer: what commands carry as `acknowledged`. */
uint64_t window_acknowledged(const struct window *window);
struct window_write *window_find(const struct window *window, uint64_t sequence); /* NULL: not (or no longer) there */

/* The copy sent in `epoch` was rejected: nothing was appended or applied. True if it was of the current epoch. */
bool window_reject(struct window *window, struct window_write *write, uint64_t epoch, uint8_t cause);
/* The copy sent in `epoch` was answered by "unknown": it stays counted. True if it was of the current epoch. */
bool window_doubt(struct window *window, struct window_write *write, uint64_t epoch);
/* The write was applied, as is known from a copy sent in any epoch. It leaves the window. */
void window_done(struct window *window, struct window_write *write);
/* Everything numbered is to be sent again. */
void window_restart(struct window *window);
/* From now on the write does nothing (its command was refused for good, and its client answered). */
void window_void(struct window *window, struct window_write *write, uint32_t size);

enum window_verdict {
	WINDOW_FAILED,	/* out of the window: nothing of it is or will be in a log */
	WINDOW_VOIDED,	/* failed likewise, but its number must be used: make its command KV_NOTHING */
	WINDOW_UNKNOWN, /* it may be applied; it stays in the window until that is known */
};
/* A write whose deadline has passed and whose client is not yet answered; NULL when there is none. Call until NULL. */
struct window_write *window_expire(struct window *window, uint64_t now_ms, enum window_verdict *ret_verdict);
/* When window_expire has something to say; UINT64_MAX: never. */
uint64_t window_deadline_ms(struct window *window);

/* The session is gone, and with it all numbers: a write that may have been applied is handed out, out of the
 * window, to be answered as unknown (if it still has a client); voided ones likewise; the others wait again. Call
 * until NULL. */
struct window_write *window_forget(struct window *window);

/* Aborts when a count or a position is wrong. For tests. */
void window_check(const struct window *window);

#endif
