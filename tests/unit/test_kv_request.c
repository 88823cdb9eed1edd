/*
 * Frames, bodies and pages between clients and members (kv/request.h): golden bytes, round trips, and that neither a
 * truncation nor a mutation is taken for the original or makes a decoder read outside of its bytes.
 */
#include "kv/request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <xxhash.h>

#define CLUSTER UINT64_C(0x1122334455667788)

/* A copy that ends where its heap block ends, so that a sanitizer sees a read beyond it. */
static uint8_t *copy_of(const uint8_t *bytes, size_t size)
{
	uint8_t *copy = malloc(size > 0 ? size : 1);

	assert_non_null(copy);
	if (size > 0)
		memcpy(copy, bytes, size);
	return copy;
}

/* Frames ----------------------------------------------------------------------------------------------------- */

static const uint8_t golden_frame[] = {
	'R',  'K',  'V',  'C',				/* magic */
	1,    1,    0,	  0,				/* version, kind, reserved */
	2,    0,    0,	  0,				/* items */
	80,   0,    0,	  0,				/* size */
	0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* cluster */
	0xd3, 0x23, 0xd1, 0x9c, 0x9b, 0xd3, 0x9c, 0x83, /* checksum */
	7,    0,    0,	  0,	0,    0,    0,	  0,	/* first item: id */
	2,    0,    0,	  0,				/* type, reserved */
	11,   0,    0,	  0,				/* size */
	1,    0,    0,	  0,	0,    0,    0,	  0,	/* GET: stale */
	'k',  'e',  'y',  0,	0,    0,    0,	  0,	/* key, padding */
	0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, /* second item: id */
	3,    0,    0,	  0,	0,    0,    0,	  0,	/* STATUS, no body */
};

static void build_golden(struct kv_frame *frame)
{
	uint8_t *body;

	kv_frame_begin(frame);
	body = kv_frame_add(frame, 7, KV_REQUEST_GET, KV_GET_BODY_SIZE(3));
	assert_non_null(body);
	kv_get_encode(body, KV_GET_STALE, (const uint8_t *)"key", 3);
	assert_non_null(kv_frame_add(frame, UINT64_MAX, KV_REQUEST_STATUS, 0));
	kv_frame_finish(frame, KV_FRAME_REQUESTS, CLUSTER);
}

static int read_copy(const uint8_t *bytes, size_t size, uint8_t kind, uint64_t cluster)
{
	uint8_t *copy = copy_of(bytes, size);
	struct kv_frame_reader reader = {.left = 99};
	struct kv_frame_item item;
	int r = kv_frame_read(copy, size, kind, cluster, &reader);

	if (r == KV_FRAME_OK)
		while (kv_frame_next(&reader, &item))
			assert_in_range((uintptr_t)(item.body + item.size), (uintptr_t)copy, (uintptr_t)(copy + size));
	else
		assert_int_equal(reader.left, 99); /* untouched on failure */
	free(copy);
	return r;
}

static void frame_has_the_documented_bytes(void **state)
{
	struct kv_frame frame = {.len = 0};

	(void)state;
	/* Twice: the second uses the buffer that the first has left full. */
	for (unsigned i = 0; i < 2; i++) {
		build_golden(&frame);
		assert_int_equal(frame.len, sizeof(golden_frame));
		assert_memory_equal(frame.buf, golden_frame, sizeof(golden_frame));
		memset(frame.buf, 0xaa, frame.capacity);
	}
	kv_frame_free(&frame);
	assert_null(frame.buf);
}

static void frame_is_read_item_by_item(void **state)
{
	struct kv_frame_reader reader;
	struct kv_frame_item item;
	const uint8_t *key;
	size_t key_size;
	uint8_t flags;

	(void)state;
	assert_int_equal(kv_frame_read(golden_frame, sizeof(golden_frame), KV_FRAME_REQUESTS, CLUSTER, &reader),
			 KV_FRAME_OK);
	assert_true(kv_frame_next(&reader, &item));
	assert_int_equal(item.id, 7);
	assert_int_equal(item.type, KV_REQUEST_GET);
	assert_true(kv_get_decode(item.body, item.size, &flags, &key, &key_size));
	assert_int_equal(flags, KV_GET_STALE);
	assert_int_equal(key_size, 3);
	assert_memory_equal(key, "key", 3);
	assert_true(kv_frame_next(&reader, &item));
	assert_true(item.id == UINT64_MAX);
	assert_int_equal(item.type, KV_REQUEST_STATUS);
	assert_int_equal(item.size, 0);
	assert_false(kv_frame_next(&reader, &item));
}

