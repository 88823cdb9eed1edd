/*
 * The frames of snapshots and of membership on the wire: laid out here by hand from the tables of
 * daemon/transport/README.md and compared with what the codec writes and reads.
 */
#include "daemon/transport/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <xxhash.h>

#define HEADER_SIZE 64u
#define AT_BODY 64u
#define FRAME_MAX (HEADER_SIZE + 40u + WIRE_CHUNK_BYTES_MAX)

/* A frame being laid out. */
struct frame {
	uint8_t *at;
	size_t len;
};

static void add(struct frame *frame, uint64_t number, unsigned bytes)
{
	for (unsigned k = 0; k < bytes; k++)
		frame->at[frame->len++] = (uint8_t)(number >> (8 * k));
}

static void begin(struct frame *frame, uint8_t type)
{
	frame->at = calloc(1, FRAME_MAX + 64);
	assert_non_null(frame->at);
	memcpy(frame->at, "RKVP", 4);
	frame->len = 4;
	add(frame, 1, 1);
	add(frame, type, 1);
	add(frame, 0, 2);
	add(frame, 0, 8); /* checksum: sealed at the end */
	add(frame, 77, 8);
	add(frame, 2, 8);
	add(frame, 1002, 8);
	add(frame, 3, 8);
	add(frame, 9, 8);
	add(frame, 0, 8); /* size: likewise */
	assert_int_equal(frame->len, HEADER_SIZE);
}

static void seal(struct frame *frame)
{
	size_t len = frame->len;
	frame->len = 56;
	add(frame, len, 4);
	frame->len = 8;
	add(frame, 0, 8);
	uint64_t checksum = XXH3_64bits(frame->at, len);
	frame->len = 8;
	add(frame, checksum, 8);
	frame->len = len;
}

static struct wire_message header(uint8_t type)
{
	return (struct wire_message){
		.type = type, .cluster = 77, .from = 2, .from_incarnation = 1002, .to = 3, .term = 9};
}

static int decode(const struct frame *frame, struct wire_message *ret)
{
	uint8_t *copy = malloc(frame->len); /* exactly as long, so that a sanitizer sees a read behind it */
	assert_non_null(copy);
	memcpy(copy, frame->at, frame->len);
	int r = wire_decode(copy, frame->len, NULL, 0, ret);
	if (r == WIRE_OK && ret->type == WIRE_SNAPSHOT_CHUNK)
		ret->snapshot_chunk.data = frame->at + (ret->snapshot_chunk.data - copy);
	free(copy);
	return r;
}

static void assert_same(const struct frame *frame, const struct wire_message *message)
{
	assert_int_equal(wire_encoded_size(message), frame->len);
	uint8_t *encoded = malloc(frame->len);
	assert_non_null(encoded);
	memset(encoded, 0xee, frame->len); /* every byte must be written */
	wire_encode(message, encoded);
	assert_memory_equal(encoded, frame->at, frame->len);
	free(encoded);
}

static void test_offer(void **state)
{
	(void)state;
	struct frame frame;
	struct wire_message got;
	begin(&frame, 7);
	add(&frame, 1000, 8);
	add(&frame, 8, 8);
	add(&frame, 123456789, 8);
	seal(&frame);
	assert_int_equal(decode(&frame, &got), WIRE_OK);
	assert_true(got.snapshot_offer.index == 1000 && got.snapshot_offer.term == 8);
	assert_true(got.snapshot_offer.size == 123456789);
	struct wire_message message = header(WIRE_SNAPSHOT_OFFER);
	message.snapshot_offer.index = 1000;
	message.snapshot_offer.term = 8;
	message.snapshot_offer.size = 123456789;
	assert_same(&frame, &message);
	free(frame.at);
}

static void lay_out_request(struct frame *frame, uint32_t size, uint32_t reserved)
{
	begin(frame, 8);
	add(frame, 1000, 8);
	add(frame, 8, 8);
	add(frame, 524288, 8);
	add(frame, size, 4);
	add(frame, reserved, 4);
	seal(frame);
}

