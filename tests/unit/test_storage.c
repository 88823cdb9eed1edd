/*
 * The log over a disk in memory that does what it is told: appending, replacing, rolling, reading back, compaction, a
 * full disk, a failing one.
 */
#include "tests/unit/storage_fixture.h"

#include <errno.h>

/* Appending -------------------------------------------------------------------------------------------- */

static void blank_directory_becomes_an_empty_log(void **state)
{
	struct fixture *f = *state;
	assert_true(f->found.blank);
	assert_int_equal(f->found.last_index, 0);
	assert_int_equal(f->found.incarnation, FIXTURE_INCARNATION);
	f->options.incarnation = 99; /* only for a blank directory */
	reopen(f);
	assert_false(f->found.blank);
	assert_int_equal(f->found.incarnation, FIXTURE_INCARNATION);
	assert_int_equal(f->found.term, 0);
}

static void nothing_is_durable_before_its_sync(void **state)
{
	struct fixture *f = *state;
	log_fixture_drain(f->storage, f->disk, 1);
	assert_int_equal(queue(f, 1, 3, 100), 0);
	assert_int_equal(storage_process(f->storage, 1), 0);
	assert_int_equal(storage_durable_seq(f->storage), 0);
	assert_true(memory_disk_step(f->disk, DISK_LANE_LOG)); /* written … */
	assert_int_equal(storage_process(f->storage, 1), 0);
	assert_int_equal(storage_durable_seq(f->storage), 0);
	assert_true(storage_oldest_write_age_us(f->storage) > 0);
	assert_true(memory_disk_step(f->disk, DISK_LANE_LOG)); /* … and synced */
	assert_int_equal(storage_process(f->storage, 1), 0);
	assert_int_equal(storage_durable_seq(f->storage), 1);
	assert_int_equal(storage_oldest_write_age_us(f->storage), 0);
	assert_int_equal(stats(f).queued_bytes, 0);
}

static void entries_come_back_after_reopening(void **state)
{
	struct fixture *f = *state;
	static const uint32_t sizes[] = {0, 1, 7, 8, 9, 300, 5000};
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		assert_int_equal(queue(f, 1 + i, 3, sizes[i]), 0);
	drain(f);
	check(f);
	reopen(f);
	check_found(f);
}

static void hard_state_alone_is_durable(void **state)
{
	struct fixture *f = *state;
	struct log_write write = {.seq = 1, .term = 7, .vote = 5};
	assert_int_equal(log_fixture_append(f->storage, &f->model, &write), 0);
	f->seq = 1;
	drain(f);
	reopen(f);
	assert_int_equal(f->found.term, 7);
	assert_int_equal(f->found.vote, 5);
	assert_int_equal(f->found.last_index, 0);
}

static void commit_hint_is_kept_within_the_log(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(queue(f, 1, 5, 10), 0);
	struct storage_write write = {.seq = ++f->seq, .term = 1, .vote = 1, .commit = 4};
	assert_int_equal(storage_append(f->storage, &write), 0);
	drain(f);
	reopen(f);
	assert_int_equal(f->found.commit, 4);
	write = (struct storage_write){.seq = ++f->seq, .term = 1, .vote = 1, .commit = 1000};
	assert_int_equal(storage_append(f->storage, &write), 0);
	assert_int_equal(log_fixture_drain(f->storage, f->disk, 1), 0);
	reopen(f);
	assert_int_equal(f->found.commit, 5);
}

static void impossible_writes_are_refused(void **state)
{
	struct fixture *f = *state;
	uint8_t byte = 0;
	struct raft_entry entry = {.term = 1, .type = RAFT_ENTRY_COMMAND, .size = 1, .data = &byte};
	assert_int_equal(queue(f, 1, 3, 10), 0);
	struct storage_write write = {.seq = 2, .term = 1, .first_index = 5, .entries = &entry, .n_entries = 1};
	assert_int_equal(storage_append(f->storage, &write), -EINVAL); /* a gap */
	write.first_index = 0;
	assert_int_equal(storage_append(f->storage, &write), -EINVAL);
	write.first_index = 3;
	write.truncate_from = 2; /* would leave a gap */
	assert_int_equal(storage_append(f->storage, &write), -EINVAL);
	write.first_index = 4;
	write.truncate_from = 0;
	entry.size = RAFT_ENTRY_SIZE_MAX + 1;
	assert_int_equal(storage_append(f->storage, &write), -EINVAL);
	entry.size = 1;
	entry.term = 0;
	assert_int_equal(storage_append(f->storage, &write), -EINVAL);
	drain(f);
	check(f);
}

