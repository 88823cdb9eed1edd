/*
 * A log that begins anew behind a snapshot; and the record that an idle log gets behind its last entries.
 */
#include "tests/unit/snapshot_fixture.h"

#include <errno.h>
#include <stdio.h>

static int reset(struct fixture *f, uint64_t index, uint64_t term)
{
	struct storage_write write = {.seq = f->seq + 1,
				      .term = f->model.term + 1,
				      .vote = 2,
				      .commit = index,
				      .reset_index = index,
				      .reset_term = term};
	int r = storage_append(f->storage, &write);
	if (r != 0)
		return r;
	f->seq++;
	f->model.term++;
	f->model.vote = 2;
	f->model.base = index;
	f->model.last = index;
	f->model.entries[index].term = term;
	return 0;
}

static void snapshot(struct fixture *f, uint64_t index, uint64_t term)
{
	assert_int_equal(log_fixture_snapshot(f->storage, f->disk, index, term), 0);
}

static void check_base(struct fixture *f, uint64_t index, uint64_t term)
{
	assert_int_equal(f->found.base_index, index);
	assert_int_equal(f->found.base_term, term);
	assert_int_equal(f->found.commit, index);
	assert_int_equal(f->found.snapshot_index, index);
	assert_false(f->found.snapshot_beyond_log);
	check_found(f);
}

static void log_begins_anew_behind_a_snapshot(void **state)
{
	struct fixture *f = *state;
	fill_segments(f, 3);
	uint64_t index = f->model.last + 100;
	snapshot(f, index, 5);
	assert_int_equal(reset(f, index, 5), 0);
	struct raft_entry entry;
	uint32_t n = 0;
	assert_int_equal(storage_read(f->storage, index, 1, 1, &entry, &n), STORAGE_E_COMPACTED);
	assert_int_equal(storage_read(f->storage, index + 1, 1, 1, &entry, &n), -EINVAL);
	drain(f);
	assert_int_equal(stats(f).segments, 1);
	reopen(f);
	check_base(f, index, 5);
	assert_int_equal(queue(f, 6, 20, 400), 0);
	drain(f);
	reopen(f);
	check_base(f, index, 5);
	fill_segments(f, 4);
	reopen(f);
	assert_int_equal(f->found.base_index, index);
	check_found(f);
}

/* In the middle of the old log, whose entries differ from the snapshot's; what was queued and under way is void. */
static void log_begins_anew_within_the_old_one(void **state)
{
	struct fixture *f = *state;
	for (unsigned steps = 0; steps < 6; steps++) {
		uint64_t keep = f->model.last;
		assert_int_equal(queue(f, 9, 40, 300), 0);
		assert_int_equal(storage_process(f->storage, 1), 0);
		snapshot(f, keep + 20, 7 + steps);
		assert_int_equal(queue(f, 10, 5, 300), 0);
		for (unsigned i = 0; i < steps; i++)
			(void)memory_disk_step(f->disk, DISK_LANE_LOG);
		assert_int_equal(storage_process(f->storage, 1), 0);
		assert_int_equal(queue(f, 10, 2, 300), 0);
		assert_int_equal(reset(f, keep + 20, 7 + steps), 0);
		assert_int_equal(queue(f, 11, 3, 300), 0);
		if (steps % 2)
			assert_int_equal(cut_from(f, 12, keep + 23), 0);
		check(f);
		drain(f);
		check(f);
		assert_int_equal(queue(f, 13, 3, 300), 0);
		drain(f);
		reopen(f);
		assert_int_equal(f->found.base_index, keep + 20);
		assert_int_equal(f->found.base_term, 7 + steps);
		check_found(f);
		f->seq = 0;
	}
}

/* Far behind the beginning of the newest segments: none of them is needed for that. */
static void nothing_of_the_old_log_is_kept(void **state)
{
	struct fixture *f = *state;
	fill_segments(f, 4);
	snapshot(f, 3, 9);
	assert_int_equal(reset(f, 3, 9), 0);
	drain(f);
	assert_int_equal(stats(f).segments, 1);
	reopen(f);
	check_base(f, 3, 9);
	snapshot(f, 8, 9);
	f->seq = 0;
	assert_int_equal(queue(f, 10, 1, 10), 0);
	drain(f);
	fill_segments(f, 3);
	assert_int_equal(storage_compact(f->storage, 8, 3), 0);
	drain(f);
	f->model.base = 8;
	check(f);
}