static void test_request(void **state)
{
	(void)state;
	struct frame frame;
	struct wire_message got;
	lay_out_request(&frame, WIRE_CHUNK_BYTES_MAX, 0);
	assert_int_equal(decode(&frame, &got), WIRE_OK);
	assert_true(got.snapshot_request.index == 1000 && got.snapshot_request.term == 8);
	assert_true(got.snapshot_request.offset == 524288 && got.snapshot_request.size == WIRE_CHUNK_BYTES_MAX);
	struct wire_message message = header(WIRE_SNAPSHOT_REQUEST);
	message.snapshot_request.index = 1000;
	message.snapshot_request.term = 8;
	message.snapshot_request.offset = 524288;
	message.snapshot_request.size = WIRE_CHUNK_BYTES_MAX;
	assert_same(&frame, &message);
	free(frame.at);
}

static void test_impossible_requests(void **state)
{
	(void)state;
	struct frame frame;
	struct wire_message got;
	lay_out_request(&frame, 0, 0);
	assert_int_equal(decode(&frame, &got), WIRE_E_FORMAT);
	free(frame.at);
	lay_out_request(&frame, WIRE_CHUNK_BYTES_MAX + 1, 0);
	assert_int_equal(decode(&frame, &got), WIRE_E_LIMIT);
	free(frame.at);
	lay_out_request(&frame, 1, 1);
	assert_int_equal(decode(&frame, &got), WIRE_E_FORMAT);
	free(frame.at);
}

static void lay_out_chunk(struct frame *frame, uint64_t offset, uint64_t total, uint32_t size, uint32_t bytes)
{
	begin(frame, 9);
	add(frame, 1000, 8);
	add(frame, 8, 8);
	add(frame, offset, 8);
	add(frame, total, 8);
	add(frame, size, 4);
	add(frame, 0, 4);
	for (uint32_t k = 0; k < bytes; k++)
		add(frame, k + 1, 1);
	while (frame->len % 8 != 0)
		add(frame, 0, 1);
	seal(frame);
}

static void test_chunks_of_every_length(void **state)
{
	(void)state;
	static const uint32_t sizes[] = {1, 7, 8, 9, 200, 4096, WIRE_CHUNK_BYTES_MAX - 1, WIRE_CHUNK_BYTES_MAX};
	for (unsigned k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
		struct frame frame;
		struct wire_message got;
		lay_out_chunk(&frame, 64, 64 + (uint64_t)sizes[k], sizes[k], sizes[k]);
		assert_int_equal(decode(&frame, &got), WIRE_OK);
		assert_true(got.snapshot_chunk.index == 1000 && got.snapshot_chunk.term == 8);
		assert_true(got.snapshot_chunk.offset == 64 && got.snapshot_chunk.total == 64 + (uint64_t)sizes[k]);
		assert_int_equal(got.snapshot_chunk.size, sizes[k]);
		assert_ptr_equal(got.snapshot_chunk.data, frame.at + AT_BODY + 40);
		assert_same(&frame, &got);
		free(frame.at);
	}
}

static void assert_chunk_refused(uint64_t offset, uint64_t total, uint32_t size, uint32_t bytes, int expected)
{
	struct frame frame;
	struct wire_message got;
	lay_out_chunk(&frame, offset, total, size, bytes);
	assert_int_equal(decode(&frame, &got), expected);
	free(frame.at);
}

static void test_impossible_chunks(void **state)
{
	(void)state;
	assert_chunk_refused(0, 100, 0, 0, WIRE_E_FORMAT); /* empty */
	assert_chunk_refused(0, UINT64_MAX, WIRE_CHUNK_BYTES_MAX + 1, 8, WIRE_E_LIMIT);
	assert_chunk_refused(0, 100, 64, 32, WIRE_E_SHORT);   /* less data than said */
	assert_chunk_refused(0, 100, 32, 64, WIRE_E_FORMAT);  /* more */
	assert_chunk_refused(69, 100, 32, 32, WIRE_E_FORMAT); /* behind the end */
	assert_chunk_refused(0, 31, 32, 32, WIRE_E_FORMAT);
	assert_chunk_refused(UINT64_MAX - 8, UINT64_MAX, 32, 32, WIRE_E_FORMAT); /* a sum that would overflow */

	struct frame frame;
	struct wire_message got;
	lay_out_chunk(&frame, 0, 100, 5, 5);
	frame.at[frame.len - 1] = 1; /* padding */
	seal(&frame);
	assert_int_equal(decode(&frame, &got), WIRE_E_FORMAT);
	free(frame.at);
}