static void writes_that_pile_up_share_one_flush(void **state)
{
	struct fixture *f = *state;
	log_fixture_drain(f->storage, f->disk, 1);
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(queue(f, 1, 1, 100), 0);
		assert_int_equal(storage_process(f->storage, 1), 0); /* the first two go at once, 48 gather */
	}
	drain(f);
	assert_int_equal(stats(f).flushes, 3);
	assert_int_equal(stats(f).flushed_entries, 50);
	reopen(f);
	check_found(f);
}

static void large_writes_are_split_into_records(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(queue(f, 1, 40, 5000), 0); /* 200 kB, a record is at most 28 kB here */
	drain(f);
	check(f);
	assert_true(stats(f).segments > 5);
	reopen(f);
	check_found(f);
}

static void largest_entry_goes_through_a_real_segment(void **state)
{
	struct fixture *f = *state;
	storage_free(f->storage);
	memory_disk_free(f->disk);
	f->disk = memory_disk_new();
	f->options.segment_size = STORAGE_SEGMENT_SIZE_MIN;
	f->options.cache_bytes_max = 0;
	assert_int_equal(open_log(f), 0);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(queue(f, 1, 1, RAFT_ENTRY_SIZE_MAX), 0);
	drain(f);
	check(f);
	assert_int_equal(stats(f).cache_bytes, 0);
	reopen(f);
	check_found(f);
}

/* Replacing -------------------------------------------------------------------------------------------- */

static void replacing_a_durable_suffix_survives_reopening(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(queue(f, 1, 20, 100), 0);
	drain(f);
	assert_int_equal(queue_at(f, 2, 11, 3, 50), 0);
	drain(f);
	check(f);
	reopen(f);
	check_found(f);
	assert_int_equal(queue(f, 2, 3, 50), 0);
	drain(f);
	reopen(f);
	check_found(f);
}

static void cutting_without_entries_is_durable(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(queue(f, 1, 20, 100), 0);
	drain(f);
	assert_int_equal(cut_from(f, 2, 6), 0);
	drain(f);
	reopen(f);
	check_found(f);
	assert_int_equal(f->found.last_index, 5);
}

/* Every state that the replaced entries can be in: queued, on their way, durable. */
static void replacing_in_the_middle_of_the_queue_is_resolved(void **state)
{
	struct fixture *f = *state;
	for (unsigned steps = 0; steps < 8; steps++) {
		for (unsigned i = 0; i < 4; i++) {
			assert_int_equal(queue(f, 2 * steps + 1, 5, 100), 0);
			assert_int_equal(storage_process(f->storage, 1), 0);
		}
		for (unsigned i = 0; i < steps; i++)
			(void)memory_disk_step(f->disk, DISK_LANE_LOG);
		assert_int_equal(queue_at(f, 2 * steps + 2, f->model.last - 8, 2, 30), 0);
		assert_int_equal(queue(f, 2 * steps + 2, 1, 40), 0);
		assert_int_equal(cut_from(f, 2 * steps + 2, f->model.last - 9), 0);
		assert_int_equal(queue(f, 2 * steps + 2, 1, 41), 0);
		check(f);
		drain(f);
		check(f);
		reopen(f);
		f->seq = 0;
		check_found(f);
	}
}

static void a_cut_is_never_reported_before_it_is_durable(void **state)
{
	struct fixture *f = *state;
	log_fixture_drain(f->storage, f->disk, 1);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(queue(f, 1, 2, 100), 0);
		assert_int_equal(storage_process(f->storage, 1), 0);
	}
	assert_int_equal(queue_at(f, 2, 2, 1, 10), 0); /* seq 4 replaces what 1, 2 and 3 wrote */
	for (unsigned i = 0; i < 4; i++)
		assert_true(memory_disk_step(f->disk, DISK_LANE_LOG));
	assert_int_equal(storage_process(f->storage, 1), 0);
	assert_int_equal(storage_durable_seq(f->storage), 2); /* 3 only comes with 4 */
	assert_true(memory_disk_step(f->disk, DISK_LANE_LOG));
	assert_int_equal(storage_process(f->storage, 1), 0);
	assert_int_equal(storage_durable_seq(f->storage), 2);
	drain(f);
}

