/*
 * Reference counts of what the store shares with its snapshots: nodes, records, rings of replies.
 *
 * Who holds the only reference may change the object in place; who does not, makes a copy. Counts are atomic, because
 * a snapshot may be dropped on another thread.
 */
#ifndef KV_REFERENCE_H
#define KV_REFERENCE_H

#include "daemon/assert.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* True when the caller, who holds one reference, holds the only one. Acquires what the others did before they let go. */
static inline bool kv_is_only_reference(const _Atomic uint32_t *references)
{
	return atomic_load_explicit(references, memory_order_acquire) == 1;
}

static inline void kv_take_reference(_Atomic uint32_t *references)
{
	uint32_t before = atomic_fetch_add_explicit(references, 1, memory_order_relaxed);

	raft_assert(before > 0 && before < UINT32_MAX / 2);
}

/* True when it was the last one. */
static inline bool kv_drop_reference(_Atomic uint32_t *references)
{
	uint32_t before;

	if (kv_is_only_reference(references))
		return true;
	before = atomic_fetch_sub_explicit(references, 1, memory_order_acq_rel);
	raft_assert(before > 0);
	return before == 1;
}

#endif
