/*
 * The bytes of a snapshot file: golden ones from the tables in daemon/storage/README.md, and any others.
 */
#include "daemon/storage/snapshot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include <cmocka.h>

static const uint8_t config[5] = {'p', 'e', 'e', 'r', 's'};
static const struct snapshot_header a_header = {.cluster_id = 0x1122334455667788u,
						.index = 0x0a0b,
						.term = 7,
						.config_index = 0x0901,
						.config_size = sizeof(config),
						.config = config};

/* A file of two blocks: "hello" and 300 bytes of 'x'. */
static size_t make_file(uint8_t *buf)
{
	struct snapshot_chain chain;
	(void)snapshot_encode_header(&chain, &a_header, buf);
	memcpy(buf + chain.offset + SNAPSHOT_BLOCK_HEADER_SIZE, "hello", 5);
	(void)snapshot_seal_block(&chain, buf + chain.offset, 5);
	memset(buf + chain.offset + SNAPSHOT_BLOCK_HEADER_SIZE, 'x', 300);
	(void)snapshot_seal_block(&chain, buf + chain.offset, 300);
	(void)snapshot_encode_footer(&chain, buf + chain.offset);
	return (size_t)chain.offset;
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof(v));
	return v;
}

static void put64(uint8_t *p, uint64_t v)
{
	memcpy(p, &v, sizeof(v));
}

static uint64_t header_checksum(const uint8_t *buf, size_t size)
{
	uint8_t copy[64];
	memcpy(copy, buf, sizeof(copy));
	put64(copy + 16, 0);
	return XXH3_64bits_withSeed(buf + 64, size - 64, XXH3_64bits(copy, 64));
}

static void bytes_are_those_of_the_tables(void **state)
{
	(void)state;
	static const uint8_t header[72] = {'R',	 'A',  'F',  'T',  'K',	 'V',  'S',  'N',  /* magic */
					   1,	 0,    0,    0,				   /* version */
					   72,	 0,    0,    0,				   /* size */
					   0,	 0,    0,    0,	   0,	 0,    0,    0,	   /* checksum */
					   0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* cluster */
					   0x0b, 0x0a, 0,    0,	   0,	 0,    0,    0,	   /* index */
					   7,	 0,    0,    0,	   0,	 0,    0,    0,	   /* term */
					   0x01, 0x09, 0,    0,	   0,	 0,    0,    0, /* index of the configuration */
					   5,	 0,    0,    0,	   0,	 0,    0,    0, /* size of the configuration */
					   'p',	 'e',  'e',  'r',  's',	 0,    0,    0};
	uint8_t buf[1024];
	memset(buf, 0xee, sizeof(buf));
	size_t size = make_file(buf);
	assert_int_equal(size, 72 + 21 + 316 + 40);
	uint64_t checksum = get64(buf + 16);
	assert_int_equal(checksum, header_checksum(buf, 72));
	put64(buf + 16, 0);
	assert_memory_equal(buf, header, sizeof(header));

	const uint8_t *block = buf + 72;
	assert_memory_equal(block + 8, "RKSB\5\0\0\0hello", 13);
	assert_int_equal(get64(block), XXH3_64bits_withSeed(block + 8, 13, checksum));
	const uint8_t *second = block + 21;
	assert_memory_equal(second + 8, "RKSB\x2c\1\0\0xx", 10);
	assert_int_equal(get64(second), XXH3_64bits_withSeed(second + 8, 308, get64(block)));
	const uint8_t *footer = second + 316;
	assert_memory_equal(footer + 8, "RKSF\0\0\0\0", 8);
	assert_int_equal(get64(footer), XXH3_64bits_withSeed(footer + 8, 32, get64(second)));
	assert_int_equal(get64(footer + 16), 2);
	assert_int_equal(get64(footer + 24), 305);
	assert_int_equal(get64(footer + 32), size);
}

/* Parses a whole file with no more bytes at hand than are there. Returns the last result; *ret_offset: how far. */
static enum snapshot_result parse(const uint8_t *buf, size_t len, uint64_t *ret_offset)
{
	struct snapshot_parser parser = {.done = false};
	enum snapshot_result result = SNAPSHOT_OK;
	while (result == SNAPSHOT_OK && !parser.done) {
		struct snapshot_found found;
		size_t left = len - (size_t)parser.chain.offset;
		uint8_t *tight = malloc(left + (left == 0)); /* so that a sanitizer sees a read beyond the end */
		assert_non_null(tight);
		memcpy(tight, buf + parser.chain.offset, left);
		result = snapshot_parse(&parser, tight, left, &found);
		assert_true(result != SNAPSHOT_MORE || found.size > left);
		free(tight);
	}
	*ret_offset = parser.chain.offset;
	return result;
}

static void whole_file_is_good_and_any_beginning_is_not(void **state)
{
	(void)state;
	uint8_t buf[1024];
	size_t size = make_file(buf);
	uint64_t offset = 0;
	assert_int_equal(parse(buf, size, &offset), SNAPSHOT_OK);
	assert_int_equal(offset, size);
	for (size_t len = 0; len < size; len++)
		assert_int_equal(parse(buf, len, &offset), SNAPSHOT_MORE);
}

