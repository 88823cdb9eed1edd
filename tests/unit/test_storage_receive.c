/*
 * Snapshots that come from another member, and those that have rotted: nothing damaged is ever installed or used.
 */
#include "tests/unit/snapshot_fixture.h"

#include <errno.h>
#include <stdio.h>

/* Receiving ---------------------------------------------------------------------------------------------- */

static void received_snapshot_is_read_back(void **state)
{
	struct fixture *f = *state;
	static const size_t chunks[] = {1, 13, 4096, SNAPSHOT_BLOCK_SIZE};
	fill_segments(f, 1);
	for (unsigned i = 0; i < 4; i++) {
		uint64_t index = 100 + i;
		uint64_t offset = 1;
		size_t size = 0;
		size_t payload = i == 0 ? 700 : BIG;
		uint8_t *file = snapshot_file(index, 4, payload, i == 3 ? SNAPSHOT_PAYLOAD_MAX : 1000, &size);
		assert_int_equal(storage_receive_begin(f->storage, index, 4, &offset), 0);
		assert_int_equal(offset, 0);
		assert_int_equal(feed_snapshot(f, file, size, chunks[i]), 0);
		finish_receiving(f);
		assert_int_equal(newest_snapshot(f->storage), index);
		assert_int_equal(snapshot_compare(f->storage, index, payload), 0);
		free(file);
	}
	reopen(f);
	assert_int_equal(f->found.snapshot_index, 103);
	assert_true(f->found.snapshot_beyond_log);
}

static void other_offsets_are_refused(void **state)
{
	struct fixture *f = *state;
	uint64_t offset = 0;
	size_t size = 0;
	size_t taken = 0;
	uint8_t *file = snapshot_file(100, 4, 700, 100, &size);
	assert_int_equal(storage_receive_write(f->storage, 0, file, 10, &taken), -EINVAL);
	assert_int_equal(storage_receive_begin(f->storage, 100, 4, &offset), 0);
	assert_int_equal(storage_receive_write(f->storage, 1, file + 1, 10, &taken), -EINVAL);
	assert_int_equal(storage_receive_write(f->storage, 0, file, 10, &taken), 0);
	assert_int_equal(storage_receive_write(f->storage, 0, file, 10, &taken), -EINVAL);
	assert_int_equal(storage_receive_begin(f->storage, 100, 4, &offset), 0); /* the connection began anew */
	assert_int_equal(offset, 10);
	free(file);
}

/* Whatever byte is wrong: nothing of it is named, the rest is dropped, and a good one can follow. */
static void damaged_bytes_are_never_installed(void **state)
{
	struct fixture *f = *state;
	size_t size = 0;
	uint8_t *file = snapshot_file(100, 4, 700, 100, &size);
	fill_segments(f, 1);
	for (size_t at = 0; at < size; at++) {
		uint64_t offset = 1;
		file[at] ^= 0x10;
		assert_int_equal(storage_receive_begin(f->storage, 100, 4, &offset), 0);
		assert_int_equal(offset, 0);
		int r = feed_snapshot(f, file, size, 61);
		if (r == 0) { /* a length that grew: the sender's file ends before the block does */
			assert_int_equal(received(f->storage).phase, STORAGE_SNAPSHOT_WRITING);
			r = storage_receive_begin(f->storage, 101, 4, &offset); /* it is dropped for another one */
			assert_true(r == 0 || r == STORAGE_E_BUSY);
		} else {
			assert_int_equal(r, STORAGE_E_CORRUPT);
			assert_int_equal(received(f->storage).result, STORAGE_E_CORRUPT);
		}
		file[at] ^= 0x10;
		log_fixture_drain(f->storage, f->disk, 1);
		assert_int_equal(newest_snapshot(f->storage), 0);
		assert_null(memory_disk_contents(f->disk, "snapshot-0000000000000064.part", NULL));
	}
	uint64_t offset = 1;
	assert_int_equal(storage_receive_begin(f->storage, 100, 4, &offset), 0);
	assert_int_equal(feed_snapshot(f, file, size, 61), 0);
	finish_receiving(f);
	assert_int_equal(snapshot_compare(f->storage, 100, 700), 0);
	free(file);
}

