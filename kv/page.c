/*
 * Pages: the data of the replies to DUMP and LOG. See request.h for the bytes.
 *
 * The decoder of a page checks every item in it, so that afterwards the decoder of an item returns false at the end of
 * the page only.
 */
#include "kv/request.h"

#include "daemon/assert.h"
#include "daemon/entry.h"
#include "kv/bytes.h"

enum {
	DUMP_OFFSET_APPLIED = 0,
	DUMP_OFFSET_HASH = 8,
	DUMP_OFFSET_FLAGS = 16,
	DUMP_OFFSET_COUNT = 20,
	DUMP_OFFSET_ITEMS = 24,
	DUMP_FLAG_MORE = 1,
	DUMP_ITEM_OFFSET_REVISION = 0,
	DUMP_ITEM_OFFSET_VALUE_SIZE = 8,
	DUMP_ITEM_OFFSET_KEY_SIZE = 12,
	DUMP_ITEM_OFFSET_RESERVED = 14,
	DUMP_ITEM_OFFSET_KEY = 16,
};
_Static_assert(KV_DUMP_PAGE_HEADER_SIZE == DUMP_OFFSET_ITEMS, "the items follow the header");
_Static_assert(KV_DUMP_ITEM_SIZE(0, 0) == DUMP_ITEM_OFFSET_KEY, "the key follows the item's header");

enum {
	LOG_OFFSET_LAST = 0,
	LOG_OFFSET_COMMIT = 8,
	LOG_OFFSET_FIRST = 16,
	LOG_OFFSET_COUNT = 24,
	LOG_OFFSET_RESERVED = 28,
	LOG_OFFSET_ENTRIES = 32,
	LOG_ITEM_OFFSET_INDEX = 0,
	LOG_ITEM_OFFSET_TERM = 8,
	LOG_ITEM_OFFSET_TIME = 16,
	LOG_ITEM_OFFSET_TYPE = 24,
	LOG_ITEM_OFFSET_RESERVED = 25,
	LOG_ITEM_OFFSET_SIZE = 28,
	LOG_ITEM_OFFSET_DATA = 32,
};
_Static_assert(KV_LOG_PAGE_HEADER_SIZE == LOG_OFFSET_ENTRIES, "the entries follow the header");
_Static_assert(KV_LOG_ITEM_SIZE(0) == LOG_ITEM_OFFSET_DATA, "the data follow the item's header");

/* DUMP --------------------------------------------------------------------------------------------------- */

void kv_dump_page_encode(uint8_t *data, const struct kv_dump_page *page)
{
	kv_put_u64(data + DUMP_OFFSET_APPLIED, page->applied);
	kv_put_u64(data + DUMP_OFFSET_HASH, page->hash);
	kv_put_u32(data + DUMP_OFFSET_FLAGS, page->more ? DUMP_FLAG_MORE : 0);
	kv_put_u32(data + DUMP_OFFSET_COUNT, page->count);
}

void kv_dump_item_encode(uint8_t *data, const struct kv_item *item)
{
	raft_assert(item->key_size > 0 && item->key_size <= KV_KEY_SIZE_MAX);
	raft_assert(item->value_size <= KV_VALUE_SIZE_MAX);
	kv_put_u64(data + DUMP_ITEM_OFFSET_REVISION, item->revision);
	kv_put_u32(data + DUMP_ITEM_OFFSET_VALUE_SIZE, item->value_size);
	kv_put_u16(data + DUMP_ITEM_OFFSET_KEY_SIZE, item->key_size);
	kv_put_u16(data + DUMP_ITEM_OFFSET_RESERVED, 0);
	kv_put_bytes(data + DUMP_ITEM_OFFSET_KEY, item->key, item->key_size);
	kv_put_bytes(data + DUMP_ITEM_OFFSET_KEY + item->key_size, item->value, item->value_size);
}

bool kv_dump_item_decode(struct kv_dump_page *page, struct kv_item *ret_item)
{
	const uint8_t *data = page->items;
	struct kv_item item;
	size_t size;

	if (page->count == 0 || page->items_size < DUMP_ITEM_OFFSET_KEY)
		return false;
	item = (struct kv_item){
		.revision = kv_take_u64(data + DUMP_ITEM_OFFSET_REVISION),
		.value_size = kv_take_u32(data + DUMP_ITEM_OFFSET_VALUE_SIZE),
		.key_size = kv_take_u16(data + DUMP_ITEM_OFFSET_KEY_SIZE),
	};
	if (item.key_size == 0 || item.key_size > KV_KEY_SIZE_MAX || item.value_size > KV_VALUE_SIZE_MAX)
		return false;
	size = KV_DUMP_ITEM_SIZE(item.key_size, item.value_size);
	if (size > page->items_size || kv_take_u16(data + DUMP_ITEM_OFFSET_RESERVED) != 0)
		return false;
	item.key = data + DUMP_ITEM_OFFSET_KEY;
	item.value = item.key + item.key_size;
	page->count--;
	page->items += size;
	page->items_size -= size;
	*ret_item = item;
	return true;
}

