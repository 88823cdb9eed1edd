/*
 * Verifying a whole directory: everything that is wrong is found, with its place, and nothing is changed.
 */
#include "daemon/storage/check.h"
#include "tests/unit/snapshot_fixture.h"

#include <errno.h>
#include <stdio.h>

#define FINDINGS_MAX 32u

struct findings {
	unsigned n;
	struct {
		enum storage_finding finding;
		char text[256];
	} items[FINDINGS_MAX];
};

static void keep(void *arg, enum storage_finding finding, const char *file, uint64_t offset, const char *what)
{
	struct findings *findings = arg;
	assert_true(findings->n < FINDINGS_MAX);
	findings->items[findings->n].finding = finding;
	(void)snprintf(findings->items[findings->n++].text, sizeof(findings->items[0].text), "%s offset %llu: %s", file,
		       (unsigned long long)offset, what);
}

static struct storage_check checked(struct fixture *f, struct findings *findings, int expected)
{
	*findings = (struct findings){.n = 0};
	struct storage_check check = {.report = keep, .arg = findings};
	uint64_t operations = memory_disk_operations(f->disk);
	f->storage = storage_free(f->storage);
	assert_int_equal(storage_check(memory_disk_open(f->disk), &check), expected);
	assert_int_equal(memory_disk_operations(f->disk), operations);
	return check;
}

static void expect(const struct findings *findings, unsigned n, const char *text)
{
	assert_true(findings->n > n);
	if (strstr(findings->items[n].text, text) != findings->items[n].text)
		fail_msg("'%s' instead of '%s'", findings->items[n].text, text);
}

/* Three segments, compacted, reset, and two snapshots. */
static void make_directory(struct fixture *f)
{
	fill_segments(f, 3);
	uint64_t older = f->model.last - 4;
	assert_int_equal(log_fixture_snapshot(f->storage, f->disk, older, 3), 0);
	assert_int_equal(log_fixture_snapshot(f->storage, f->disk, older + 2, 3), 0);
	assert_int_equal(storage_compact(f->storage, older, 3), 0);
	drain(f);
	fill_segments(f, 3);
}

static void good_directory_is_good(void **state)
{
	struct fixture *f = *state;
	struct findings findings;
	make_directory(f);
	uint64_t flushes = stats(f).flushes;
	struct storage_check check = checked(f, &findings, 0);
	assert_int_equal(findings.n, 0);
	assert_int_equal(check.segments, 3);
	assert_int_equal(check.snapshots, 2);
	assert_int_equal(check.last_index, f->model.last);
	assert_true(check.base_index > 0);
	assert_int_equal(check.entries, check.last_index - check.base_index);
	assert_true(check.records > 10 && check.records < flushes);
	assert_true(check.bytes > 3 * SMALL_SEGMENT);
	memory_disk_free(f->disk);
	f->disk = memory_disk_new();
	assert_int_equal(open_log(f), 0);
	check = checked(f, &findings, 0); /* an empty log */
	assert_int_equal(check.last_index, 0);
}

static void log_that_began_anew_is_good(void **state)
{
	struct fixture *f = *state;
	struct findings findings;
	fill_segments(f, 2);
	assert_int_equal(log_fixture_snapshot(f->storage, f->disk, 5000, 7), 0);
	struct storage_write write = {.seq = ++f->seq, .term = 7, .reset_index = 5000, .reset_term = 7};
	assert_int_equal(storage_append(f->storage, &write), 0);
	drain(f);
	struct storage_check check = checked(f, &findings, 0);
	assert_int_equal(findings.n, 0);
	assert_int_equal(check.base_index, 5000);
	assert_int_equal(check.last_index, 5000);
}