static void frame_cut_anywhere_or_too_long_is_refused(void **state)
{
	uint8_t longer[sizeof(golden_frame) + 8] = {0};

	(void)state;
	for (size_t size = 0; size < sizeof(golden_frame); size++)
		assert_int_equal(read_copy(golden_frame, size, KV_FRAME_REQUESTS, CLUSTER), KV_FRAME_SHORT);
	memcpy(longer, golden_frame, sizeof(golden_frame));
	assert_int_equal(read_copy(longer, sizeof(longer), KV_FRAME_REQUESTS, CLUSTER), KV_FRAME_FORMAT);
}

static void every_flipped_bit_of_a_frame_is_noticed(void **state)
{
	uint8_t bytes[sizeof(golden_frame)];

	(void)state;
	for (size_t bit = 0; bit < sizeof(bytes) * 8; bit++) {
		memcpy(bytes, golden_frame, sizeof(bytes));
		bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		assert_int_not_equal(read_copy(bytes, sizeof(bytes), KV_FRAME_REQUESTS, CLUSTER), KV_FRAME_OK);
	}
}

static void another_kind_cluster_magic_or_version_is_named(void **state)
{
	uint8_t bytes[sizeof(golden_frame)];

	(void)state;
	assert_int_equal(read_copy(golden_frame, sizeof(golden_frame), KV_FRAME_REPLIES, CLUSTER), KV_FRAME_FORMAT);
	assert_int_equal(read_copy(golden_frame, sizeof(golden_frame), KV_FRAME_REQUESTS, 1), KV_FRAME_CLUSTER);
	memcpy(bytes, golden_frame, sizeof(bytes));
	bytes[0] = 'r';
	assert_int_equal(read_copy(bytes, sizeof(bytes), KV_FRAME_REQUESTS, CLUSTER), KV_FRAME_MAGIC);
	bytes[0] = 'R';
	bytes[4] = 2;
	assert_int_equal(read_copy(bytes, sizeof(bytes), KV_FRAME_REQUESTS, CLUSTER), KV_FRAME_BAD_VERSION);
	bytes[4] = 1;
	bytes[40] ^= 1;
	assert_int_equal(read_copy(bytes, sizeof(bytes), KV_FRAME_REQUESTS, CLUSTER), KV_FRAME_CHECKSUM);
}

/* Gives mutated bytes a valid checksum, as a hostile client would. */
static int read_signed(uint8_t *bytes, size_t size)
{
	uint64_t checksum;

	memset(bytes + 24, 0, 8);
	checksum = XXH3_64bits(bytes, size);
	for (unsigned i = 0; i < 8; i++)
		bytes[24 + i] = (uint8_t)(checksum >> (8 * i));
	return read_copy(bytes, size, KV_FRAME_REQUESTS, CLUSTER);
}

static int read_signed_with(size_t offset, uint8_t byte)
{
	uint8_t bytes[sizeof(golden_frame)];

	memcpy(bytes, golden_frame, sizeof(bytes));
	bytes[offset] = byte;
	return read_signed(bytes, sizeof(bytes));
}

static void lies_under_a_valid_checksum_are_refused(void **state)
{
	(void)state;
	assert_int_equal(read_signed_with(32, 8), KV_FRAME_OK);	   /* another id is fine: the helper works */
	assert_int_equal(read_signed_with(6, 1), KV_FRAME_FORMAT); /* reserved */
	assert_int_equal(read_signed_with(8, 1), KV_FRAME_FORMAT); /* one item less than there are */
	assert_int_equal(read_signed_with(8, 3), KV_FRAME_FORMAT); /* one more */
	assert_int_equal(read_signed_with(11, 0xff), KV_FRAME_FORMAT);
	assert_int_equal(read_signed_with(12, 81), KV_FRAME_SHORT);
	assert_int_equal(read_signed_with(12, 72), KV_FRAME_FORMAT);
	assert_int_equal(read_signed_with(15, 0xff), KV_FRAME_FORMAT);
	assert_int_equal(read_signed_with(41, 1), KV_FRAME_FORMAT); /* an item's reserved byte */
	assert_int_equal(read_signed_with(44, 17), KV_FRAME_FORMAT);
	assert_int_equal(read_signed_with(47, 0xff), KV_FRAME_FORMAT);
	assert_int_equal(read_signed_with(63, 1), KV_FRAME_FORMAT); /* padding */
	assert_int_equal(read_signed_with(76, 1), KV_FRAME_FORMAT); /* a body beyond the end */
}