static void another_snapshot_than_announced_is_refused(void **state)
{
	struct fixture *f = *state;
	for (unsigned what = 0; what < 3; what++) {
		uint64_t offset = 0;
		size_t size = 0;
		uint8_t *file = snapshot_file(100 + (what == 0), 4 + (what == 1), 700, 100, &size);
		if (what == 2) { /* of another cluster */
			struct snapshot_chain chain;
			struct snapshot_header header = {.cluster_id = 1, .index = 100, .term = 4};
			(void)snapshot_encode_header(&chain, &header, file);
			size = 64 + snapshot_encode_footer(&chain, file + 64);
		}
		assert_int_equal(storage_receive_begin(f->storage, 100, 4, &offset), 0);
		assert_int_equal(feed_snapshot(f, file, size, 5000), STORAGE_E_CORRUPT);
		log_fixture_drain(f->storage, f->disk, 1);
		free(file);
	}
}

static void bytes_behind_the_end_are_refused(void **state)
{
	struct fixture *f = *state;
	uint64_t offset = 0;
	size_t size = 0;
	size_t taken = 0;
	uint8_t *file = snapshot_file(100, 4, 700, 10000, &size);
	assert_int_equal(storage_receive_begin(f->storage, 100, 4, &offset), 0);
	while (received(f->storage).offset < size - 1)
		assert_int_equal(storage_receive_write(f->storage, received(f->storage).offset,
						       file + received(f->storage).offset,
						       size - 1 - (size_t)received(f->storage).offset, &taken),
				 work_background(f) * 0);
	uint8_t end[2] = {file[size - 1], 0};
	while (storage_process(f->storage, 1) == 0 && memory_disk_step(f->disk, DISK_LANE_BACKGROUND))
		;
	assert_int_equal(storage_process(f->storage, 1), 0);
	assert_int_equal(storage_receive_write(f->storage, size - 1, end, 2, &taken), STORAGE_E_CORRUPT);
	log_fixture_drain(f->storage, f->disk, 1);
	assert_int_equal(newest_snapshot(f->storage), 0);
	free(file);
}

/* From every length that a dying process can leave behind. */
static void transfer_is_resumed_after_a_restart(void **state)
{
	struct fixture *f = *state;
	size_t size = 0;
	uint8_t *file = snapshot_file(100, 4, 700, 100, &size);
	fill_segments(f, 1);
	log_fixture_drain(f->storage, f->disk, 1);
	uint64_t most = 0;
	for (size_t fed = 1; fed < size; fed += 7) {
		struct memory_disk *before = memory_disk_clone(f->disk);
		uint64_t offset = 1;
		assert_int_equal(storage_receive_begin(f->storage, 100, 4, &offset), 0);
		assert_int_equal(feed_snapshot(f, file, fed, 50), 0);
		while (work_background(f))
			;
		uint64_t at = received(f->storage).offset;
		assert_int_equal(at, fed);
		reopen(f);
		assert_int_equal(f->found.snapshot_index, 0);
		assert_int_equal(storage_receive_begin(f->storage, 100, 4, &offset), 0);
		assert_true(offset <= fed &&
			    offset + 116 > fed); /* the part that was not complete is asked for again */
		most = offset > most ? offset : most;
		assert_int_equal(feed_snapshot(f, file, size, 50), 0);
		finish_receiving(f);
		assert_int_equal(snapshot_compare(f->storage, 100, 700), 0);
		f->storage = storage_free(f->storage);
		memory_disk_free(f->disk);
		f->disk = before;
		assert_int_equal(open_log(f), 0);
	}
	assert_int_equal(most, size - 40); /* all but the footer */
	free(file);
}

static void rotten_part_is_resumed_before_the_rot(void **state)
{
	struct fixture *f = *state;
	size_t size = 0;
	uint8_t *file = snapshot_file(100, 4, 700, 100, &size);
	uint64_t offset = 1;
	fill_segments(f, 1);
	assert_int_equal(storage_receive_begin(f->storage, 100, 4, &offset), 0);
	assert_int_equal(feed_snapshot(f, file, 600, 50), 0);
	while (work_background(f))
		;
	memory_disk_contents(f->disk, "snapshot-0000000000000064.part", NULL)[72 + 116 * 2 + 20] ^= 1;
	reopen(f);
	assert_int_equal(storage_receive_begin(f->storage, 100, 4, &offset), 0);
	assert_int_equal(offset, 72 + 116 * 2);
	assert_int_equal(feed_snapshot(f, file, size, 50), 0);
	finish_receiving(f);
	assert_int_equal(snapshot_compare(f->storage, 100, 700), 0);
	free(file);
}