/* Another leader's snapshot came, and there was no room to begin the log anew: the next start does not go on with this log. */
static void log_that_contradicts_the_snapshot_does_not_count(void **state)
{
	struct fixture *f = *state;
	struct findings findings;
	fill_segments(f, 2);
	uint64_t index = f->model.last - 4;
	assert_int_equal(log_fixture_snapshot(f->storage, f->disk, index, f->model.term + 5), 0);
	struct storage_check check = checked(f, &findings, 0);
	expect(&findings, findings.n - 1, "snapshot-");
	assert_non_null(strstr(findings.items[findings.n - 1].text, "begins it anew"));
	assert_int_equal(check.base_index, index);
	assert_int_equal(check.last_index, index);
	assert_int_equal(check.entries, 0);
	reopen(f);
	assert_true(f->found.snapshot_beyond_log);
	assert_int_equal(f->found.snapshot_index, index);
}

static void every_damage_is_reported(void **state)
{
	struct fixture *f = *state;
	struct findings findings;
	make_directory(f);
	char newest[64];
	char first[64];
	(void)snprintf(newest, sizeof(newest), "snapshot-%016llx", (unsigned long long)newest_snapshot(f->storage));
	for (uint64_t sequence = 1;; sequence++) {
		(void)snprintf(first, sizeof(first), "segment-%016llx", (unsigned long long)sequence);
		if (memory_disk_contents(f->disk, first, NULL))
			break;
	}
	f->storage = storage_free(f->storage);
	uint8_t *bytes = memory_disk_contents(f->disk, first, NULL);
	uint32_t length = 0;
	memcpy(&length, bytes + 4096 + 8, 4);
	bytes[4096 + 200] ^= 1;		/* the first record's body … */
	bytes[4096 + length + 50] ^= 1; /* … and the second's header */
	memory_disk_contents(f->disk, newest, NULL)[70] ^= 1;
	struct storage_check check = checked(f, &findings, STORAGE_E_CORRUPT);
	assert_int_equal(check.damages, findings.n);
	assert_int_equal(findings.n, 2);
	char where[128];
	(void)snprintf(where, sizeof(where), "%.60s offset 4096: no valid record", first);
	expect(&findings, 0, where);
	(void)snprintf(where, sizeof(where), "%.60s offset 64: the snapshot is damaged", newest);
	expect(&findings, 1, where);
	assert_int_equal(findings.items[1].finding, STORAGE_FINDING_DAMAGE);
}

static void headers_gaps_and_ends_are_looked_at(void **state)
{
	struct fixture *f = *state;
	struct findings findings;
	fill_segments(f, 4);
	f->storage = storage_free(f->storage);
	struct memory_disk *whole = memory_disk_clone(f->disk);

	memory_disk_contents(f->disk, "segment-0000000000000002", NULL)[100] ^= 1;
	(void)checked(f, &findings, STORAGE_E_CORRUPT);
	assert_int_equal(findings.n, 1);
	expect(&findings, 0, "segment-0000000000000002 offset 0: the segment's header");

	memory_disk_free(f->disk);
	f->disk = memory_disk_clone(whole);
	memory_disk_delete(f->disk, "segment-0000000000000003");
	(void)checked(f, &findings, STORAGE_E_CORRUPT);
	assert_int_equal(findings.n, 1);
	expect(&findings, 0, "segment-0000000000000003 offset 0: is missing");

	memory_disk_free(f->disk);
	f->disk = memory_disk_clone(whole);
	memory_disk_delete(f->disk, "segment-0000000000000001"); /* and no snapshot */
	(void)checked(f, &findings, STORAGE_E_CORRUPT);
	assert_int_equal(findings.n, 1);
	expect(&findings, 0, "segment-0000000000000002 offset 0: the log begins later");

	memory_disk_free(f->disk);
	f->disk = whole;
	uint8_t *bytes = memory_disk_contents(f->disk, "segment-0000000000000002", NULL);
	size_t last = SMALL_SEGMENT - 512;
	while (memcmp(bytes + last, "RKFR", 4) != 0)
		last -= 512;
	bytes[last + 300] ^= 1;
	(void)checked(f, &findings, STORAGE_E_CORRUPT);
	assert_int_equal(findings.n, 1);
	char where[128];
	(void)snprintf(where, sizeof(where), "segment-0000000000000002 offset %zu: no valid record", last);
	expect(&findings, 0, where);
}

