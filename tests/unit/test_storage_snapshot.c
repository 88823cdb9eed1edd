/*
 * Snapshots on a disk in memory: writing, reading, keeping, and what happens when the disk is full or fails.
 */
#include "tests/unit/snapshot_fixture.h"

#include <errno.h>
#include <stdio.h>

/* Writing ------------------------------------------------------------------------------------------------ */

static void written_snapshot_is_read_back(void **state)
{
	struct fixture *f = *state;
	static const size_t sizes[] = {0,  1, SNAPSHOT_PAYLOAD_MAX - 1, SNAPSHOT_PAYLOAD_MAX, SNAPSHOT_PAYLOAD_MAX + 1,
				       BIG};
	fill_segments(f, 1);
	for (unsigned i = 0; i < 6; i++) {
		uint64_t index = 10 + i;
		assert_int_equal(write_snapshot(f, index, sizes[i]), 0);
		assert_int_equal(newest_snapshot(f->storage), index);
		assert_int_equal(snapshot_compare(f->storage, index, sizes[i]), 0);
		reopen(f);
		assert_int_equal(f->found.snapshot_index, index);
		assert_int_equal(f->found.snapshot_term, 3);
		assert_int_equal(snapshot_compare(f->storage, index, sizes[i]), 0);
	}
}

/* The file is exactly what the format says it is: another member could have written it. */
static void file_does_not_tell_who_wrote_it(void **state)
{
	struct fixture *f = *state;
	size_t size = 0;
	uint64_t size_here = 0;
	uint8_t *file = snapshot_file(9, 3, BIG, SNAPSHOT_PAYLOAD_MAX, &size);
	fill_segments(f, 1);
	assert_int_equal(write_snapshot(f, 9, BIG), 0);
	const uint8_t *here = memory_disk_contents(f->disk, "snapshot-0000000000000009", &size_here);
	assert_int_equal(size_here, size);
	assert_memory_equal(here, file, size);
	free(file);
}

static void nothing_counts_before_the_directory_is_synced(void **state)
{
	struct fixture *f = *state;
	fill_segments(f, 2);
	log_fixture_drain(f->storage, f->disk, 1);
	assert_int_equal(begin_snapshot(f, 5, 3), 0);
	assert_int_equal(written(f->storage).phase, STORAGE_SNAPSHOT_WRITING);
	assert_int_equal(storage_snapshot_finish(f->storage), 0);
	assert_int_equal(written(f->storage).phase, STORAGE_SNAPSHOT_FINISHING);
	/* Header, footer, sync, rename, directory. */
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(newest_snapshot(f->storage), 0);
		assert_int_equal(storage_compact(f->storage, 5, 3), -EINVAL);
		assert_true(work_background(f));
	}
	assert_int_equal(newest_snapshot(f->storage), 5);
	assert_int_equal(written(f->storage).phase, STORAGE_SNAPSHOT_IDLE);
	assert_int_equal(storage_compact(f->storage, 5, 3), 0);
}

static void memory_is_bounded_while_the_disk_is_behind(void **state)
{
	struct fixture *f = *state;
	uint8_t *payload = snapshot_payload(5, BIG);
	size_t total = 0;
	size_t taken = 1;
	fill_segments(f, 1);
	log_fixture_drain(f->storage, f->disk, 1);
	assert_int_equal(begin_snapshot(f, 5, 3), 0);
	while (taken > 0) {
		assert_int_equal(storage_snapshot_write(f->storage, payload + total, 50000, &taken), 0);
		total += taken;
	}
	assert_true(total <= 2 * SNAPSHOT_PAYLOAD_MAX);
	assert_true(work_background(f)); /* the header is written: its buffer is free */
	assert_int_equal(storage_snapshot_write(f->storage, payload + total, 50000, &taken), 0);
	assert_int_equal(taken, 50000);
	free(payload);
}