static void another_snapshot_drops_what_was_received(void **state)
{
	struct fixture *f = *state;
	size_t size = 0;
	uint8_t *file = snapshot_file(101, 4, 700, 100, &size);
	uint8_t *old = snapshot_file(100, 4, 700, 100, &size);
	uint64_t offset = 1;
	fill_segments(f, 1);
	for (unsigned restart = 0; restart < 2; restart++) {
		assert_int_equal(storage_receive_begin(f->storage, 100, 4, &offset), 0);
		assert_int_equal(offset, 0);
		assert_int_equal(feed_snapshot(f, old, 600, 50), 0);
		while (work_background(f))
			;
		if (restart)
			reopen(f);
		assert_int_equal(storage_receive_begin(f->storage, 101, 4, &offset), STORAGE_E_BUSY);
		log_fixture_drain(f->storage, f->disk, 1);
		assert_int_equal(storage_receive_begin(f->storage, 101, 4, &offset), 0);
		assert_int_equal(offset, 0);
		assert_null(memory_disk_contents(f->disk, "snapshot-0000000000000064.part", NULL));
		log_fixture_drain(f->storage, f->disk, 1);
	}
	assert_int_equal(feed_snapshot(f, file, size, 50), 0);
	finish_receiving(f);
	assert_int_equal(snapshot_compare(f->storage, 101, 700), 0);
	free(file);
	free(old);
}

static void transfer_is_dropped_when_it_is_overtaken(void **state)
{
	struct fixture *f = *state;
	size_t size = 0;
	uint8_t *file = snapshot_file(8, 3, 700, 100, &size);
	uint64_t offset = 1;
	fill_segments(f, 1);
	assert_int_equal(storage_receive_begin(f->storage, 8, 3, &offset), 0);
	assert_int_equal(feed_snapshot(f, file, 300, 50), 0);
	assert_int_equal(write_snapshot(f, 9, 10), 0);
	log_fixture_drain(f->storage, f->disk, 1);
	assert_int_equal(received(f->storage).phase, STORAGE_SNAPSHOT_IDLE);
	assert_null(memory_disk_contents(f->disk, "snapshot-0000000000000008.part", NULL));
	free(file);
}

/* Of the same entry: one that is there in part, maybe since an earlier life, can be dropped for it; one that was received whole goes on. */
static void own_snapshot_takes_the_place_of_a_part(void **state)
{
	struct fixture *f = *state;
	size_t size = 0;
	uint8_t *file = snapshot_file(8, 3, 700, 100, &size);
	uint64_t offset = 1;
	fill_segments(f, 1);
	log_fixture_drain(f->storage, f->disk, 1);
	storage_receive_abort(f->storage); /* none under way */
	for (unsigned life = 0; life < 2; life++) {
		assert_int_equal(storage_receive_begin(f->storage, 8, 3, &offset), 0);
		assert_int_equal(feed_snapshot(f, file, 300, 50), 0);
		while (work_background(f))
			;
		if (life == 1)
			reopen(f);
		assert_non_null(memory_disk_contents(f->disk, "snapshot-0000000000000008.part", NULL));
		assert_int_equal(begin_snapshot(f, 8, 3), STORAGE_E_BUSY);
		storage_receive_abort(f->storage);
		log_fixture_drain(f->storage, f->disk, 1);
		assert_int_equal(received(f->storage).phase, STORAGE_SNAPSHOT_IDLE);
		assert_null(memory_disk_contents(f->disk, "snapshot-0000000000000008.part", NULL));
	}
	assert_int_equal(write_snapshot(f, 8, 10), 0);
	free(file);
	file = snapshot_file(9, 3, 700, 100, &size);
	assert_int_equal(storage_receive_begin(f->storage, 9, 3, &offset), 0);
	assert_int_equal(feed_snapshot(f, file, size, 5000), 0);
	assert_int_equal(received(f->storage).phase, STORAGE_SNAPSHOT_FINISHING);
	storage_receive_abort(f->storage);
	finish_receiving(f);
	assert_int_equal(newest_snapshot(f->storage), 9);
	free(file);
}

/* Damage ------------------------------------------------------------------------------------------------- */