/* Reading ---------------------------------------------------------------------------------------------- */

static void entries_are_read_back_from_the_disk(void **state)
{
	struct fixture *f = *state;
	f->options.cache_bytes_max = 2000;
	reopen(f);
	for (unsigned i = 0; i < 60; i++) {
		assert_int_equal(queue(f, 1 + i / 10, 1 + i % 5, 100 + i), 0);
		if (i % 9 == 8)
			assert_int_equal(queue_at(f, 1 + i / 10, f->model.last - 3, 2, 60), 0);
		drain(f);
	}
	assert_true(stats(f).cache_bytes <= 2000);
	int error = 0;
	for (uint32_t chunk = 1; chunk < 200; chunk = chunk * 2 + 1)
		assert_int_equal(log_fixture_compare(f->storage, &f->model, 1, f->model.last, chunk, &error), 0);
	for (uint64_t first = 1; first <= f->model.last; first++)
		assert_int_equal(log_fixture_compare(f->storage, &f->model, first, first, 1, &error), 0);
	reopen(f);
	check_found(f);
	assert_true(stats(f).cache_bytes <= 2000);
}

static void entries_that_are_not_durable_stay_in_memory(void **state)
{
	struct fixture *f = *state;
	f->options.cache_bytes_max = 0;
	reopen(f);
	assert_int_equal(queue(f, 1, 10, 100), 0);
	assert_int_equal(storage_process(f->storage, 1), 0); /* handed to the disk, which does nothing */
	assert_int_equal(storage_process(f->storage, 1), 0);
	check(f);
	drain(f);
	assert_int_equal(stats(f).cache_bytes, 0);
	check(f);
}

static void writes_end_with_the_page(void **state)
{
	struct fixture *f = *state;
	uint8_t *bytes = memory_disk_contents(f->disk, "segment-0000000000000001", NULL);
	memset(bytes + 4096, 0xff, SMALL_SEGMENT - 4096);
	assert_int_equal(queue(f, 1, 1, 10), 0);
	drain(f);
	for (size_t i = 4096 + 512; i < 8192; i++)
		assert_int_equal(bytes[i], 0);
	assert_int_equal(bytes[8192], 0xff);
}

static void reading_keeps_to_its_limits(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(queue(f, 1, 20, 100), 0);
	drain(f);
	for (unsigned where = 0; where < 2; where++) {
		struct raft_entry entries[20];
		uint32_t n = 0;
		assert_int_equal(storage_read(f->storage, 1, 20, 350, entries, &n), 0);
		assert_int_equal(n, 3);
		assert_int_equal(storage_read(f->storage, 1, 20, 0, entries, &n), 0);
		assert_int_equal(n, 1); /* one always fits */
		assert_int_equal(storage_read(f->storage, 18, 2, UINT64_MAX, entries, &n), 0);
		assert_int_equal(n, 2);
		assert_int_equal(storage_read(f->storage, 0, 20, 350, entries, &n), STORAGE_E_COMPACTED);
		assert_int_equal(storage_read(f->storage, 21, 20, 350, entries, &n), -EINVAL);
		f->options.cache_bytes_max = 0; /* the second time from the disk */
		reopen(f);
	}
}

static void damage_is_noticed_when_an_entry_is_read_back(void **state)
{
	struct fixture *f = *state;
	f->options.cache_bytes_max = 0;
	reopen(f);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(queue(f, 1, 10, 100), 0);
		drain(f);
	}
	memory_disk_contents(f->disk, "segment-0000000000000001", NULL)[4096 + 300] ^= 1;
	int error = 0;
	assert_int_equal(log_fixture_compare(f->storage, &f->model, 3, 3, 1, &error), 3);
	assert_int_equal(error, STORAGE_E_CORRUPT);
}

/* Segments --------------------------------------------------------------------------------------------- */

static void log_runs_through_many_segments(void **state)
{
	struct fixture *f = *state;
	fill_segments(f, 6);
	check(f);
	reopen(f);
	check_found(f);
	assert_int_equal(stats(f).segments, 6);
}