static void impossible_snapshots_are_refused(void **state)
{
	struct fixture *f = *state;
	size_t taken = 0;
	uint64_t offset = 0;
	fill_segments(f, 1);
	assert_int_equal(storage_snapshot_write(f->storage, NULL, 0, &taken), -EINVAL);
	assert_int_equal(storage_snapshot_finish(f->storage), -EINVAL);
	assert_int_equal(begin_snapshot(f, 5, 0), -EINVAL);
	assert_int_equal(begin_snapshot(f, 5, 3), 0);
	assert_int_equal(begin_snapshot(f, 6, 3), STORAGE_E_BUSY);
	assert_int_equal(storage_receive_begin(f->storage, 5, 3, &offset), STORAGE_E_BUSY);
	assert_int_equal(storage_snapshot_finish(f->storage), 0);
	log_fixture_drain(f->storage, f->disk, 1);
	assert_int_equal(begin_snapshot(f, 5, 3), -EINVAL);
	assert_int_equal(begin_snapshot(f, 4, 3), -EINVAL);
	assert_int_equal(storage_receive_begin(f->storage, 5, 3, &offset), -EINVAL);
	storage_snapshot_abort(f->storage); /* none under way */
}

static void aborted_snapshot_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	uint8_t *payload = snapshot_payload(5, 300000);
	fill_segments(f, 1);
	for (unsigned steps = 0; steps < 4; steps++) {
		size_t taken = 0;
		log_fixture_drain(f->storage, f->disk, 1);
		assert_int_equal(begin_snapshot(f, 5, 3), 0);
		assert_int_equal(storage_snapshot_write(f->storage, payload, 300000, &taken), 0);
		for (unsigned i = 0; i < steps; i++)
			(void)work_background(f);
		if (steps == 3)
			assert_int_equal(storage_snapshot_finish(f->storage), 0);
		storage_snapshot_abort(f->storage);
		assert_int_equal(written(f->storage).phase, STORAGE_SNAPSHOT_CLEANING);
		assert_int_equal(begin_snapshot(f, 6, 3), STORAGE_E_BUSY);
		log_fixture_drain(f->storage, f->disk, 1);
		assert_int_equal(written(f->storage).phase, STORAGE_SNAPSHOT_IDLE);
		assert_null(memory_disk_contents(f->disk, "snapshot-0000000000000005.tmp", NULL));
		assert_int_equal(newest_snapshot(f->storage), 0);
	}
	assert_int_equal(write_snapshot(f, 5, 10), 0);
	free(payload);
}

/* Keeping ------------------------------------------------------------------------------------------------ */

static void newest_two_are_kept(void **state)
{
	struct fixture *f = *state;
	uint64_t index = 0;
	uint64_t term = 0;
	fill_segments(f, 1);
	assert_int_equal(write_snapshot(f, 5, 10), 0);
	assert_false(storage_snapshot_keeps(f->storage, &index, &term));
	assert_int_equal(write_snapshot(f, 8, 10), 0);
	assert_true(storage_snapshot_keeps(f->storage, &index, &term));
	assert_int_equal(index, 5);
	assert_int_equal(term, 3);
	assert_int_equal(write_snapshot(f, 9, 10), 0);
	log_fixture_drain(f->storage, f->disk, 1);
	assert_true(storage_snapshot_keeps(f->storage, &index, &term));
	assert_int_equal(index, 8);
	assert_null(memory_disk_contents(f->disk, "snapshot-0000000000000005", NULL));
	assert_non_null(memory_disk_contents(f->disk, "snapshot-0000000000000008", NULL));
	reopen(f);
	assert_true(storage_snapshot_keeps(f->storage, &index, &term));
	assert_int_equal(index, 8);
}

static void file_stays_while_it_is_read(void **state)
{
	struct fixture *f = *state;
	struct snapshot_reader *reader = NULL;
	struct snapshot_reader *second = NULL;
	struct storage_snapshot_info info;
	const uint8_t *config = NULL;
	uint8_t raw[64];
	size_t len = 0;
	fill_segments(f, 1);
	assert_int_equal(write_snapshot(f, 5, 1000), 0);
	assert_int_equal(snapshot_reader_new(f->storage, 4, &reader, &info, &config), -ENOENT);
	assert_int_equal(snapshot_reader_new(f->storage, 5, &reader, &info, &config), 0);
	assert_int_equal(snapshot_reader_new(f->storage, 5, &second, &info, &config), 0);
	assert_int_equal(info.index, 5);
	assert_int_equal(info.term, 3);
	assert_int_equal(info.config_index, 4);
	assert_int_equal(info.config_size, 5);
	assert_int_equal(config[4], 5);
	assert_int_equal(info.payload_bytes, 1000);
	for (uint64_t index = 6; index < 9; index++)
		assert_int_equal(write_snapshot(f, index, 1000), 0);
	second = snapshot_reader_free(second);
	log_fixture_drain(f->storage, f->disk, 1);
	assert_int_equal(snapshot_reader_raw(reader, 0, raw, sizeof(raw), &len), 0);
	assert_int_equal(len, sizeof(raw));
	assert_memory_equal(raw, "RAFTKVSN", 8);
	assert_int_equal(snapshot_reader_raw(reader, info.file_bytes - 3, raw, sizeof(raw), &len), 0);
	assert_int_equal(len, 3);
	assert_non_null(memory_disk_contents(f->disk, "snapshot-0000000000000005", NULL));
	assert_null(memory_disk_contents(f->disk, "snapshot-0000000000000006", NULL));
	snapshot_reader_free(reader);
	log_fixture_drain(f->storage, f->disk, 1);
	assert_null(memory_disk_contents(f->disk, "snapshot-0000000000000005", NULL));
}