/* The reset is the first thing in a new segment: its header already says so. */
static void reset_while_rolling(void **state)
{
	struct fixture *f = *state;
	for (unsigned steps = 0; steps <= 5; steps++) {
		uint64_t old = 0;
		while (stats(f).flushed_bytes % (SMALL_SEGMENT - 4096) < SMALL_SEGMENT - 4096 - 512 ||
		       stats(f).flushed_bytes == 0) {
			if (stats(f).segments > 1)
				break;
			assert_int_equal(queue(f, 3, 1, 300), 0);
			drain(f);
		}
		old = f->model.last;
		snapshot(f, old + 50, 4);
		struct log_model before = f->model;
		assert_int_equal(reset(f, old + 50, 4), 0);
		assert_int_equal(queue(f, 30, 20, 1000), 0); /* does not fit: a new segment */
		assert_int_equal(storage_process(f->storage, 1), 0);
		assert_int_equal(stats(f).segments, 2);
		for (unsigned i = 0; i < steps; i++)
			(void)memory_disk_step(f->disk, DISK_LANE_LOG);
		assert_int_equal(storage_process(f->storage, 1), 0);
		while (memory_disk_step(f->disk, DISK_LANE_BACKGROUND))
			assert_int_equal(storage_process(f->storage, 1), 0);
		reopen(f);
		assert_int_equal(f->found.snapshot_beyond_log, steps < 3);
		if (steps < 3) { /* the name is the third operation */
			assert_int_equal(f->found.last_index, old);
			assert_int_equal(f->found.base_index, 0);
			f->model = before;
			check(f);
		} else {
			assert_int_equal(f->found.base_index, old + 50);
			assert_int_equal(f->found.base_term, 4);
		}
		f->storage = storage_free(f->storage);
		memory_disk_free(f->disk);
		f->disk = memory_disk_new();
		f->seq = 0;
		f->model = (struct log_model){0};
		assert_int_equal(open_log(f), 0);
	}
}

/* Until the reset is durable a crash leads back to the old log: nothing of it may be recycled. */
static void old_log_stays_until_the_reset_is_durable(void **state)
{
	struct fixture *f = *state;
	fill_segments(f, 3);
	snapshot(f, f->model.last - 2, 3);
	snapshot(f, f->model.last + 10, 4);
	log_fixture_drain(f->storage, f->disk, 1);
	struct log_model before = f->model;
	assert_int_equal(reset(f, f->model.last + 10, 4), 0);
	assert_int_equal(storage_process(f->storage, 1), 0);
	assert_int_equal(storage_compact(f->storage, before.last - 2, 3), 0);
	while (memory_disk_step(f->disk, DISK_LANE_BACKGROUND))
		assert_int_equal(storage_process(f->storage, 1), 0);
	assert_int_equal(stats(f).segments, 3);
	char name[64];
	(void)snprintf(name, sizeof(name), "snapshot-%016llx", (unsigned long long)before.last - 2);
	assert_non_null(memory_disk_contents(f->disk, name, NULL));
	reopen(f);
	f->model = before;
	assert_int_equal(f->found.base_index, 0);
	assert_int_equal(f->found.last_index, before.last);
	assert_true(f->found.snapshot_beyond_log);
	check(f);

	/* What the owner then does. */
	f->seq = 0;
	assert_int_equal(reset(f, f->model.last + 10, 4), 0);
	drain(f);
	assert_int_equal(stats(f).segments, 1);
	assert_null(memory_disk_contents(f->disk, name, NULL)); /* nobody could start from it */
	reopen(f);
	check_base(f, before.last + 10, 4);
}

static void log_that_leads_elsewhere_is_reported(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(queue(f, 3, 20, 10), 0);
	drain(f);
	snapshot(f, 10, 2); /* another term than the entry's */
	reopen(f);
	assert_true(f->found.snapshot_beyond_log);
	snapshot(f, 20, 3);
	reopen(f);
	assert_false(f->found.snapshot_beyond_log);
	snapshot(f, 21, 3);
	reopen(f);
	assert_true(f->found.snapshot_beyond_log);
}

