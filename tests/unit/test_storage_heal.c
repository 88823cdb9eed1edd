/* Damaged directories whose owner wants them healed: what is set aside, and that a crash in between forgets no promise. */
#include "daemon/storage/snapshot.h"
#include "tests/unit/storage_fixture.h"

#include <errno.h>
#include <stdio.h>

#define ENTRIES 60u

static bool answer_yes(void *arg, const uint8_t *config, uint32_t size, bool in_snapshot)
{
	unsigned *asked = arg;
	(*asked)++;
	assert_true(config || size == 0);
	assert_true(config || !in_snapshot);
	return true;
}

static bool answer_no(void *arg, const uint8_t *config, uint32_t size, bool in_snapshot)
{
	return answer_yes(arg, config, size, in_snapshot) && false;
}

static int setup_log(void **state)
{
	int r = setup(state);
	struct fixture *f = *state;
	for (unsigned k = 0; k < ENTRIES; k++) {
		assert_int_equal(queue(f, 1, 1, 1500), 0);
		drain(f);
	}
	return r;
}

static void damage_file(struct memory_disk *disk, const char *name, uint64_t offset)
{
	uint64_t size = 0;
	uint8_t *bytes = memory_disk_contents(disk, name, &size);
	assert_non_null(bytes);
	assert_true(offset < size);
	bytes[offset] ^= 1;
	memory_disk_settle(disk);
}

static void damage(struct memory_disk *disk, unsigned sequence)
{
	char name[64];
	(void)snprintf(name, sizeof(name), "segment-%016x", sequence);
	damage_file(disk, name, 9000);
}

static bool exists(struct memory_disk *disk, const char *name)
{
	uint64_t size = 0;
	return memory_disk_contents(disk, name, &size) != NULL;
}

static void close_log(struct fixture *f)
{
	f->storage = storage_free(f->storage);
	memory_disk_kill(f->disk);
}

/* Opens a copy of the disk and dies before operation n. Then opens it without healing, which must refuse or find either all
 * (covered) or nothing, never less; and with it, which must succeed. Returns false when n was beyond the last operation. */
static bool interrupt(struct fixture *f, const struct storage_heal *heal, uint64_t n, bool covered)
{
	struct memory_disk *disk = memory_disk_clone(f->disk);
	struct storage *storage = NULL;
	struct storage_state found;
	struct storage_options options = f->options;
	options.heal = heal;
	options.incarnation = 99;
	memory_disk_die_at(disk, n);
	struct disk *handle = memory_disk_open(disk);
	int r = storage_open(handle, &options, &storage, &found, f->message);
	bool died = memory_disk_is_dead(disk);
	if (r == 0)
		storage_free(storage);
	else
		handle->ops->close(handle);
	memory_disk_kill(disk);

	options.heal = NULL;
	options.read_only = true;
	handle = memory_disk_open(disk);
	r = storage_open(handle, &options, &storage, &found, f->message);
	assert_true(r == STORAGE_E_CORRUPT || r == 0);
	if (r == 0 && covered)
		assert_int_equal(found.last_index, ENTRIES);
	else if (r == 0)
		assert_true(found.last_index == 0 && (found.blank || found.incarnation == 99));
	if (r == 0)
		storage_free(storage);
	else
		handle->ops->close(handle);
	memory_disk_kill(disk);

	options.heal = heal;
	options.read_only = false;
	assert_int_equal(storage_open(memory_disk_open(disk), &options, &storage, &found, f->message), 0);
	assert_int_equal(found.last_index, covered ? ENTRIES : 0);
	assert_true(found.incarnation == (covered ? FIXTURE_INCARNATION : 99));
	assert_true(found.aside);
	storage_free(storage);
	memory_disk_free(disk);
	return died;
}

