/* See pool.h. */
#include "bridge/pool.h"

#include "daemon/assert.h"

#include <stdlib.h>

#define CLASS_SIZE_MIN 128u

#if defined(__SANITIZE_ADDRESS__)
#define KEEP_NOTHING 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KEEP_NOTHING 1
#endif
#endif
#ifndef KEEP_NOTHING
#define KEEP_NOTHING 0
#endif

/* The class whose items have at least size bytes; POOL_CLASSES: none has. */
static unsigned class_of(size_t size)
{
	if (size <= CLASS_SIZE_MIN)
		return 0;
	unsigned bits = 64 - (unsigned)__builtin_clzll(size - 1); /* size <= 1 << bits */
	return bits - 7 < POOL_CLASSES ? bits - 7 : POOL_CLASSES;
}

void *pool_get(struct pool *pool, size_t size, size_t *ret_capacity)
{
	unsigned k = class_of(size);
	size_t capacity = k < POOL_CLASSES ? (size_t)CLASS_SIZE_MIN << k : size;
	void *memory;
	raft_assert(capacity >= size);
	if (k < POOL_CLASSES && pool->classes[k].items != NULL) {
		struct pool_class *class = &pool->classes[k];
		memory = class->items;
		class->items = class->items->next;
		raft_assert(class->bytes >= capacity);
		class->bytes -= capacity;
	} else {
		memory = malloc(capacity);
	}
	if (memory == NULL)
		return NULL;
	pool->used_bytes += capacity;
	*ret_capacity = capacity;
	return memory;
}

void pool_put(struct pool *pool, void *memory, size_t capacity)
{
	if (memory == NULL)
		return;
	unsigned k = class_of(capacity);
	raft_assert(pool->used_bytes >= capacity);
	pool->used_bytes -= capacity;
	if (KEEP_NOTHING || k == POOL_CLASSES || pool->classes[k].bytes + capacity > POOL_CLASS_BYTES_MAX) {
		free(memory);
		return;
	}
	raft_assert(capacity == (size_t)CLASS_SIZE_MIN << k);
	struct pool_item *item = memory;
	item->next = pool->classes[k].items;
	pool->classes[k].items = item;
	pool->classes[k].bytes += capacity;
}

void pool_fini(struct pool *pool)
{
	for (unsigned k = 0; k < POOL_CLASSES; k++) {
		while (pool->classes[k].items != NULL) {
			struct pool_item *item = pool->classes[k].items;
			pool->classes[k].items = item->next;
			free(item);
		}
	}
	*pool = (struct pool){0};
}
