/*
 * Opening a log: what is refused, and what the refusal says.
 */
#include "daemon/storage/format.h"
#include "tests/unit/storage_fixture.h"

#include <errno.h>
#include <stdio.h>

static void another_cluster_or_member_is_refused(void **state)
{
	struct fixture *f = *state;
	f->options.cluster_id++;
	assert_int_equal(open_again(f), STORAGE_E_WRONG_CLUSTER);
	f->options.cluster_id--;
	f->options.member_id++;
	assert_int_equal(open_again(f), STORAGE_E_WRONG_CLUSTER);
	f->options.member_id--;
	assert_int_equal(open_again(f), 0);
}

static void missing_segment_is_damage(void **state)
{
	struct fixture *f = *state;
	fill_segments(f, 4);
	memory_disk_delete(f->disk, "segment-0000000000000003");
	assert_int_equal(open_again(f), STORAGE_E_CORRUPT);
	assert_non_null(strstr(f->message, "segment-0000000000000003"));
}

static void shortened_segment_is_damage(void **state)
{
	struct fixture *f = *state;
	fill_segments(f, 2);
	memory_disk_truncate(f->disk, "segment-0000000000000002", SMALL_SEGMENT - 4096);
	assert_int_equal(open_again(f), STORAGE_E_CORRUPT);
	assert_non_null(strstr(f->message, "segment-0000000000000002"));
}

static void zeroed_header_is_damage(void **state)
{
	struct fixture *f = *state;
	fill_segments(f, 2);
	memset(memory_disk_contents(f->disk, "segment-0000000000000002", NULL), 0, SMALL_SEGMENT);
	assert_int_equal(open_again(f), STORAGE_E_CORRUPT);
	assert_non_null(strstr(f->message, "segment-0000000000000002 offset 0"));
}

/* A record in a segment that does not end where the next says it did. */
static void lost_end_of_an_earlier_segment_is_damage(void **state)
{
	struct fixture *f = *state;
	fill_segments(f, 3);
	uint8_t *bytes = memory_disk_contents(f->disk, "segment-0000000000000002", NULL);
	size_t last = SMALL_SEGMENT - 512;
	while (memcmp(bytes + last, "RKFR", 4) != 0)
		last -= 512;
	memset(bytes + last, 0, SMALL_SEGMENT - last);
	assert_int_equal(open_again(f), STORAGE_E_CORRUPT);
	char where[64];
	(void)snprintf(where, sizeof(where), "segment-0000000000000002 offset %zu", last);
	assert_non_null(strstr(f->message, where));
}

/* Changes a field of the last record and gives it valid checksums again. */
static void forge_last_record(struct fixture *f, uint64_t offset, unsigned what)
{
	struct format_identity identity = {FIXTURE_CLUSTER, FIXTURE_MEMBER, FIXTURE_INCARNATION};
	struct format_record record;
	uint8_t *bytes = memory_disk_contents(f->disk, "segment-0000000000000001", NULL);
	uint64_t seed = format_seed(&identity, 1, offset);
	assert_int_equal(format_record_decode(bytes + offset, 512, seed, &record), FORMAT_OK);
	record.flush += what == 0;
	record.prev_checksum += what == 1;
	record.prev_index += what == 2;
	record.prev_term += what == 3;
	format_record_seal(&record, seed, bytes + offset);
}

static void record_that_does_not_follow_is_damage(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(queue(f, 3, 1, 100), 0);
	drain(f);
	assert_int_equal(queue(f, 3, 1, 100), 0);
	drain(f);
	f->storage = storage_free(f->storage);
	for (unsigned what = 0; what < 5; what++) {
		struct memory_disk *whole = memory_disk_clone(f->disk);
		forge_last_record(f, 4096 + 512, what);
		assert_int_equal(open_again(f), what < 4 ? STORAGE_E_CORRUPT : STORAGE_OK);
		if (what < 4)
			assert_non_null(strstr(f->message, "segment-0000000000000001 offset 4608"));
		f->storage = storage_free(f->storage);
		memory_disk_free(f->disk);
		f->disk = whole;
	}
}

static void reading_only_changes_nothing(void **state)
{
	struct fixture *f = *state;
	fill_segments(f, 2);
	f->storage = storage_free(f->storage);
	uint64_t operations = memory_disk_operations(f->disk);
	f->options.read_only = true;
	assert_int_equal(open_log(f), 0);
	check_found(f);
	assert_int_equal(queue(f, 9, 1, 1), -EROFS);
	assert_int_equal(storage_process(f->storage, 1), 0);
	assert_int_equal(memory_disk_operations(f->disk), operations);
	f->storage = storage_free(f->storage);

	struct memory_disk *blank = memory_disk_new();
	assert_int_equal(storage_open(memory_disk_open(blank), &f->options, &f->storage, &f->found, f->message), 0);
	assert_true(f->found.blank);
	assert_int_equal(memory_disk_operations(blank), 0);
	f->storage = storage_free(f->storage);
	memory_disk_free(blank);
}

/* A program that knows less says both levels and what to do, and changes nothing; one that knows them goes on. */
static void level_above_the_own_is_refused(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(queue(f, 3, 1, 100), 0);
	drain(f);
	f->options.level_max = 1;
	assert_int_equal(open_again(f), 0); /* nothing asks for more yet */
	f->options.level_max = 3;
	assert_int_equal(open_again(f), 0);
	assert_int_equal(f->found.level, 0);
	storage_raise_level(f->storage, 3);
	storage_raise_level(f->storage, 2); /* never back */
	assert_int_equal(queue(f, 3, 1, 100), 0);
	drain(f);
	f->storage = storage_free(f->storage);
	uint64_t operations = memory_disk_operations(f->disk);
	f->options.level_max = 2;
	assert_int_equal(open_log(f), STORAGE_E_VERSION);
	assert_non_null(strstr(f->message, "segment-0000000000000001 offset "));
	assert_non_null(strstr(f->message, "was written at feature level 3, and this program, raft-kv "));
	assert_non_null(strstr(f->message, "knows levels up to 2; install the newer version again"));
	assert_int_equal(memory_disk_operations(f->disk), operations);
	f->options.level_max = 3;
	assert_int_equal(open_log(f), 0);
	assert_int_equal(f->found.level, 3);
}

/* Wherever the log begins after a compaction: each segment says it again. */
static void level_is_in_every_segment(void **state)
{
	struct fixture *f = *state;
	f->options.level_max = 3;
	storage_raise_level(f->storage, 2);
	fill_segments(f, 3);
	f->storage = storage_free(f->storage);
	for (unsigned k = 1; k <= 3; k++) {
		char name[64];
		(void)snprintf(name, sizeof(name), "segment-%016x", k);
		const uint8_t *bytes = memory_disk_contents(f->disk, name, NULL);
		assert_int_equal(bytes[8], k == 1 ? 1 : 3); /* the first was there before */
		assert_int_equal(bytes[4096 + 4], 3);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(another_cluster_or_member_is_refused),
		TEST(missing_segment_is_damage),
		TEST(shortened_segment_is_damage),
		TEST(zeroed_header_is_damage),
		TEST(lost_end_of_an_earlier_segment_is_damage),
		TEST(record_that_does_not_follow_is_damage),
		TEST(reading_only_changes_nothing),
		TEST(level_above_the_own_is_refused),
		TEST(level_is_in_every_segment),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