static void what_a_snapshot_covers_is_set_aside(void **state)
{
	struct fixture *f = *state;
	unsigned asked = 0;
	const struct storage_heal heal = {.may_give_up = answer_no, .arg = &asked};
	assert_int_equal(log_fixture_snapshot(f->storage, f->disk, 50, 1), 0);
	close_log(f);
	damage(f->disk, 2);
	uint64_t n = 0;
	while (interrupt(f, &heal, n, true))
		n++;
	assert_true(n > 2);
	f->options.heal = &heal;
	assert_int_equal(open_log(f), 0);
	assert_int_equal(asked, 0);
	assert_true(exists(f->disk, "segment-0000000000000001.damaged-1"));
	assert_true(exists(f->disk, "segment-0000000000000002.damaged-1"));
	assert_true(exists(f->disk, "segment-0000000000000003"));
	assert_non_null(strstr(f->found.healed, "segment-0000000000000002 offset 8"));
	assert_false(f->found.gave_up);
	assert_int_equal(f->found.last_index, ENTRIES);
	assert_int_equal(f->found.snapshot_index, 50);
}

/* Headers of neighbours do not verify: the segment behind the damaged one does not say where it begins. The one behind that does. */
static void what_a_snapshot_covers_is_set_aside_with_more_than_one_header(void **state)
{
	struct fixture *f = *state;
	unsigned asked = 0;
	const struct storage_heal heal = {.may_give_up = answer_no, .arg = &asked};
	assert_int_equal(log_fixture_snapshot(f->storage, f->disk, 50, 1), 0);
	close_log(f);
	damage_file(f->disk, "segment-0000000000000001", 40);
	damage_file(f->disk, "segment-0000000000000002", 40);
	uint64_t n = 0;
	while (interrupt(f, &heal, n, true))
		n++;
	assert_true(n > 2);
	f->options.heal = &heal;
	assert_int_equal(open_log(f), 0);
	assert_int_equal(asked, 0);
	assert_true(exists(f->disk, "segment-0000000000000002.damaged-1"));
	assert_true(exists(f->disk, "segment-0000000000000003"));
	assert_false(f->found.gave_up);
	assert_int_equal(f->found.last_index, ENTRIES);
}

/* … and is the last one: nobody knows what it promised. */
static void rotten_header_of_the_last_segment_is_not_covered(void **state)
{
	struct fixture *f = *state;
	unsigned asked = 0;
	const struct storage_heal heal = {.may_give_up = answer_no, .arg = &asked};
	char name[64];
	assert_int_equal(log_fixture_snapshot(f->storage, f->disk, ENTRIES, 1), 0);
	unsigned segments = (unsigned)stats(f).segments;
	close_log(f);
	for (unsigned k = segments - 1; k <= segments; k++) {
		(void)snprintf(name, sizeof(name), "segment-%016x", k);
		damage_file(f->disk, name, 40);
	}
	f->options.heal = &heal;
	assert_int_equal(open_log(f), STORAGE_E_CORRUPT);
	assert_int_equal(asked, 1);
	assert_true(exists(f->disk, "segment-0000000000000001"));
}

static void everything_else_is_given_up_if_the_owner_agrees(void **state)
{
	struct fixture *f = *state;
	unsigned asked = 0;
	struct storage_heal heal = {.may_give_up = answer_no, .arg = &asked};
	assert_int_equal(log_fixture_snapshot(f->storage, f->disk, 10, 1), 0);
	close_log(f);
	damage(f->disk, 2);
	f->options.heal = &heal;
	assert_int_equal(open_log(f), STORAGE_E_CORRUPT);
	assert_int_equal(asked, 1);
	assert_true(exists(f->disk, "segment-0000000000000001"));
	memory_disk_kill(f->disk);
	heal.may_give_up = answer_yes;
	uint64_t n = 0;
	while (interrupt(f, &heal, n, false))
		n++;
	assert_true(n > 4);
	f->options.incarnation = 99;
	assert_int_equal(open_log(f), 0);
	assert_true(f->found.blank && f->found.gave_up && f->found.aside);
	assert_true(exists(f->disk, "segment-0000000000000001.damaged-1"));
	assert_true(exists(f->disk, "snapshot-000000000000000a.damaged-1"));
	/* And again, under another number. */
	f->model = (struct log_model){.last = 0};
	f->seq = 0;
	for (unsigned k = 0; k < ENTRIES; k++) {
		assert_int_equal(queue(f, 1, 1, 1500), 0);
		drain(f);
	}
	close_log(f);
	damage(f->disk, 1);
	assert_int_equal(open_log(f), 0);
	assert_true(f->found.blank);
	assert_true(exists(f->disk, "segment-0000000000000001.damaged-2"));
}