static void random_frames_under_a_valid_checksum_stay_within_their_bytes(void **state)
{
	unsigned seed = 20250102, accepted = 0;
	uint8_t bytes[sizeof(golden_frame)];

	(void)state;
	for (unsigned round = 0; round < 50000; round++) {
		size_t size = sizeof(bytes) - (round % 3 == 0 ? 8 * ((unsigned)rand_r(&seed) % 6) : 0);

		memcpy(bytes, golden_frame, sizeof(bytes));
		for (unsigned i = 0; i < 1 + round % 3; i++)
			bytes[8 + (unsigned)rand_r(&seed) % (sizeof(bytes) - 8)] = (uint8_t)rand_r(&seed);
		bytes[12] = (uint8_t)size;
		accepted += read_signed(bytes, size) == KV_FRAME_OK;
	}
	assert_true(accepted > 1000);
}

static void frame_is_full_exactly_at_its_limit(void **state)
{
	uint32_t most = KV_FRAME_SIZE_MAX - KV_FRAME_HEADER_SIZE - KV_ITEM_HEADER_SIZE;
	struct kv_frame frame = {.len = 0};
	uint8_t *body;

	(void)state;
	assert_null(kv_frame_add(&frame, 1, 1, UINT32_MAX));
	assert_null(kv_frame_add(&frame, 1, 1, most + 1));
	assert_int_equal(frame.len, 0);
	body = kv_frame_add(&frame, 1, 1, most);
	assert_non_null(body);
	memset(body, 1, most);
	assert_null(kv_frame_add(&frame, 2, 1, 0));
	kv_frame_finish(&frame, KV_FRAME_REPLIES, CLUSTER);
	assert_int_equal(frame.len, KV_FRAME_SIZE_MAX);
	assert_int_equal(read_copy(frame.buf, frame.len, KV_FRAME_REPLIES, CLUSTER), KV_FRAME_OK);
	kv_frame_begin(&frame);
	assert_non_null(kv_frame_add(&frame, 3, 1, 5));
	kv_frame_free(&frame);
}

static void many_items_of_all_sizes_come_back(void **state)
{
	struct kv_frame frame = {.len = 0};
	struct kv_frame_reader reader;
	struct kv_frame_item item;

	(void)state;
	for (uint32_t i = 0; i < 2000; i++) {
		uint8_t *body = kv_frame_add(&frame, i, (uint8_t)i, i % 67);

		assert_non_null(body);
		memset(body, (int)(i & 0xff), i % 67);
	}
	kv_frame_finish(&frame, KV_FRAME_REPLIES, CLUSTER);
	assert_int_equal(kv_frame_read(frame.buf, frame.len, KV_FRAME_REPLIES, CLUSTER, &reader), KV_FRAME_OK);
	for (uint32_t i = 0; i < 2000; i++) {
		assert_true(kv_frame_next(&reader, &item));
		assert_int_equal(item.id, i);
		assert_int_equal(item.type, (uint8_t)i);
		assert_int_equal(item.size, i % 67);
		for (uint32_t at = 0; at < item.size; at++)
			assert_int_equal(item.body[at], (uint8_t)i);
	}
	assert_false(kv_frame_next(&reader, &item));
	kv_frame_free(&frame);
}

static void results_have_names(void **state)
{
	(void)state;
	for (int i = KV_FRAME_OK; i <= KV_FRAME_CLUSTER; i++)
		assert_string_not_equal(kv_frame_result_name(i), "unknown");
	assert_string_equal(kv_frame_result_name(99), "unknown");
}

/* Bodies ----------------------------------------------------------------------------------------------------- */

/* Every decoder, as a function of bytes only; true: accepted, and all that it points to was read. */
typedef bool (*decoder)(const uint8_t *bytes, size_t size);

static unsigned sum_of(const uint8_t *bytes, size_t size)
{
	unsigned sum = 0;

	for (size_t i = 0; i < size; i++)
		sum += bytes[i];
	return sum;
}

