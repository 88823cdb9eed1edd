/*
 * The log's bytes: golden vectors (daemon/storage/README.md, the byte tables), and that no damage goes unnoticed.
 */
#include "daemon/storage/format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include <cmocka.h>

static const struct format_identity identity = {
	.cluster_id = 0x1111111111111111, .member_id = 2, .incarnation = 0x3333333333333333};

static const struct format_segment a_segment = {
	.identity = {.cluster_id = 0x1111111111111111, .member_id = 2, .incarnation = 0x3333333333333333},
	.sequence = 4,
	.segment_size = 0x400000,
	.prev_flush = 6,
	.prev_checksum = 0x0706050403020100,
	.base_index = 8,
	.base_term = 9,
	.term = 10,
	.vote = 11,
	.commit = 7,
};

#define A_RECORD_OFFSET 4096u

/* Two entries, "hello" and nothing. */
static uint64_t make_record(uint8_t *buf, struct format_record *ret_record)
{
	struct raft_entry entries[2] = {
		{.term = 10,
		 .time_ms = 0x0102030405060708,
		 .type = RAFT_ENTRY_COMMAND,
		 .size = 5,
		 .data = (const uint8_t *)"hello"},
		{.term = 10, .time_ms = 2, .type = RAFT_ENTRY_NOOP, .size = 0},
	};
	size_t at = FORMAT_RECORD_HEADER_SIZE;
	memset(buf, 0xee, FORMAT_SECTOR);
	for (unsigned i = 0; i < 2; i++)
		at += format_entry_encode(&entries[i], buf + at);
	struct format_record record = {
		.n_entries = 2,
		.entry_bytes = (uint32_t)(at - FORMAT_RECORD_HEADER_SIZE),
		.length = (uint32_t)format_record_size(at - FORMAT_RECORD_HEADER_SIZE),
		.prev_checksum = 0x5555555555555555,
		.flush = 7,
		.term = 10,
		.vote = 11,
		.commit = 8,
		.prev_index = 8,
		.prev_term = 9,
	};
	uint64_t seed = format_seed(&identity, 4, A_RECORD_OFFSET);
	format_record_seal(&record, seed, buf);
	*ret_record = record;
	return seed;
}

/* Golden bytes ---------------------------------------------------------------------------------------- */

static const uint8_t golden_segment[120] = {
	'R',  'A',  'F',  'T',	'K',  'V',  'S',  'G',	/* magic */
	1,    0,    0,	  0,				/* version */
	0x00, 0x10, 0,	  0,				/* header size */
	0,    0,    0,	  0,	0,    0,    0,	  0,	/* checksum: filled in below */
	0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, /* cluster */
	2,    0,    0,	  0,	0,    0,    0,	  0,	/* member */
	0x33, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33, /* incarnation */
	4,    0,    0,	  0,	0,    0,    0,	  0,	/* sequence */
	0,    0,    0x40, 0,	0,    0,    0,	  0,	/* segment size */
	6,    0,    0,	  0,	0,    0,    0,	  0,	/* previous flush */
	0,    1,    2,	  3,	4,    5,    6,	  7,	/* its checksum */
	8,    0,    0,	  0,	0,    0,    0,	  0,	/* base index */
	9,    0,    0,	  0,	0,    0,    0,	  0,	/* base term */
	10,   0,    0,	  0,	0,    0,    0,	  0,	/* term */
	11,   0,    0,	  0,	0,    0,    0,	  0,	/* vote */
	7,    0,    0,	  0,	0,    0,    0,	  0,	/* commit */
};
#define GOLDEN_SEGMENT_CHECKSUM 0xa190d8145bd57a17ull

