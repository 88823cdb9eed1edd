/*
 * Streams of snapshots that are cut, damaged or forged, and memory that runs out while one is read or written: refused
 * with the reason, nothing lost, nothing leaked.
 *
 * What reads and writes streams is compiled into this file once more with an allocator that fails where it is told.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

static unsigned allocations_left; /* 0: all succeed; else the one that brings it to 0 fails */

static bool allocation_fails(void)
{
	return allocations_left > 0 && --allocations_left == 0;
}
static void *failing_malloc(size_t size)
{
	return allocation_fails() ? NULL : malloc(size);
}
static void *failing_calloc(size_t n, size_t size)
{
	return allocation_fails() ? NULL : calloc(n, size);
}
static void *failing_realloc(void *block, size_t size)
{
	return allocation_fails() ? NULL : realloc(block, size);
}
#define malloc failing_malloc
#define calloc failing_calloc
#define realloc failing_realloc
#include "kv/node.c"
#include "kv/tree_build.c"
#undef CHUNK_OVERHEAD
#include "kv/ring.c"
#undef CHUNK_OVERHEAD
#include "kv/session.c"
#include "kv/snapshot.c"
#include "kv/snapshot_load.c"
#include "kv/snapshot_stream.c"
#include "kv/store.c"
#undef malloc
#undef calloc
#undef realloc

#include "kv_world.h"

/* A stream whose parts are where these say. */
enum {
	IDLE = 32,	  /* session 2, which has kept nothing */
	BUSY = IDLE + 32, /* session 1 with two replies */
	REPLY_1 = BUSY + 32,
	REPLY_2 = REPLY_1 + 8,
	A = REPLY_2 + 8, /* the record of key "a" */
	B = A + 14 + 3,
	BB = B + 14 + 3,
	END = BB + 14 + 4,
	SIZE = END + 16,
};

static struct bytes known_stream(void)
{
	struct log {
		struct kv_command command;
		const char *key;
	} entries[] = {
		{{.operation = KV_REGISTER}, ""},
		{{.operation = KV_REGISTER}, ""},
		{{.operation = KV_PUT, .session = 1, .sequence = 1, .acknowledged = 1, .value_size = 2}, "a"},
		{{.operation = KV_PUT, .session = 1, .sequence = 2, .acknowledged = 1, .value_size = 2}, "b"},
		{{.operation = KV_PUT, .value_size = 2}, "bb"},
	};
	struct kv_store *store = kv_store_new();
	uint8_t command[128];
	struct bytes bytes;

	assert_non_null(store);
	for (unsigned i = 0; i < 5; i++) {
		entries[i].command.key = (const uint8_t *)entries[i].key;
		entries[i].command.key_size = (uint16_t)strlen(entries[i].key);
		entries[i].command.value = (const uint8_t *)"vv";
		kv_command_encode(&entries[i].command, command);
		assert_int_equal(kv_store_apply(store, i + 1, 0, command, kv_command_size(&entries[i].command)).status,
				 KV_OK);
	}
	bytes = bytes_of(store);
	assert_int_equal(bytes.size, SIZE);
	kv_store_free(store);
	return bytes;
}

static void assert_refused(struct bytes bytes, int result, uint64_t offset)
{
	struct kv_store *store;
	uint64_t at;

	for (size_t block = 1; block <= bytes.size; block += 89) {
		int r = try_load(bytes, block, &store, &at);

		if (r != result || at != offset)
			print_message("%s at %llu\n", kv_load_result_name(r), (unsigned long long)at);
		assert_int_equal(r, result);
		assert_int_equal(at, offset);
	}
}

static void cut_streams_are_short_and_longer_ones_long(void **state)
{
	static const uint64_t items[] = {0, IDLE, BUSY, A, B, BB, END, SIZE};
	struct bytes bytes = known_stream();
	unsigned item = 0;

	(void)state;
	for (bytes.size = 1; bytes.size < SIZE; bytes.size++) {
		if (bytes.size == items[item + 1])
			item++;
		assert_refused(bytes, KV_LOAD_SHORT, items[item]);
	}
	bytes.data = realloc(bytes.data, SIZE + 1);
	assert_non_null(bytes.data);
	bytes.data[SIZE] = 0;
	bytes.size = SIZE + 1;
	assert_refused(bytes, KV_LOAD_LONG, SIZE);
	free(bytes.data);
}

