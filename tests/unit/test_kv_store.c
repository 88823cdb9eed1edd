/*
 * The store (kv/store.h) against a model that is too simple to be wrong: a sorted array, copied for each snapshot.
 *
 * The random comparison prints its seed; KV_TEST_SEED in the environment repeats one. test_kv_store_small.c compiles
 * this file once more over small nodes, so that the same keys make a high tree.
 */
#include "kv/store.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

/* Helpers ------------------------------------------------------------------------------------------------ */

/* A store, and the index that the next entry gets. */
struct log {
	struct kv_store *store;
	uint64_t index;
};

static struct kv_reply apply(struct log *log, const struct kv_command *command)
{
	size_t size = kv_command_size(command);
	uint8_t *bytes = malloc(size);
	struct kv_reply reply;

	assert_non_null(bytes);
	kv_command_encode(command, bytes);
	reply = kv_store_apply(log->store, ++log->index, 0, bytes, size);
	free(bytes); /* the store has copied what it keeps */
	return reply;
}

static struct kv_reply put(struct log *log, const void *key, size_t key_size, const void *value, size_t value_size)
{
	return apply(log, &(struct kv_command){.operation = KV_PUT,
					       .key = key,
					       .key_size = (uint16_t)key_size,
					       .value = value,
					       .value_size = (uint32_t)value_size});
}

static struct kv_reply put_text(struct log *log, const char *key, const char *value)
{
	return put(log, key, strlen(key), value, strlen(value));
}

static struct kv_reply remove_key(struct log *log, const void *key, size_t key_size)
{
	return apply(log, &(struct kv_command){.operation = KV_DELETE, .key = key, .key_size = (uint16_t)key_size});
}

static struct kv_reply cas_text(struct log *log, const char *key, const char *value, uint64_t expected)
{
	return apply(log, &(struct kv_command){.operation = KV_CAS,
					       .key = (const uint8_t *)key,
					       .key_size = (uint16_t)strlen(key),
					       .value = (const uint8_t *)value,
					       .value_size = (uint32_t)strlen(value),
					       .expected = expected});
}

static void assert_value(struct log *log, const char *key, const char *value, uint64_t revision)
{
	struct kv_value got;

	assert_true(kv_store_get(log->store, (const uint8_t *)key, strlen(key), &got));
	assert_int_equal(got.size, strlen(value));
	assert_memory_equal(got.data, value, got.size);
	assert_int_equal(got.revision, revision);
}

static void assert_reply(struct kv_reply reply, enum kv_status status, uint64_t revision)
{
	assert_int_equal(reply.status, status);
	assert_int_equal(reply.revision, revision);
}

static struct log log_new(void)
{
	struct log log = {.store = kv_store_new()};

	assert_non_null(log.store);
	return log;
}

static void log_free(struct log *log)
{
	kv_store_check(log->store);
	log->store = kv_store_free(log->store);
	assert_null(log->store);
}

/* Operations --------------------------------------------------------------------------------------------- */

static void put_get_and_delete_report_the_index_as_revision(void **state)
{
	struct log log = log_new();
	struct kv_value value;

	(void)state;
	assert_reply(put_text(&log, "a", "one"), KV_OK, 1);
	assert_reply(put_text(&log, "b", ""), KV_OK, 2);
	assert_reply(put_text(&log, "a", "two"), KV_OK, 3);
	assert_value(&log, "a", "two", 3);
	assert_value(&log, "b", "", 2);
	assert_false(kv_store_get(log.store, (const uint8_t *)"ab", 2, &value));
	assert_false(kv_store_get(log.store, (const uint8_t *)"", 0, &value));
	assert_reply(remove_key(&log, "a", 1), KV_OK, 4);
	assert_reply(remove_key(&log, "a", 1), KV_NOT_FOUND, 0);
	assert_false(kv_store_get(log.store, (const uint8_t *)"a", 1, &value));
	assert_value(&log, "b", "", 2);
	log_free(&log);
}