/* Opens a copy of the disk, whose read number n fails once, and then again. Returns false when n was beyond the last read. */
static bool open_with_bad_read(struct fixture *f, uint64_t n)
{
	struct memory_disk *disk = memory_disk_clone(f->disk);
	struct storage *storage = NULL;
	struct storage_state found;
	int r = -EIO;
	memory_disk_fail_read_at(disk, n);
	for (unsigned starts = 0; r == -EIO && starts < 2; starts++) {
		struct disk *handle = memory_disk_open(disk);
		r = storage_open(handle, &f->options, &storage, &found, f->message);
		assert_true(r == 0 || (r == -EIO && strstr(f->message, strerror(EIO)) != NULL));
		if (r != 0)
			handle->ops->close(handle);
		memory_disk_kill(disk);
	}
	assert_int_equal(r, 0);
	assert_false(found.gave_up);
	assert_int_equal(found.last_index, ENTRIES);
	bool failed = memory_disk_read_failed(disk);
	storage_free(storage);
	memory_disk_free(disk);
	return failed;
}

/* Set aside is what does not verify. What could not be read may be good at the next start, so nothing is given up for it: the
 * start fails, or what is left is whole. */
static void nothing_is_given_up_for_a_read_that_failed(void **state)
{
	struct fixture *f = *state;
	unsigned asked = 0;
	const struct storage_heal heal = {.may_give_up = answer_yes, .arg = &asked};
	assert_int_equal(log_fixture_snapshot(f->storage, f->disk, 40, 1), 0);
	assert_int_equal(log_fixture_snapshot(f->storage, f->disk, 50, 1), 0);
	close_log(f);
	f->options.heal = &heal;
	damage(f->disk, 2);
	uint64_t n = 0;
	while (open_with_bad_read(f, n))
		n++;
	assert_true(n > 8);
	damage_file(f->disk, "snapshot-0000000000000032", 100);
	for (n = 0; open_with_bad_read(f, n);)
		n++;
	assert_int_equal(open_log(f), 0);
	assert_int_equal(f->found.snapshot_index, 40);
	assert_int_equal(asked, 0);
}

static bool answer_no_to_snapshot(void *arg, const uint8_t *config, uint32_t size, bool in_snapshot)
{
	unsigned *asked = arg;
	(*asked)++;
	assert_true(in_snapshot);
	assert_int_equal(size, 3);
	assert_memory_equal(config, "abc", 3);
	return false;
}

