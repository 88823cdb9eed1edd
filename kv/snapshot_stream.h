/*
 * A snapshot as bytes: written in blocks on demand, read in blocks as they come. README.md describes the bytes.
 *
 * The same state gives the same bytes on every member, whatever the sizes of the blocks. Pure functions over bytes, like
 * everything here: who calls decides when, how much, and where the bytes go.
 */
#ifndef KV_SNAPSHOT_STREAM_H
#define KV_SNAPSHOT_STREAM_H

#include "kv/store.h"

/* Writing ---------------------------------------------------------------------------------------------- */

struct kv_snapshot_stream;

/* The snapshot must live as long as the stream. Several streams of one snapshot are fine. NULL: no memory. */
struct kv_snapshot_stream *kv_snapshot_stream_new(const struct kv_snapshot *snapshot);
struct kv_snapshot_stream *kv_snapshot_stream_free(struct kv_snapshot_stream *stream); /* NULL is fine; returns NULL */
/* The next bytes; less than the capacity (which is above 0) only at the end, 0 after it. An item may go over the border
 * of two calls. */
size_t kv_snapshot_stream_read(struct kv_snapshot_stream *stream, uint8_t *buf, size_t capacity);
/* Bytes of the whole stream, known from the beginning. */
uint64_t kv_snapshot_stream_size(const struct kv_snapshot *snapshot);

/* Reading ---------------------------------------------------------------------------------------------- */

enum kv_load_result {
	KV_LOAD_OK = 0,
	KV_LOAD_SHORT = 1,    /* the stream ended too early */
	KV_LOAD_LONG = 2,     /* bytes after its end */
	KV_LOAD_MAGIC = 3,    /* not a snapshot */
	KV_LOAD_VERSION = 4,  /* of another version than this program knows */
	KV_LOAD_RESERVED = 5, /* a reserved byte is not zero */
	KV_LOAD_COUNTS = 6,   /* more keys or sessions than so many entries can have made, or than are allowed */
	KV_LOAD_SESSION = 7,  /* the numbers of a session contradict one another */
	KV_LOAD_SESSION_ORDER = 8,
	KV_LOAD_REPLY = 9,   /* one that no command is answered with */
	KV_LOAD_RECORD = 10, /* the size of key or value, or the revision */
	KV_LOAD_KEY_ORDER = 11,
	KV_LOAD_CHECKSUM = 12, /* the bytes were damaged */
	KV_LOAD_HASH = 13,     /* the bytes are as they were written, but not the state that they say they are */
	KV_LOAD_MEMORY = 14,
	KV_LOAD_APPLIED = 15, /* of another entry than kv_store_load_between allows */
};
const char *kv_load_result_name(int result); /* "checksum" …, or NULL */

struct kv_store_loader;

struct kv_store_loader *kv_store_load_new(void); /* NULL: no memory */
/* Before the first byte: the state's last applied entry is one of these. What was applied, and what the snapshot is said to be of,
 * is known to the caller only; a state from before or beyond that would break the order in which entries are applied. */
void kv_store_load_between(struct kv_store_loader *loader, uint64_t applied_min, uint64_t applied_max);
struct kv_store_loader *kv_store_load_free(struct kv_store_loader *loader); /* NULL is fine; returns NULL */
/* Takes the next bytes, any number of them. A result other than KV_LOAD_OK is final: every later call repeats it. The
 * memory that is taken is bounded by the bytes that came, and one item of the largest size. */
int kv_store_load_feed(struct kv_store_loader *loader, const uint8_t *bytes, size_t len)
	__attribute__((warn_unused_result));
/* After the last byte: the store, which is the caller's. The loader can only be freed then. */
int kv_store_load_finish(struct kv_store_loader *loader, struct kv_store **ret_store)
	__attribute__((warn_unused_result));
/* Bytes taken so far; after a failure, where in the stream the item begins that was refused. */
uint64_t kv_store_load_offset(const struct kv_store_loader *loader);

#endif
