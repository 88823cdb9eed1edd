/*
 * Snapshots as bytes (kv/snapshot_stream.h): what was read back goes on exactly like the store that was written.
 *
 * test_kv_snapshot_small.c compiles this file once more over small nodes. Damaged and forged streams are in
 * test_kv_snapshot_refused.c.
 */
#include "kv_world.h"

#include <pthread.h>
#include <stdatomic.h>

static void compare_stats(const struct world *world)
{
	struct kv_stats stats[2];

	for (unsigned i = 0; i < 2; i++) {
		kv_store_stats(world->stores[i], &stats[i]);
		stats[i].memory_bytes = stats[i].nodes = 0; /* the loaded tree is packed differently */
	}
	assert_memory_equal(&stats[0], &stats[1], sizeof(stats[0]));
}

static void go_on_alike(struct world *world, unsigned steps)
{
	struct bytes bytes = bytes_of(world->stores[0]);

	world->stores[1] = load(bytes, 4096);
	free(bytes.data);
	assert_true(kv_store_hash(world->stores[0]) == kv_store_hash(world->stores[1]));
	compare_stats(world);
	for (unsigned i = 0; i < steps; i++)
		world_step(world);
	compare_stats(world);
	for (unsigned i = 0; i < 2; i++)
		kv_store_check(world->stores[i]);
}

static void loaded_store_goes_on_like_the_original(void **state)
{
	static struct world world;

	(void)state;
	for (uint64_t seed = 1; seed <= 12; seed++) {
		world_begin(&world, seed, seed % 3 == 0 ? 40 : 3000, (unsigned)seed * 2, 6000);
		go_on_alike(&world, 6000);
		/* And once more from what was loaded. */
		kv_store_free(world.stores[0]);
		world.stores[0] = world.stores[1];
		go_on_alike(&world, 1000);
		world_end(&world);
	}
}

static void loaded_sessions_expire_in_the_same_order(void **state)
{
	static struct world world;

	(void)state;
	world_begin(&world, 5, 100, KV_SESSIONS_MAX + 300, 6000);
	go_on_alike(&world, 100);
	/* Expires half of those that are left, among commands for all that ever were. */
	for (unsigned i = 0; i < 1000; i++) {
		world_register(&world);
		for (unsigned n = 0; n < 8; n++)
			world_step(&world);
	}
	world_end(&world);
}

static void window_full_of_replies_comes_back(void **state)
{
	static struct world world;
	struct kv_command command = {.operation = KV_NOTHING, .acknowledged = 1};
	struct bytes bytes;

	(void)state;
	world_begin(&world, 1, 1, 1, 0);
	command.session = world.sessions[0].id;
	for (command.sequence = 1; command.sequence <= KV_SESSION_WINDOW; command.sequence++)
		assert_int_equal(world_apply(&world, &command).status, KV_OK);
	bytes = bytes_of(world.stores[0]);
	world.stores[1] = load(bytes, 100000);
	free(bytes.data);
	assert_int_equal(world_apply(&world, &command).status, KV_WINDOW_FULL);
	for (command.sequence = KV_SESSION_WINDOW; command.sequence > 5; command.sequence -= 5)
		(void)world_apply(&world, &command);
	command.acknowledged = KV_SESSION_WINDOW - 9;
	command.sequence = KV_SESSION_WINDOW + 1;
	assert_int_equal(world_apply(&world, &command).status, KV_OK);
	world_end(&world);
}

static void any_number_of_keys_makes_a_sound_tree(void **state)
{
	static struct world world;
	struct kv_store *store;
	struct bytes bytes;

	(void)state;
	world_begin(&world, 3, 1, 0, 0);
	for (unsigned i = 0; i < 4000; i++) {
		char key[32];
		int size = snprintf(key, sizeof(key), "k%07u", (i * 2654435761u) % 10000000u);

		if (i < 500 || i % 97 == 0) {
			bytes = bytes_of(world.stores[0]);
			store = load(bytes, 1000);
			assert_true(kv_store_hash(store) == kv_store_hash(world.stores[0]));
			free(bytes.data);
			kv_store_free(store);
		}
		(void)world_apply(&world, &(struct kv_command){.operation = KV_PUT,
							       .key = (const uint8_t *)key,
							       .key_size = (uint16_t)size});
	}
	world_end(&world);
}