static void rotten_newest_gives_way_to_the_one_before(void **state)
{
	struct fixture *f = *state;
	fill_segments(f, 3);
	uint64_t older = f->model.last - 20;
	assert_int_equal(write_snapshot(f, older, 700), 0);
	assert_int_equal(write_snapshot(f, older + 10, 700), 0);
	assert_int_equal(storage_compact(f->storage, older, 3), 0);
	log_fixture_drain(f->storage, f->disk, 1);
	f->model.base = older;
	char name[64];
	uint64_t size = 0;
	(void)snprintf(name, sizeof(name), "snapshot-%016llx", (unsigned long long)older + 10);
	(void)memory_disk_contents(f->disk, name, &size);
	memory_disk_settle(f->disk);
	f->storage = storage_free(f->storage);
	for (uint64_t at = 0; at <= size; at++) {
		struct memory_disk *whole = memory_disk_clone(f->disk);
		if (at < size)
			memory_disk_contents(f->disk, name, NULL)[at] ^= 4;
		else
			memory_disk_truncate(f->disk, name, size - 1);
		assert_int_equal(open_log(f), 0);
		assert_int_equal(f->found.snapshot_index, older);
		assert_false(f->found.snapshot_beyond_log);
		assert_ptr_equal(strstr(f->found.snapshot_damage, name), f->found.snapshot_damage);
		check(f);
		assert_int_equal(snapshot_compare(f->storage, older, 700), 0);
		if (at % 97 == 0) { /* a new one takes its place */
			assert_int_equal(write_snapshot(f, older + 10, 30), 0);
			log_fixture_drain(f->storage, f->disk, 1);
			reopen(f);
			assert_int_equal(f->found.snapshot_index, older + 10);
			assert_int_equal(snapshot_compare(f->storage, older + 10, 30), 0);
		}
		f->storage = storage_free(f->storage);
		memory_disk_free(f->disk);
		f->disk = whole;
	}
	f->storage = NULL;
}

static void damage_without_a_way_out_is_refused(void **state)
{
	struct fixture *f = *state;
	fill_segments(f, 2);
	assert_int_equal(write_snapshot(f, 9, 700), 0);
	assert_int_equal(write_snapshot(f, 1000, 700), 0);
	struct storage_write reset = {.seq = ++f->seq, .term = 3, .reset_index = 1000, .reset_term = 3};
	assert_int_equal(storage_append(f->storage, &reset), 0);
	drain(f);
	f->storage = storage_free(f->storage);
	memory_disk_contents(f->disk, "snapshot-00000000000003e8", NULL)[90] ^= 1;
	uint64_t operations = memory_disk_operations(f->disk);
	assert_int_equal(open_log(f), STORAGE_E_CORRUPT);
	assert_ptr_equal(strstr(f->message, "snapshot-00000000000003e8 offset 72:"), f->message);
	assert_int_equal(memory_disk_operations(f->disk), operations); /* nothing was touched */
	memory_disk_delete(f->disk, "snapshot-00000000000003e8");
	assert_int_equal(open_log(f), STORAGE_E_CORRUPT);
	assert_non_null(strstr(f->message, "there is no snapshot"));
}

static void snapshot_without_a_log_is_refused(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(queue(f, 3, 9, 10), 0);
	drain(f);
	assert_int_equal(write_snapshot(f, 5, 10), 0);
	f->storage = storage_free(f->storage);
	memory_disk_delete(f->disk, "segment-0000000000000001");
	assert_int_equal(open_log(f), STORAGE_E_CORRUPT);
	assert_non_null(strstr(f->message, "snapshot-0000000000000005"));
}

static void foreign_and_newer_snapshots_are_refused(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(queue(f, 3, 9, 10), 0);
	drain(f);
	assert_int_equal(write_snapshot(f, 5, 10), 0);
	f->storage = storage_free(f->storage);
	uint8_t *bytes = memory_disk_contents(f->disk, "snapshot-0000000000000005", NULL);
	struct snapshot_header header = {.cluster_id = 5, .index = 5, .term = 3};
	uint64_t size = 0;
	struct snapshot_chain chain;
	(void)memory_disk_contents(f->disk, "snapshot-0000000000000005", &size);
	(void)snapshot_encode_header(&chain, &header, bytes);
	(void)snapshot_encode_footer(&chain, bytes + chain.offset);
	memory_disk_truncate(f->disk, "snapshot-0000000000000005", chain.offset);
	assert_int_equal(open_log(f), STORAGE_E_WRONG_CLUSTER);
	header = (struct snapshot_header){.cluster_id = FIXTURE_CLUSTER, .index = 6, .term = 3};
	(void)snapshot_encode_header(&chain, &header, bytes);
	(void)snapshot_encode_footer(&chain, bytes + chain.offset);
	assert_int_equal(open_log(f), 0); /* another's name: passed over */
	assert_non_null(strstr(f->found.snapshot_damage, "holds another snapshot"));
	assert_int_equal(f->found.snapshot_index, 0);
}