static bool try_get(const uint8_t *bytes, size_t size)
{
	const uint8_t *key;
	size_t key_size;
	uint8_t flags;

	return kv_get_decode(bytes, size, &flags, &key, &key_size) && sum_of(key, key_size) != UINT32_MAX;
}

static bool try_dump(const uint8_t *bytes, size_t size)
{
	struct kv_dump_request request;

	return kv_dump_decode(bytes, size, &request) && sum_of(request.key, request.key_size) != UINT32_MAX;
}

static bool try_log(const uint8_t *bytes, size_t size)
{
	uint64_t first;
	uint32_t max;

	return kv_log_decode(bytes, size, &first, &max);
}

static bool try_transfer(const uint8_t *bytes, size_t size)
{
	uint64_t target;

	return kv_transfer_decode(bytes, size, &target);
}

static bool try_reply(const uint8_t *bytes, size_t size)
{
	struct kv_answer_body answer;

	return kv_reply_decode(bytes, size, &answer) && sum_of(answer.data, answer.size) != UINT32_MAX;
}

static bool try_dump_page(const uint8_t *bytes, size_t size)
{
	struct kv_dump_page page;
	struct kv_item item;

	if (!kv_dump_page_decode(bytes, size, &page))
		return false;
	while (kv_dump_item_decode(&page, &item))
		assert_true(sum_of(item.key, item.key_size) + sum_of(item.value, item.value_size) != UINT32_MAX);
	assert_int_equal(page.count, 0); /* a page that was accepted is whole */
	return true;
}

static bool try_log_page(const uint8_t *bytes, size_t size)
{
	struct kv_log_page page;
	struct kv_log_item item;

	if (!kv_log_page_decode(bytes, size, &page))
		return false;
	while (kv_log_item_decode(&page, &item))
		assert_true(sum_of(item.data, item.size) != UINT32_MAX);
	assert_int_equal(page.count, 0);
	return true;
}

static bool try_copy(decoder decode, const uint8_t *bytes, size_t size)
{
	uint8_t *copy = copy_of(bytes, size);
	bool accepted = decode(copy, size);

	free(copy);
	return accepted;
}

/* Cuts below `least` must be refused; mutations of any kind must be survived. */
static void torment(decoder decode, const uint8_t *bytes, size_t size, size_t least)
{
	unsigned seed = 20250103;
	uint8_t mutated[512];

	assert_true(size <= sizeof(mutated));
	assert_true(try_copy(decode, bytes, size));
	for (size_t cut = 0; cut < least; cut++)
		assert_false(try_copy(decode, bytes, cut));
	for (unsigned round = 0; round < 20000; round++) {
		memcpy(mutated, bytes, size);
		for (unsigned i = 0; i < 1 + round % 4; i++)
			mutated[(unsigned)rand_r(&seed) % size] = (uint8_t)rand_r(&seed);
		(void)try_copy(decode, mutated, round % 8 == 0 ? (unsigned)rand_r(&seed) % size : size);
	}
}

static void get_body_round_trips_and_refuses_the_rest(void **state)
{
	static const uint8_t golden[] = {1, 0, 0, 0, 0, 0, 0, 0, 'k', 'e', 'y'};
	uint8_t body[8 + KV_KEY_SIZE_MAX + 1] = {0};

	(void)state;
	kv_get_encode(body, KV_GET_STALE, (const uint8_t *)"key", 3);
	assert_memory_equal(body, golden, sizeof(golden));
	torment(try_get, golden, sizeof(golden), 8);
	memset(body, 0, sizeof(body));
	assert_true(try_copy(try_get, body, 8)); /* an empty key is no key, but that is the reader's business */
	assert_true(try_copy(try_get, body, 8 + KV_KEY_SIZE_MAX));
	assert_false(try_copy(try_get, body, 8 + KV_KEY_SIZE_MAX + 1));
	body[0] = 2;
	assert_false(try_copy(try_get, body, 9));
	body[0] = 0;
	body[7] = 1;
	assert_false(try_copy(try_get, body, 9));
}