static bool dump_items_fit(struct kv_dump_page page)
{
	struct kv_item item;

	while (kv_dump_item_decode(&page, &item))
		;
	return page.count == 0 && page.items_size == 0;
}

bool kv_dump_page_decode(const uint8_t *data, size_t size, struct kv_dump_page *ret_page)
{
	struct kv_dump_page page;
	uint32_t flags;

	if (size < DUMP_OFFSET_ITEMS)
		return false;
	flags = kv_take_u32(data + DUMP_OFFSET_FLAGS);
	page = (struct kv_dump_page){
		.applied = kv_take_u64(data + DUMP_OFFSET_APPLIED),
		.hash = kv_take_u64(data + DUMP_OFFSET_HASH),
		.more = (flags & DUMP_FLAG_MORE) != 0,
		.count = kv_take_u32(data + DUMP_OFFSET_COUNT),
		.items = data + DUMP_OFFSET_ITEMS,
		.items_size = size - DUMP_OFFSET_ITEMS,
	};
	if ((flags & ~(uint32_t)DUMP_FLAG_MORE) != 0 || !dump_items_fit(page))
		return false;
	*ret_page = page;
	return true;
}

/* LOG ---------------------------------------------------------------------------------------------------- */

void kv_log_page_encode(uint8_t *data, const struct kv_log_page *page)
{
	kv_put_u64(data + LOG_OFFSET_LAST, page->last);
	kv_put_u64(data + LOG_OFFSET_COMMIT, page->commit);
	kv_put_u64(data + LOG_OFFSET_FIRST, page->first);
	kv_put_u32(data + LOG_OFFSET_COUNT, page->count);
	kv_put_u32(data + LOG_OFFSET_RESERVED, 0);
}

void kv_log_item_encode(uint8_t *data, const struct kv_log_item *item)
{
	raft_assert(item->size <= RAFT_ENTRY_SIZE_MAX);
	raft_assert(item->size == 0 || item->data != NULL);
	kv_put_u64(data + LOG_ITEM_OFFSET_INDEX, item->index);
	kv_put_u64(data + LOG_ITEM_OFFSET_TERM, item->term);
	kv_put_u64(data + LOG_ITEM_OFFSET_TIME, item->time_ms);
	data[LOG_ITEM_OFFSET_TYPE] = item->type;
	memset(data + LOG_ITEM_OFFSET_RESERVED, 0, LOG_ITEM_OFFSET_SIZE - LOG_ITEM_OFFSET_RESERVED);
	kv_put_u32(data + LOG_ITEM_OFFSET_SIZE, item->size);
	kv_put_bytes(data + LOG_ITEM_OFFSET_DATA, item->data, item->size);
}

bool kv_log_item_decode(struct kv_log_page *page, struct kv_log_item *ret_item)
{
	const uint8_t *data = page->entries;
	struct kv_log_item item;
	size_t size;

	if (page->count == 0 || page->entries_size < LOG_ITEM_OFFSET_DATA)
		return false;
	item = (struct kv_log_item){
		.index = kv_take_u64(data + LOG_ITEM_OFFSET_INDEX),
		.term = kv_take_u64(data + LOG_ITEM_OFFSET_TERM),
		.time_ms = kv_take_u64(data + LOG_ITEM_OFFSET_TIME),
		.type = data[LOG_ITEM_OFFSET_TYPE],
		.data = data + LOG_ITEM_OFFSET_DATA,
		.size = kv_take_u32(data + LOG_ITEM_OFFSET_SIZE),
	};
	if (item.size > RAFT_ENTRY_SIZE_MAX)
		return false;
	size = KV_LOG_ITEM_SIZE(item.size);
	if (size > page->entries_size ||
	    !kv_all_zero(data + LOG_ITEM_OFFSET_RESERVED, LOG_ITEM_OFFSET_SIZE - LOG_ITEM_OFFSET_RESERVED))
		return false;
	page->count--;
	page->entries += size;
	page->entries_size -= size;
	*ret_item = item;
	return true;
}

static bool log_items_fit(struct kv_log_page page)
{
	struct kv_log_item item;

	while (kv_log_item_decode(&page, &item))
		;
	return page.count == 0 && page.entries_size == 0;
}

bool kv_log_page_decode(const uint8_t *data, size_t size, struct kv_log_page *ret_page)
{
	struct kv_log_page page;

	if (size < LOG_OFFSET_ENTRIES || kv_take_u32(data + LOG_OFFSET_RESERVED) != 0)
		return false;
	page = (struct kv_log_page){
		.last = kv_take_u64(data + LOG_OFFSET_LAST),
		.commit = kv_take_u64(data + LOG_OFFSET_COMMIT),
		.first = kv_take_u64(data + LOG_OFFSET_FIRST),
		.count = kv_take_u32(data + LOG_OFFSET_COUNT),
		.entries = data + LOG_OFFSET_ENTRIES,
		.entries_size = size - LOG_OFFSET_ENTRIES,
	};
	if (!log_items_fit(page))
		return false;
	*ret_page = page;
	return true;
}