static void test_a_chunk_over_the_limit_is_not_encoded(void **state)
{
	(void)state;
	struct wire_message message = header(WIRE_SNAPSHOT_CHUNK);
	message.snapshot_chunk.size = WIRE_CHUNK_BYTES_MAX + 1;
	assert_int_equal(wire_encoded_size(&message), 0);
}

static void test_not_a_member(void **state)
{
	(void)state;
	struct frame frame;
	struct wire_message got;
	begin(&frame, 10);
	add(&frame, 4711, 8);
	seal(&frame);
	assert_int_equal(decode(&frame, &got), WIRE_OK);
	assert_true(got.not_a_member.config_index == 4711);
	assert_same(&frame, &got);
	frame.len += 8;
	seal(&frame);
	assert_int_equal(decode(&frame, &got), WIRE_E_FORMAT);
	frame.len -= 16;
	seal(&frame);
	assert_int_equal(decode(&frame, &got), WIRE_E_SHORT);
	free(frame.at);
}

static void test_checkpoint(void **state)
{
	(void)state;
	for (uint64_t flags = 0; flags <= 4; flags++) {
		struct frame frame;
		struct wire_message got;
		begin(&frame, 11);
		add(&frame, 4096, 8);
		add(&frame, 0x123456789abcdef0u, 8);
		add(&frame, flags, 8);
		seal(&frame);
		int r = decode(&frame, &got);
		assert_int_equal(r, flags <= 2 ? WIRE_OK : WIRE_E_FORMAT);
		if (r == WIRE_OK) {
			assert_true(got.checkpoint.index == 4096 && got.checkpoint.hash == 0x123456789abcdef0u);
			assert_true(got.checkpoint.majority == (flags == 1));
			assert_true(got.checkpoint.undecided == (flags == 2));
			assert_same(&frame, &got);
		}
		frame.len -= 8;
		seal(&frame);
		assert_int_equal(decode(&frame, &got), WIRE_E_SHORT);
		free(frame.at);
	}
}

static void test_endpoint(void **state)
{
	(void)state;
	for (unsigned length = 0; length <= 201; length += length == 2 ? 197 : 1) {
		struct frame frame;
		struct wire_message got;
		begin(&frame, 12);
		for (unsigned k = 0; k < 208; k++)
			add(&frame, k < length ? 'a' + k % 26 : 0, 1);
		seal(&frame);
		int r = decode(&frame, &got);
		assert_int_equal(r, length >= 1 && length <= 200 ? WIRE_OK : WIRE_E_FORMAT);
		if (r == WIRE_OK) {
			assert_int_equal(strlen(got.endpoint.peer), length);
			assert_same(&frame, &got);
			frame.at[64] = '\n';
			seal(&frame);
			assert_int_equal(decode(&frame, &got), WIRE_E_FORMAT);
		}
		free(frame.at);
	}
}

static void test_the_next_type_is_unknown(void **state)
{
	(void)state;
	struct frame frame;
	struct wire_message got;
	begin(&frame, 13);
	seal(&frame);
	assert_int_equal(decode(&frame, &got), WIRE_E_FORMAT);
	free(frame.at);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_offer),
		cmocka_unit_test(test_request),
		cmocka_unit_test(test_impossible_requests),
		cmocka_unit_test(test_chunks_of_every_length),
		cmocka_unit_test(test_impossible_chunks),
		cmocka_unit_test(test_a_chunk_over_the_limit_is_not_encoded),
		cmocka_unit_test(test_not_a_member),
		cmocka_unit_test(test_checkpoint),
		cmocka_unit_test(test_endpoint),
		cmocka_unit_test(test_the_next_type_is_unknown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
