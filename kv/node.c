/*
 * Records and nodes: their memory, their reference counts, their slots. See node.h.
 */
#include "kv/node.h"

#include "daemon/assert.h"
#include "kv/bytes.h"
#include "kv/limits.h"
#include "kv/reference.h"

#include <stdlib.h>
#include <xxhash.h>

#define RECORD_HEADER_SIZE offsetof(struct kv_record, bytes)
#define RECORD_IMAGE_OFFSET offsetof(struct kv_record, le_value_size)
_Static_assert(offsetof(struct kv_record, le_revision) == RECORD_IMAGE_OFFSET + KV_RECORD_IMAGE_OFFSET_REVISION,
	       "no gap in the image");
_Static_assert(offsetof(struct kv_record, le_key_size) == RECORD_IMAGE_OFFSET + KV_RECORD_IMAGE_OFFSET_KEY_SIZE,
	       "no gap in the image");
_Static_assert(RECORD_HEADER_SIZE == RECORD_IMAGE_OFFSET + KV_RECORD_IMAGE_OFFSET_KEY, "no gap in the image");

/* glibc's malloc hands out 24, 40, 56 … bytes and takes 8 for itself. Asking for just these sizes tells which other
 * values a record has room for. */
#define CHUNK_OVERHEAD 8u
#define CHUNK_STEP 16u

static size_t chunk_usable(size_t size)
{
	return ((size + CHUNK_OVERHEAD + CHUNK_STEP - 1) & ~(size_t)(CHUNK_STEP - 1)) - CHUNK_OVERHEAD;
}
_Static_assert(RECORD_HEADER_SIZE + 1 + CHUNK_OVERHEAD > CHUNK_STEP, "no record is smaller than the smallest block");

/* Records --------------------------------------------------------------------------------------------- */

static size_t record_size(size_t key_size, uint32_t value_size)
{
	return RECORD_HEADER_SIZE + key_size + value_size;
}

struct kv_record *kv_record_alloc(size_t key_size, uint32_t value_size, uint64_t revision)
{
	struct kv_record *record;

	raft_assert(key_size > 0 && key_size <= KV_KEY_SIZE_MAX);
	raft_assert(value_size <= KV_VALUE_SIZE_MAX);
	record = malloc(chunk_usable(record_size(key_size, value_size)));
	if (record == NULL)
		return NULL;
	atomic_init(&record->references, 1);
	record->le_value_size = htole32(value_size);
	record->le_revision = htole64(revision);
	record->le_key_size = htole16((uint16_t)key_size);
	return record;
}

struct kv_record *kv_record_new(const uint8_t *key, size_t key_size, const uint8_t *value, uint32_t value_size,
				uint64_t revision)
{
	struct kv_record *record = kv_record_alloc(key_size, value_size, revision);

	raft_assert(record != NULL);
	kv_put_bytes(record->bytes, key, key_size);
	kv_put_bytes(record->bytes + key_size, value, value_size);
	return record;
}

struct kv_record *kv_record_ref(struct kv_record *record)
{
	kv_take_reference(&record->references);
	return record;
}

void kv_record_unref(struct kv_record *record)
{
	if (record != NULL && kv_drop_reference(&record->references))
		free(record);
}

bool kv_record_overwrite(struct kv_record *record, const uint8_t *value, uint32_t value_size, uint64_t revision)
{
	size_t key_size = kv_record_key_size(record);

	raft_assert(value_size <= KV_VALUE_SIZE_MAX);
	if (!kv_is_only_reference(&record->references))
		return false;
	if (chunk_usable(record_size(key_size, kv_record_value_size(record))) !=
	    chunk_usable(record_size(key_size, value_size)))
		return false;
	record->le_value_size = htole32(value_size);
	record->le_revision = htole64(revision);
	kv_put_bytes(record->bytes + key_size, value, value_size);
	return true;
}