static void no_flipped_bit_is_let_through(void **state)
{
	struct bytes bytes = known_stream();
	struct kv_store *store;
	uint64_t offset;

	(void)state;
	for (size_t bit = 0; bit < 8 * bytes.size; bit++) {
		bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_not_equal(try_load(bytes, 50, &store, &offset), KV_LOAD_OK);
		bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	kv_store_free(load(bytes, 50));
	free(bytes.data);
}

/* The checksum fits the bytes again: only what they say is wrong. */
static void seal(struct bytes bytes)
{
	kv_put_u64(bytes.data + bytes.size - 8, XXH3_64bits(bytes.data, bytes.size - 16));
}

static void what_cannot_be_is_refused_where_it_stands(void **state)
{
	static const struct {
		size_t at;
		unsigned width;
		uint64_t value;
		int result;
		uint64_t offset;
	} forgeries[] = {
		{0, 4, 0x12345678, KV_LOAD_MAGIC, 0},
		{4, 2, 2, KV_LOAD_VERSION, 0},
		{4, 2, 0, KV_LOAD_VERSION, 0},
		{6, 2, 1, KV_LOAD_RESERVED, 0},
		{28, 4, 1, KV_LOAD_RESERVED, 0},
		{8, 8, KV_REVISION_MAX + 1, KV_LOAD_COUNTS, 0},
		{8, 8, 4, KV_LOAD_COUNTS, 0},		/* entries, and 3 keys and 2 sessions */
		{16, 8, UINT64_MAX, KV_LOAD_COUNTS, 0}, /* keys */
		{24, 4, KV_SESSIONS_MAX + 1, KV_LOAD_COUNTS, 0},
		{24, 4, 6, KV_LOAD_COUNTS, 0},
		{16, 8, 4, KV_LOAD_COUNTS, 0},
		{IDLE, 8, 0, KV_LOAD_SESSION, IDLE},	  /* no id */
		{IDLE, 8, 3, KV_LOAD_SESSION, IDLE},	  /* used before it was */
		{IDLE + 24, 8, 6, KV_LOAD_SESSION, IDLE}, /* used by no entry */
		{IDLE + 8, 8, 1, KV_LOAD_SESSION, IDLE},  /* a request without an entry */
		{BUSY + 8, 8, 4, KV_LOAD_SESSION, BUSY},  /* one request too many */
		{BUSY + 8, 8, UINT64_MAX, KV_LOAD_SESSION, BUSY},
		{IDLE + 16, 8, 0, KV_LOAD_SESSION, IDLE}, /* acknowledged begins at 1 */
		{BUSY + 16, 8, 4, KV_LOAD_SESSION, BUSY}, /* acknowledged what was not applied */
		{BUSY + 24, 8, 3, KV_LOAD_REPLY, BUSY},	  /* a reply of entry 4 */
		{IDLE + 24, 8, 5, KV_LOAD_SESSION_ORDER, BUSY},
		{IDLE + 24, 8, 4, KV_LOAD_SESSION_ORDER, BUSY},
		{IDLE, 8, 1, KV_LOAD_SESSION_ORDER, BUSY}, /* the same session twice */
		{REPLY_1, 1, KV_OUT_OF_ORDER, KV_LOAD_REPLY, BUSY},
		{REPLY_2, 1, KV_NO_SESSION, KV_LOAD_REPLY, BUSY},
		{REPLY_2 + 1, 1, 5, KV_LOAD_REPLY, BUSY},
		{A + 12, 2, 0, KV_LOAD_RECORD, A},
		{B + 12, 2, KV_KEY_SIZE_MAX + 1, KV_LOAD_RECORD, B},
		{BB, 4, KV_VALUE_SIZE_MAX + 1, KV_LOAD_RECORD, BB},
		{A + 4, 8, 0, KV_LOAD_RECORD, A},
		{A + 4, 8, 6, KV_LOAD_RECORD, A},
		{A + 14, 1, 'b', KV_LOAD_KEY_ORDER, B},
		{A + 14, 1, 'c', KV_LOAD_KEY_ORDER, B},
		{BB + 14, 1, 'a', KV_LOAD_KEY_ORDER, BB}, /* "ab" after "b" */
		{A + 15, 1, 'w', KV_LOAD_HASH, END},
		{END, 1, 0, KV_LOAD_HASH, END},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(forgeries) / sizeof(forgeries[0]); i++) {
		struct bytes bytes = known_stream();
		uint8_t value[8];

		kv_put_u64(value, forgeries[i].value);
		memcpy(bytes.data + forgeries[i].at, value, forgeries[i].width);
		seal(bytes);
		assert_refused(bytes, forgeries[i].result, forgeries[i].offset);
		free(bytes.data);
	}
}

/* The state is of entry 5. Told before the first byte which entries it may be of, the loader refuses the rest of them at once, before
 * it takes anything of the state. */
static void state_of_another_entry_is_refused(void **state)
{
	static const struct {
		uint64_t min, max;
		int result;
	} cases[] = {
		{0, 5, KV_LOAD_OK},
		{5, 5, KV_LOAD_OK},
		{5, UINT64_MAX, KV_LOAD_OK},
		{0, 4, KV_LOAD_APPLIED},
		{0, 0, KV_LOAD_APPLIED},
		{6, 6, KV_LOAD_APPLIED},
		{6, UINT64_MAX, KV_LOAD_APPLIED},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bytes bytes = known_stream();
		struct kv_store_loader *loader = kv_store_load_new();

		assert_non_null(loader);
		assert_int_equal(kv_take_u64(bytes.data + KV_SNAPSHOT_OFFSET_APPLIED), 5);
		kv_store_load_between(loader, cases[i].min, cases[i].max);
		assert_int_equal(kv_store_load_feed(loader, bytes.data, KV_SNAPSHOT_HEADER_SIZE), cases[i].result);
		if (cases[i].result != KV_LOAD_OK) {
			assert_int_equal(kv_store_load_offset(loader), 0);
			assert_string_equal(kv_load_result_name(cases[i].result), "applied");
		}
		assert_null(kv_store_load_free(loader));
		free(bytes.data);
	}
}

static void window_wider_than_allowed_is_refused(void **state)
{
	struct bytes bytes = known_stream();

	(void)state;
	kv_put_u64(bytes.data + 8, 1000000);
	kv_put_u64(bytes.data + BUSY + 24, 1000000);
	kv_put_u64(bytes.data + BUSY + 8, KV_SESSION_WINDOW + 1);
	assert_refused(bytes, KV_LOAD_SESSION, BUSY);
	kv_put_u64(bytes.data + BUSY + 8, KV_SESSION_WINDOW);
	assert_refused(bytes, KV_LOAD_SHORT, BUSY); /* as many are let through, but do not come */
	free(bytes.data);
}

static void damage_in_what_the_hash_does_not_cover_is_found(void **state)
{
	struct bytes bytes = known_stream();

	(void)state;
	bytes.data[REPLY_1] = KV_NOT_FOUND;
	assert_refused(bytes, KV_LOAD_CHECKSUM, END);
	free(bytes.data);
}

static void a_loader_that_refused_refuses_for_ever(void **state)
{
	struct bytes bytes = known_stream();
	struct kv_store_loader *loader = kv_store_load_new();
	struct kv_store *store = NULL;

	(void)state;
	assert_non_null(loader);
	assert_int_equal(kv_store_load_feed(loader, (const uint8_t *)"x", 1), KV_LOAD_OK);
	assert_int_equal(kv_store_load_feed(loader, bytes.data, bytes.size), KV_LOAD_MAGIC);
	assert_int_equal(kv_store_load_feed(loader, bytes.data, bytes.size), KV_LOAD_MAGIC);
	assert_int_equal(kv_store_load_finish(loader, &store), KV_LOAD_MAGIC);
	assert_null(store);
	assert_null(kv_store_load_free(loader));
	assert_null(kv_store_load_free(NULL));
	assert_null(kv_load_result_name(99));
	free(bytes.data);
}

/* Memory -------------------------------------------------------------------------------------------------- */

/* Fails the n-th allocation, for every n, until all succeed. */
static void loading_fails_cleanly_wherever_memory_ends(void **state)
{
	static struct world world;
	struct bytes bytes;
	unsigned failures = 0;

	(void)state;
	world_begin(&world, 7, 400, 40, 3000);
	bytes = bytes_of(world.stores[0]);
	for (bool done = false; !done; failures++) {
		struct kv_store_loader *loader;
		struct kv_store *store = NULL;
		int r = KV_LOAD_MEMORY;

		allocations_left = failures + 1;
		loader = kv_store_load_new();
		if (loader != NULL) {
			r = kv_store_load_feed(loader, bytes.data, bytes.size);
			if (r == KV_LOAD_OK)
				r = kv_store_load_finish(loader, &store);
		}
		done = allocations_left > 0;
		allocations_left = 0;
		assert_int_equal(r, done ? KV_LOAD_OK : KV_LOAD_MEMORY);
		kv_store_load_free(loader);
		if (done)
			kv_store_check(store);
		kv_store_free(store);
	}
	assert_true(failures > 200);
	free(bytes.data);
	world_end(&world);
}

static void snapshot_and_stream_say_that_memory_ended(void **state)
{
	static struct world world;
	struct kv_snapshot *snapshot;

	(void)state;
	world_begin(&world, 7, 400, 40, 300);
	allocations_left = 1;
	assert_null(kv_store_snapshot(world.stores[0]));
	snapshot = kv_store_snapshot(world.stores[0]);
	assert_non_null(snapshot);
	allocations_left = 1;
	assert_null(kv_snapshot_stream_new(snapshot));
	allocations_left = 0;
	kv_snapshot_free(snapshot);
	world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cut_streams_are_short_and_longer_ones_long),
		cmocka_unit_test(no_flipped_bit_is_let_through),
		cmocka_unit_test(what_cannot_be_is_refused_where_it_stands),
		cmocka_unit_test(state_of_another_entry_is_refused),
		cmocka_unit_test(window_wider_than_allowed_is_refused),
		cmocka_unit_test(damage_in_what_the_hash_does_not_cover_is_found),
		cmocka_unit_test(a_loader_that_refused_refuses_for_ever),
		cmocka_unit_test(loading_fails_cleanly_wherever_memory_ends),
		cmocka_unit_test(snapshot_and_stream_say_that_memory_ended),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
