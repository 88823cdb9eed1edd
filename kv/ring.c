/*
 * Rings of kept replies: their memory. See ring.h.
 */
#include "kv/ring.h"

#include <stdlib.h>

/* What the allocator adds to a block, estimated. */
#define CHUNK_OVERHEAD 8u

_Static_assert((KV_SESSION_WINDOW & (KV_SESSION_WINDOW - 1)) == 0, "a ring doubles until it is the window");
_Static_assert(KV_SESSION_WINDOW >= KV_RING_CAPACITY_MIN, "the smallest ring is not above the window");
_Static_assert(KV_WINDOW_FULL <= UINT8_MAX, "a status fits eight bits of a kept reply");

static size_t ring_size(uint32_t capacity)
{
	return offsetof(struct kv_ring, replies) + capacity * sizeof(uint64_t);
}

uint32_t kv_ring_capacity_for(uint64_t replies)
{
	uint32_t capacity = KV_RING_CAPACITY_MIN;

	raft_assert(replies <= KV_SESSION_WINDOW);
	while (capacity < replies)
		capacity *= 2;
	return capacity;
}

struct kv_ring *kv_ring_alloc(uint32_t capacity)
{
	struct kv_ring *ring;

	raft_assert(capacity >= KV_RING_CAPACITY_MIN && capacity <= KV_SESSION_WINDOW);
	raft_assert((capacity & (capacity - 1)) == 0);
	ring = malloc(ring_size(capacity));
	if (ring == NULL)
		return NULL;
	atomic_init(&ring->references, 1);
	ring->capacity = capacity;
	return ring;
}

struct kv_ring *kv_ring_ref(struct kv_ring *ring)
{
	kv_take_reference(&ring->references);
	return ring;
}

void kv_ring_unref(struct kv_ring *ring)
{
	if (ring != NULL && kv_drop_reference(&ring->references))
		free(ring);
}

uint64_t kv_ring_memory(const struct kv_ring *ring)
{
	return ring == NULL ? 0 : ring_size(ring->capacity) + CHUNK_OVERHEAD;
}