static bool is_there(const struct fixture *f, uint64_t index)
{
	char name[DISK_NAME_MAX + 1];
	(void)snprintf(name, sizeof(name), "snapshot-%016llx", (unsigned long long)index);
	return memory_disk_contents(f->disk, name, NULL) != NULL;
}

/* However many a peer sends, and the owner refuses, one is enough to look at. */
static void distrusted_snapshots_do_not_pile_up(void **state)
{
	struct fixture *f = *state;
	fill_segments(f, 1);
	assert_int_equal(write_snapshot(f, 5, 10), 0);
	for (uint64_t index = 8; index < 12; index++) {
		assert_int_equal(write_snapshot(f, index, 10), 0);
		assert_true(storage_snapshot_distrust(f->storage, index));
		log_fixture_drain(f->storage, f->disk, 1);
		assert_true(is_there(f, index));
		assert_false(is_there(f, index - 1));
		assert_true(is_there(f, 5));
	}
	assert_int_equal(newest_snapshot(f->storage), 5);
	assert_int_equal(write_snapshot(f, 12, 10), 0);
	log_fixture_drain(f->storage, f->disk, 1);
	assert_false(is_there(f, 11));
}

/* Opens once more, as an owner does who has seen what is in a snapshot. */
static int open_without(struct fixture *f, uint64_t unusable_from)
{
	struct disk *disk;
	f->storage = storage_free(f->storage);
	memory_disk_kill(f->disk);
	f->options.on_trial = true;
	assert_int_equal(open_log(f), 0);
	disk = storage_give_back(f->storage);
	f->storage = NULL;
	f->options.unusable_from = unusable_from;
	int r = storage_open(disk, &f->options, &f->storage, &f->found, f->message);
	f->options.unusable_from = 0;
	if (r != 0)
		disk->ops->close(disk);
	return r;
}

/* Whole, and of no use to the owner: the one before takes its place, or the log, as far as that reaches back. */
static void unusable_snapshots_are_passed_over(void **state)
{
	struct fixture *f = *state;
	fill_segments(f, 1);
	assert_int_equal(write_snapshot(f, 5, 10), 0);
	assert_int_equal(write_snapshot(f, 8, 10), 0);
	uint64_t last = f->model.last;
	assert_int_equal(open_without(f, 8), 0);
	assert_int_equal(f->found.snapshot_index, 5);
	assert_non_null(strstr(f->found.snapshot_damage, "snapshot-0000000000000008 offset 0"));
	assert_int_equal(newest_snapshot(f->storage), 5);
	assert_int_equal(open_without(f, 5), 0);
	assert_int_equal(f->found.snapshot_index, 0);
	assert_int_equal(f->found.last_index, last);
	/* On trial nothing was begun; from the first storage_process on the log goes on as ever. */
	log_fixture_drain(f->storage, f->disk, 1);
	assert_true(is_there(f, 8) && !is_there(f, 5));
	assert_int_equal(write_snapshot(f, 9, 10), 0);
	log_fixture_drain(f->storage, f->disk, 1);
	assert_false(is_there(f, 8));
}

/* Behind the end of the log: had the log begun anew behind it, the owner would have taken it. */
static void unusable_snapshot_behind_the_end_is_passed_over(void **state)
{
	struct fixture *f = *state;
	fill_segments(f, 1);
	uint64_t last = f->model.last;
	assert_int_equal(write_snapshot(f, last + 10, 10), 0);
	assert_int_equal(write_snapshot(f, last + 20, 10), 0);
	assert_int_equal(open_without(f, last + 10), 0);
	assert_int_equal(f->found.snapshot_index, 0);
	assert_int_equal(f->found.last_index, last);
}