/* Adds a byte at the end of a file, or makes one of len bytes. */
static void add_bytes(struct fixture *f, const char *name, uint64_t offset, const uint8_t *buf, uint64_t len)
{
	struct disk_job job = {
		.type = DISK_JOB_STREAM, .lane = DISK_LANE_BACKGROUND, .offset = offset, .buf = buf, .size = len};
	struct disk *disk = f->storage ? NULL : memory_disk_open(f->disk);
	(void)snprintf(job.name, sizeof(job.name), "%s", name);
	assert_non_null(disk);
	assert_int_equal(disk->ops->run(disk, &job), 0);
	memory_disk_settle(f->disk);
}

static void bytes_behind_the_footer_are_damage(void **state)
{
	struct fixture *f = *state;
	uint8_t byte = 0;
	uint64_t size = 0;
	assert_int_equal(queue(f, 3, 9, 10), 0);
	drain(f);
	assert_int_equal(write_snapshot(f, 5, 10), 0);
	f->storage = storage_free(f->storage);
	(void)memory_disk_contents(f->disk, "snapshot-0000000000000005", &size);
	add_bytes(f, "snapshot-0000000000000005", size, &byte, 1);
	assert_int_equal(open_log(f), 0);
	assert_int_equal(f->found.snapshot_index, 0);
	assert_non_null(strstr(f->found.snapshot_damage, "goes on behind its end"));
}

static void part_under_a_wrong_name_is_removed(void **state)
{
	struct fixture *f = *state;
	size_t size = 0;
	uint64_t offset = 1;
	uint8_t *file = snapshot_file(100, 4, 700, 100, &size);
	f->storage = storage_free(f->storage);
	add_bytes(f, "snapshot-0000000000000065.part", 0, file, 400);
	add_bytes(f, "snapshot-0000000000000060.part", 0, file, 400);
	assert_int_equal(open_log(f), 0);
	assert_null(memory_disk_contents(f->disk, "snapshot-0000000000000065.part", NULL));
	assert_null(memory_disk_contents(f->disk, "snapshot-0000000000000060.part", NULL));
	assert_int_equal(storage_receive_begin(f->storage, 100, 4, &offset), 0);
	assert_int_equal(offset, 0);
	free(file);
}

static void damage_while_reading_is_noticed(void **state)
{
	struct fixture *f = *state;
	fill_segments(f, 1);
	assert_int_equal(write_snapshot(f, 5, BIG), 0);
	uint64_t size = 0;
	uint8_t *bytes = memory_disk_contents(f->disk, "snapshot-0000000000000005", &size);
	bytes[size - 50] ^= 1;
	assert_int_equal(snapshot_compare(f->storage, 5, BIG), STORAGE_E_CORRUPT);
	bytes[size - 50] ^= 1;
	bytes[30] ^= 1;
	assert_int_equal(snapshot_compare(f->storage, 5, BIG), STORAGE_E_CORRUPT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(received_snapshot_is_read_back),		TEST(other_offsets_are_refused),
		TEST(damaged_bytes_are_never_installed),	TEST(another_snapshot_than_announced_is_refused),
		TEST(bytes_behind_the_end_are_refused),		TEST(transfer_is_resumed_after_a_restart),
		TEST(rotten_part_is_resumed_before_the_rot),	TEST(another_snapshot_drops_what_was_received),
		TEST(transfer_is_dropped_when_it_is_overtaken), TEST(rotten_newest_gives_way_to_the_one_before),
		TEST(damage_without_a_way_out_is_refused),	TEST(snapshot_without_a_log_is_refused),
		TEST(foreign_and_newer_snapshots_are_refused),	TEST(bytes_behind_the_footer_are_damage),
		TEST(part_under_a_wrong_name_is_removed),	TEST(damage_while_reading_is_noticed),
		TEST(own_snapshot_takes_the_place_of_a_part),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