/* The segments are gone. What the snapshots say speaks for or against giving them up, if it can be read, also about who may. */
static void snapshots_without_a_log_are_read_before_they_are_given_up(void **state)
{
	struct fixture *f = *state;
	unsigned asked = 0;
	const struct storage_heal heal = {.may_give_up = answer_no_to_snapshot, .arg = &asked};
	const char *name = "snapshot-0000000000000032";
	struct storage_snapshot_begin begin = {
		.index = 50, .term = 1, .config_index = 7, .config = (const uint8_t *)"abc", .config_size = 3};
	uint64_t size = 0;
	assert_int_equal(storage_snapshot_begin(f->storage, &begin), 0);
	assert_int_equal(storage_snapshot_finish(f->storage), 0);
	assert_int_equal(log_fixture_drain(f->storage, f->disk, 1), 0);
	unsigned segments = (unsigned)stats(f).segments;
	close_log(f);
	for (unsigned k = 1; k <= segments; k++) {
		char segment[64];
		(void)snprintf(segment, sizeof(segment), "segment-%016x", k);
		memory_disk_delete(f->disk, segment);
	}
	f->options.heal = &heal;
	assert_int_equal(open_log(f), STORAGE_E_CORRUPT);
	assert_int_equal(asked, 1);
	assert_non_null(strstr(f->message, name));
	memory_disk_kill(f->disk);
	memory_disk_fail_read_at(f->disk, 0);
	assert_int_equal(open_log(f), -EIO);
	memory_disk_kill(f->disk);
	f->options.level_max = 1;
	struct snapshot_header header = {.cluster_id = f->options.cluster_id, .index = 50, .term = 1, .level = 2};
	struct snapshot_chain chain;
	uint8_t *bytes = memory_disk_contents(f->disk, name, &size);
	(void)snapshot_encode_header(&chain, &header, bytes);
	(void)snapshot_encode_footer(&chain, bytes + chain.offset);
	memory_disk_truncate(f->disk, name, chain.offset);
	assert_int_equal(open_log(f), STORAGE_E_VERSION);
	assert_true(exists(f->disk, name));
	assert_int_equal(asked, 1);
}

/* Found while running: the log goes on in a new segment, so that a compaction takes the damaged one away. */
static void the_log_leaves_a_damaged_segment(void **state)
{
	struct fixture *f = *state;
	struct raft_entry entry;
	uint32_t n = 0;
	f->options.cache_bytes_max = 0;
	reopen(f);
	struct storage_stats before;
	struct storage_stats after;
	storage_get_stats(f->storage, &before);
	char name[64];
	(void)snprintf(name, sizeof(name), "segment-%016x", (unsigned)before.segments);
	uint64_t size = 0;
	uint8_t *bytes = memory_disk_contents(f->disk, name, &size);
	assert_non_null(bytes);
	bytes[4096 + 200] ^= 1;
	uint64_t index = ENTRIES;
	while (storage_read(f->storage, index, 1, 1, &entry, &n) == 0)
		index--;
	assert_non_null(strstr(storage_damage(f->storage), name));
	assert_int_equal(log_fixture_drain(f->storage, f->disk, 1), 0);
	storage_get_stats(f->storage, &after);
	assert_int_equal(after.segments, before.segments + 1);
	assert_int_equal(storage_read(f->storage, index, 1, 1, &entry, &n), STORAGE_E_CORRUPT);
	assert_int_equal(log_fixture_drain(f->storage, f->disk, 1), 0);
	storage_get_stats(f->storage, &after);
	assert_int_equal(after.segments, before.segments + 1); /* once is enough */
	assert_int_equal(log_fixture_compact(f->storage, f->disk, ENTRIES, 1), 0);
	assert_int_equal(log_fixture_drain(f->storage, f->disk, 1), 0);
	assert_int_equal(queue(f, 1, 1, 100), 0);
	drain(f);
	reopen(f);
	assert_int_equal(f->found.last_index, ENTRIES + 1);
	assert_int_equal(f->found.base_index, ENTRIES);
}