static void biggest_keys_and_values_go_over_borders(void **state)
{
	static struct world world;
	uint8_t *value = calloc(1, KV_VALUE_SIZE_MAX), key[KV_KEY_SIZE_MAX] = {0};
	struct bytes bytes;

	(void)state;
	assert_non_null(value);
	world_begin(&world, 3, 1, 0, 0);
	for (unsigned i = 0; i < 3; i++) {
		value[0] = key[KV_KEY_SIZE_MAX - 1] = (uint8_t)i;
		(void)world_apply(&world, &(struct kv_command){.operation = KV_PUT,
							       .key = key,
							       .key_size = KV_KEY_SIZE_MAX,
							       .value = value,
							       .value_size = KV_VALUE_SIZE_MAX});
	}
	bytes = bytes_of(world.stores[0]);
	world.stores[1] = load(bytes, 65536);
	assert_true(kv_store_hash(world.stores[0]) == kv_store_hash(world.stores[1]));
	free(bytes.data);
	free(value);
	world_end(&world);
}

static void same_state_gives_the_same_bytes(void **state)
{
	static struct world world;
	struct bytes original, loaded;

	(void)state;
	world_begin(&world, 9, 700, 20, 5000);
	original = bytes_of(world.stores[0]);
	world.stores[1] = load(original, 77);
	loaded = bytes_of(world.stores[1]);
	assert_bytes_equal(original, loaded);
	free(original.data);
	free(loaded.data);
	world_end(&world);
}

static void blocks_of_any_size_make_no_difference(void **state)
{
	static struct world world;
	struct kv_snapshot *snapshot;
	struct bytes whole, parts;

	(void)state;
	world_begin(&world, 4, 60, 5, 800);
	snapshot = kv_store_snapshot(world.stores[0]);
	assert_non_null(snapshot);
	whole = stream_of(snapshot, 1000000);
	for (size_t block = 1; block < 700; block += block < 300 ? 1 : 37) {
		struct kv_store *store = load(whole, block);

		assert_true(kv_store_hash(store) == kv_store_hash(world.stores[0]));
		kv_store_free(store);
		parts = stream_of(snapshot, block);
		assert_bytes_equal(whole, parts);
		free(parts.data);
	}
	free(whole.data);
	kv_snapshot_free(snapshot);
	world_end(&world);
}

static void snapshot_stays_while_the_store_changes(void **state)
{
	static struct world world;
	struct kv_snapshot *snapshot;
	struct kv_snapshot_stream *stream;
	struct bytes before, after;
	uint64_t hash;
	size_t n, block = 0;

	(void)state;
	world_begin(&world, 11, 2000, 30, 9000);
	snapshot = kv_store_snapshot(world.stores[0]);
	assert_non_null(snapshot);
	hash = kv_store_hash(world.stores[0]);
	assert_int_equal(kv_snapshot_applied(snapshot), world.index);
	before = stream_of(snapshot, 65536);
	after = (struct bytes){.data = malloc(before.size + 1000)};
	assert_non_null(after.data);
	stream = kv_snapshot_stream_new(snapshot);
	assert_non_null(stream);
	do {
		block = 1 + (block * 31 + 17) % 997;
		n = kv_snapshot_stream_read(stream, after.data + after.size, block);
		after.size += n;
		for (unsigned i = 0; i < 10; i++)
			world_step(&world);
	} while (n == block);
	assert_bytes_equal(before, after);
	assert_true(kv_snapshot_hash(snapshot) == hash);
	kv_snapshot_stream_free(stream);
	/* The store may go first. */
	world_end(&world);
	free(after.data);
	after = stream_of(snapshot, 3000);
	assert_bytes_equal(before, after);
	free(before.data);
	free(after.data);
	kv_snapshot_free(snapshot);
}

