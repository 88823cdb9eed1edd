/*
 * What the store and its snapshots are, for the files that make them: store.c, snapshot.c, snapshot_stream.c,
 * snapshot_load.c. Everything else uses store.h.
 */
#ifndef KV_STATE_H
#define KV_STATE_H

#include "kv/session.h"
#include "kv/store.h"
#include "kv/tree.h"

struct kv_store {
	struct kv_tree tree;
	struct kv_sessions sessions;
	uint64_t hash; /* sum over the records; the sessions keep their own */
	uint64_t keys;
	uint64_t key_bytes;
	uint64_t value_bytes;
	uint64_t applied;
};

struct kv_snapshot {
	struct kv_node *root; /* a reference of our own, or NULL */
	uint64_t applied;
	uint64_t hash; /* of the whole state */
	uint64_t keys;
	uint64_t record_bytes; /* images of all records */
	uint64_t kept_replies; /* of all sessions */
	uint32_t session_count;
	struct kv_session_image sessions[]; /* the one used the longest ago first */
};

/* Adds a record that came to the tree to the totals. */
static inline void kv_store_count(struct kv_store *store, const struct kv_record *record)
{
	store->keys++;
	store->key_bytes += kv_record_key_size(record);
	store->value_bytes += kv_record_value_size(record);
	store->hash += kv_record_hash(record);
}

#endif
