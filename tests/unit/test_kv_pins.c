/*
 * Snapshots kept between the pages of a dump (kv/pins.h): found by their index, few, and not for ever.
 */
#include "kv/pins.h"

#include "kv_world.h"

static void put(struct world *world)
{
	(void)world_apply(world, &(struct kv_command){.operation = KV_PUT, .key = (const uint8_t *)"k", .key_size = 1});
}

static void begin(struct world *world, struct kv_pins *pins)
{
	world_begin(world, 1, 1, 0, 0);
	put(world);
	kv_pins_init(pins);
}

static void end(struct world *world, struct kv_pins *pins)
{
	kv_pins_fini(pins);
	world_end(world);
}

/* The entry at this index is the next one. */
static void jump(struct world *world, uint64_t index)
{
	world->index = index - 1;
	put(world);
	assert_int_equal(world->index, index);
}

static void pages_find_the_state_that_the_first_was_of(void **state)
{
	static struct world world;
	struct kv_pins pins;
	const struct kv_snapshot *first, *second;

	(void)state;
	begin(&world, &pins);
	first = kv_pins_take(&pins, world.stores[0]);
	assert_non_null(first);
	assert_ptr_equal(kv_pins_take(&pins, world.stores[0]), first); /* nothing has changed */
	put(&world);
	second = kv_pins_take(&pins, world.stores[0]);
	assert_ptr_not_equal(first, second);
	assert_int_equal(kv_snapshot_applied(first), 1);
	assert_int_equal(kv_snapshot_applied(second), 2);
	put(&world);
	assert_ptr_equal(kv_pins_find(&pins, world.stores[0], 1), first);
	assert_ptr_equal(kv_pins_find(&pins, world.stores[0], 2), second);
	assert_null(kv_pins_find(&pins, world.stores[0], 3));
	assert_null(kv_pins_find(&pins, world.stores[0], 0));
	end(&world, &pins);
}

static void one_too_many_drops_the_one_asked_for_the_longest_ago(void **state)
{
	static struct world world;
	struct kv_pins pins;

	(void)state;
	begin(&world, &pins);
	for (unsigned i = 0; i < KV_PINS_MAX; i++) {
		assert_non_null(kv_pins_take(&pins, world.stores[0]));
		put(&world);
	}
	assert_non_null(kv_pins_find(&pins, world.stores[0], 1));
	assert_non_null(kv_pins_take(&pins, world.stores[0]));
	assert_null(kv_pins_find(&pins, world.stores[0], 2));
	for (unsigned i = 1; i <= KV_PINS_MAX + 1; i++)
		assert_int_equal(kv_pins_find(&pins, world.stores[0], i) != NULL, i != 2);
	end(&world, &pins);
}

static void pin_that_nobody_asks_for_goes(void **state)
{
	static struct world world;
	struct kv_pins pins;

	(void)state;
	begin(&world, &pins);
	assert_non_null(kv_pins_take(&pins, world.stores[0]));
	jump(&world, 1 + KV_PIN_IDLE_ENTRIES_MAX);
	assert_non_null(kv_pins_find(&pins, world.stores[0], 1)); /* counts as asking */
	jump(&world, 1 + 2 * KV_PIN_IDLE_ENTRIES_MAX);
	kv_pins_expire(&pins, world.stores[0]);
	assert_non_null(pins.pins[0].snapshot);
	put(&world);
	kv_pins_expire(&pins, world.stores[0]);
	for (unsigned i = 0; i < KV_PINS_MAX; i++)
		assert_null(pins.pins[i].snapshot);
	assert_null(kv_pins_find(&pins, world.stores[0], 1));
	end(&world, &pins);
}

