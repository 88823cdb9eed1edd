/*
 * Frames: batches of requests or of replies, built and read. See request.h for the bytes; the bodies are in request.c
 * and page.c.
 *
 * Knows nothing of what an item's body means. Reading trusts nothing: kv_frame_read checks the frame whole before the
 * first item is handed out.
 */
#include "kv/request.h"

#include "daemon/assert.h"
#include "kv/bytes.h"

#include <stdlib.h>
/* The state of a streaming hash on the stack needs its definition. */
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#define FRAME_MAGIC "RKVC"
#define FRAME_MAGIC_SIZE 4u
#define ITEM_ALIGNMENT 8u
#define BUFFER_CAPACITY_MIN 4096u

enum {
	OFFSET_MAGIC = 0,
	OFFSET_VERSION = 4,
	OFFSET_KIND = 5,
	OFFSET_RESERVED = 6,
	OFFSET_N_ITEMS = 8,
	OFFSET_SIZE = 12,
	OFFSET_CLUSTER = 16,
	OFFSET_CHECKSUM = 24,
};
_Static_assert(OFFSET_CHECKSUM + 8 == KV_FRAME_HEADER_SIZE, "the checksum ends the header");

enum {
	ITEM_OFFSET_ID = 0,
	ITEM_OFFSET_TYPE = 8,
	ITEM_OFFSET_RESERVED = 9,
	ITEM_OFFSET_SIZE = 12,
};
_Static_assert(ITEM_OFFSET_SIZE + 4 == KV_ITEM_HEADER_SIZE, "the size ends the item's header");
_Static_assert(KV_FRAME_SIZE_MAX >= KV_FRAME_HEADER_SIZE + KV_ITEM_HEADER_SIZE + KV_COMMAND_SIZE_MAX,
	       "the biggest command fits a frame");
_Static_assert(KV_FRAME_SIZE_MAX >= KV_FRAME_HEADER_SIZE + KV_ITEM_HEADER_SIZE + KV_REPLY_HEADER_SIZE +
					    KV_PAGE_SIZE_MAX + KV_COMMAND_SIZE_MAX,
	       "the biggest page fits a frame, one of a single item included");

/* In size_t, so that the biggest u32 does not wrap around. */
static size_t padded(size_t size)
{
	return (size + ITEM_ALIGNMENT - 1) & ~(size_t)(ITEM_ALIGNMENT - 1);
}

/* Of the frame as if its checksum were zero. */
static uint64_t frame_checksum(const uint8_t *buf, size_t len)
{
	static const uint8_t zero[8];
	XXH3_state_t state;

	raft_assert(len >= KV_FRAME_HEADER_SIZE);
	raft_assert(len <= KV_FRAME_SIZE_MAX);
	(void)XXH3_64bits_reset(&state); /* these fail on a null pointer only */
	(void)XXH3_64bits_update(&state, buf, OFFSET_CHECKSUM);
	(void)XXH3_64bits_update(&state, zero, sizeof(zero));
	(void)XXH3_64bits_update(&state, buf + KV_FRAME_HEADER_SIZE, len - KV_FRAME_HEADER_SIZE);
	return XXH3_64bits_digest(&state);
}

/* Building ----------------------------------------------------------------------------------------------- */

void kv_frame_begin(struct kv_frame *frame)
{
	frame->len = 0;
	frame->n_items = 0;
}

void kv_frame_free(struct kv_frame *frame)
{
	free(frame->buf);
	*frame = (struct kv_frame){.len = 0};
}

static bool reserve(struct kv_frame *frame, size_t len)
{
	size_t capacity = frame->capacity > 0 ? frame->capacity : BUFFER_CAPACITY_MIN;
	uint8_t *buf;

	raft_assert(len <= KV_FRAME_SIZE_MAX);
	if (len <= frame->capacity)
		return true;
	while (capacity < len)
		capacity *= 2;
	buf = realloc(frame->buf, capacity);
	if (buf == NULL)
		return false;
	frame->buf = buf;
	frame->capacity = capacity;
	return true;
}

uint8_t *kv_frame_add(struct kv_frame *frame, uint64_t id, uint8_t type, uint32_t size)
{
	size_t start = frame->len > 0 ? frame->len : KV_FRAME_HEADER_SIZE;
	size_t end = start + KV_ITEM_HEADER_SIZE + padded(size);
	uint8_t *item;

	raft_assert(start % ITEM_ALIGNMENT == 0);
	if (end > KV_FRAME_SIZE_MAX || !reserve(frame, end))
		return NULL;
	item = frame->buf + start;
	kv_put_u64(item + ITEM_OFFSET_ID, id);
	item[ITEM_OFFSET_TYPE] = type;
	memset(item + ITEM_OFFSET_RESERVED, 0, ITEM_OFFSET_SIZE - ITEM_OFFSET_RESERVED);
	kv_put_u32(item + ITEM_OFFSET_SIZE, size);
	memset(item + KV_ITEM_HEADER_SIZE + size, 0, padded(size) - size);
	frame->len = end;
	frame->n_items++;
	return item + KV_ITEM_HEADER_SIZE;
}