static void cas_changes_only_the_expected_revision(void **state)
{
	struct log log = log_new();

	(void)state;
	assert_reply(cas_text(&log, "a", "x", 7), KV_CAS_MISMATCH, 0);
	assert_reply(cas_text(&log, "a", "x", 0), KV_OK, 2);
	assert_reply(cas_text(&log, "a", "y", 0), KV_CAS_MISMATCH, 2);
	assert_reply(cas_text(&log, "a", "y", 1), KV_CAS_MISMATCH, 2);
	assert_value(&log, "a", "x", 2);
	assert_reply(cas_text(&log, "a", "y", 2), KV_OK, 5);
	assert_value(&log, "a", "y", 5);
	log_free(&log);
}

static void bad_commands_change_nothing_but_the_applied_index(void **state)
{
	struct log log = log_new();
	struct kv_stats stats;
	uint8_t bytes[KV_COMMAND_HEADER_SIZE] = {0};
	uint64_t hash;

	(void)state;
	(void)put_text(&log, "a", "one");
	hash = kv_store_hash(log.store);
	assert_reply(kv_store_apply(log.store, 5, 0, bytes, 0), KV_BAD_COMMAND, 0);
	assert_reply(kv_store_apply(log.store, 9, 0, bytes, sizeof(bytes)), KV_BAD_COMMAND, 0);
	kv_store_stats(log.store, &stats);
	assert_int_equal(stats.applied, 9);
	assert_int_equal(stats.keys, 1);
	assert_true(kv_store_hash(log.store) == hash);
	log_free(&log);
}

static void biggest_keys_and_values_go_in_and_come_back(void **state)
{
	struct log log = log_new();
	uint8_t *value = malloc(KV_VALUE_SIZE_MAX);
	uint8_t key[KV_KEY_SIZE_MAX];
	struct kv_value got;

	(void)state;
	assert_non_null(value);
	memset(value, 7, KV_VALUE_SIZE_MAX);
	memset(key, 0xff, sizeof(key));
	/* Keys that differ in the last byte only, and each a prefix of the next. */
	for (unsigned i = 0; i < 200; i++) {
		key[sizeof(key) - 1] = (uint8_t)i;
		assert_int_equal(put(&log, key, sizeof(key), "v", 1).status, KV_OK);
		assert_int_equal(put(&log, key, 1 + i, "w", 1).status, KV_OK);
	}
	assert_int_equal(put(&log, key, sizeof(key), value, KV_VALUE_SIZE_MAX).status, KV_OK);
	kv_store_check(log.store);
	assert_true(kv_store_get(log.store, key, sizeof(key), &got));
	assert_int_equal(got.size, KV_VALUE_SIZE_MAX);
	assert_memory_equal(got.data, value, KV_VALUE_SIZE_MAX);
	for (unsigned i = 0; i < 200; i++) {
		key[sizeof(key) - 1] = (uint8_t)i;
		assert_int_equal(remove_key(&log, key, sizeof(key)).status, KV_OK);
		assert_int_equal(remove_key(&log, key, 1 + i).status, KV_OK);
	}
	free(value);
	log_free(&log);
}

/* Hash and statistics -------------------------------------------------------------------------------------- */

static void hash_depends_on_the_state_and_not_on_its_history(void **state)
{
	struct log one = log_new(), other = log_new();

	(void)state;
	assert_true(kv_store_hash(one.store) == kv_store_hash(other.store));
	(void)put_text(&one, "a", "1");
	(void)put_text(&one, "b", "2");
	(void)put_text(&one, "c", "3");
	(void)remove_key(&one, "b", 1);

	(void)put_text(&other, "a", "1");
	other.index++;
	(void)put_text(&other, "c", "3");
	assert_true(kv_store_hash(one.store) == kv_store_hash(other.store));
	log_free(&one);
	log_free(&other);
}

static uint64_t hash_of(const char *key, const char *value, uint64_t index)
{
	struct log log = log_new();
	uint64_t hash;

	log.index = index - 1;
	(void)put_text(&log, key, value);
	hash = kv_store_hash(log.store);
	log_free(&log);
	return hash;
}