static void dump_body_round_trips_and_refuses_the_rest(void **state)
{
	static const uint8_t golden[] = {1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 'k', 'e', 'y'};
	struct kv_dump_request request = {
		.flags = KV_DUMP_AFTER, .applied = 7, .key = (const uint8_t *)"key", .key_size = 3};
	uint8_t body[KV_DUMP_BODY_SIZE(KV_KEY_SIZE_MAX) + 1] = {0};

	(void)state;
	kv_dump_encode(body, &request);
	assert_memory_equal(body, golden, sizeof(golden));
	assert_true(kv_dump_decode(body, sizeof(golden), &request));
	assert_int_equal(request.flags, KV_DUMP_AFTER);
	assert_int_equal(request.applied, 7);
	assert_int_equal(request.key_size, 3);
	assert_memory_equal(request.key, "key", 3);
	torment(try_dump, golden, sizeof(golden), 16);
	memset(body, 0, sizeof(body));
	assert_true(try_copy(try_dump, body, 16 + KV_KEY_SIZE_MAX));
	assert_false(try_copy(try_dump, body, 16 + KV_KEY_SIZE_MAX + 1));
	body[0] = 2;
	assert_false(try_copy(try_dump, body, 17));
	body[0] = 0;
	body[7] = 1;
	assert_false(try_copy(try_dump, body, 17));
}

static void log_and_transfer_bodies_round_trip(void **state)
{
	static const uint8_t golden[] = {5, 0, 0, 0, 0, 0, 0, 0x80, 3, 0, 0, 0, 0, 0, 0, 0};
	uint8_t body[KV_LOG_BODY_SIZE + 1] = {0};
	uint64_t number = 0;
	uint32_t max = 0;

	(void)state;
	kv_log_encode(body, UINT64_C(0x8000000000000005), 3);
	assert_memory_equal(body, golden, sizeof(golden));
	assert_true(kv_log_decode(body, KV_LOG_BODY_SIZE, &number, &max));
	assert_true(number == UINT64_C(0x8000000000000005));
	assert_int_equal(max, 3);
	assert_false(kv_log_decode(body, sizeof(body), &number, &max));
	torment(try_log, golden, sizeof(golden), sizeof(golden));

	kv_transfer_encode(body, 4);
	assert_true(kv_transfer_decode(body, KV_TRANSFER_BODY_SIZE, &number));
	assert_int_equal(number, 4);
	assert_false(kv_transfer_decode(body, KV_TRANSFER_BODY_SIZE + 1, &number));
	torment(try_transfer, golden, KV_TRANSFER_BODY_SIZE, KV_TRANSFER_BODY_SIZE);
}

static void reply_body_round_trips_and_refuses_the_rest(void **state)
{
	static const uint8_t golden[] = {0, 2, 0, 0, 0, 0, 0, 0, 9, 1,	 0,   0,   0,	0,  0,
					 0, 3, 0, 0, 0, 0, 0, 0, 0, 'v', 'a', 'l', 'u', 'e'};
	struct kv_answer_body answer = {.answer = KV_ANSWER_OK,
					.status = KV_CAS_MISMATCH,
					.number = 0x109,
					.term = 3,
					.data = (const uint8_t *)"value",
					.size = 5};
	uint8_t body[sizeof(golden)];
	struct kv_answer_body decoded;

	(void)state;
	assert_int_equal(KV_REPLY_BODY_SIZE(5), sizeof(golden));
	kv_reply_encode(body, &answer);
	assert_memory_equal(body, golden, sizeof(golden));
	assert_true(kv_reply_decode(body, sizeof(body), &decoded));
	assert_int_equal(decoded.answer, KV_ANSWER_OK);
	assert_int_equal(decoded.status, KV_CAS_MISMATCH);
	assert_int_equal(decoded.number, 0x109);
	assert_int_equal(decoded.term, 3);
	assert_int_equal(decoded.size, 5);
	assert_memory_equal(decoded.data, "value", 5);
	torment(try_reply, golden, sizeof(golden), KV_REPLY_HEADER_SIZE);
	body[0] = KV_ANSWER_REFUSED + 1;
	assert_false(try_copy(try_reply, body, sizeof(body)));
	body[0] = KV_ANSWER_REFUSED;
	assert_true(try_copy(try_reply, body, sizeof(body)));
	body[1] = KV_WINDOW_FULL + 1;
	assert_false(try_copy(try_reply, body, sizeof(body)));
	body[1] = 0;
	body[7] = 1;
	assert_false(try_copy(try_reply, body, sizeof(body)));
}