static void impossible_resets_are_refused(void **state)
{
	struct fixture *f = *state;
	uint8_t byte = 0;
	struct raft_entry entry = {.term = 4, .type = RAFT_ENTRY_COMMAND, .size = 1, .data = &byte};
	struct storage_write write = {.seq = 1, .term = 4, .reset_index = 50, .reset_term = 4};
	assert_int_equal(storage_append(f->storage, &write), -EINVAL); /* no snapshot */
	snapshot(f, 50, 4);
	write.reset_term = 5;
	assert_int_equal(storage_append(f->storage, &write), -EINVAL);
	write.reset_term = 4;
	write.entries = &entry;
	write.n_entries = 1;
	write.first_index = 51;
	assert_int_equal(storage_append(f->storage, &write), -EINVAL);
	write.n_entries = 0;
	write.truncate_from = 60;
	assert_int_equal(storage_append(f->storage, &write), -EINVAL);
	write.truncate_from = 0;
	snapshot(f, 60, 4);
	write.reset_index = 60;
	assert_int_equal(storage_append(f->storage, &write), 0);
	write.seq = 2;
	write.reset_index = 50; /* backwards */
	assert_int_equal(storage_append(f->storage, &write), -EINVAL);
}

/* Only what needs it bears the new version. */
static void version_says_what_is_needed(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(queue(f, 3, 1, 100), 0);
	drain(f);
	snapshot(f, 50, 4);
	assert_int_equal(reset(f, 50, 4), 0);
	drain(f);
	assert_int_equal(queue(f, 5, 1, 100), 0);
	drain(f);
	const uint8_t *bytes = memory_disk_contents(f->disk, "segment-0000000000000001", NULL);
	static const uint8_t version[3][4] = {{1, 0, 0, 0}, {2, 0, 1, 0}, {1, 0, 0, 0}};
	assert_memory_equal(bytes + 8, version[0], 4);
	for (unsigned i = 0; i < 3; i++)
		assert_memory_equal(bytes + 4096 + 512 * i + 4, version[i], 4);
}

/* Compaction up to an entry that is committed, but not durable here. */
static void compaction_may_overtake_the_disk(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(queue(f, 3, 5, 100), 0);
	drain(f);
	snapshot(f, 5, 3);
	assert_int_equal(reset(f, 5, 3), 0);
	drain(f);
	reopen(f);
	f->seq = 0;
	snapshot(f, 8, 4);
	assert_int_equal(queue(f, 4, 5, 100), 0);
	assert_int_equal(storage_compact(f->storage, 8, 4), 0);
	drain(f);
	reopen(f);
	assert_int_equal(f->found.last_index, 10);
	assert_int_equal(f->found.base_index, 5);
	check(f);
}

/* The record behind the last entries --------------------------------------------------------------------- */

static void drain_at(struct fixture *f, uint64_t now_us)
{
	assert_int_equal(storage_process(f->storage, now_us), 0);
	while (!memory_disk_is_idle(f->disk)) {
		memory_disk_run_all(f->disk, now_us);
		assert_int_equal(storage_process(f->storage, now_us), 0);
	}
}

static void idle_log_proves_its_last_entries(void **state)
{
	struct fixture *f = *state;
	drain_at(f, 1000);
	assert_int_equal(storage_deadline_us(f->storage), UINT64_MAX);
	assert_int_equal(queue(f, 3, 2, 100), 0);
	drain_at(f, 1000);
	assert_int_equal(stats(f).flushes, 1);
	assert_int_equal(storage_deadline_us(f->storage), 101000);
	assert_int_equal(queue(f, 3, 2, 100), 0); /* not idle */
	drain_at(f, 60000);
	assert_int_equal(storage_deadline_us(f->storage), 160000);
	drain_at(f, 159999);
	assert_int_equal(stats(f).flushes, 2);
	drain_at(f, 160000);
	assert_int_equal(stats(f).flushes, 3);
	assert_int_equal(storage_deadline_us(f->storage), UINT64_MAX);
	drain_at(f, 900000); /* once is enough */
	assert_int_equal(stats(f).flushes, 3);
	reopen(f);
	check_found(f);
	assert_int_equal(storage_deadline_us(f->storage), UINT64_MAX);
	f->storage = storage_free(f->storage);
	memory_disk_contents(f->disk, "segment-0000000000000001", NULL)[4096 + 512 + 200] ^= 1;
	assert_int_equal(open_log(f), STORAGE_E_CORRUPT); /* and not a torn tail */
}

