/* See pending.h. */
#include "pending.h"

#include "daemon/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int pending_grow(struct pending_queue *queue)
{
	size_t capacity = queue->capacity == 0 ? 64 : queue->capacity * 2;
	if (capacity > SIZE_MAX / 2 / queue->element_size)
		return -ENOMEM;
	uint8_t *elements = malloc(capacity * queue->element_size);
	if (elements == NULL)
		return -ENOMEM;
	for (size_t k = 0; k < queue->count; k++)
		memcpy(elements + k * queue->element_size, pending_at(queue, k), queue->element_size);
	free(queue->elements);
	queue->elements = elements;
	queue->capacity = capacity;
	queue->head = 0;
	return 0;
}

int pending_push(struct pending_queue *queue, const void *element)
{
	raft_assert(queue->element_size > 0);
	if (queue->count == queue->capacity) {
		int r = pending_grow(queue);
		if (r < 0)
			return r;
	}
	queue->count++;
	memcpy(pending_at(queue, queue->count - 1), element, queue->element_size);
	return 0;
}

void *pending_front(const struct pending_queue *queue)
{
	return queue->count == 0 ? NULL : pending_at(queue, 0);
}

void *pending_at(const struct pending_queue *queue, size_t k)
{
	raft_assert(k < queue->count);
	return queue->elements + ((queue->head + k) & (queue->capacity - 1)) * queue->element_size;
}

void pending_pop(struct pending_queue *queue)
{
	raft_assert(queue->count > 0);
	queue->head = (queue->head + 1) & (queue->capacity - 1);
	queue->count--;
}

void pending_free(struct pending_queue *queue)
{
	free(queue->elements);
	queue->elements = NULL;
	queue->capacity = queue->count = queue->head = 0;
}