static void versions_are_numbers_that_can_be_compared(void **state)
{
	(void)state;
	assert_true(kv_version_number("0.2.0") == 0x000000020000);
	assert_true(kv_version_number("1.10.65535") == 0x0001000affff);
	assert_true(kv_version_number("0.2.0~rc1") == kv_version_number("0.2.0"));
	assert_true(kv_version_number("0.10.0") > kv_version_number("0.9.9"));
	static const char *const none[] = {"", "1", "1.", "1.2", "1.2.", ".1.2", "1..2", "1.2.65536", "1.2.x", "1,2,3", "123456.1.1"};
	for (size_t k = 0; k < sizeof(none) / sizeof(none[0]); k++)
		assert_true(kv_version_number(none[k]) == 0);
}

static void status_of_older_and_newer_members_is_understood(void **state)
{
	uint8_t data[KV_STATUS_SIZE + 16] = {0};
	struct kv_member_status status, decoded;

	(void)state;
	memset(&status, 0, sizeof(status));
	status.id = 3;
	status.rss_bytes = 0x0102030405060708;
	status.elections = 9;
	status.mark_hash = 5;
	status.version = 6;
	status.leased_reads = 5;
	kv_status_encode(data, &status);
	assert_int_equal(data[0], 3);
	assert_int_equal(data[11 * 8], 8); /* rss_bytes is the twelfth, little-endian */
	assert_int_equal(data[11 * 8 + 7], 1);
	assert_true(kv_status_decode(data, KV_STATUS_SIZE, &decoded));
	assert_memory_equal(&decoded, &status, sizeof(status));
	assert_true(kv_status_decode(data, sizeof(data), &decoded)); /* newer: more numbers */
	assert_memory_equal(&decoded, &status, sizeof(status));
	assert_true(kv_status_decode(data, KV_STATUS_SIZE - 8, &decoded)); /* older: fewer */
	assert_true(decoded.leased_reads == 0);
	assert_true(decoded.rss_bytes == status.rss_bytes);
	assert_false(kv_status_decode(data, 0, &decoded));
	for (size_t size = 1; size < sizeof(data); size++)
		assert_int_equal(kv_status_decode(data, size, &decoded), size % 8 == 0);
}

/* Pages ------------------------------------------------------------------------------------------------------ */

static void dump_page_round_trips_and_refuses_the_rest(void **state)
{
	static const uint8_t golden[] = {
		5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 1,   0,	  0,   0, 2, 0, 0, 0, /* header */
		7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 'a', 'v', 'w',		      /* a -> vw at 7 */
		8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 'b', 'c',		      /* bc -> nothing at 8 */
	};
	const struct kv_dump_page page = {.applied = 5, .hash = 6, .more = true, .count = 2};
	const struct kv_item items[] = {
		{.key = (const uint8_t *)"a",
		 .key_size = 1,
		 .value = (const uint8_t *)"vw",
		 .value_size = 2,
		 .revision = 7},
		{.key = (const uint8_t *)"bc", .key_size = 2, .revision = 8},
	};
	uint8_t data[sizeof(golden)], longer[sizeof(golden) + 1] = {0};
	struct kv_dump_page decoded;
	struct kv_item item;

	(void)state;
	kv_dump_page_encode(data, &page);
	kv_dump_item_encode(data + KV_DUMP_PAGE_HEADER_SIZE, &items[0]);
	kv_dump_item_encode(data + KV_DUMP_PAGE_HEADER_SIZE + KV_DUMP_ITEM_SIZE(1, 2), &items[1]);
	assert_memory_equal(data, golden, sizeof(golden));
	assert_true(kv_dump_page_decode(data, sizeof(data), &decoded));
	assert_int_equal(decoded.applied, 5);
	assert_int_equal(decoded.hash, 6);
	assert_true(decoded.more);
	assert_int_equal(decoded.count, 2);
	assert_true(kv_dump_item_decode(&decoded, &item));
	assert_int_equal(item.revision, 7);
	assert_memory_equal(item.key, "a", 1);
	assert_int_equal(item.value_size, 2);
	assert_memory_equal(item.value, "vw", 2);
	assert_true(kv_dump_item_decode(&decoded, &item));
	assert_int_equal(item.key_size, 2);
	assert_int_equal(item.value_size, 0);
	assert_false(kv_dump_item_decode(&decoded, &item));
	torment(try_dump_page, golden, sizeof(golden), sizeof(golden));
	memcpy(longer, golden, sizeof(golden));
	assert_false(try_copy(try_dump_page, longer, sizeof(longer)));
	longer[16] = 2; /* an unknown flag */
	assert_false(try_copy(try_dump_page, longer, sizeof(golden)));
}

