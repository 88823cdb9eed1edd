/*
 * What the tree is made of: records (a key with its value) and nodes (slots for records or children).
 *
 * Both are reference-counted (reference.h) and shared by the store and its snapshots. Knows nothing of searching,
 * splitting or merging (tree.c), nor of commands and sessions.
 *
 * Running out of memory aborts: a member that cannot apply an entry must not go on. Only what is called alloc returns
 * NULL, for the loading of a snapshot, which may fail and leave the state as it is.
 */
#ifndef KV_NODE_H
#define KV_NODE_H

#include <endian.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Slots of a node. 64: the prefixes fill eight cache lines, a leaf is about 1 KiB. A multiple of 4; tests that want
 * a high tree of few keys compile it smaller. */
#ifndef KV_NODE_SLOTS
#define KV_NODE_SLOTS 64u
#endif
/* Every node but the root has at least so many slots in use. */
#define KV_NODE_SLOTS_MIN (KV_NODE_SLOTS / 4)
_Static_assert(KV_NODE_SLOTS % 4 == 0 && KV_NODE_SLOTS >= 8, "a split leaves both halves more than the minimum");

/* More levels than a tree of KV_NODE_SLOTS_MIN = 16 can have keys in an address space. */
#define KV_LEVELS_MAX 24u

/* A record never changes while more than one holds it. The fields after the count are little-endian and without a
 * gap up to the last byte of the value. These bytes are the record's image: what the state's hash covers and what a
 * snapshot's stream is made of. */
struct kv_record {
	_Atomic uint32_t references;
	uint32_t le_value_size;
	uint64_t le_revision;
	uint16_t le_key_size;
	uint8_t bytes[]; /* the key, then the value */
};
enum {
	KV_RECORD_IMAGE_OFFSET_VALUE_SIZE = 0,
	KV_RECORD_IMAGE_OFFSET_REVISION = 4,
	KV_RECORD_IMAGE_OFFSET_KEY_SIZE = 12,
	KV_RECORD_IMAGE_OFFSET_KEY = 14,
};

static inline const uint8_t *kv_record_key(const struct kv_record *record)
{
	return record->bytes;
}
static inline size_t kv_record_key_size(const struct kv_record *record)
{
	return le16toh(record->le_key_size);
}
static inline const uint8_t *kv_record_value(const struct kv_record *record)
{
	return record->bytes + kv_record_key_size(record);
}
static inline uint32_t kv_record_value_size(const struct kv_record *record)
{
	return le32toh(record->le_value_size);
}
static inline uint64_t kv_record_revision(const struct kv_record *record)
{
	return le64toh(record->le_revision);
}

struct kv_record *kv_record_new(const uint8_t *key, size_t key_size, const uint8_t *value, uint32_t value_size,
				uint64_t revision);
/* A record whose bytes are still to be filled in. NULL: no memory. */
struct kv_record *kv_record_alloc(size_t key_size, uint32_t value_size, uint64_t revision);
struct kv_record *kv_record_ref(struct kv_record *record);
void kv_record_unref(struct kv_record *record); /* NULL is fine */
/* Gives the record another value in place, if nobody else holds it and the value fits. */
bool kv_record_overwrite(struct kv_record *record, const uint8_t *value, uint32_t value_size, uint64_t revision);
/* Bytes that it takes of the heap, the allocator's own included (estimated as glibc's). */
size_t kv_record_memory(const struct kv_record *record);
const uint8_t *kv_record_image(const struct kv_record *record, size_t *ret_size);
uint64_t kv_record_hash(const struct kv_record *record);
/* <0, 0, >0: bytewise order; a prefix of a key comes before the key. The first `skip` bytes are known to be equal. */
int kv_record_compare(const struct kv_record *record, const uint8_t *key, size_t key_size, size_t skip);

/* A leaf (level 0) has a record in each slot. An inner node has a child in each slot and, but for slot 0, a separator:
 * all keys below children[i] are >= records[i] and < records[i + 1]. A separator is a record without a value, as short
 * as it can be.
 *
 * prefixes[i] are eight bytes of the key of records[i], big-endian, so that comparing them as numbers is comparing
 * bytes, padded with zeros: mostly they decide, and the record, which is a cache miss away, is not looked at. They begin
 * after `skip` bytes, which all keys that may ever come to this node have in common, as the separators around it in the
 * nodes above say. */
struct kv_node {
	_Atomic uint32_t references;
	uint16_t count; /* slots in use */
	uint16_t skip;
	uint8_t level; /* 0: leaf */
	uint64_t prefixes[KV_NODE_SLOTS];
	struct kv_record *records[KV_NODE_SLOTS];
	struct kv_node *children[]; /* KV_NODE_SLOTS of them, in an inner node only */
};

struct kv_node *kv_node_new(uint8_t level, uint16_t skip);
struct kv_node *kv_node_alloc(uint8_t level, uint16_t skip); /* NULL: no memory */
struct kv_node *kv_node_ref(struct kv_node *node);
/* Drops a reference; the last one takes all below with it. NULL is fine. */
void kv_node_unref(struct kv_node *node);
/* Frees a node of which nothing is left to be kept: its slots have been moved. */
void kv_node_free_empty(struct kv_node *node);
/* Takes a reference to a node and returns one to a node with the same content that nobody else holds. */
struct kv_node *kv_node_own(struct kv_node *node);
size_t kv_node_memory(const struct kv_node *node);

uint64_t kv_prefix(const uint8_t *key, size_t key_size, size_t skip);
/* Sets prefix and record of a slot. The record may be NULL in slot 0 of an inner node. */
void kv_node_set_record(struct kv_node *node, unsigned slot, struct kv_record *record);
/* Makes room for one slot / closes the gap of one. The references are the caller's business. */
void kv_node_open_slot(struct kv_node *node, unsigned slot);
void kv_node_close_slot(struct kv_node *node, unsigned slot);
/* Moves n slots from the end of left to the beginning of right, or from the beginning of right to the end of left.
 * Prefixes are moved as they are. */
void kv_node_shift_right(struct kv_node *left, struct kv_node *right, unsigned n);
void kv_node_shift_left(struct kv_node *left, struct kv_node *right, unsigned n);
/* Computes all prefixes anew. */
void kv_node_set_skip(struct kv_node *node, size_t skip);

#endif