static void hash_covers_key_value_revision_and_where_one_ends(void **state)
{
	uint64_t hash = hash_of("ab", "cd", 3);

	(void)state;
	assert_true(hash == hash_of("ab", "cd", 3));
	assert_true(hash != hash_of("ab", "ce", 3));
	assert_true(hash != hash_of("aa", "cd", 3));
	assert_true(hash != hash_of("ab", "cd", 4));
	assert_true(hash != hash_of("abc", "d", 3));
	assert_true(hash != hash_of("a", "bcd", 3));
	assert_true(hash != 0);
}

/* Members of one cluster compare this number: a change of it is a change of the replicated state machine. */
static void hash_of_a_known_state_never_changes(void **state)
{
	(void)state;
	assert_true(hash_of("hello", "world", 1) == UINT64_C(0xf3c6ac72f5ca56d0));
}

static void empty_store_is_tiny_and_statistics_follow(void **state)
{
	struct log log = log_new();
	struct kv_stats stats;

	(void)state;
	kv_store_stats(log.store, &stats);
	assert_true(stats.memory_bytes < 4096);
	assert_int_equal(stats.nodes, 0);
	(void)put_text(&log, "key", "value");
	kv_store_stats(log.store, &stats);
	assert_int_equal(stats.keys, 1);
	assert_int_equal(stats.key_bytes, 3);
	assert_int_equal(stats.value_bytes, 5);
	assert_int_equal(stats.nodes, 1);
	(void)put_text(&log, "key", "a longer value than before");
	kv_store_stats(log.store, &stats);
	assert_int_equal(stats.value_bytes, strlen("a longer value than before"));
	(void)remove_key(&log, "key", 3);
	kv_store_stats(log.store, &stats);
	assert_int_equal(stats.keys + stats.key_bytes + stats.value_bytes + stats.nodes, 0);
	assert_true(stats.memory_bytes < 4096);
	log_free(&log);
}

static void a_key_of_16_and_256_bytes_costs_at_most_a_third_more(void **state)
{
	struct log log = log_new();
	uint8_t value[256] = {0};
	struct kv_stats stats;
	char key[17];

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		(void)snprintf(key, sizeof(key), "key%013u", i * 7919 % 20000);
		(void)put(&log, key, 16, value, sizeof(value));
	}
	kv_store_stats(log.store, &stats);
	assert_int_equal(stats.keys, 20000);
	assert_true(stats.memory_bytes * 100 <= (stats.key_bytes + stats.value_bytes) * 135);
	log_free(&log);
}

/* The model -------------------------------------------------------------------------------------------------- */

#define MODEL_KEY_SIZE_MAX 48u
#define MODEL_ITEMS_MAX 8192u
#define MODEL_VALUE_SIZE_MAX 300u

struct model_item {
	uint8_t key[MODEL_KEY_SIZE_MAX];
	uint16_t key_size;
	uint16_t value_size;
	uint64_t revision; /* the value's bytes follow from it */
};

struct model {
	struct model_item *items;
	size_t count;
};

static int compare_keys(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size)
{
	int order = memcmp(a, b, a_size < b_size ? a_size : b_size);

	return order != 0 ? order : (a_size > b_size) - (a_size < b_size);
}

/* The first item that is not below. */
static size_t model_find(const struct model *model, const uint8_t *key, size_t key_size, bool *ret_found)
{
	size_t i = 0, end = model->count;

	while (i < end) {
		size_t middle = (i + end) / 2;

		if (compare_keys(model->items[middle].key, model->items[middle].key_size, key, key_size) < 0)
			i = middle + 1;
		else
			end = middle;
	}
	*ret_found =
		i < model->count && compare_keys(model->items[i].key, model->items[i].key_size, key, key_size) == 0;
	return i;
}

static void fill_value(uint8_t *value, size_t size, uint64_t revision)
{
	for (size_t i = 0; i < size; i++)
		value[i] = (uint8_t)(revision * 31 + i * 7 + (revision >> 8));
}