static void log_page_round_trips_and_refuses_the_rest(void **state)
{
	static const uint8_t golden[] = {
		9,   0,	  0,   0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, /* last, commit */
		4,   0,	  0,   0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, /* first, count */
		4,   0,	  0,   0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, /* index, term */
		1,   2,	  0,   0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, /* time, type, size */
		'x', 'y', 'z',					      /* data */
		5,   0,	  0,   0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,
	};
	const struct kv_log_page page = {.last = 9, .commit = 8, .first = 4, .count = 2};
	const struct kv_log_item items[] = {
		{.index = 4, .term = 2, .time_ms = 0x201, .type = 2, .data = (const uint8_t *)"xyz", .size = 3},
		{.index = 5, .term = 2, .type = 1},
	};
	uint8_t data[sizeof(golden)], longer[sizeof(golden) + 1] = {0};
	struct kv_log_page decoded;
	struct kv_log_item item;

	(void)state;
	kv_log_page_encode(data, &page);
	kv_log_item_encode(data + KV_LOG_PAGE_HEADER_SIZE, &items[0]);
	kv_log_item_encode(data + KV_LOG_PAGE_HEADER_SIZE + KV_LOG_ITEM_SIZE(3), &items[1]);
	assert_memory_equal(data, golden, sizeof(golden));
	assert_true(kv_log_page_decode(data, sizeof(data), &decoded));
	assert_int_equal(decoded.last, 9);
	assert_int_equal(decoded.commit, 8);
	assert_int_equal(decoded.first, 4);
	assert_true(kv_log_item_decode(&decoded, &item));
	assert_int_equal(item.index, 4);
	assert_int_equal(item.term, 2);
	assert_int_equal(item.time_ms, 0x201);
	assert_int_equal(item.type, 2);
	assert_int_equal(item.size, 3);
	assert_memory_equal(item.data, "xyz", 3);
	assert_true(kv_log_item_decode(&decoded, &item));
	assert_int_equal(item.size, 0);
	assert_false(kv_log_item_decode(&decoded, &item));
	torment(try_log_page, golden, sizeof(golden), sizeof(golden));
	memcpy(longer, golden, sizeof(golden));
	assert_false(try_copy(try_log_page, longer, sizeof(longer)));
}

static void cluster_ids_are_those_of_the_formats(void **state)
{
	(void)state;
	assert_true(kv_cluster_id("main") == XXH3_64bits("main", 4));
	assert_true(kv_cluster_id("main") != kv_cluster_id("Main"));
	assert_true(kv_cluster_id("") != 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frame_has_the_documented_bytes),
		cmocka_unit_test(frame_is_read_item_by_item),
		cmocka_unit_test(frame_cut_anywhere_or_too_long_is_refused),
		cmocka_unit_test(every_flipped_bit_of_a_frame_is_noticed),
		cmocka_unit_test(another_kind_cluster_magic_or_version_is_named),
		cmocka_unit_test(lies_under_a_valid_checksum_are_refused),
		cmocka_unit_test(random_frames_under_a_valid_checksum_stay_within_their_bytes),
		cmocka_unit_test(frame_is_full_exactly_at_its_limit),
		cmocka_unit_test(many_items_of_all_sizes_come_back),
		cmocka_unit_test(results_have_names),
		cmocka_unit_test(get_body_round_trips_and_refuses_the_rest),
		cmocka_unit_test(dump_body_round_trips_and_refuses_the_rest),
		cmocka_unit_test(log_and_transfer_bodies_round_trip),
		cmocka_unit_test(reply_body_round_trips_and_refuses_the_rest),
		cmocka_unit_test(versions_are_numbers_that_can_be_compared),
		cmocka_unit_test(status_of_older_and_newer_members_is_understood),
		cmocka_unit_test(dump_page_round_trips_and_refuses_the_rest),
		cmocka_unit_test(log_page_round_trips_and_refuses_the_rest),
		cmocka_unit_test(cluster_ids_are_those_of_the_formats),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