size_t kv_record_memory(const struct kv_record *record)
{
	return chunk_usable(record_size(kv_record_key_size(record), kv_record_value_size(record))) + CHUNK_OVERHEAD;
}

const uint8_t *kv_record_image(const struct kv_record *record, size_t *ret_size)
{
	*ret_size = record_size(kv_record_key_size(record), kv_record_value_size(record)) - RECORD_IMAGE_OFFSET;
	return (const uint8_t *)record + RECORD_IMAGE_OFFSET;
}

uint64_t kv_record_hash(const struct kv_record *record)
{
	size_t size;
	const uint8_t *image = kv_record_image(record, &size);

	return XXH3_64bits(image, size);
}

int kv_record_compare(const struct kv_record *record, const uint8_t *key, size_t key_size, size_t skip)
{
	size_t record_key_size = kv_record_key_size(record);
	size_t common = record_key_size < key_size ? record_key_size : key_size;
	int order = 0;

	if (common > skip)
		order = memcmp(record->bytes + skip, key + skip, common - skip);
	if (order != 0)
		return order;
	return (record_key_size > key_size) - (record_key_size < key_size);
}

/* Nodes ----------------------------------------------------------------------------------------------- */

static size_t node_size(uint8_t level)
{
	return offsetof(struct kv_node, children) + (level > 0 ? KV_NODE_SLOTS * sizeof(struct kv_node *) : 0);
}

struct kv_node *kv_node_alloc(uint8_t level, uint16_t skip)
{
	struct kv_node *node;

	raft_assert(level < KV_LEVELS_MAX);
	node = malloc(node_size(level));
	if (node == NULL)
		return NULL;
	atomic_init(&node->references, 1);
	node->count = 0;
	node->skip = skip;
	node->level = level;
	return node;
}

struct kv_node *kv_node_new(uint8_t level, uint16_t skip)
{
	struct kv_node *node = kv_node_alloc(level, skip);

	raft_assert(node != NULL);
	return node;
}

struct kv_node *kv_node_ref(struct kv_node *node)
{
	kv_take_reference(&node->references);
	return node;
}

size_t kv_node_memory(const struct kv_node *node)
{
	return chunk_usable(node_size(node->level)) + CHUNK_OVERHEAD;
}

void kv_node_free_empty(struct kv_node *node)
{
	raft_assert(kv_is_only_reference(&node->references));
	raft_assert(node->count == 0);
	free(node);
}

/* Walks down into every node whose last reference it drops, and frees on the way up. stack[i] has freed its slots
 * from count on. */
void kv_node_unref(struct kv_node *node)
{
	struct kv_node *stack[KV_LEVELS_MAX];
	unsigned depth = 0;

	if (node == NULL || !kv_drop_reference(&node->references))
		return;
	stack[depth++] = node;
	while (depth > 0) {
		struct kv_node *top = stack[depth - 1];
		unsigned slot;

		if (top->count == 0) {
			free(top);
			depth--;
			continue;
		}
		slot = --top->count;
		kv_record_unref(top->records[slot]);
		if (top->level > 0 && kv_drop_reference(&top->children[slot]->references)) {
			raft_assert(depth < KV_LEVELS_MAX);
			raft_assert(top->children[slot]->level + 1 == top->level);
			stack[depth++] = top->children[slot];
		}
	}
}

struct kv_node *kv_node_own(struct kv_node *node)
{
	struct kv_node *copy;

	if (kv_is_only_reference(&node->references))
		return node;
	copy = kv_node_new(node->level, node->skip);
	copy->count = node->count;
	memcpy(copy->prefixes, node->prefixes, node->count * sizeof(node->prefixes[0]));
	memcpy(copy->records, node->records, node->count * sizeof(node->records[0]));
	/* The counts lie in as many cache lines as there are slots: fetch them together. */
	for (unsigned i = 0; i < copy->count; i++)
		__builtin_prefetch(copy->records[i], 1);
	for (unsigned i = 0; i < copy->count; i++)
		if (copy->records[i] != NULL)
			kv_record_ref(copy->records[i]);
	if (copy->level > 0) {
		memcpy(copy->children, node->children, node->count * sizeof(node->children[0]));
		for (unsigned i = 0; i < copy->count; i++)
			kv_node_ref(copy->children[i]);
	}
	kv_node_unref(node);
	return copy;
}