static void model_put(struct model *model, const uint8_t *key, size_t key_size, size_t value_size, uint64_t revision)
{
	bool found;
	size_t i = model_find(model, key, key_size, &found);

	if (!found) {
		assert_true(model->count < MODEL_ITEMS_MAX);
		memmove(model->items + i + 1, model->items + i, (model->count - i) * sizeof(model->items[0]));
		model->count++;
		memcpy(model->items[i].key, key, key_size);
		model->items[i].key_size = (uint16_t)key_size;
	}
	model->items[i].value_size = (uint16_t)value_size;
	model->items[i].revision = revision;
}

static struct model model_new(void)
{
	struct model model = {.items = malloc(MODEL_ITEMS_MAX * sizeof(model.items[0]))};

	assert_non_null(model.items);
	return model;
}

static struct model model_copy(const struct model *model)
{
	struct model copy = {.items = malloc((model->count + 1) * sizeof(model->items[0])), .count = model->count};

	assert_non_null(copy.items);
	memcpy(copy.items, model->items, model->count * sizeof(model->items[0]));
	return copy;
}

/* Compares items with the model's, one after the other, and stops after `limit`. */
struct comparison {
	const struct model *model;
	size_t next;
	size_t limit;
};

static bool compare_item(void *arg, const struct kv_item *item)
{
	struct comparison *comparison = arg;
	const struct model_item *expected = &comparison->model->items[comparison->next];
	uint8_t value[MODEL_VALUE_SIZE_MAX];

	assert_true(comparison->next < comparison->model->count);
	assert_int_equal(item->key_size, expected->key_size);
	assert_memory_equal(item->key, expected->key, expected->key_size);
	assert_int_equal(item->revision, expected->revision);
	assert_int_equal(item->value_size, expected->value_size);
	fill_value(value, expected->value_size, expected->revision);
	assert_memory_equal(item->value, value, expected->value_size);
	comparison->next++;
	return --comparison->limit > 0;
}

static void compare_all(const struct kv_snapshot *snapshot, const struct model *model)
{
	struct comparison comparison = {.model = model, .limit = SIZE_MAX};

	kv_snapshot_walk(snapshot, NULL, 0, false, compare_item, &comparison);
	assert_int_equal(comparison.next, model->count);
}

static void compare_from(const struct kv_snapshot *snapshot, const struct model *model, const uint8_t *key,
			 size_t key_size, bool after)
{
	bool found;
	size_t first = model_find(model, key, key_size, &found);
	struct comparison comparison = {.model = model, .next = first + (found && after), .limit = 100};
	size_t start = comparison.next, expected = model->count - start < 100 ? model->count - start : 100;

	kv_snapshot_walk(snapshot, key, key_size, after, compare_item, &comparison);
	assert_int_equal(comparison.next - start, expected);
}

/* The random comparison ----------------------------------------------------------------------------------------- */

#define SNAPSHOTS_MAX 4u

struct world {
	struct log log;
	struct model model;
	struct kv_snapshot *snapshots[SNAPSHOTS_MAX];
	struct model copies[SNAPSHOTS_MAX];
	unsigned seed;
};

static unsigned pick(struct world *world, unsigned n)
{
	return (unsigned)rand_r(&world->seed) % n;
}

/* Four families: short keys with many zeros and prefixes of one another; keys as people number them; long common
 * beginnings; numbers. */
static size_t pick_key(struct world *world, uint8_t *key)
{
	static const uint8_t alphabet[] = {0, 1, 'a', 0xff};
	size_t size;

	switch (pick(world, 4)) {
	case 0:
		size = 1 + pick(world, 12);
		for (size_t i = 0; i < size; i++)
			key[i] = alphabet[pick(world, size < 5 ? 4 : 2)];
		return size;
	case 1:
		return (size_t)snprintf((char *)key, MODEL_KEY_SIZE_MAX, "user:profile:%06u", pick(world, 2000));
	case 2:
		memset(key, 'x', 30);
		size = 28 + pick(world, 6);
		for (size_t i = 28; i < size; i++)
			key[i] = (uint8_t)pick(world, 6);
		return size;
	default:
		memset(key, 0, 8);
		key[6] = (uint8_t)pick(world, 8);
		key[7] = (uint8_t)pick(world, 256);
		return 8;
	}
}

