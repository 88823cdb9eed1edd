/*
 * The replies that a session keeps, each eight bytes, in a ring indexed by sequence number.
 *
 * A ring is shared by its session and the snapshots that were taken of it; see reference.h. Which of its places hold a
 * reply, the session knows. Knows nothing of sessions.
 */
#ifndef KV_RING_H
#define KV_RING_H

#include "kv/limits.h"
#include "kv/reference.h"
#include "kv/store.h"

#define KV_RING_CAPACITY_MIN 16u

struct kv_ring {
	_Atomic uint32_t references;
	uint32_t capacity; /* a power of 2, from KV_RING_CAPACITY_MIN to KV_SESSION_WINDOW */
	uint64_t replies[];
};

/* The smallest capacity that holds so many replies. */
uint32_t kv_ring_capacity_for(uint64_t replies);
struct kv_ring *kv_ring_alloc(uint32_t capacity); /* NULL: no memory */
struct kv_ring *kv_ring_ref(struct kv_ring *ring);
void kv_ring_unref(struct kv_ring *ring);	     /* NULL is fine */
uint64_t kv_ring_memory(const struct kv_ring *ring); /* bytes of the heap; 0 for NULL */

static inline uint64_t *kv_ring_at(struct kv_ring *ring, uint64_t sequence)
{
	raft_assert(ring != NULL);
	return &ring->replies[sequence & (ring->capacity - 1)];
}

/* A reply as a ring keeps it: revision << 8 | status. */
static inline uint64_t kv_kept_pack(const struct kv_reply *reply)
{
	raft_assert(reply->revision <= KV_REVISION_MAX);
	return reply->revision << 8 | reply->status;
}
static inline struct kv_reply kv_kept_unpack(uint64_t kept)
{
	return (struct kv_reply){.status = (uint8_t)kept, .revision = kept >> 8};
}
/* Only a command that was applied gets a reply that is kept. */
static inline bool kv_is_kept_status(uint8_t status)
{
	return status == KV_OK || status == KV_NOT_FOUND || status == KV_CAS_MISMATCH;
}

#endif