uint64_t kv_prefix(const uint8_t *key, size_t key_size, size_t skip)
{
	size_t size;
	uint64_t number = 0;

	if (key_size <= skip)
		return 0;
	size = key_size - skip;
	if (size >= sizeof(number)) {
		memcpy(&number, key + skip, sizeof(number));
		return be64toh(number);
	}
	if (key_size >= sizeof(number)) {
		/* The last eight bytes hold them: shift the others out. */
		memcpy(&number, key + key_size - sizeof(number), sizeof(number));
		return be64toh(number) << (8 * (sizeof(number) - size));
	}
	for (size_t i = 0; i < size; i++)
		number |= (uint64_t)key[skip + i] << (56 - 8 * i);
	return number;
}

void kv_node_set_record(struct kv_node *node, unsigned slot, struct kv_record *record)
{
	raft_assert(slot < KV_NODE_SLOTS);
	raft_assert(record != NULL || (slot == 0 && node->level > 0));
	node->records[slot] = record;
	node->prefixes[slot] =
		record == NULL ? 0 : kv_prefix(kv_record_key(record), kv_record_key_size(record), node->skip);
}

/* Copies within and between nodes: n slots. */
static void move_slots(struct kv_node *to, unsigned to_slot, struct kv_node *from, unsigned from_slot, unsigned n)
{
	raft_assert(to->level == from->level);
	raft_assert(to_slot + n <= KV_NODE_SLOTS && from_slot + n <= KV_NODE_SLOTS);
	memmove(to->prefixes + to_slot, from->prefixes + from_slot, n * sizeof(to->prefixes[0]));
	memmove(to->records + to_slot, from->records + from_slot, n * sizeof(to->records[0]));
	if (to->level > 0)
		memmove(to->children + to_slot, from->children + from_slot, n * sizeof(to->children[0]));
}

void kv_node_open_slot(struct kv_node *node, unsigned slot)
{
	raft_assert(node->count < KV_NODE_SLOTS);
	raft_assert(slot <= node->count);
	move_slots(node, slot + 1, node, slot, node->count - slot);
	node->count++;
}

void kv_node_close_slot(struct kv_node *node, unsigned slot)
{
	raft_assert(node->count > 0);
	raft_assert(slot < node->count);
	move_slots(node, slot, node, slot + 1, node->count - slot - 1);
	node->count--;
}

void kv_node_shift_right(struct kv_node *left, struct kv_node *right, unsigned n)
{
	raft_assert(n <= left->count);
	move_slots(right, n, right, 0, right->count);
	move_slots(right, 0, left, left->count - n, n);
	left->count = (uint16_t)(left->count - n);
	right->count = (uint16_t)(right->count + n);
}

void kv_node_shift_left(struct kv_node *left, struct kv_node *right, unsigned n)
{
	raft_assert(n <= right->count);
	move_slots(left, left->count, right, 0, n);
	move_slots(right, 0, right, n, right->count - n);
	left->count = (uint16_t)(left->count + n);
	right->count = (uint16_t)(right->count - n);
}

void kv_node_set_skip(struct kv_node *node, size_t skip)
{
	raft_assert(skip <= KV_KEY_SIZE_MAX);
	raft_assert(node->count <= KV_NODE_SLOTS);
	node->skip = (uint16_t)skip;
	for (unsigned i = 0; i < node->count; i++)
		__builtin_prefetch(node->records[i]);
	for (unsigned i = 0; i < node->count; i++)
		kv_node_set_record(node, i, node->records[i]);
}