static void random_put(struct world *world, const uint8_t *key, size_t key_size, bool compare_and_set)
{
	uint8_t value[MODEL_VALUE_SIZE_MAX];
	size_t value_size = pick(world, pick(world, 8) == 0 ? MODEL_VALUE_SIZE_MAX : 24);
	uint64_t index = world->log.index + 1, current, expected = 0;
	bool found;
	size_t i = model_find(&world->model, key, key_size, &found);
	struct kv_command command = {.operation = compare_and_set ? KV_CAS : KV_PUT,
				     .key = key,
				     .key_size = (uint16_t)key_size,
				     .value = value,
				     .value_size = (uint32_t)value_size};
	struct kv_reply reply;

	current = found ? world->model.items[i].revision : 0;
	if (compare_and_set)
		command.expected = expected = current + (pick(world, 3) == 0);
	fill_value(value, value_size, index);
	reply = apply(&world->log, &command);
	if (compare_and_set && expected != current) {
		assert_reply(reply, KV_CAS_MISMATCH, current);
		return;
	}
	assert_reply(reply, KV_OK, index);
	model_put(&world->model, key, key_size, value_size, index);
}

static void random_delete(struct world *world, const uint8_t *key, size_t key_size)
{
	bool found;
	size_t i = model_find(&world->model, key, key_size, &found);
	struct kv_reply reply = remove_key(&world->log, key, key_size);

	if (!found) {
		assert_reply(reply, KV_NOT_FOUND, 0);
		return;
	}
	assert_reply(reply, KV_OK, world->log.index);
	world->model.count--;
	memmove(world->model.items + i, world->model.items + i + 1,
		(world->model.count - i) * sizeof(world->model.items[0]));
}

static void random_get(struct world *world, const uint8_t *key, size_t key_size)
{
	uint8_t expected[MODEL_VALUE_SIZE_MAX];
	struct kv_value value = {.size = 0};
	bool found;
	size_t i = model_find(&world->model, key, key_size, &found);

	assert_int_equal(kv_store_get(world->log.store, key, key_size, &value), found);
	if (!found)
		return;
	assert_int_equal(value.revision, world->model.items[i].revision);
	assert_int_equal(value.size, world->model.items[i].value_size);
	fill_value(expected, value.size, value.revision);
	assert_memory_equal(value.data, expected, value.size);
}

/* Looks at the snapshot in one of the places, then drops it, or takes one there. */
static void random_snapshot(struct world *world)
{
	unsigned i = pick(world, SNAPSHOTS_MAX);
	uint8_t key[MODEL_KEY_SIZE_MAX];

	if (world->snapshots[i] == NULL) {
		world->snapshots[i] = kv_store_snapshot(world->log.store);
		assert_non_null(world->snapshots[i]);
		assert_int_equal(kv_snapshot_applied(world->snapshots[i]), world->log.index);
		world->copies[i] = model_copy(&world->model);
		return;
	}
	compare_all(world->snapshots[i], &world->copies[i]);
	for (unsigned n = 0; n < 8; n++) {
		size_t size = pick_key(world, key);

		compare_from(world->snapshots[i], &world->copies[i], key, size, n % 2 == 0);
	}
	if (pick(world, 2) == 0) {
		world->snapshots[i] = kv_snapshot_free(world->snapshots[i]);
		free(world->copies[i].items);
	}
}

static void compare_totals(struct world *world)
{
	uint64_t key_bytes = 0, value_bytes = 0;
	struct kv_stats stats;

	for (size_t i = 0; i < world->model.count; i++) {
		key_bytes += world->model.items[i].key_size;
		value_bytes += world->model.items[i].value_size;
	}
	kv_store_check(world->log.store);
	kv_store_stats(world->log.store, &stats);
	assert_int_equal(stats.keys, world->model.count);
	assert_int_equal(stats.key_bytes, key_bytes);
	assert_int_equal(stats.value_bytes, value_bytes);
	assert_int_equal(stats.applied, world->log.index);
}