/* That cannot be said of one that has rotted, and hides what the log rests on, in front of which there is another one. */
static void rot_behind_an_unusable_snapshot_is_damage(void **state)
{
	struct fixture *f = *state;
	char name[DISK_NAME_MAX + 1];
	uint64_t size = 0;
	fill_segments(f, 1);
	uint64_t last = f->model.last;
	assert_int_equal(write_snapshot(f, last + 10, 10), 0);
	assert_int_equal(write_snapshot(f, last + 20, 10), 0);
	(void)snprintf(name, sizeof(name), "snapshot-%016llx", (unsigned long long)last + 10);
	uint8_t *bytes = memory_disk_contents(f->disk, name, &size);
	bytes[size / 2] ^= 1;
	memory_disk_settle(f->disk);
	assert_int_equal(open_without(f, last + 20), STORAGE_E_CORRUPT);
	assert_ptr_equal(strstr(f->message, name), f->message);
}

/* Found damaged long after it became durable: it counts no more, and another one of the same entry takes its name. */
static void distrusted_snapshot_is_replaced(void **state)
{
	struct fixture *f = *state;
	struct snapshot_reader *reader = NULL;
	struct storage_snapshot_info info;
	const uint8_t *config = NULL;
	uint64_t index = 0;
	uint64_t term = 0;
	fill_segments(f, 1);
	assert_int_equal(write_snapshot(f, 5, 10), 0);
	assert_int_equal(write_snapshot(f, 8, 10), 0);
	assert_int_equal(snapshot_reader_new(f->storage, 8, &reader, &info, &config), 0);
	assert_false(storage_snapshot_distrust(f->storage, 8)); /* somebody reads it */
	snapshot_reader_free(reader);
	assert_false(storage_snapshot_distrust(f->storage, 7)); /* there is none */
	assert_int_equal(begin_snapshot(f, 8, 3), -EINVAL);
	assert_true(storage_snapshot_distrust(f->storage, 8));
	assert_int_equal(newest_snapshot(f->storage), 5);
	assert_false(storage_snapshot_keeps(f->storage, &index, &term));
	assert_int_equal(snapshot_reader_new(f->storage, 8, &reader, &info, &config), -ENOENT);
	assert_int_equal(write_snapshot(f, 8, 10), 0);
	assert_int_equal(newest_snapshot(f->storage), 8);
	assert_int_equal(snapshot_compare(f->storage, 8, 10), 0);
}

static void owner_learns_how_much_there_is(void **state)
{
	struct fixture *f = *state;
	fill_segments(f, 2);
	uint64_t all = stats(f).log_bytes_since_snapshot;
	assert_int_equal(all, stats(f).flushed_bytes);
	assert_int_equal(begin_snapshot(f, 9, 3), 0);
	assert_int_equal(queue(f, 3, 1, 400), 0);
	drain(f);
	uint64_t during = stats(f).flushed_bytes - all;
	assert_int_equal(storage_snapshot_finish(f->storage), 0);
	assert_int_equal(stats(f).log_bytes_since_snapshot, all + during);
	drain(f);
	assert_int_equal(stats(f).log_bytes_since_snapshot, during);
	assert_int_equal(stats(f).snapshot_bytes, 72 + 40);
	assert_true(stats(f).disk_bytes > stats(f).snapshot_bytes + 2 * SMALL_SEGMENT);
	uint64_t last = f->model.last;
	assert_int_equal(write_snapshot(f, last, 10), 0);
	reopen(f);
	assert_int_equal(stats(f).log_bytes_since_snapshot, 0);
	assert_int_equal(queue(f, 3, 1, 100), 0);
	drain(f);
	reopen(f);
	assert_int_equal(stats(f).log_bytes_since_snapshot, 512);
}

/* Full and failing disks -------------------------------------------------------------------------------- */