static void compaction_recycles_whole_segments(void **state)
{
	struct fixture *f = *state;
	fill_segments(f, 6);
	uint64_t index = f->model.last - 1;
	assert_int_equal(storage_compact(f->storage, index, 3), -EINVAL); /* no snapshot */
	assert_int_equal(log_fixture_snapshot(f->storage, f->disk, index, 3), 0);
	assert_int_equal(storage_compact(f->storage, index + 1, 3), -EINVAL); /* it does not reach so far */
	assert_int_equal(storage_compact(f->storage, index, 2), -EINVAL);     /* not its term */
	assert_int_equal(storage_compact(f->storage, index, 3), 0);
	drain(f);
	assert_int_equal(stats(f).segments, 1);
	struct raft_entry entry;
	uint32_t n = 0;
	assert_int_equal(storage_read(f->storage, index, 1, 1, &entry, &n), STORAGE_E_COMPACTED);
	f->model.base = index;
	check(f);

	/* The bytes that recycled files hold from before are never mistaken for the log's. */
	fill_segments(f, 4);
	check(f);
	assert_true(stats(f).disk_bytes <= 8 * SMALL_SEGMENT);
	reopen(f);
	assert_true(f->found.base_index <= index);
	assert_true(f->found.base_index > 0);
	assert_int_equal(f->found.base_term, 3);
	assert_int_equal(f->found.last_index, f->model.last);
	check(f);
}

static void compaction_bounds_the_disk(void **state)
{
	struct fixture *f = *state;
	uint64_t most = 0;
	for (unsigned round = 0; round < 20; round++) {
		fill_segments(f, stats(f).segments + 1);
		assert_int_equal(log_fixture_compact(f->storage, f->disk, f->model.last, 3), 0);
		drain(f);
		most = stats(f).disk_bytes > most ? stats(f).disk_bytes : most;
	}
	assert_true(most <= 5 * SMALL_SEGMENT);
	f->model.base = f->model.last;
	assert_int_equal(queue(f, 3, 2, 10), 0);
	drain(f);
	check(f);
	reopen(f);
	check(f);
}

/* A later segment may have cut entries of an earlier one: when that is recycled, nothing may be missing. */
static void compaction_after_a_cut_across_segments_loses_nothing(void **state)
{
	struct fixture *f = *state;
	fill_segments(f, 2);
	uint64_t boundary = f->model.last;
	assert_int_equal(queue_at(f, 4, boundary - 12, 30, 100), 0);
	drain(f);
	assert_int_equal(stats(f).segments, 2);
	assert_int_equal(log_fixture_compact(f->storage, f->disk, boundary + 2, 4), 0);
	drain(f);
	assert_int_equal(stats(f).segments, 1);
	f->model.base = boundary + 2;
	check(f);
	reopen(f);
	assert_int_equal(f->found.base_index, boundary - 13);
	assert_int_equal(f->found.base_term, 3);
	assert_int_equal(f->found.last_index, f->model.last);
	check(f);
}

/* Queues what will not fit into the newest segment any more, and a cut in front of it. */
static void begin_rolling(struct fixture *f)
{
	fill_segments(f, 1);
	while (stats(f).flushed_bytes < SMALL_SEGMENT - 4096 - 3000) {
		assert_int_equal(queue(f, 3, 1, 400), 0);
		drain(f);
	}
	assert_int_equal(stats(f).segments, 1);
	assert_int_equal(queue_at(f, 8, f->model.last - 1, 10, 400), 0);
	assert_int_equal(storage_process(f->storage, 1), 0);
	assert_int_equal(stats(f).segments, 2);
}

static void segment_is_kept_until_the_next_one_has_its_name(void **state)
{
	struct fixture *f = *state;
	begin_rolling(f);
	uint64_t last = f->model.last - 10;
	assert_int_equal(log_fixture_compact(f->storage, f->disk, last, 3), 0);
	while (memory_disk_step(f->disk, DISK_LANE_BACKGROUND))
		;
	reopen(f); /* the process died before anything of the new segment was written */
	assert_false(f->found.blank);
	assert_int_equal(f->found.last_index, last + 2);
	assert_int_equal(f->found.term, 3);
}

