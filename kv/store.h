/*
 * The replicated state: an ordered map from keys to values with revisions, and the clients' sessions.
 *
 *     kv_store_apply(store, index, time, command) -> reply
 *
 * is a pure function of the state and its inputs: no clock, no randomness, no addresses, no locale. Two members
 * that applied the same entries have the same state and the same hash.
 *
 * The map is a copy-on-write B+tree with reference-counted nodes: a snapshot is one reference to the root and a short
 * copy of the sessions; a write copies only what a snapshot still holds. A snapshot may be walked on another thread
 * while the store goes on (the counts are atomic); everything else belongs to the one thread that owns the store.
 *
 * The revision of a key is the log index of its last change.
 */
#ifndef KV_STORE_H
#define KV_STORE_H

#include "command.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kv_status {
	KV_OK = 0,	     /* revision: of the key after the operation; KV_REGISTER: the session id */
	KV_NOT_FOUND = 1,    /* delete: no such key; nothing changed */
	KV_CAS_MISMATCH = 2, /* revision: the key's current one (0: no such key); nothing changed */
	KV_NO_SESSION = 3,   /* the session is unknown or expired: register again; nothing changed */
	KV_OUT_OF_ORDER =
		4, /* revision: the sequence number that is expected next; nothing changed. A session's requests
				* are applied in the order of their numbers, without gaps */
	KV_ALREADY_ACKNOWLEDGED = 5, /* the client said it has this reply; nothing changed */
	KV_BAD_COMMAND = 6,	     /* the entry could not be decoded; nothing changed */
	KV_WINDOW_FULL = 7,	     /* more than KV_SESSION_WINDOW unacknowledged; nothing changed */
};
const char *kv_status_name(uint8_t status);

struct kv_reply {
	uint8_t status; /* enum kv_status */
	uint64_t revision;
};

struct kv_store;
struct kv_snapshot;

struct kv_store *kv_store_new(void); /* NULL: no memory */
struct kv_store *
kv_store_free(struct kv_store *store); /* snapshots may outlive the store; NULL is fine; returns NULL */

/* Applies the entry at index: greater than every index before (gaps are entries of other types). time_ms is the
 * entry's. Out of memory aborts: a member that cannot apply must not go on (TRAPS A42). A request whose
 * sequence number was applied before returns its first reply and changes nothing. */
struct kv_reply kv_store_apply(struct kv_store *store, uint64_t index, uint64_t time_ms, const uint8_t *command,
			       size_t size);

struct kv_value {
	const uint8_t *data; /* valid until the next kv_store_apply */
	uint32_t size;
	uint64_t revision;
};
bool kv_store_get(const struct kv_store *store, const uint8_t *key, size_t key_size, struct kv_value *ret_value);

/* 64-bit hash of the whole state (keys, values, revisions, sessions), kept incrementally (set hash: XXH3 of each
 * element, summed), independent of the order of operations that led there. O(1). */
uint64_t kv_store_hash(const struct kv_store *store);

struct kv_stats {
	uint64_t keys;
	uint64_t key_bytes;
	uint64_t value_bytes;
	uint64_t memory_bytes; /* allocated for items and nodes, allocator overhead estimated, sessions included */
	uint64_t nodes;
	uint64_t sessions;
	uint64_t applied; /* index of the last applied entry */
};
void kv_store_stats(const struct kv_store *store, struct kv_stats *ret_stats);

/* Snapshots and ordered iteration --------------------------------------------------------------------- */

/* The whole state as it is now: keys, sessions, applied index, hash. Takes constant time but for a copy of the sessions,
 * 4096 at most and without what they keep. NULL: no memory. */
struct kv_snapshot *kv_store_snapshot(struct kv_store *store);
struct kv_snapshot *kv_snapshot_free(struct kv_snapshot *snapshot); /* from any thread; NULL is fine; returns NULL */
uint64_t kv_snapshot_applied(const struct kv_snapshot *snapshot);
uint64_t kv_snapshot_hash(const struct kv_snapshot *snapshot); /* of the store when it was taken */

struct kv_item {
	const uint8_t *key;
	uint16_t key_size;
	const uint8_t *value;
	uint32_t value_size;
	uint64_t revision;
};
/* In bytewise key order from the first key >= `from` (or > when `after`). Stops early when visit returns false. The item
 * is valid as long as the snapshot. */
void kv_snapshot_walk(const struct kv_snapshot *snapshot, const uint8_t *from, size_t from_size, bool after,
		      bool (*visit)(void *arg, const struct kv_item *item), void *arg);

/* Aborts when the tree's order, fill, counts or the incremental hash are wrong. For tests; walks everything. */
void kv_store_check(const struct kv_store *store);

#endif