static const uint8_t golden_record[96 + 32 + 24] = {
	'R',  'K',  'F',  'R',				/* magic */
	1,    0,    0,	  0,				/* version */
	0,    2,    0,	  0,				/* length */
	2,    0,    0,	  0,				/* entries */
	0,    0,    0,	  0,	0,    0,    0,	  0,	/* header checksum: filled in below */
	0,    0,    0,	  0,	0,    0,    0,	  0,	/* body checksum: filled in below */
	0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, /* checksum of the record before */
	7,    0,    0,	  0,	0,    0,    0,	  0,	/* flush */
	10,   0,    0,	  0,	0,    0,    0,	  0,	/* term */
	11,   0,    0,	  0,	0,    0,    0,	  0,	/* vote */
	8,    0,    0,	  0,	0,    0,    0,	  0,	/* commit */
	8,    0,    0,	  0,	0,    0,    0,	  0,	/* previous index */
	9,    0,    0,	  0,	0,    0,    0,	  0,	/* previous term */
	56,   0,    0,	  0,	0,    0,    0,	  0,	/* bytes of entries */
	10,   0,    0,	  0,	0,    0,    0,	  0,	/* entry: term */
	8,    7,    6,	  5,	4,    3,    2,	  1,	/* time */
	5,    0,    0,	  0,				/* size */
	2,    0,    0,	  0,				/* type */
	'h',  'e',  'l',  'l',	'o',  0,    0,	  0,	/* data */
	10,   0,    0,	  0,	0,    0,    0,	  0,	/* entry: term */
	2,    0,    0,	  0,	0,    0,    0,	  0,	/* time */
	0,    0,    0,	  0,				/* size */
	1,    0,    0,	  0,				/* type */
};
#define GOLDEN_SEED 0xcd4a7851fe106551ull
#define GOLDEN_HEADER_CHECKSUM 0x75343b72dc2c2634ull
#define GOLDEN_BODY_CHECKSUM 0x75adac8d773cf99dull