/* The header tells of the cut and of the hard state: the segment before it may be gone when the first record comes. */
static void header_alone_carries_hard_state_and_cut(void **state)
{
	struct fixture *f = *state;
	begin_rolling(f);
	uint64_t last = f->model.last - 10;
	for (unsigned i = 0; i < 4; i++)
		assert_true(memory_disk_step(f->disk, DISK_LANE_LOG));
	assert_int_equal(storage_process(f->storage, 1), 0);
	assert_int_equal(log_fixture_compact(f->storage, f->disk, last, 3), 0);
	while (memory_disk_step(f->disk, DISK_LANE_BACKGROUND))
		;
	assert_null(memory_disk_contents(f->disk, "segment-0000000000000001", NULL));
	reopen(f);
	assert_int_equal(f->found.base_index, last);
	assert_int_equal(f->found.base_term, 3);
	assert_int_equal(f->found.last_index, last);
	assert_int_equal(f->found.term, 8);
	assert_int_equal(f->found.vote, 1);
}

static void header_alone_cuts_the_segments_before_it(void **state)
{
	struct fixture *f = *state;
	begin_rolling(f);
	for (unsigned i = 0; i < 4; i++)
		assert_true(memory_disk_step(f->disk, DISK_LANE_LOG));
	reopen(f);
	assert_int_equal(f->found.last_index, f->model.last - 10);
	f->model.last -= 10;
	check(f);
}

static void segment_size_may_change(void **state)
{
	struct fixture *f = *state;
	fill_segments(f, 2);
	f->options.segment_size = 2 * SMALL_SEGMENT;
	reopen(f);
	check_found(f);
	fill_segments(f, 4);
	reopen(f);
	check_found(f);
	assert_int_equal(log_fixture_compact(f->storage, f->disk, f->model.last, 3), 0);
	assert_int_equal(log_fixture_drain(f->storage, f->disk, 1), 0);
	f->model.base = f->model.last;
	assert_int_equal(stats(f).segments, 1);
	reopen(f);
	assert_int_equal(f->found.last_index, f->model.last);
}

/* A full disk ------------------------------------------------------------------------------------------ */

static void full_disk_refuses_entries_keeps_votes_and_recovers(void **state)
{
	struct fixture *f = *state;
	log_fixture_drain(f->storage, f->disk, 1);
	fill_segments(f, 2);
	memory_disk_set_capacity(f->disk, 3 * SMALL_SEGMENT);
	int r = 0;
	while ((r = queue(f, 3, 1, 400)) == 0)
		drain(f);
	assert_int_equal(r, STORAGE_E_FULL);
	assert_false(storage_has_room(f->storage));
	check(f);
	assert_int_equal(cut_from(f, 9, 0), 0); /* a term without entries: the reserve */
	drain(f);
	uint64_t deadline = storage_deadline_us(f->storage);
	assert_true(deadline != UINT64_MAX);

	/* Not before the deadline, and then by itself. */
	memory_disk_set_capacity(f->disk, UINT64_MAX);
	assert_int_equal(log_fixture_drain(f->storage, f->disk, 1), 0);
	assert_false(storage_has_room(f->storage));
	assert_int_equal(storage_process(f->storage, deadline), 0);
	assert_int_equal(storage_deadline_us(f->storage), UINT64_MAX);
	assert_int_equal(log_fixture_drain(f->storage, f->disk, 1), 0);
	assert_true(storage_has_room(f->storage));
	assert_int_equal(queue(f, 9, 30, 400), 0);
	drain(f);
	reopen(f);
	check_found(f);
}

static void full_disk_recovers_through_compaction(void **state)
{
	struct fixture *f = *state;
	fill_segments(f, 2);
	memory_disk_set_capacity(f->disk, 3 * SMALL_SEGMENT + 4096); /* a snapshot has room */
	while (queue(f, 3, 1, 400) == 0)
		drain(f);
	assert_false(storage_has_room(f->storage));
	assert_int_equal(log_fixture_compact(f->storage, f->disk, f->model.last, 3), 0);
	assert_int_equal(log_fixture_drain(f->storage, f->disk, 1), 0);
	assert_true(storage_has_room(f->storage));
	assert_int_equal(queue(f, 3, 1, 400), 0);
}

