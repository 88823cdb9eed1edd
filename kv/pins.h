/*
 * Snapshots that are kept between the pages of a dump, so that all pages are of the same state.
 *
 * A pin is named by the applied index of its snapshot. The same index is the same state, on every member: a page needs
 * nothing but that number (it is in every page already) to be followed by the next, two dumps that begin at the same
 * index share a pin, and a number from another member or from before a restart finds the right state or none.
 *
 * What a pin costs is what has been written since: so its life is counted in entries, not in time. On a member that
 * applies nothing it lasts, and costs nothing. The most that a pin can hold is the whole state at its index once more.
 *
 * How a server uses it: the first page is made of kv_pins_take, a page that follows of kv_pins_find with the number
 * that the client sends back; when this finds nothing, the answer says so and the client begins anew. After applying
 * entries: kv_pins_expire. A backup is made likewise, of the snapshot's bytes: kv_pins_take, then kv_pins_read with the
 * number and an offset; the pin keeps its place in the stream. When a snapshot from the leader replaces the store, pins may stay: they are of states of
 * the same log.
 */
#ifndef KV_PINS_H
#define KV_PINS_H

#include "kv/snapshot_stream.h"

#define KV_PINS_MAX 4u /* one more drops the pin that was asked for the longest ago */
/* Entries applied since the pin was last asked for, after which it goes: whoever dumped has gone away. */
#define KV_PIN_IDLE_ENTRIES_MAX UINT64_C(100000)
/* Entries applied since the snapshot was taken, after which it goes, whoever still asks. */
#define KV_PIN_ENTRIES_MAX UINT64_C(5000000)
/* Bytes of a stream that one call passes over to come to the offset that is asked for. */
#define KV_PIN_SKIP_MAX (4u * 1024u * 1024u)

struct kv_pins {
	struct kv_pin {
		struct kv_snapshot *snapshot;	   /* NULL: free */
		uint64_t asked_at;		   /* the store's applied index when it was last asked for */
		uint64_t turn;			   /* of the last asking: greater is later */
		struct kv_snapshot_stream *stream; /* NULL: nobody has read it */
		uint64_t offset;		   /* of the stream's next byte */
	} pins[KV_PINS_MAX];
	uint64_t turns;
};

void kv_pins_init(struct kv_pins *pins);
void kv_pins_fini(struct kv_pins *pins);
/* A snapshot of the store as it is now. It lasts at least to the next call of one of these. NULL: no memory. */
const struct kv_snapshot *kv_pins_take(struct kv_pins *pins, struct kv_store *store);
/* The snapshot that was taken at this applied index. NULL: it is not kept, or not any more. */
const struct kv_snapshot *kv_pins_find(struct kv_pins *pins, const struct kv_store *store, uint64_t applied);
enum kv_pins_result {
	KV_PINS_OK = 0,
	KV_PINS_GONE = 1,  /* as NULL of kv_pins_find */
	KV_PINS_AGAIN = 2, /* the offset is far from where the stream stands, but nearer now: ask again */
	KV_PINS_MEMORY = 3,
};
/* The bytes of the snapshot's stream from offset on; *ret_size is less than the capacity only at its end. Cheap when it
 * goes on where the last call for this pin ended. */
int kv_pins_read(struct kv_pins *pins, const struct kv_store *store, uint64_t applied, uint64_t offset, uint8_t *buf,
		 size_t capacity, size_t *ret_size) __attribute__((warn_unused_result));
/* Drops what has become too old. Cheap: may be called after every batch of entries. */
void kv_pins_expire(struct kv_pins *pins, const struct kv_store *store);

#endif