static void put64(uint8_t *p, uint64_t v)
{
	for (unsigned i = 0; i < 8; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static void segment_header_has_the_documented_bytes(void **state)
{
	(void)state;
	uint8_t buf[FORMAT_HEADER_SIZE];
	uint8_t expected[FORMAT_HEADER_SIZE] = {0};
	memcpy(expected, golden_segment, sizeof(golden_segment));
	put64(expected + 16, GOLDEN_SEGMENT_CHECKSUM);
	uint64_t checksum = format_segment_encode(&a_segment, buf);
	assert_int_equal(checksum, GOLDEN_SEGMENT_CHECKSUM);
	assert_memory_equal(buf, expected, sizeof(buf));

	struct format_segment back;
	uint64_t again = 0;
	assert_int_equal(format_segment_decode(expected, sizeof(expected), &back, &again), FORMAT_OK);
	assert_int_equal(again, checksum);
	assert_memory_equal(&back, &a_segment, sizeof(back));
}

static void record_has_the_documented_bytes(void **state)
{
	(void)state;
	uint8_t buf[FORMAT_SECTOR];
	uint8_t expected[FORMAT_SECTOR] = {0};
	struct format_record record;
	uint64_t seed = make_record(buf, &record);
	memcpy(expected, golden_record, sizeof(golden_record));
	put64(expected + 16, GOLDEN_HEADER_CHECKSUM);
	put64(expected + 24, GOLDEN_BODY_CHECKSUM);
	assert_int_equal(seed, GOLDEN_SEED);
	assert_memory_equal(buf, expected, sizeof(buf));

	struct format_record back;
	assert_int_equal(format_record_decode(expected, sizeof(expected), seed, &back), FORMAT_OK);
	assert_true(format_record_verify(&back, seed, expected));
	assert_int_equal(back.prev_index, 8);
	assert_int_equal(back.n_entries, 2);
	struct raft_entry entry;
	assert_int_equal(format_entry_decode(expected + 96, back.entry_bytes, &entry), 32);
	assert_int_equal(entry.size, 5);
	assert_memory_equal(entry.data, "hello", 5);
	assert_int_equal(entry.time_ms, 0x0102030405060708);
}

/* Damage ------------------------------------------------------------------------------------------------ */

static void every_flipped_bit_of_a_segment_header_is_noticed(void **state)
{
	(void)state;
	uint8_t buf[FORMAT_HEADER_SIZE];
	struct format_segment back;
	uint64_t checksum;
	(void)format_segment_encode(&a_segment, buf);
	for (size_t i = 0; i < sizeof(buf); i++)
		for (unsigned bit = 0; bit < 8; bit++) {
			buf[i] ^= (uint8_t)(1u << bit);
			assert_int_equal(format_segment_decode(buf, sizeof(buf), &back, &checksum), FORMAT_BAD);
			buf[i] ^= (uint8_t)(1u << bit);
		}
	assert_int_equal(format_segment_decode(buf, sizeof(buf) - 1, &back, &checksum), FORMAT_BAD);
	assert_int_equal(format_segment_decode(buf, sizeof(buf), &back, &checksum), FORMAT_OK);
}

static bool record_is_good(const uint8_t *buf, uint64_t seed)
{
	struct format_record back;
	return format_record_decode(buf, FORMAT_SECTOR, seed, &back) == FORMAT_OK && back.length <= FORMAT_SECTOR &&
	       format_record_verify(&back, seed, buf);
}

static void every_flipped_bit_of_a_record_is_noticed(void **state)
{
	(void)state;
	uint8_t buf[FORMAT_SECTOR];
	struct format_record record;
	uint64_t seed = make_record(buf, &record);
	for (size_t i = 0; i < sizeof(buf); i++)
		for (unsigned bit = 0; bit < 8; bit++) {
			buf[i] ^= (uint8_t)(1u << bit);
			assert_false(record_is_good(buf, seed));
			buf[i] ^= (uint8_t)(1u << bit);
		}
	assert_true(record_is_good(buf, seed));
}

static void record_verifies_only_in_its_place_and_for_its_owner(void **state)
{
	(void)state;
	uint8_t buf[FORMAT_SECTOR];
	struct format_record record;
	uint64_t seed = make_record(buf, &record);
	assert_true(record_is_good(buf, seed));
	assert_false(record_is_good(buf, format_seed(&identity, 4, A_RECORD_OFFSET + FORMAT_SECTOR)));
	assert_false(record_is_good(buf, format_seed(&identity, 5, A_RECORD_OFFSET)));
	for (unsigned field = 0; field < 3; field++) {
		struct format_identity other = identity;
		other.cluster_id += field == 0;
		other.member_id += field == 1;
		other.incarnation += field == 2;
		assert_false(record_is_good(buf, format_seed(&other, 4, A_RECORD_OFFSET)));
	}
}

/* Gives a header with a changed field its checksum again: what a broken writer, or an enemy, would do. */
static void reseal(uint8_t *buf, uint64_t seed)
{
	put64(buf + 16, 0);
	put64(buf + 16, XXH3_64bits_withSeed(buf, FORMAT_RECORD_HEADER_SIZE, seed));
}

static void impossible_lengths_are_refused_even_with_a_valid_checksum(void **state)
{
	(void)state;
	static const struct {
		size_t at;
		uint32_t value;
	} cases[] = {{8, 0},
		     {8, 511},
		     {8, 1024},
		     {8, UINT32_MAX},
		     {8, FORMAT_RECORD_MAX + 512},
		     {88, UINT32_MAX},
		     {88, UINT32_MAX - 95},
		     {88, 417},
		     {88, FORMAT_RECORD_MAX}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t buf[FORMAT_SECTOR];
		struct format_record record;
		uint64_t seed = make_record(buf, &record);
		memcpy(buf + cases[i].at, &cases[i].value, 4);
		reseal(buf, seed);
		assert_int_equal(format_record_decode(buf, sizeof(buf), seed, &record), FORMAT_BAD);
	}
}

static void entries_must_fill_the_record_exactly(void **state)
{
	(void)state;
	for (uint32_t n = 0; n < 5; n++) {
		uint8_t buf[FORMAT_SECTOR];
		struct format_record record;
		uint64_t seed = make_record(buf, &record);
		memcpy(buf + 12, &n, 4);
		reseal(buf, seed);
		assert_int_equal(record_is_good(buf, seed), n == 2);
	}
}

/* Flags belong to version 2, and there is one. */
static void unknown_flags_are_refused(void **state)
{
	(void)state;
	static const struct {
		uint8_t version;
		uint8_t flags;
		bool good;
	} cases[] = {{1, 0, true},  {2, 1, true},  {1, 1, false}, {2, 0, false},
		     {1, 2, false}, {2, 3, false}, {0, 0, false}};
	uint8_t buf[FORMAT_HEADER_SIZE];
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct format_record record;
		uint64_t seed = make_record(buf, &record);
		buf[4] = cases[i].version;
		buf[6] = cases[i].flags;
		reseal(buf, seed);
		enum format_result expected = cases[i].good ? FORMAT_OK : FORMAT_BAD;
		assert_int_equal(format_record_decode(buf, FORMAT_SECTOR, seed, &record), expected);
		if (cases[i].good)
			assert_int_equal(record.reset, cases[i].flags);

		struct format_segment segment;
		uint64_t checksum;
		(void)format_segment_encode(&a_segment, buf);
		buf[8] = cases[i].version;
		buf[10] = cases[i].flags;
		put64(buf + 16, 0);
		put64(buf + 16, XXH3_64bits(buf, sizeof(buf)));
		assert_int_equal(format_segment_decode(buf, sizeof(buf), &segment, &checksum), expected);
		if (cases[i].good)
			assert_int_equal(segment.reset, cases[i].flags);
	}
}

static void newer_versions_are_recognised_when_intact(void **state)
{
	(void)state;
	uint8_t buf[FORMAT_HEADER_SIZE];
	struct format_record record;
	uint64_t seed = make_record(buf, &record);
	buf[4] = 4;
	assert_int_equal(format_record_decode(buf, FORMAT_SECTOR, seed, &record), FORMAT_BAD);
	reseal(buf, seed);
	assert_int_equal(format_record_decode(buf, FORMAT_SECTOR, seed, &record), FORMAT_NEWER);

	struct format_segment segment;
	uint64_t checksum;
	(void)format_segment_encode(&a_segment, buf);
	buf[8] = 4;
	put64(buf + 16, 0);
	put64(buf + 16, XXH3_64bits(buf, sizeof(buf)));
	assert_int_equal(format_segment_decode(buf, sizeof(buf), &segment, &checksum), FORMAT_NEWER);
}

/* Level 1 is what version 1 and 2 say without a word; a higher one takes version 3, with and without a reset. */
static void levels_take_version_3_and_only_they(void **state)
{
	(void)state;
	for (uint32_t level = 0; level < 4; level++) {
		uint8_t buf[FORMAT_HEADER_SIZE];
		uint16_t version = level > 1 ? 3 : 1;
		struct format_record record;
		uint64_t seed = make_record(buf, &record);
		record.level = level;
		format_record_seal(&record, seed, buf);
		assert_int_equal(buf[4], version);
		assert_int_equal(buf[92], level > 1 ? level : 0);
		assert_int_equal(format_record_decode(buf, FORMAT_SECTOR, seed, &record), FORMAT_OK);
		assert_int_equal(record.level, level > 1 ? level : 0);
		assert_false(record.reset);
		buf[92] = 1; /* would be written in another way */
		reseal(buf, seed);
		assert_int_equal(format_record_decode(buf, FORMAT_SECTOR, seed, &record), FORMAT_BAD);

		struct format_segment segment = a_segment;
		uint64_t checksum;
		segment.level = level;
		(void)format_segment_encode(&segment, buf);
		assert_int_equal(buf[8], version);
		assert_int_equal(buf[120], level > 1 ? level : 0);
		assert_int_equal(format_segment_decode(buf, sizeof(buf), &segment, &checksum), FORMAT_OK);
		assert_int_equal(segment.level, level > 1 ? level : 0);
	}
}

static void entry_decoder_survives_any_bytes(void **state)
{
	(void)state;
	uint64_t random = 1;
	for (unsigned i = 0; i < 100000; i++) {
		uint8_t exact[48];
		for (size_t k = 0; k < sizeof(exact); k++) {
			random = random * 6364136223846793005u + 1442695040888963407u;
			exact[k] = (uint8_t)((random >> 60) < 12 ? 0 : random >> 32);
		}
		size_t len = (size_t)(random >> 33) % (sizeof(exact) + 1);
		uint8_t *tight = malloc(len + (len == 0)); /* so that a sanitizer sees a read beyond the end */
		assert_non_null(tight);
		memcpy(tight, exact, len);
		struct raft_entry entry;
		size_t n = format_entry_decode(tight, len, &entry);
		assert_true(n <= len);
		assert_true(n == 0 || FORMAT_ENTRY_HEADER_SIZE + entry.size <= n);
		free(tight);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(segment_header_has_the_documented_bytes),
		cmocka_unit_test(record_has_the_documented_bytes),
		cmocka_unit_test(every_flipped_bit_of_a_segment_header_is_noticed),
		cmocka_unit_test(every_flipped_bit_of_a_record_is_noticed),
		cmocka_unit_test(record_verifies_only_in_its_place_and_for_its_owner),
		cmocka_unit_test(impossible_lengths_are_refused_even_with_a_valid_checksum),
		cmocka_unit_test(entries_must_fill_the_record_exactly),
		cmocka_unit_test(unknown_flags_are_refused),
		cmocka_unit_test(newer_versions_are_recognised_when_intact),
		cmocka_unit_test(levels_take_version_3_and_only_they),
		cmocka_unit_test(entry_decoder_survives_any_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