static void what_was_queued_before_the_disk_was_full_is_written_in_time(void **state)
{
	struct fixture *f = *state;
	log_fixture_drain(f->storage, f->disk, 1);
	memory_disk_set_capacity(f->disk, 2 * SMALL_SEGMENT);
	for (unsigned i = 0; i < 40; i++)
		assert_int_equal(queue(f, 1, 5, 400), 0); /* more than two segments */
	assert_int_equal(log_fixture_drain(f->storage, f->disk, 1), 0);
	assert_true(storage_durable_seq(f->storage) > 0);
	assert_true(storage_durable_seq(f->storage) < f->seq);
	assert_int_equal(queue(f, 1, 1, 400), STORAGE_E_FULL);
	memory_disk_set_capacity(f->disk, UINT64_MAX);
	for (uint64_t at = storage_deadline_us(f->storage); at != UINT64_MAX; at = storage_deadline_us(f->storage)) {
		assert_int_equal(storage_process(f->storage, at), 0);
		memory_disk_run_all(f->disk, at);
		assert_int_equal(storage_process(f->storage, at), 0);
		if (storage_durable_seq(f->storage) == f->seq)
			break;
	}
	drain(f);
	reopen(f);
	check_found(f);
}

static void blank_directory_on_a_full_disk_is_refused(void **state)
{
	struct fixture *f = *state;
	struct memory_disk *full = memory_disk_new();
	memory_disk_set_capacity(full, SMALL_SEGMENT - 1);
	struct storage *storage = NULL;
	struct storage_state found;
	assert_int_equal(storage_open(memory_disk_open(full), &f->options, &storage, &found, f->message),
			 STORAGE_E_FULL);
	assert_non_null(strstr(f->message, "no room"));
	assert_null(storage);
	memory_disk_free(full);
}

/* A failing disk --------------------------------------------------------------------------------------- */

static void failed_sync_is_final(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(queue(f, 1, 1, 100), 0);
	drain(f);
	memory_disk_fail_sync(f->disk);
	assert_int_equal(queue(f, 1, 1, 100), 0);
	assert_int_equal(storage_process(f->storage, 1), 0);
	assert_int_equal(queue(f, 1, 1, 100), 0);
	assert_int_equal(storage_process(f->storage, 1), 0);
	memory_disk_run_all(f->disk, 1);
	uint64_t operations = memory_disk_operations(f->disk);
	assert_int_equal(storage_process(f->storage, 1), -EIO);
	assert_int_equal(storage_process(f->storage, 1), -EIO);
	assert_int_equal(queue(f, 1, 1, 100), -EIO);
	memory_disk_run_all(f->disk, 1);
	assert_int_equal(memory_disk_operations(f->disk), operations); /* nothing was tried again */
	assert_int_equal(storage_durable_seq(f->storage), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(blank_directory_becomes_an_empty_log),
		TEST(nothing_is_durable_before_its_sync),
		TEST(entries_come_back_after_reopening),
		TEST(hard_state_alone_is_durable),
		TEST(commit_hint_is_kept_within_the_log),
		TEST(impossible_writes_are_refused),
		TEST(writes_that_pile_up_share_one_flush),
		TEST(large_writes_are_split_into_records),
		TEST(largest_entry_goes_through_a_real_segment),
		TEST(replacing_a_durable_suffix_survives_reopening),
		TEST(cutting_without_entries_is_durable),
		TEST(replacing_in_the_middle_of_the_queue_is_resolved),
		TEST(a_cut_is_never_reported_before_it_is_durable),
		TEST(entries_are_read_back_from_the_disk),
		TEST(entries_that_are_not_durable_stay_in_memory),
		TEST(writes_end_with_the_page),
		TEST(reading_keeps_to_its_limits),
		TEST(damage_is_noticed_when_an_entry_is_read_back),
		TEST(log_runs_through_many_segments),
		TEST(compaction_recycles_whole_segments),
		TEST(compaction_bounds_the_disk),
		TEST(compaction_after_a_cut_across_segments_loses_nothing),
		TEST(segment_is_kept_until_the_next_one_has_its_name),
		TEST(header_alone_carries_hard_state_and_cut),
		TEST(header_alone_cuts_the_segments_before_it),
		TEST(segment_size_may_change),
		TEST(full_disk_refuses_entries_keeps_votes_and_recovers),
		TEST(full_disk_recovers_through_compaction),
		TEST(what_was_queued_before_the_disk_was_full_is_written_in_time),
		TEST(blank_directory_on_a_full_disk_is_refused),
		TEST(failed_sync_is_final),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
