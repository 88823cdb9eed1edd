/*
 * Reads that wait for an answer, in the order of their arrival, and the table that finds one by the id of its copy sent
 * last. A read is sent again freely: only the answer to the last copy counts, whatever became of the earlier ones.
 *
 * Pure: no I/O, no clock. bridge/session.c drives it.
 */
#ifndef RAFT_KV_BRIDGE_READS_H
#define RAFT_KV_BRIDGE_READS_H

#include "bridge/request.h"

#define READS_MAX 65536u /* waiting in all; a slot number is 16 bits of an id */

struct read_table {
	struct request **slots;
	uint16_t *free; /* slots that are free, n_free of them */
	uint32_t capacity;
	uint32_t n_free;
	uint64_t counter; /* of copies sent */
};

struct read_queue {
	struct request *oldest;
	struct request *newest;
	struct request *cursor; /* the first that may have to be sent; NULL: none */
	uint64_t n_in_flight;
	uint64_t progress_ms; /* when something was last answered, or sent after a time of nothing in flight */
	uint64_t hold_until_ms;
	uint64_t pace_ms;   /* of holding after a rejection */
	uint64_t resend_ms; /* without progress for so long all is sent again */
};

void reads_fini(struct read_table *table);
uint32_t reads_count(const struct read_table *table);
/* Puts a read at the end of the queue. 0, -ENOMEM or -EBUSY. */
int reads_push(struct read_table *table, struct read_queue *queue, struct request *request)
	__attribute__((warn_unused_result));
void reads_remove(struct read_table *table, struct read_queue *queue, struct request *request);
/* The read whose last copy has this id; NULL: none. */
struct request *reads_find(const struct read_table *table, uint64_t id);

/* The next one to be sent, passed over by the next call; NULL: none. */
struct request *reads_take(struct read_queue *queue);
void reads_sent(struct read_table *table, struct read_queue *queue, struct request *request, unsigned member);
/* The frame with all copies after `counter` was not sent; `first` is the first read in it. */
void reads_unsent(struct read_queue *queue, struct request *first, uint64_t counter);
/* It was not answered, or with a rejection: it is to be sent again. */
void reads_again(struct read_queue *queue, struct request *request);
/* The same for all, or those that were sent to one member. */
void reads_restart(struct read_queue *queue);
void reads_restart_member(struct read_queue *queue, unsigned member);

#endif