static void any_flipped_bit_is_noticed_where_it_is(void **state)
{
	(void)state;
	uint8_t buf[1024];
	size_t size = make_file(buf);
	static const size_t parts[] = {0, 72, 93, 409};
	for (size_t bit = 0; bit < size * 8; bit++) {
		uint64_t offset = 0;
		size_t part = 0;
		for (size_t i = 0; i < 4; i++)
			if (parts[i] <= bit / 8)
				part = parts[i];
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		enum snapshot_result result = parse(buf, size, &offset);
		assert_true(result == SNAPSHOT_BAD || result == SNAPSHOT_MORE);
		assert_int_equal(offset, part);
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

static void parts_belong_where_they_were_written(void **state)
{
	(void)state;
	uint8_t buf[1024];
	uint64_t offset = 0;
	size_t size = make_file(buf);
	memmove(buf + 72, buf + 72 + 21, size - 72 - 21); /* without the first block */
	assert_int_equal(parse(buf, size - 21, &offset), SNAPSHOT_BAD);
	assert_int_equal(offset, 72);
	size = make_file(buf);
	memmove(buf + 93, buf + 409, 40); /* without the second */
	assert_int_equal(parse(buf, 93 + 40, &offset), SNAPSHOT_BAD);
}

/* Fields that verify and say nonsense. */
static void impossible_fields_are_refused(void **state)
{
	(void)state;
	for (unsigned what = 0; what < 9; what++) {
		uint8_t buf[1024];
		uint64_t offset = 0;
		size_t size = make_file(buf);
		uint64_t seed = get64(buf + 93);
		uint8_t *footer = buf + 409;
		switch (what) {
		case 0:
			put64(buf + 32, 0);
			break;
		case 1:
			put64(buf + 40, 0);
			break;
		case 2:
			put64(buf + 48, 0x0a0c);
			break;
		case 3:
			buf[56] = 9; /* another size of the configuration than the header has */
			break;
		case 4:
			footer[16]++;
			break;
		case 5:
			footer[24]++;
			break;
		case 6:
			footer[32]++;
			break;
		case 7:
			footer[12] = 1;
			break;
		default:
			buf[8] = 0; /* version */
			break;
		}
		if (what < 4 || what == 8)
			put64(buf + 16, header_checksum(buf, 72));
		else
			put64(footer, XXH3_64bits_withSeed(footer + 8, 32, seed));
		assert_int_equal(parse(buf, size, &offset), SNAPSHOT_BAD);
		assert_int_equal(offset, what < 4 || what == 8 ? 0 : 409);
	}
}

static void blocks_of_impossible_size_are_refused(void **state)
{
	(void)state;
	uint8_t *buf = calloc(1, 2 * SNAPSHOT_BLOCK_SIZE);
	struct snapshot_parser parser = {.done = false};
	struct snapshot_found found;
	assert_non_null(buf);
	size_t size = make_file(buf);
	assert_int_equal(snapshot_parse(&parser, buf, size, &found), SNAPSHOT_OK);
	for (unsigned i = 0; i < 2; i++) {
		struct snapshot_parser copy = parser;
		uint32_t length = i == 0 ? 0 : SNAPSHOT_PAYLOAD_MAX + 1;
		memcpy(buf, "????????RKSB", 12);
		memcpy(buf + 12, &length, 4);
		put64(buf, XXH3_64bits_withSeed(buf + 8, 8 + length, parser.chain.checksum));
		assert_int_equal(snapshot_parse(&copy, buf, 2 * SNAPSHOT_BLOCK_SIZE, &found), SNAPSHOT_BAD);
	}
	free(buf);
}

static void newer_version_is_recognised_when_intact(void **state)
{
	(void)state;
	uint8_t buf[1024];
	uint64_t offset = 0;
	size_t size = make_file(buf);
	buf[8] = 3;
	assert_int_equal(parse(buf, size, &offset), SNAPSHOT_BAD);
	put64(buf + 16, header_checksum(buf, 72));
	assert_int_equal(parse(buf, size, &offset), SNAPSHOT_NEWER);
}

/* Level 1 is what version 1 says without a word. */
static void level_takes_version_2_and_only_it(void **state)
{
	(void)state;
	for (uint32_t level = 0; level < 4; level++) {
		uint8_t buf[1024];
		struct snapshot_header header = {.cluster_id = 1, .index = 2, .term = 1, .level = level};
		struct snapshot_chain chain;
		struct snapshot_parser parser = {.done = false};
		struct snapshot_found found;
		size_t size = snapshot_encode_header(&chain, &header, buf);
		assert_int_equal(buf[8], level > 1 ? 2 : 1);
		assert_int_equal(buf[60], level > 1 ? level : 0);
		assert_int_equal(snapshot_parse(&parser, buf, size, &found), SNAPSHOT_OK);
		assert_int_equal(parser.header.level, level > 1 ? level : 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_are_those_of_the_tables),
		cmocka_unit_test(whole_file_is_good_and_any_beginning_is_not),
		cmocka_unit_test(any_flipped_bit_is_noticed_where_it_is),
		cmocka_unit_test(parts_belong_where_they_were_written),
		cmocka_unit_test(impossible_fields_are_refused),
		cmocka_unit_test(blocks_of_impossible_size_are_refused),
		cmocka_unit_test(newer_version_is_recognised_when_intact),
		cmocka_unit_test(level_takes_version_2_and_only_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