/* … also if it was found while as many records were under way as may be, none of them with an entry. */
static void a_busy_log_leaves_a_damaged_segment(void **state)
{
	struct fixture *f = *state;
	struct raft_entry entry;
	uint32_t n = 0;
	char name[64];
	f->options.cache_bytes_max = 0;
	reopen(f);
	f->seq = 0;
	assert_int_equal(queue(f, 1, 1, 100), 0);
	drain(f);
	uint64_t segments = stats(f).segments;
	(void)snprintf(name, sizeof(name), "segment-%016x", (unsigned)segments);
	memory_disk_contents(f->disk, name, NULL)[4096 + 200] ^= 1;
	for (unsigned k = 0; k < 2; k++) { /* two votes */
		assert_int_equal(queue(f, 2 + k, 0, 0), 0);
		assert_int_equal(storage_process(f->storage, 1), 0);
	}
	uint64_t index = f->model.last;
	while (storage_read(f->storage, index, 1, 1, &entry, &n) == 0)
		index--;
	assert_non_null(strstr(storage_damage(f->storage), name));
	assert_int_equal(storage_process(f->storage, 1), 0);
	assert_int_equal(stats(f).segments, segments);
	assert_int_equal(log_fixture_drain(f->storage, f->disk, 1), 0);
	assert_int_equal(stats(f).segments, segments + 1);
}

/* … and as soon as there can be one: until then nothing is written for it again and again. */
static void a_full_disk_keeps_the_log_in_a_damaged_segment(void **state)
{
	struct fixture *f = *state;
	struct raft_entry entry;
	struct storage_stats before;
	struct storage_stats after;
	uint32_t n = 0;
	uint64_t size = 0;
	char name[64];
	f->options.cache_bytes_max = 0;
	reopen(f);
	memory_disk_set_capacity(f->disk, 0);
	while (queue(f, 1, 1, 100) == 0) /* uses up what had been prepared */
		drain(f);
	assert_false(storage_has_room(f->storage));
	storage_get_stats(f->storage, &before);
	(void)snprintf(name, sizeof(name), "segment-%016x", (unsigned)before.segments);
	uint8_t *bytes = memory_disk_contents(f->disk, name, &size);
	assert_non_null(bytes);
	bytes[4096 + 200] ^= 1;
	uint64_t index = f->model.last;
	while (storage_read(f->storage, index, 1, 1, &entry, &n) == 0)
		index--;
	for (unsigned k = 0; k < 10; k++) {
		assert_int_equal(storage_read(f->storage, index, 1, 1, &entry, &n), STORAGE_E_CORRUPT);
		assert_int_equal(log_fixture_drain(f->storage, f->disk, 1), 0);
	}
	storage_get_stats(f->storage, &after);
	assert_int_equal(after.segments, before.segments);
	assert_true(after.flushes <= before.flushes + 1);
	memory_disk_set_capacity(f->disk, UINT64_MAX);
	for (unsigned k = 0; k < 2; k++) { /* a full disk is asked again after a while */
		assert_int_equal(storage_process(f->storage, 10000000), 0);
		memory_disk_run_all(f->disk, 1);
	}
	assert_int_equal(storage_process(f->storage, 10000000), 0);
	memory_disk_run_all(f->disk, 1);
	assert_int_equal(storage_process(f->storage, 10000000), 0);
	storage_get_stats(f->storage, &after);
	assert_int_equal(after.segments, before.segments + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_a_snapshot_covers_is_set_aside, setup_log, teardown),
		cmocka_unit_test_setup_teardown(what_a_snapshot_covers_is_set_aside_with_more_than_one_header,
						setup_log, teardown),
		cmocka_unit_test_setup_teardown(rotten_header_of_the_last_segment_is_not_covered, setup_log, teardown),
		cmocka_unit_test_setup_teardown(everything_else_is_given_up_if_the_owner_agrees, setup_log, teardown),
		cmocka_unit_test_setup_teardown(nothing_is_given_up_for_a_read_that_failed, setup_log, teardown),
		cmocka_unit_test_setup_teardown(snapshots_without_a_log_are_read_before_they_are_given_up, setup_log,
						teardown),
		cmocka_unit_test_setup_teardown(the_log_leaves_a_damaged_segment, setup_log, teardown),
		cmocka_unit_test_setup_teardown(a_busy_log_leaves_a_damaged_segment, setup_log, teardown),
		cmocka_unit_test_setup_teardown(a_full_disk_keeps_the_log_in_a_damaged_segment, setup_log, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