static void log_found_with_entries_at_its_end_is_proved(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(queue(f, 3, 2, 100), 0);
	drain(f);
	reopen(f);
	assert_int_equal(storage_deadline_us(f->storage), 100000);
	drain_at(f, 5000000);
	assert_int_equal(stats(f).flushes, 1);
	assert_int_equal(storage_deadline_us(f->storage), UINT64_MAX);
	reopen(f);
	assert_int_equal(storage_deadline_us(f->storage), UINT64_MAX);
	check_found(f);
}

/* Nothing but the reset says how far the log had come: rot in it is no torn tail either. */
static void idle_log_proves_its_reset(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(queue(f, 3, 5, 10), 0);
	drain_at(f, 1000);
	snapshot(f, 50, 4);
	assert_int_equal(reset(f, 50, 4), 0);
	drain_at(f, 1000);
	assert_int_equal(storage_deadline_us(f->storage), 101000);
	reopen(f); /* and so it is if that came too late */
	check_base(f, 50, 4);
	assert_int_equal(storage_deadline_us(f->storage), 100000);
	drain_at(f, 5000000);
	assert_int_equal(stats(f).flushes, 1);
	assert_int_equal(storage_deadline_us(f->storage), UINT64_MAX);
	reopen(f);
	check_base(f, 50, 4);
	assert_int_equal(storage_deadline_us(f->storage), UINT64_MAX);
	f->storage = storage_free(f->storage);
	memory_disk_contents(f->disk, "segment-0000000000000001", NULL)[4096 + 512 + 20] ^= 1;
	assert_int_equal(open_log(f), STORAGE_E_CORRUPT);
}

/* The log's last record is cut like a torn one. It was a reset, or it was not: what a snapshot behind the log's end holds may have been
 * acknowledged, and if that snapshot is no good the member does not go on without it. */
static void snapshot_behind_the_end_is_not_passed_over(void **state)
{
	struct fixture *f = *state;
	const char *name = "snapshot-0000000000000032";
	assert_int_equal(queue(f, 3, 5, 10), 0);
	drain(f);
	snapshot(f, 4, 3);
	snapshot(f, 50, 4);
	assert_int_equal(reset(f, 50, 4), 0);
	drain(f);
	f->storage = storage_free(f->storage);
	memory_disk_contents(f->disk, "segment-0000000000000001", NULL)[4096 + 512 + 20] ^= 1;
	memory_disk_settle(f->disk);
	bool failed = true;
	for (uint64_t n = 0; failed; n++) { /* one that cannot be read now may be at the next start */
		struct memory_disk *whole = memory_disk_clone(f->disk);
		memory_disk_fail_read_at(f->disk, n);
		int r = open_log(f);
		failed = memory_disk_read_failed(f->disk);
		assert_true(r == 0 || (failed && r == -EIO));
		if (r == 0) {
			assert_int_equal(f->found.snapshot_index, 50);
			assert_true(f->found.snapshot_beyond_log);
		}
		f->storage = r == 0 ? storage_free(f->storage) : NULL;
		memory_disk_free(f->disk);
		f->disk = whole;
	}
	memory_disk_contents(f->disk, name, NULL)[70] ^= 1;
	assert_int_equal(open_log(f), STORAGE_E_CORRUPT);
	assert_ptr_equal(strstr(f->message, name), f->message);
}

/* A full segment is not followed by another for this alone. */
static void no_segment_is_begun_for_a_proof(void **state)
{
	struct fixture *f = *state;
	while (stats(f).flushed_bytes < SMALL_SEGMENT - 4096) {
		assert_int_equal(queue(f, 3, 1, 300), 0);
		drain_at(f, 1000);
	}
	drain_at(f, 500000);
	assert_int_equal(stats(f).segments, 1);
	assert_int_equal(storage_deadline_us(f->storage), UINT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(log_begins_anew_behind_a_snapshot),
		TEST(log_begins_anew_within_the_old_one),
		TEST(nothing_of_the_old_log_is_kept),
		TEST(reset_while_rolling),
		TEST(old_log_stays_until_the_reset_is_durable),
		TEST(log_that_leads_elsewhere_is_reported),
		TEST(impossible_resets_are_refused),
		TEST(version_says_what_is_needed),
		TEST(compaction_may_overtake_the_disk),
		TEST(idle_log_proves_its_last_entries),
		TEST(log_found_with_entries_at_its_end_is_proved),
		TEST(idle_log_proves_its_reset),
		TEST(snapshot_behind_the_end_is_not_passed_over),
		TEST(no_segment_is_begun_for_a_proof),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