void kv_frame_finish(struct kv_frame *frame, uint8_t kind, uint64_t cluster)
{
	raft_assert(frame->n_items > 0);
	raft_assert(frame->len > KV_FRAME_HEADER_SIZE && frame->len <= KV_FRAME_SIZE_MAX);
	memcpy(frame->buf + OFFSET_MAGIC, FRAME_MAGIC, FRAME_MAGIC_SIZE);
	frame->buf[OFFSET_VERSION] = KV_FRAME_VERSION;
	frame->buf[OFFSET_KIND] = kind;
	kv_put_u16(frame->buf + OFFSET_RESERVED, 0);
	kv_put_u32(frame->buf + OFFSET_N_ITEMS, frame->n_items);
	kv_put_u32(frame->buf + OFFSET_SIZE, (uint32_t)frame->len);
	kv_put_u64(frame->buf + OFFSET_CLUSTER, cluster);
	kv_put_u64(frame->buf + OFFSET_CHECKSUM, 0);
	kv_put_u64(frame->buf + OFFSET_CHECKSUM, XXH3_64bits(frame->buf, frame->len));
}

/* Reading ------------------------------------------------------------------------------------------------ */

const char *kv_frame_result_name(int result)
{
	static const char *const names[] = {
		[KV_FRAME_OK] = "ok",
		[KV_FRAME_SHORT] = "too short",
		[KV_FRAME_MAGIC] = "not a frame",
		[KV_FRAME_BAD_VERSION] = "unknown version",
		[KV_FRAME_CHECKSUM] = "checksum mismatch",
		[KV_FRAME_FORMAT] = "malformed",
		[KV_FRAME_CLUSTER] = "another cluster",
	};

	_Static_assert(sizeof(names) / sizeof(names[0]) == KV_FRAME_CLUSTER + 1, "each has a name");
	return result >= 0 && (size_t)result < sizeof(names) / sizeof(names[0]) ? names[result] : "unknown";
}

/* Takes one item off [cursor, end). Returns what it takes up, 0 when it is malformed. */
static size_t item_read(const uint8_t *cursor, const uint8_t *end, struct kv_frame_item *ret_item)
{
	size_t left = (size_t)(end - cursor);
	uint32_t size;

	if (left < KV_ITEM_HEADER_SIZE)
		return 0;
	size = kv_take_u32(cursor + ITEM_OFFSET_SIZE);
	if (padded(size) > left - KV_ITEM_HEADER_SIZE)
		return 0;
	if (!kv_all_zero(cursor + ITEM_OFFSET_RESERVED, ITEM_OFFSET_SIZE - ITEM_OFFSET_RESERVED) ||
	    !kv_all_zero(cursor + KV_ITEM_HEADER_SIZE + size, padded(size) - size))
		return 0;
	*ret_item = (struct kv_frame_item){
		.id = kv_take_u64(cursor + ITEM_OFFSET_ID),
		.type = cursor[ITEM_OFFSET_TYPE],
		.body = cursor + KV_ITEM_HEADER_SIZE,
		.size = size,
	};
	return KV_ITEM_HEADER_SIZE + padded(size);
}

static bool items_fit(struct kv_frame_reader reader)
{
	while (reader.left > 0) {
		struct kv_frame_item item;
		size_t size = item_read(reader.cursor, reader.end, &item);

		if (size == 0)
			return false;
		reader.cursor += size;
		reader.left--;
	}
	return reader.cursor == reader.end;
}

int kv_frame_read(const uint8_t *buf, size_t len, uint8_t kind, uint64_t cluster, struct kv_frame_reader *ret_reader)
{
	struct kv_frame_reader reader;
	uint32_t size;

	if (len < KV_FRAME_HEADER_SIZE)
		return KV_FRAME_SHORT;
	if (memcmp(buf + OFFSET_MAGIC, FRAME_MAGIC, FRAME_MAGIC_SIZE) != 0)
		return KV_FRAME_MAGIC;
	if (buf[OFFSET_VERSION] != KV_FRAME_VERSION)
		return KV_FRAME_BAD_VERSION;
	size = kv_take_u32(buf + OFFSET_SIZE);
	if (size > len && size <= KV_FRAME_SIZE_MAX)
		return KV_FRAME_SHORT;
	if (size != len || len > KV_FRAME_SIZE_MAX)
		return KV_FRAME_FORMAT;
	if (kv_take_u64(buf + OFFSET_CHECKSUM) != frame_checksum(buf, len))
		return KV_FRAME_CHECKSUM;
	if (kv_take_u64(buf + OFFSET_CLUSTER) != cluster)
		return KV_FRAME_CLUSTER;
	reader = (struct kv_frame_reader){
		.cursor = buf + KV_FRAME_HEADER_SIZE,
		.end = buf + len,
		.left = kv_take_u32(buf + OFFSET_N_ITEMS),
	};
	if (buf[OFFSET_KIND] != kind || kv_take_u16(buf + OFFSET_RESERVED) != 0 || !items_fit(reader))
		return KV_FRAME_FORMAT;
	*ret_reader = reader;
	return KV_FRAME_OK;
}

bool kv_frame_next(struct kv_frame_reader *reader, struct kv_frame_item *ret_item)
{
	size_t size;

	if (reader->left == 0)
		return false;
	size = item_read(reader->cursor, reader->end, ret_item);
	raft_assert(size > 0); /* kv_frame_read has seen every item; the bytes must not change under the reader */
	raft_assert(size <= (size_t)(reader->end - reader->cursor));
	reader->cursor += size;
	reader->left--;
	return true;
}