static void pin_that_is_always_asked_for_goes_at_last(void **state)
{
	static struct world world;
	struct kv_pins pins;
	uint64_t index;

	(void)state;
	begin(&world, &pins);
	assert_non_null(kv_pins_take(&pins, world.stores[0]));
	for (index = 1; index <= 1 + KV_PIN_ENTRIES_MAX; index += KV_PIN_IDLE_ENTRIES_MAX) {
		if (index > 1)
			jump(&world, index);
		assert_non_null(kv_pins_find(&pins, world.stores[0], 1));
	}
	put(&world);
	assert_null(kv_pins_find(&pins, world.stores[0], 1));
	end(&world, &pins);
}

static void stream_is_read_in_pieces_of_any_size_and_again(void **state)
{
	static struct world world;
	static uint8_t whole[65536], piece[65536];
	struct kv_pins pins;
	struct kv_pins others;
	size_t total = 0;
	size_t size = 0;

	(void)state;
	begin(&world, &pins);
	kv_pins_init(&others);
	const struct kv_snapshot *snapshot = kv_pins_take(&pins, world.stores[0]);
	assert_non_null(snapshot);
	assert_non_null(kv_pins_take(&others, world.stores[0]));
	assert_int_equal(kv_pins_read(&others, world.stores[0], 1, 0, whole, sizeof(whole), &total), KV_PINS_OK);
	assert_int_equal(total, kv_snapshot_stream_size(snapshot));
	put(&world); /* changes nothing of it */
	for (size_t step = 1; step < 40; step++) {
		size_t offset = 0;
		do {
			assert_int_equal(kv_pins_read(&pins, world.stores[0], 1, offset, piece, step, &size),
					 KV_PINS_OK);
			assert_memory_equal(piece, whole + offset, size);
			offset += size;
		} while (size == step);
		assert_int_equal(offset, total); /* the next round jumps back */
	}
	assert_int_equal(kv_pins_read(&pins, world.stores[0], 1, 10, piece, 5, &size), KV_PINS_OK);
	assert_memory_equal(piece, whole + 10, 5);
	assert_int_equal(kv_pins_read(&pins, world.stores[0], 1, 30, piece, 5, &size), KV_PINS_OK);
	assert_memory_equal(piece, whole + 30, 5);
	assert_int_equal(kv_pins_read(&pins, world.stores[0], 1, total + 1, piece, 5, &size), KV_PINS_GONE);
	assert_int_equal(kv_pins_read(&pins, world.stores[0], 2, 0, piece, 5, &size), KV_PINS_GONE);
	kv_pins_fini(&others);
	end(&world, &pins);
}

static void far_jump_takes_several_calls(void **state)
{
	static struct world world;
	static uint8_t value[KV_VALUE_SIZE_MAX], piece[65536];
	struct kv_pins pins;
	size_t size = 0;
	const uint64_t offset = 2 * (uint64_t)KV_PIN_SKIP_MAX + 1000;
	int again = 0;
	int r;

	(void)state;
	begin(&world, &pins);
	for (uint8_t k = 0; k < 12; k++)
		(void)world_apply(&world, &(struct kv_command){.operation = KV_PUT,
							       .key = &k,
							       .key_size = 1,
							       .value = value,
							       .value_size = sizeof(value)});
	assert_non_null(kv_pins_take(&pins, world.stores[0]));
	while ((r = kv_pins_read(&pins, world.stores[0], world.index, offset, piece, sizeof(piece), &size)) ==
	       KV_PINS_AGAIN)
		again++;
	assert_int_equal(r, KV_PINS_OK);
	assert_int_equal(size, sizeof(piece));
	assert_int_equal(again, 2);
	end(&world, &pins);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_find_the_state_that_the_first_was_of),
		cmocka_unit_test(one_too_many_drops_the_one_asked_for_the_longest_ago),
		cmocka_unit_test(pin_that_nobody_asks_for_goes),
		cmocka_unit_test(pin_that_is_always_asked_for_goes_at_last),
		cmocka_unit_test(stream_is_read_in_pieces_of_any_size_and_again),
		cmocka_unit_test(far_jump_takes_several_calls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