/* Phases of growing and shrinking, so that nodes are split and merged many times. */
static void random_step(struct world *world, unsigned step)
{
	bool growing = step / 4000 % 2 == 0;
	uint8_t key[MODEL_KEY_SIZE_MAX];
	size_t key_size = pick_key(world, key);

	if (pick(world, 10) < (growing ? 7 : 2))
		random_put(world, key, key_size, pick(world, 5) == 0);
	else
		random_delete(world, key, key_size);
	key_size = pick_key(world, key);
	random_get(world, key, key_size);
	if (pick(world, 100) == 0)
		random_snapshot(world);
	if (step % 200 == 0)
		compare_totals(world);
}

static unsigned choose_seed(void)
{
	const char *given = getenv("KV_TEST_SEED");
	unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL) ^ (unsigned)getpid();

	printf("KV_TEST_SEED=%u\n", seed);
	return seed;
}

static void store_and_snapshots_equal_a_sorted_array(void **state)
{
	struct world world = {.log = log_new(), .model = model_new(), .seed = choose_seed()};
	uint8_t key[MODEL_KEY_SIZE_MAX];

	(void)state;
	for (unsigned step = 0; step < 32000; step++)
		random_step(&world, step);
	/* Down to nothing, from the middle, with snapshots still held. */
	while (world.model.count > 0) {
		const struct model_item *item = &world.model.items[pick(&world, (unsigned)world.model.count)];
		size_t key_size = item->key_size;

		memcpy(key, item->key, key_size);
		random_delete(&world, key, key_size);
		if (world.model.count % 100 == 0)
			compare_totals(&world);
	}
	kv_store_free(world.log.store);
	/* Snapshots outlive the store. */
	for (unsigned i = 0; i < SNAPSHOTS_MAX; i++) {
		if (world.snapshots[i] == NULL)
			continue;
		compare_all(world.snapshots[i], &world.copies[i]);
		kv_snapshot_free(world.snapshots[i]);
		free(world.copies[i].items);
	}
	free(world.model.items);
}

static void keys_in_order_go_in_and_out_from_either_end(void **state)
{
	(void)state;
	for (unsigned variant = 0; variant < 4; variant++) {
		bool up = variant % 2 == 0, out_up = variant / 2 == 0;
		struct log log = log_new();
		struct kv_stats stats;
		char key[16];

		for (unsigned i = 0; i < 3000; i++) {
			(void)snprintf(key, sizeof(key), "%08u", up ? i : 2999 - i);
			assert_reply(put(&log, key, 8, "v", 1), KV_OK, i + 1);
		}
		kv_store_check(log.store);
		for (unsigned i = 0; i < 3000; i++) {
			(void)snprintf(key, sizeof(key), "%08u", out_up ? i : 2999 - i);
			assert_int_equal(remove_key(&log, key, 8).status, KV_OK);
			if (i % 100 == 0)
				kv_store_check(log.store);
		}
		kv_store_stats(log.store, &stats);
		assert_int_equal(stats.nodes, 0);
		log_free(&log);
	}
}

/* Snapshots ------------------------------------------------------------------------------------------------- */

static void snapshot_of_an_empty_store_is_empty(void **state)
{
	struct log log = log_new();
	struct kv_snapshot *snapshot = kv_store_snapshot(log.store);
	struct model nothing = {.count = 0};

	(void)state;
	assert_non_null(snapshot);
	(void)put_text(&log, "a", "b");
	compare_all(snapshot, &nothing);
	assert_int_equal(kv_snapshot_applied(snapshot), 0);
	assert_null(kv_snapshot_free(snapshot));
	assert_null(kv_snapshot_free(NULL));
	assert_null(kv_store_free(NULL));
	log_free(&log);
}

static void writing_without_snapshots_copies_no_value(void **state)
{
	struct log log = log_new();
	struct kv_value before, after;

	(void)state;
	(void)put_text(&log, "a", "1234");
	assert_true(kv_store_get(log.store, (const uint8_t *)"a", 1, &before));
	(void)put_text(&log, "a", "5678");
	assert_true(kv_store_get(log.store, (const uint8_t *)"a", 1, &after));
	assert_ptr_equal(before.data, after.data);
	log_free(&log);
}

/* Walks a snapshot again and again on a thread of its own, while the store goes on, and drops it at last. What the
 * threads tell one another is relaxed, so that the store's own ordering is all that a thread sanitizer sees. */
