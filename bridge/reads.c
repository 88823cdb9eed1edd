/* See reads.h. */
#include "bridge/reads.h"

#include "daemon/assert.h"

#include <errno.h>
#include <stdlib.h>

#define TABLE_CAPACITY_MIN 256u

_Static_assert(READS_MAX <= 65536, "a slot number has 16 bits");

void reads_fini(struct read_table *table)
{
	free(table->slots);
	free(table->free);
	*table = (struct read_table){0};
}

uint32_t reads_count(const struct read_table *table)
{
	raft_assert(table->n_free <= table->capacity);
	return table->capacity - table->n_free;
}

static int grow(struct read_table *table)
{
	uint32_t capacity = table->capacity == 0 ? TABLE_CAPACITY_MIN : table->capacity * 2;
	if (capacity > READS_MAX)
		return -EBUSY;
	struct request **slots = realloc(table->slots, capacity * sizeof(struct request *));
	if (slots == NULL)
		return -ENOMEM;
	table->slots = slots;
	uint16_t *numbers = realloc(table->free, capacity * sizeof(uint16_t));
	if (numbers == NULL)
		return -ENOMEM;
	table->free = numbers;
	for (uint32_t slot = table->capacity; slot < capacity; slot++) {
		slots[slot] = NULL;
		numbers[table->n_free++] = (uint16_t)slot;
	}
	table->capacity = capacity;
	return 0;
}

int reads_push(struct read_table *table, struct read_queue *queue, struct request *request)
{
	if (table->n_free == 0) {
		int r = grow(table);
		if (r < 0)
			return r;
	}
	raft_assert(!request->in_session && !request->in_flight);
	request->slot = table->free[--table->n_free];
	raft_assert(table->slots[request->slot] == NULL);
	table->slots[request->slot] = request;
	request->id = 0;
	request->in_session = true;
	request->newer = NULL;
	request->older = queue->newest;
	if (queue->newest != NULL)
		queue->newest->newer = request;
	else
		queue->oldest = request;
	queue->newest = request;
	if (queue->cursor == NULL)
		queue->cursor = request;
	return 0;
}

static void land(struct read_queue *queue, struct request *request)
{
	if (!request->in_flight)
		return;
	raft_assert(queue->n_in_flight > 0);
	queue->n_in_flight--;
	request->in_flight = false;
	request->id = 0;
}

void reads_remove(struct read_table *table, struct read_queue *queue, struct request *request)
{
	raft_assert(request->in_session && table->slots[request->slot] == request);
	land(queue, request);
	table->slots[request->slot] = NULL;
	table->free[table->n_free++] = request->slot;
	if (queue->cursor == request)
		queue->cursor = request->newer;
	if (request->older != NULL)
		request->older->newer = request->newer;
	else
		queue->oldest = request->newer;
	if (request->newer != NULL)
		request->newer->older = request->older;
	else
		queue->newest = request->older;
	request->older = request->newer = NULL;
	request->in_session = false;
}

struct request *reads_find(const struct read_table *table, uint64_t id)
{
	uint32_t slot = (uint32_t)(id & 0xffff);
	if (slot >= table->capacity || table->slots[slot] == NULL || table->slots[slot]->id != id)
		return NULL;
	raft_assert(table->slots[slot]->in_flight);
	return table->slots[slot];
}

struct request *reads_take(struct read_queue *queue)
{
	while (queue->cursor != NULL) {
		struct request *request = queue->cursor;
		queue->cursor = request->newer;
		if (!request->in_flight)
			return request;
	}
	return NULL;
}

void reads_sent(struct read_table *table, struct read_queue *queue, struct request *request, unsigned member)
{
	raft_assert(!request->in_flight && request->in_session);
	table->counter++;
	request->id = request_id(ID_READ, table->counter << 16 | request->slot);
	request->member = (uint8_t)member;
	request->in_flight = true;
	queue->n_in_flight++;
}

void reads_unsent(struct read_queue *queue, struct request *first, uint64_t counter)
{
	for (struct request *request = first; request != NULL; request = request->newer)
		if (request->in_flight && (request->id & ID_REST_MASK) >> 16 > counter)
			land(queue, request);
	queue->cursor = first;
}

void reads_again(struct read_queue *queue, struct request *request)
{
	land(queue, request);
	queue->cursor = queue->oldest;
}

void reads_restart(struct read_queue *queue)
{
	for (struct request *request = queue->oldest; request != NULL && queue->n_in_flight > 0;
	     request = request->newer)
		land(queue, request);
	queue->cursor = queue->oldest;
	raft_assert(queue->n_in_flight == 0);
}

void reads_restart_member(struct read_queue *queue, unsigned member)
{
	for (struct request *request = queue->oldest; request != NULL && queue->n_in_flight > 0;
	     request = request->newer)
		if (request->member == member)
			land(queue, request);
	queue->cursor = queue->oldest;
}