/* Every operation of a snapshot, written or received, in turn finds no room or fails. */
static void every_operation_may_fail(void **state)
{
	struct fixture *f = *state;
	size_t size = 0;
	uint8_t *file = snapshot_file(9, 3, 700, 100, &size);
	fill_segments(f, 1);
	log_fixture_drain(f->storage, f->disk, 1);
	memory_disk_settle(f->disk);
	unsigned full = 0;
	unsigned fatal = 0;
	for (unsigned how = 0; how < 4; how++) {
		int error = how % 2 ? -EIO : -ENOSPC;
		bool ended = false;
		for (uint64_t n = 0; !ended; n++) {
			struct memory_disk *before = memory_disk_clone(f->disk);
			uint64_t operations = memory_disk_operations(f->disk);
			uint64_t offset = 0;
			int r = 0;
			memory_disk_fail_at(f->disk, n, error);
			if (how < 2) {
				r = begin_snapshot(f, 9, 3);
				r = r == 0 ? storage_snapshot_finish(f->storage) : r;
			} else {
				r = storage_receive_begin(f->storage, 9, 3, &offset);
			}
			for (unsigned i = 0; r == 0 && i < 40; i++) {
				size_t taken = 0;
				offset = received(f->storage).offset;
				if (received(f->storage).phase == STORAGE_SNAPSHOT_WRITING)
					r = storage_receive_write(f->storage, offset, file + offset,
								  size - (size_t)offset, &taken);
				(void)memory_disk_step(f->disk, DISK_LANE_BACKGROUND);
				r = r == 0 ? storage_process(f->storage, 1) : r;
			}
			bool good = newest_snapshot(f->storage) == 9;
			ended = memory_disk_operations(f->disk) - operations <= n;
			memory_disk_fail_at(f->disk, UINT64_MAX, 0);
			assert_int_equal(good, ended);
			if (r < 0) {
				assert_int_equal(r, error);
				fatal++;
				assert_int_equal(begin_snapshot(f, 10, 3), error);
			} else if (!good) {
				full++;
				int result = how < 2 ? written(f->storage).result : received(f->storage).result;
				assert_int_equal(result, STORAGE_E_FULL);
				log_fixture_drain(f->storage, f->disk, 1);
				assert_int_equal(queue(f, 3, 1, 10), 0); /* the log goes on */
				drain(f);
				assert_null(memory_disk_contents(f->disk, "snapshot-0000000000000009.tmp", NULL));
				assert_null(memory_disk_contents(f->disk, "snapshot-0000000000000009.part", NULL));
				assert_int_equal(write_snapshot(f, 9, 5), 0);
				f->model.last--;
				f->seq--;
			}
			f->storage = storage_free(f->storage);
			memory_disk_kill(f->disk);
			assert_int_equal(open_log(f), 0);
			assert_null(memory_disk_contents(f->disk, "snapshot-0000000000000009.tmp", NULL));
			f->storage = storage_free(f->storage);
			memory_disk_free(f->disk);
			f->disk = before;
			f->seq = 0;
			assert_int_equal(open_log(f), 0);
			log_fixture_drain(f->storage, f->disk, 1);
		}
	}
	assert_true(full >= 10);
	assert_true(fatal >= 10);
	free(file);
}

static void snapshot_that_does_not_fit_is_given_up(void **state)
{
	struct fixture *f = *state;
	fill_segments(f, 1);
	log_fixture_drain(f->storage, f->disk, 1);
	memory_disk_set_capacity(f->disk, stats(f).disk_bytes + BIG - 100);
	assert_int_equal(write_snapshot(f, 5, BIG), STORAGE_E_FULL);
	assert_int_equal(newest_snapshot(f->storage), 0);
	assert_int_equal(write_snapshot(f, 5, BIG - 2000), 0);
	memory_disk_set_capacity(f->disk, UINT64_MAX);
	assert_int_equal(queue(f, 3, 1, 10), 0);
	drain(f);
	check(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(written_snapshot_is_read_back),
		TEST(file_does_not_tell_who_wrote_it),
		TEST(nothing_counts_before_the_directory_is_synced),
		TEST(memory_is_bounded_while_the_disk_is_behind),
		TEST(impossible_snapshots_are_refused),
		TEST(aborted_snapshot_leaves_nothing),
		TEST(newest_two_are_kept),
		TEST(file_stays_while_it_is_read),
		TEST(distrusted_snapshot_is_replaced),
		TEST(distrusted_snapshots_do_not_pile_up),
		TEST(unusable_snapshots_are_passed_over),
		TEST(unusable_snapshot_behind_the_end_is_passed_over),
		TEST(rot_behind_an_unusable_snapshot_is_damage),
		TEST(owner_learns_how_much_there_is),
		TEST(every_operation_may_fail),
		TEST(snapshot_that_does_not_fit_is_given_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