struct walker {
	struct kv_snapshot *snapshot;
	struct model model;
	_Atomic unsigned walks;
	_Atomic bool stop;
	_Atomic bool dropped;
	bool wrong;
};

static bool compare_quietly(void *arg, const struct kv_item *item)
{
	struct comparison *comparison = arg;
	const struct model_item *expected = &comparison->model->items[comparison->next];
	uint8_t value[MODEL_VALUE_SIZE_MAX];

	if (comparison->next == comparison->model->count || item->revision != expected->revision ||
	    item->value_size != expected->value_size)
		return false;
	fill_value(value, item->value_size, item->revision);
	if (memcmp(item->value, value, item->value_size) != 0 ||
	    compare_keys(item->key, item->key_size, expected->key, expected->key_size) != 0)
		return false;
	comparison->next++;
	return true;
}

static void *walk(void *arg)
{
	struct walker *walker = arg;

	do {
		struct comparison comparison = {.model = &walker->model};

		kv_snapshot_walk(walker->snapshot, NULL, 0, false, compare_quietly, &comparison);
		if (comparison.next != walker->model.count)
			walker->wrong = true;
		atomic_fetch_add_explicit(&walker->walks, 1, memory_order_relaxed);
	} while (!atomic_load_explicit(&walker->stop, memory_order_relaxed));
	kv_snapshot_free(walker->snapshot);
	atomic_store_explicit(&walker->dropped, true, memory_order_relaxed);
	return NULL;
}

static void change_something(struct world *world)
{
	uint8_t key[MODEL_KEY_SIZE_MAX];
	size_t key_size = pick_key(world, key);

	if (pick(world, 2) == 0)
		random_put(world, key, key_size, false);
	else
		random_delete(world, key, key_size);
}

static void snapshot_is_walked_and_dropped_on_another_thread(void **state)
{
	struct world world = {.log = log_new(), .model = model_new(), .seed = 1};

	(void)state;
	for (unsigned step = 0; step < 2000; step++)
		change_something(&world);
	for (unsigned round = 0; round < 5; round++) {
		struct walker walker = {.snapshot = kv_store_snapshot(world.log.store),
					.model = model_copy(&world.model)};
		pthread_t thread;

		assert_non_null(walker.snapshot);
		assert_int_equal(pthread_create(&thread, NULL, walk, &walker), 0);
		/* While it walks, while it drops, and after. */
		while (atomic_load_explicit(&walker.walks, memory_order_relaxed) < 3)
			change_something(&world);
		atomic_store_explicit(&walker.stop, true, memory_order_relaxed);
		while (!atomic_load_explicit(&walker.dropped, memory_order_relaxed))
			change_something(&world);
		for (unsigned step = 0; step < 500; step++)
			change_something(&world);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_false(walker.wrong);
		kv_store_check(world.log.store);
		free(walker.model.items);
	}
	free(world.model.items);
	log_free(&world.log);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(put_get_and_delete_report_the_index_as_revision),
		cmocka_unit_test(cas_changes_only_the_expected_revision),
		cmocka_unit_test(bad_commands_change_nothing_but_the_applied_index),
		cmocka_unit_test(biggest_keys_and_values_go_in_and_come_back),
		cmocka_unit_test(hash_depends_on_the_state_and_not_on_its_history),
		cmocka_unit_test(hash_covers_key_value_revision_and_where_one_ends),
		cmocka_unit_test(hash_of_a_known_state_never_changes),
		cmocka_unit_test(empty_store_is_tiny_and_statistics_follow),
		cmocka_unit_test(a_key_of_16_and_256_bytes_costs_at_most_a_third_more),
		cmocka_unit_test(store_and_snapshots_equal_a_sorted_array),
		cmocka_unit_test(keys_in_order_go_in_and_out_from_either_end),
		cmocka_unit_test(snapshot_of_an_empty_store_is_empty),
		cmocka_unit_test(writing_without_snapshots_copies_no_value),
		cmocka_unit_test(snapshot_is_walked_and_dropped_on_another_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