/* A start that set everything aside died before the snapshots. No member starts from what is left. */
static void snapshots_alone_are_damage(void **state)
{
	struct fixture *f = *state;
	struct findings findings;
	assert_int_equal(queue(f, 3, 3, 400), 0);
	drain(f);
	assert_int_equal(log_fixture_snapshot(f->storage, f->disk, 2, 3), 0);
	(void)checked(f, &findings, 0);
	memory_disk_delete(f->disk, "segment-0000000000000001");
	struct storage_check check = checked(f, &findings, STORAGE_E_CORRUPT);
	assert_int_equal(findings.n, 1);
	expect(&findings, 0, "snapshot-0000000000000002 offset 0: exists, but no segment");
	assert_int_equal(check.last_index, 0);
	assert_int_equal(open_log(f), STORAGE_E_CORRUPT);
}

static void what_a_crash_leaves_is_no_damage(void **state)
{
	struct fixture *f = *state;
	struct findings findings;
	uint64_t offset = 0;
	size_t size = 0;
	size_t taken = 0;
	uint8_t *file = snapshot_file(100, 4, 700, 100, &size);
	assert_int_equal(queue(f, 3, 3, 400), 0);
	drain(f);
	assert_int_equal(storage_receive_begin(f->storage, 100, 4, &offset), 0);
	assert_int_equal(storage_receive_write(f->storage, 0, file, 150, &taken), 0);
	struct storage_snapshot_begin begin = {.index = 2, .term = 3};
	assert_int_equal(storage_snapshot_begin(f->storage, &begin), 0);
	log_fixture_drain(f->storage, f->disk, 1);
	memory_disk_contents(f->disk, "segment-0000000000000001", NULL)[4096 + 200] ^= 1; /* the last record */
	(void)checked(f, &findings, 0);
	assert_int_equal(findings.n, 3);
	expect(&findings, 0, "segment-0000000000000001 offset 4096: a record that was never completed");
	expect(&findings, 1, "snapshot-0000000000000064.part offset 72: a snapshot that is being received");
	expect(&findings, 2, "snapshot-0000000000000002.tmp offset 64: was not finished");
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(findings.items[i].finding, STORAGE_FINDING_NOTE);
	free(file);
}

/* Any single bit of a record, a header or a snapshot, but for the very last record. */
static void no_flipped_bit_is_missed(void **state)
{
	struct fixture *f = *state;
	struct findings findings;
	fill_segments(f, 2);
	assert_int_equal(log_fixture_snapshot(f->storage, f->disk, 9, 3), 0);
	drain(f);
	f->storage = storage_free(f->storage);
	static const char *const names[] = {"segment-0000000000000001", "snapshot-0000000000000009"};
	for (unsigned i = 0; i < 2; i++) {
		uint64_t size = 0;
		uint8_t *bytes = memory_disk_contents(f->disk, names[i], &size);
		size_t end = i == 0 ? SMALL_SEGMENT - 4096 : (size_t)size;
		for (size_t at = 0; at < end; at += i == 0 ? 37 : 1) {
			bytes[at] ^= (uint8_t)(1u << at % 8);
			(void)checked(f, &findings, STORAGE_E_CORRUPT);
			bytes[at] ^= (uint8_t)(1u << at % 8);
		}
	}
	(void)checked(f, &findings, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(good_directory_is_good),		TEST(log_that_began_anew_is_good),
		TEST(log_that_contradicts_the_snapshot_does_not_count),
		TEST(every_damage_is_reported),		TEST(headers_gaps_and_ends_are_looked_at),
		TEST(snapshots_alone_are_damage),
		TEST(what_a_crash_leaves_is_no_damage), TEST(no_flipped_bit_is_missed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
