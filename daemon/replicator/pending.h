/*
 * What a leader's callers wait for: proposals by index, reads by id. Plain queues; no knowledge of Raft.
 */
#ifndef RAFT_KV_PENDING_H
#define RAFT_KV_PENDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Consecutive entries proposed together: index first_index + k has ticket first_ticket + k. */
struct pending_run {
	uint64_t first_index;
	uint64_t n;
	uint64_t term;
	uint64_t first_ticket;
};

struct pending_read {
	uint64_t read_id;
	uint64_t read_index; /* UINT64_MAX while leadership is not confirmed */
	uint64_t ticket;
	bool failed; /* leadership was lost first */
	bool leased; /* it is confirmed by a lease, not by a round */
};

/* First-in first-out ring of fixed-size elements that grows by doubling. Zero-initialise, set element_size. */
struct pending_queue {
	size_t element_size;
	size_t capacity; /* elements; a power of two */
	size_t head;
	size_t count;
	uint8_t *elements;
};

int pending_push(struct pending_queue *queue, const void *element) __attribute__((warn_unused_result)); /* 0, -ENOMEM */
void *pending_front(const struct pending_queue *queue);	       /* NULL when empty */
void *pending_at(const struct pending_queue *queue, size_t k); /* k < count */
void pending_pop(struct pending_queue *queue);
void pending_free(struct pending_queue *queue);

#endif