static void bytes_of_a_known_state_never_change(void **state)
{
	static const uint8_t expected[] =
		"RKVS\1\0\0\0\6\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0"	    /* header */
		"\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\6\0\0\0\0\0\0\0"  /* session */
		"\0\6\0\0\0\0\0\0"						    /* its reply 2 */
		"\2\0\0\0\6\0\0\0\0\0\0\0\3\0keyhi"				    /* record */
		"\xb9\x00\x12\x51\x06\x6b\xe9\xb0\x42\x34\x80\x37\x42\xfc\x17\xdf"; /* end */
	struct kv_store *store = kv_store_new();
	uint8_t command[128];
	struct bytes bytes;
	const struct {
		uint64_t index;
		struct kv_command command;
	} entries[] = {
		{1, {.operation = KV_REGISTER}},
		{3, {.operation = KV_NOTHING, .session = 1, .sequence = 1, .acknowledged = 1}},
		{6,
		 {.operation = KV_PUT,
		  .session = 1,
		  .sequence = 2,
		  .acknowledged = 2,
		  .key = (const uint8_t *)"key",
		  .key_size = 3,
		  .value = (const uint8_t *)"hi",
		  .value_size = 2}},
	};

	(void)state;
	assert_non_null(store);
	for (unsigned i = 0; i < 3; i++) {
		kv_command_encode(&entries[i].command, command);
		(void)kv_store_apply(store, entries[i].index, 0, command, kv_command_size(&entries[i].command));
	}
	bytes = bytes_of(store);
	assert_int_equal(bytes.size, sizeof(expected) - 1);
	assert_memory_equal(bytes.data, expected, bytes.size);
	free(bytes.data);
	kv_store_free(store);
}

/* Writes a snapshot's stream again and again on a thread of its own, and drops the snapshot at last. */
struct writer {
	struct kv_snapshot *snapshot;
	struct bytes first;
	_Atomic unsigned rounds;
	_Atomic bool stop;
	bool wrong;
};

static void *write_streams(void *arg)
{
	struct writer *writer = arg;

	do {
		struct bytes again = stream_of(writer->snapshot, 5000);

		if (again.size != writer->first.size || memcmp(again.data, writer->first.data, again.size) != 0)
			writer->wrong = true;
		free(again.data);
		atomic_fetch_add_explicit(&writer->rounds, 1, memory_order_relaxed);
	} while (!atomic_load_explicit(&writer->stop, memory_order_relaxed));
	kv_snapshot_free(writer->snapshot);
	return NULL;
}

static void snapshot_is_written_and_dropped_on_another_thread(void **state)
{
	static struct world world;

	(void)state;
	world_begin(&world, 13, 300, 40, 4000);
	for (unsigned round = 0; round < 5; round++) {
		struct writer writer = {.snapshot = kv_store_snapshot(world.stores[0])};
		pthread_t thread;

		assert_non_null(writer.snapshot);
		writer.first = stream_of(writer.snapshot, 65536);
		assert_int_equal(pthread_create(&thread, NULL, write_streams, &writer), 0);
		while (atomic_load_explicit(&writer.rounds, memory_order_relaxed) < 3)
			world_step(&world);
		atomic_store_explicit(&writer.stop, true, memory_order_relaxed);
		for (unsigned i = 0; i < 2000; i++)
			world_step(&world);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_false(writer.wrong);
		free(writer.first.data);
	}
	world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loaded_store_goes_on_like_the_original),
		cmocka_unit_test(loaded_sessions_expire_in_the_same_order),
		cmocka_unit_test(window_full_of_replies_comes_back),
		cmocka_unit_test(any_number_of_keys_makes_a_sound_tree),
		cmocka_unit_test(biggest_keys_and_values_go_over_borders),
		cmocka_unit_test(same_state_gives_the_same_bytes),
		cmocka_unit_test(blocks_of_any_size_make_no_difference),
		cmocka_unit_test(snapshot_stays_while_the_store_changes),
		cmocka_unit_test(bytes_of_a_known_state_never_change),
		cmocka_unit_test(snapshot_is_written_and_dropped_on_another_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
