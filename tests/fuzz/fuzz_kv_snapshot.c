/*
 * Fuzzes the reader of snapshots (kv/snapshot_stream.h): no bytes may crash it, and a store that it makes is sound and
 * writes the very bytes that it was made of.
 *
 * The first byte of an input says in how large blocks the rest is fed, and whether checksum and hash are made to fit,
 * which random bytes never do.
 */
#include "daemon/assert.h"
#include "kv/bytes.h"
#include "kv/snapshot_stream.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define END_SIZE 16u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void assert_writes(struct kv_store *store, const uint8_t *data, size_t size)
{
	struct kv_snapshot *snapshot = kv_store_snapshot(store);
	struct kv_snapshot_stream *stream = kv_snapshot_stream_new(snapshot);
	uint8_t *again = malloc(size + 1);

	raft_assert(again != NULL && snapshot != NULL && stream != NULL);
	raft_assert(kv_snapshot_stream_size(snapshot) == size);
	raft_assert(kv_snapshot_stream_read(stream, again, size + 1) == size);
	raft_assert(memcmp(again, data, size) == 0);
	kv_snapshot_stream_free(stream);
	kv_snapshot_free(snapshot);
	free(again);
}

static int try_load(const uint8_t *data, size_t size, size_t block)
{
	struct kv_store_loader *loader = kv_store_load_new();
	struct kv_store *store = NULL;
	int r = KV_LOAD_OK;

	raft_assert(loader != NULL);
	for (size_t at = 0; at < size && r == KV_LOAD_OK; at += block)
		r = kv_store_load_feed(loader, data + at, size - at < block ? size - at : block);
	if (r == KV_LOAD_OK)
		r = kv_store_load_finish(loader, &store);
	raft_assert(kv_load_result_name(r) != NULL);
	raft_assert(kv_store_load_offset(loader) <= size);
	kv_store_load_free(loader);
	if (r == KV_LOAD_OK) {
		kv_store_check(store);
		assert_writes(store, data, size);
		kv_store_free(store);
	}
	return r;
}

/* The state's hash, as README.md defines it, of what the bytes say; they are known to be well-formed but for it. */
static uint64_t hash_of(const uint8_t *data, size_t size)
{
	uint32_t sessions = kv_take_u32(data + 24);
	const uint8_t *at = data + 32, *end = data + size - END_SIZE;
	uint64_t hash = 0;

	for (; sessions > 0; sessions--) {
		hash += XXH3_64bits_withSeed(at, 32, 1);
		at += 32 + 8 * (kv_take_u64(at + 8) + 1 - kv_take_u64(at + 16));
	}
	while (at < end) {
		size_t record = 14 + (size_t)kv_take_u32(at) + kv_take_u16(at + 12);

		hash += XXH3_64bits(at, record);
		at += record;
	}
	return hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy;
	size_t block;

	if (size < 1)
		return 0;
	block = 1 + (data[0] >> 1);
	size--;
	copy = malloc(size + 1);
	raft_assert(copy != NULL);
	memcpy(copy, data + 1, size);
	if ((data[0] & 1) != 0 && size >= 32 + END_SIZE) {
		memcpy(copy, "RKVS\1\0\0\0", 8);
		kv_put_u64(copy + size - 8, XXH3_64bits(copy, size - END_SIZE));
		if (try_load(copy, size, block) == KV_LOAD_HASH) {
			kv_put_u64(copy + size - END_SIZE, hash_of(copy, size));
			raft_assert(try_load(copy, size, block) == KV_LOAD_OK);
		}
	} else {
		(void)try_load(copy, size, block);
	}
	free(copy);
	return 0;
}
