/*
 * The wire codec: golden bytes of every frame in daemon/transport/README.md, round trips, and every way that we know
 * to lie to a decoder. The golden bytes were made from the README's tables by a program that shares no code with
 * wire.c: when they change, so does the format, and WIRE_VERSION must too.
 */
#include "daemon/transport/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <xxhash.h>

#define HEADER_SIZE 64u
#define AT_CHECKSUM 8u
#define AT_SIZE 56u
#define AT_BODY 64u
#define AT_N_ENTRIES (AT_BODY + 32u)
#define AT_ENTRY (AT_BODY + 40u)

static const char golden_vote_request[] =
	"524b565001010000cf8838dcfa705074c8c7c6c5c4c3c2c10200000000000000a8a7a6a5a4a3a2a10300000000000000"
	"080706050403020158000000000000000b000000000000000c000000000000000300000000000000";
static const char golden_vote_reply[] =
	"524b5650010200005e809657639bfe3cc8c7c6c5c4c3c2c10200000000000000a8a7a6a5a4a3a2a10300000000000000"
	"0807060504030201500000000000000009000000000000000100000000000000";
static const char golden_append_empty[] =
	"524b565001030000584fd60a7892f481c8c7c6c5c4c3c2c10200000000000000a8a7a6a5a4a3a2a10300000000000000"
	"080706050403020168000000000000001500000000000000160000000000000017000000000000001800000000000000"
	"0000000000000000";
static const char golden_append[] =
	"524b56500103000099066370683cd2afc8c7c6c5c4c3c2c10200000000000000a8a7a6a5a4a3a2a10300000000000000"
	"0807060504030201c0000000000000001500000000000000160000000000000017000000000000001800000000000000"
	"030000000000000007000000000000007b68e5cf8b010000000000000100000007000000000000007c68e5cf8b010000"
	"050000000200000068656c6c6f00000008000000000000007d68e5cf8b01000008000000030000003132333435363738";
static const char golden_append_large[] =
	"524b565001030000bb1097b1498f12fcc8c7c6c5c4c3c2c10200000000000000a8a7a6a5a4a3a2a10300000000000000"
	"0807060504030201b0010000000000001500000000000000160000000000000017000000000000001800000000000000"
	"0100000000000000070000000000000005000000000000002c01000002000000000102030405060708090a0b0c0d0e0f"
	"101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
	"404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f606162636465666768696a6b6c6d6e6f"
	"707172737475767778797a7b7c7d7e7f808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"
	"a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecf"
	"d0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
	"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b00000000";
static const char golden_append_reply[] =
	"524b5650010400004ca4ebabfde148f4c8c7c6c5c4c3c2c10200000000000000a8a7a6a5a4a3a2a10300000000000000"
	"080706050403020170000000000000001f00000000000000200000000000000021000000000000002200000000000000"
	"23000000000000000100000000000000";
static const char golden_timeout_now[] =
	"524b56500105000078270654951285bfc8c7c6c5c4c3c2c10200000000000000a8a7a6a5a4a3a2a10300000000000000"
	"08070605040302014000000000000000";
static const char golden_hello[] =
	"524b565001060000d338bdb999ab8eb6c8c7c6c5c4c3c2c10200000000000000a8a7a6a5a4a3a2a10300000000000000"
	"080706050403020148000000000000000100010001000000";

/* Helpers ---------------------------------------------------------------------------------------------- */

struct bytes {
	uint8_t *at; /* exactly len bytes on the heap, so that a sanitizer sees a read behind them */
	size_t len;
};

static uint8_t nibble(char c)
{
	return (uint8_t)(c <= '9' ? c - '0' : c - 'a' + 10);
}

static struct bytes from_hex(const char *hex)
{
	struct bytes bytes = {.len = strlen(hex) / 2};
	bytes.at = malloc(bytes.len);
	assert_non_null(bytes.at);
	for (size_t k = 0; k < bytes.len; k++)
		bytes.at[k] = (uint8_t)(nibble(hex[2 * k]) << 4 | nibble(hex[2 * k + 1]));
	return bytes;
}

static struct bytes encode(const struct wire_message *message)
{
	struct bytes bytes = {.len = wire_encoded_size(message)};
	assert_true(bytes.len >= HEADER_SIZE);
	bytes.at = malloc(bytes.len);
	assert_non_null(bytes.at);
	memset(bytes.at, 0xEE, bytes.len); /* the encoder must write every byte */
	wire_encode(message, bytes.at);
	return bytes;
}

static void reseal(uint8_t *frame, size_t len)
{
	memset(frame + AT_CHECKSUM, 0, 8);
	uint64_t checksum = XXH3_64bits(frame, len);
	for (unsigned k = 0; k < 8; k++)
		frame[AT_CHECKSUM + k] = (uint8_t)(checksum >> (8 * k));
}

static void put_u32(uint8_t *at, uint32_t number)
{
	for (unsigned k = 0; k < 4; k++)
		at[k] = (uint8_t)(number >> (8 * k));
}

static struct wire_message header(uint8_t type)
{
	return (struct wire_message){
		.type = type,
		.cluster = 0xC1C2C3C4C5C6C7C8,
		.from = 2,
		.from_incarnation = 0xA1A2A3A4A5A6A7A8,
		.to = 3,
		.term = 0x0102030405060708,
	};
}

static struct wire_message append_of(const struct raft_entry *entries, uint32_t n)
{
	struct wire_message message = header(WIRE_APPEND);
	message.append.prev_index = 21;
	message.append.prev_term = 22;
	message.append.commit = 23;
	message.append.round = 24;
	message.append.n_entries = n;
	message.append.entries = entries;
	return message;
}

static const struct raft_entry three_entries[] = {
	{.term = 7, .time_ms = 1700000000123, .type = RAFT_ENTRY_NOOP, .size = 0, .data = NULL},
	{.term = 7, .time_ms = 1700000000124, .type = RAFT_ENTRY_COMMAND, .size = 5, .data = (const uint8_t *)"hello"},
	{.term = 8,
	 .time_ms = 1700000000125,
	 .type = RAFT_ENTRY_CONFIG,
	 .size = 8,
	 .data = (const uint8_t *)"12345678"},
};

/* Decodes an exact copy of the frame, and checks what must hold whatever is in it. */
static int decode(const uint8_t *frame, size_t len)
{
	struct raft_entry entries[8];
	struct wire_message message, before;
	uint8_t *copy = malloc(len > 0 ? len : 1);
	assert_non_null(copy);
	memcpy(copy, frame, len);
	memset(&message, 0x5A, sizeof(message));
	memcpy(&before, &message, sizeof(before));
	int r = wire_decode(copy, len, entries, 8, &message);
	if (r != WIRE_OK) {
		assert_memory_equal(&message, &before, sizeof(before));
	} else {
		/* There is one encoding of a message. */
		struct bytes again = encode(&message);
		assert_int_equal(again.len, len);
		assert_memory_equal(again.at, frame, len);
		free(again.at);
	}
	free(copy);
	return r;
}

static uint32_t random_u32(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

/* Golden bytes ----------------------------------------------------------------------------------------- */

static void assert_golden(const struct wire_message *message, const char *hex)
{
	struct bytes expected = from_hex(hex);
	struct bytes encoded = encode(message);
	assert_int_equal(encoded.len, expected.len);
	assert_memory_equal(encoded.at, expected.at, expected.len);
	assert_int_equal(decode(expected.at, expected.len), WIRE_OK);
	free(expected.at);
	free(encoded.at);
}

static void test_vote_request_has_its_documented_bytes(void **state)
{
	(void)state;
	struct wire_message message = header(WIRE_VOTE_REQUEST);
	message.vote_request.last_index = 11;
	message.vote_request.last_term = 12;
	message.vote_request.pre_vote = true;
	message.vote_request.transfer = true;
	assert_golden(&message, golden_vote_request);
}

static void test_vote_reply_has_its_documented_bytes(void **state)
{
	(void)state;
	struct wire_message message = header(WIRE_VOTE_REPLY);
	message.vote_reply.request_term = 9;
	message.vote_reply.granted = true;
	assert_golden(&message, golden_vote_reply);
}

static void test_appends_have_their_documented_bytes(void **state)
{
	(void)state;
	struct wire_message message = append_of(NULL, 0);
	assert_golden(&message, golden_append_empty);
	message = append_of(three_entries, 3);
	assert_golden(&message, golden_append);

	uint8_t data[300];
	for (unsigned k = 0; k < sizeof(data); k++)
		data[k] = (uint8_t)k;
	struct raft_entry large = {.term = 7, .time_ms = 5, .type = RAFT_ENTRY_COMMAND, .size = 300, .data = data};
	message = append_of(&large, 1);
	assert_golden(&message, golden_append_large);
}

static void test_append_reply_has_its_documented_bytes(void **state)
{
	(void)state;
	struct wire_message message = header(WIRE_APPEND_REPLY);
	message.append_reply.rejected = true;
	message.append_reply.match = 31;
	message.append_reply.round = 32;
	message.append_reply.prev_index = 33;
	message.append_reply.conflict_index = 34;
	message.append_reply.conflict_term = 35;
	assert_golden(&message, golden_append_reply);
}

/* One place, two meanings: where it was rejected, or what an acceptance promises. */
static void test_append_reply_promises_only_with_an_acceptance(void **state)
{
	struct wire_message message = header(WIRE_APPEND_REPLY), got;
	uint8_t frame[256];

	(void)state;
	message.append_reply.match = 31;
	message.append_reply.promise_us = 136363;
	assert_int_equal(wire_encoded_size(&message), 64 + 48);
	wire_encode(&message, frame);
	assert_int_equal(frame[64 + 16] | frame[64 + 17] << 8 | frame[64 + 18] << 16, 136363);
	assert_int_equal(wire_decode(frame, 64 + 48, NULL, 0, &got), WIRE_OK);
	assert_true(!got.append_reply.rejected && got.append_reply.promise_us == 136363);
	assert_int_equal(got.append_reply.prev_index, 0);
	message.append_reply.rejected = true;
	message.append_reply.prev_index = 33;
	wire_encode(&message, frame);
	assert_int_equal(wire_decode(frame, 64 + 48, NULL, 0, &got), WIRE_OK);
	assert_true(got.append_reply.rejected && got.append_reply.prev_index == 33);
	assert_int_equal(got.append_reply.promise_us, 0);
}

static void test_timeout_now_and_hello_have_their_documented_bytes(void **state)
{
	(void)state;
	struct wire_message message = header(WIRE_TIMEOUT_NOW);
	assert_golden(&message, golden_timeout_now);
	message = header(WIRE_HELLO);
	message.hello.version_min = 1;
	message.hello.version_max = 1;
	message.hello.blank = true;
	assert_golden(&message, golden_hello);
}

/* Round trips ------------------------------------------------------------------------------------------ */

static void test_decoding_gives_back_every_field(void **state)
{
	(void)state;
	struct raft_entry entries[3];
	struct wire_message got;
	struct bytes frame = from_hex(golden_append);
	assert_int_equal(wire_decode(frame.at, frame.len, entries, 3, &got), WIRE_OK);
	assert_int_equal(got.type, WIRE_APPEND);
	assert_true(got.cluster == 0xC1C2C3C4C5C6C7C8 && got.from == 2 && got.to == 3);
	assert_true(got.from_incarnation == 0xA1A2A3A4A5A6A7A8 && got.term == 0x0102030405060708);
	assert_true(got.append.prev_index == 21 && got.append.prev_term == 22);
	assert_true(got.append.commit == 23 && got.append.round == 24);
	assert_int_equal(got.append.n_entries, 3);
	assert_ptr_equal(got.append.entries, entries);
	for (unsigned k = 0; k < 3; k++) {
		assert_true(entries[k].term == three_entries[k].term);
		assert_true(entries[k].time_ms == three_entries[k].time_ms);
		assert_int_equal(entries[k].type, three_entries[k].type);
		assert_int_equal(entries[k].size, three_entries[k].size);
		assert_true(entries[k].data >= frame.at && entries[k].data <= frame.at + frame.len);
		if (entries[k].size > 0)
			assert_memory_equal(entries[k].data, three_entries[k].data, entries[k].size);
	}
	free(frame.at);

	frame = from_hex(golden_append_reply);
	assert_int_equal(wire_decode(frame.at, frame.len, NULL, 0, &got), WIRE_OK);
	assert_true(got.append_reply.rejected && got.append_reply.match == 31 && got.append_reply.round == 32);
	assert_true(got.append_reply.prev_index == 33 && got.append_reply.conflict_index == 34);
	assert_true(got.append_reply.conflict_term == 35);
	free(frame.at);

	frame = from_hex(golden_vote_reply);
	assert_int_equal(wire_decode(frame.at, frame.len, NULL, 0, &got), WIRE_OK);
	assert_true(got.vote_reply.granted && !got.vote_reply.pre_vote && got.vote_reply.request_term == 9);
	free(frame.at);

	frame = from_hex(golden_vote_request);
	assert_int_equal(wire_decode(frame.at, frame.len, NULL, 0, &got), WIRE_OK);
	assert_true(got.vote_request.last_index == 11 && got.vote_request.last_term == 12);
	assert_true(got.vote_request.pre_vote && got.vote_request.transfer);
	free(frame.at);

	frame = from_hex(golden_hello);
	assert_int_equal(wire_decode(frame.at, frame.len, NULL, 0, &got), WIRE_OK);
	assert_true(got.hello.version_min == 1 && got.hello.version_max == 1 && got.hello.blank);
	free(frame.at);
}

static void test_each_flag_travels_by_itself(void **state)
{
	(void)state;
	struct wire_message message = header(WIRE_VOTE_REQUEST), got;
	message.vote_request.transfer = true;
	struct bytes frame = encode(&message);
	assert_int_equal(wire_decode(frame.at, frame.len, NULL, 0, &got), WIRE_OK);
	assert_true(got.vote_request.transfer && !got.vote_request.pre_vote);
	free(frame.at);

	message = header(WIRE_VOTE_REPLY);
	message.vote_reply.pre_vote = true;
	frame = encode(&message);
	assert_int_equal(wire_decode(frame.at, frame.len, NULL, 0, &got), WIRE_OK);
	assert_true(got.vote_reply.pre_vote && !got.vote_reply.granted);
	free(frame.at);
}

static void test_a_frame_may_begin_at_any_address(void **state)
{
	(void)state;
	struct raft_entry entries[3];
	struct wire_message got;
	struct bytes frame = from_hex(golden_append);
	uint8_t *room = malloc(frame.len + 8);
	assert_non_null(room);
	for (unsigned shift = 0; shift < 8; shift++) {
		memcpy(room + shift, frame.at, frame.len);
		assert_int_equal(wire_decode(room + shift, frame.len, entries, 3, &got), WIRE_OK);
		assert_memory_equal(entries[1].data, "hello", 5);
	}
	free(room);
	free(frame.at);
}

static void test_data_of_every_length_and_content_survives(void **state)
{
	(void)state;
	uint8_t data[64];
	memset(data, 0xFF, sizeof(data));
	for (uint32_t size = 0; size <= sizeof(data); size++) {
		struct raft_entry in[2], out[2];
		in[0] = (struct raft_entry){.term = UINT64_MAX,
					    .time_ms = UINT64_MAX,
					    .type = RAFT_ENTRY_COMMAND,
					    .size = size,
					    .data = data};
		in[1] = in[0];
		struct wire_message message = append_of(in, 2), got;
		struct bytes frame = encode(&message);
		assert_int_equal(frame.len % 8, 0);
		assert_int_equal(wire_decode(frame.at, frame.len, out, 2, &got), WIRE_OK);
		assert_int_equal(out[1].size, size);
		assert_memory_equal(out[1].data, data, size);
		assert_int_equal(decode(frame.at, frame.len), WIRE_OK);
		free(frame.at);
	}
}

/* Limits ----------------------------------------------------------------------------------------------- */

static void test_the_largest_entry_fits_and_one_byte_more_does_not(void **state)
{
	(void)state;
	uint8_t *data = calloc(1, RAFT_ENTRY_SIZE_MAX + 1);
	assert_non_null(data);
	struct raft_entry entry = {.term = 1, .type = RAFT_ENTRY_COMMAND, .size = RAFT_ENTRY_SIZE_MAX, .data = data};
	struct wire_message message = append_of(&entry, 1);
	struct bytes frame = encode(&message);
	assert_int_equal(decode(frame.at, frame.len), WIRE_OK);

	entry.size++;
	assert_int_equal(wire_encoded_size(&message), 0);
	put_u32(frame.at + AT_ENTRY + 16, RAFT_ENTRY_SIZE_MAX + 1);
	reseal(frame.at, frame.len);
	assert_int_equal(decode(frame.at, frame.len), WIRE_E_LIMIT);
	free(frame.at);
	free(data);
}

static void test_a_frame_over_the_limit_is_not_encoded(void **state)
{
	(void)state;
	uint8_t *data = calloc(1, RAFT_ENTRY_SIZE_MAX);
	assert_non_null(data);
	struct raft_entry entries[8];
	for (unsigned k = 0; k < 8; k++)
		entries[k] = (struct raft_entry){
			.term = 1, .type = RAFT_ENTRY_COMMAND, .size = RAFT_ENTRY_SIZE_MAX, .data = data};
	struct wire_message message = append_of(entries, 7);
	assert_true(wire_encoded_size(&message) > 0);
	message.append.n_entries = 8;
	assert_int_equal(wire_encoded_size(&message), 0);
	free(data);
}

static void test_the_number_of_entries_is_limited(void **state)
{
	(void)state;
	struct raft_entry *entries = calloc(WIRE_ENTRIES_MAX + 1, sizeof(*entries));
	assert_non_null(entries);
	for (uint32_t k = 0; k <= WIRE_ENTRIES_MAX; k++)
		entries[k] = (struct raft_entry){.term = 1, .type = RAFT_ENTRY_NOOP};
	struct wire_message message = append_of(entries, WIRE_ENTRIES_MAX), got;
	struct bytes frame = encode(&message);
	message.append.n_entries++;
	assert_int_equal(wire_encoded_size(&message), 0);

	struct raft_entry *room = calloc(WIRE_ENTRIES_MAX, sizeof(*room));
	assert_non_null(room);
	assert_int_equal(wire_decode(frame.at, frame.len, room, WIRE_ENTRIES_MAX, &got), WIRE_OK);
	assert_int_equal(got.append.n_entries, WIRE_ENTRIES_MAX);
	assert_int_equal(wire_decode(frame.at, frame.len, room, WIRE_ENTRIES_MAX - 1, &got), WIRE_E_LIMIT);
	assert_int_equal(wire_decode(frame.at, frame.len, NULL, 0, &got), WIRE_E_LIMIT);
	free(room);
	free(frame.at);
	free(entries);
}

static void test_a_frame_over_the_limit_is_refused_before_it_is_read(void **state)
{
	(void)state;
	struct bytes frame = from_hex(golden_timeout_now);
	struct wire_message got;
	uint8_t *large = calloc(1, WIRE_FRAME_SIZE_MAX + 1);
	assert_non_null(large);
	memcpy(large, frame.at, frame.len);
	assert_int_equal(wire_decode(large, WIRE_FRAME_SIZE_MAX + 1, NULL, 0, &got), WIRE_E_LIMIT);
	free(large);
	free(frame.at);
}

/* Lies ------------------------------------------------------------------------------------------------- */

static const char *const golden[] = {golden_vote_request, golden_vote_reply,   golden_append_empty, golden_append,
				     golden_append_large, golden_append_reply, golden_timeout_now,  golden_hello};
#define N_GOLDEN (sizeof(golden) / sizeof(golden[0]))

static void test_a_truncated_frame_is_short_at_every_length(void **state)
{
	(void)state;
	for (unsigned g = 0; g < N_GOLDEN; g++) {
		struct bytes frame = from_hex(golden[g]);
		for (size_t len = 0; len < frame.len; len++)
			assert_int_equal(decode(frame.at, len), WIRE_E_SHORT);
		free(frame.at);
	}
}

/* Truncated with a size field and a checksum to match: it is the inner lengths that must stop the decoder. */
static void test_a_truncated_and_resealed_frame_is_refused_at_every_length(void **state)
{
	(void)state;
	for (unsigned g = 0; g < N_GOLDEN; g++) {
		struct bytes frame = from_hex(golden[g]);
		for (size_t len = HEADER_SIZE; len < frame.len; len++) {
			uint8_t *copy = malloc(len);
			assert_non_null(copy);
			memcpy(copy, frame.at, len);
			put_u32(copy + AT_SIZE, (uint32_t)len);
			reseal(copy, len);
			assert_int_equal(decode(copy, len), WIRE_E_SHORT);
			free(copy);
		}
		free(frame.at);
	}
}

static void test_trailing_bytes_are_refused(void **state)
{
	(void)state;
	for (unsigned g = 0; g < N_GOLDEN; g++) {
		struct bytes frame = from_hex(golden[g]);
		uint8_t *longer = calloc(1, frame.len + 8);
		assert_non_null(longer);
		memcpy(longer, frame.at, frame.len);
		assert_int_equal(decode(longer, frame.len + 8), WIRE_E_CHECKSUM);
		reseal(longer, frame.len + 8);
		assert_int_equal(decode(longer, frame.len + 8), WIRE_E_FORMAT); /* the size field disagrees */
		put_u32(longer + AT_SIZE, (uint32_t)frame.len + 8);
		reseal(longer, frame.len + 8);
		assert_int_equal(decode(longer, frame.len + 8), WIRE_E_FORMAT);
		free(longer);
		free(frame.at);
	}
}

static void test_every_flipped_bit_is_noticed(void **state)
{
	(void)state;
	for (unsigned g = 0; g < N_GOLDEN; g++) {
		struct bytes frame = from_hex(golden[g]);
		for (size_t bit = 0; bit < frame.len * 8; bit++) {
			frame.at[bit / 8] ^= (uint8_t)(1u << bit % 8);
			assert_int_not_equal(decode(frame.at, frame.len), WIRE_OK);
			frame.at[bit / 8] ^= (uint8_t)(1u << bit % 8);
		}
		free(frame.at);
	}
}

/* One byte of a golden frame changed and the checksum made to fit. */
static int decode_changed(const char *hex, size_t at, uint8_t value)
{
	struct bytes frame = from_hex(hex);
	assert_true(at < frame.len);
	frame.at[at] = value;
	reseal(frame.at, frame.len);
	int r = decode(frame.at, frame.len);
	free(frame.at);
	return r;
}

static void test_reserved_bytes_and_unknown_flags_are_refused(void **state)
{
	(void)state;
	static const uint8_t reserved_of_header[] = {6, 7, 60, 61, 62, 63};
	for (unsigned g = 0; g < N_GOLDEN; g++)
		for (unsigned k = 0; k < sizeof(reserved_of_header); k++)
			assert_int_equal(decode_changed(golden[g], reserved_of_header[k], 1), WIRE_E_FORMAT);
	assert_int_equal(decode_changed(golden_vote_request, AT_BODY + 16, 4), WIRE_E_FORMAT);
	assert_int_equal(decode_changed(golden_vote_request, AT_BODY + 23, 0x80), WIRE_E_FORMAT);
	assert_int_equal(decode_changed(golden_vote_reply, AT_BODY + 8, 4), WIRE_E_FORMAT);
	assert_int_equal(decode_changed(golden_append_reply, AT_BODY + 40, 2), WIRE_E_FORMAT);
	assert_int_equal(decode_changed(golden_hello, AT_BODY + 4, 2), WIRE_E_FORMAT);
	assert_int_equal(decode_changed(golden_hello, AT_BODY + 7, 1), WIRE_E_FORMAT);
	assert_int_equal(decode_changed(golden_append, AT_BODY + 36, 1), WIRE_E_FORMAT);
	for (unsigned k = 21; k < 24; k++) /* behind the type of an entry */
		assert_int_equal(decode_changed(golden_append, AT_ENTRY + k, 1), WIRE_E_FORMAT);
	for (unsigned k = 5; k < 8; k++) /* padding behind "hello" */
		assert_int_equal(decode_changed(golden_append, AT_ENTRY + 24 + 24 + k, 1), WIRE_E_FORMAT);
}

static void test_impossible_contents_are_refused(void **state)
{
	(void)state;
	for (unsigned type = 0; type < 256; type++)
		if (type != WIRE_TIMEOUT_NOW)
			assert_int_not_equal(decode_changed(golden_timeout_now, 5, (uint8_t)type), WIRE_OK);
	assert_int_equal(decode_changed(golden_timeout_now, 5, 0), WIRE_E_FORMAT);
	assert_int_equal(decode_changed(golden_timeout_now, 5, 13), WIRE_E_FORMAT);
	assert_int_equal(decode_changed(golden_timeout_now, 5, 255), WIRE_E_FORMAT);
	assert_int_equal(decode_changed(golden_append, AT_ENTRY + 20, 0), WIRE_E_FORMAT); /* type of an entry */
	assert_int_equal(decode_changed(golden_append, AT_ENTRY + 20, 4), WIRE_E_FORMAT);
	assert_int_equal(decode_changed(golden_append, AT_ENTRY, 0), WIRE_E_FORMAT); /* its term: 7 becomes 0 */
	assert_int_equal(decode_changed(golden_append, AT_ENTRY + 24 + 20, RAFT_ENTRY_NOOP), WIRE_E_FORMAT);
	assert_int_equal(decode_changed(golden_hello, AT_BODY, 2), WIRE_E_FORMAT); /* from 2 to 1 */
}

static void test_magic_and_version_are_looked_at_first(void **state)
{
	(void)state;
	struct bytes frame = from_hex(golden_append);
	frame.at[3] = 'C';
	assert_int_equal(decode(frame.at, frame.len), WIRE_E_MAGIC);
	frame.at[3] = 'P';
	frame.at[4] = WIRE_VERSION + 1; /* the checksum of a version that we don't know is not ours to check */
	assert_int_equal(decode(frame.at, frame.len), WIRE_E_VERSION);
	frame.at[4] = 0;
	assert_int_equal(decode(frame.at, frame.len), WIRE_E_CHECKSUM);
	reseal(frame.at, frame.len);
	assert_int_equal(decode(frame.at, frame.len), WIRE_E_FORMAT);
	free(frame.at);
}

static void test_hostile_lengths_are_refused(void **state)
{
	(void)state;
	static const uint32_t sizes[] = {9,	     16,	 40,	     1u << 20,	 0x7FFFFFF8, 0x7FFFFFFF,
					 0x80000000, 0xFFFFFFE0, 0xFFFFFFF8, 0xFFFFFFF9, 0xFFFFFFFF};
	struct bytes frame = from_hex(golden_append);
	for (unsigned k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
		struct bytes lie = from_hex(golden_append);
		put_u32(lie.at + AT_ENTRY + 24 + 16, sizes[k]); /* of the data "hello" */
		reseal(lie.at, lie.len);
		assert_int_not_equal(decode(lie.at, lie.len), WIRE_OK);
		memcpy(lie.at, frame.at, frame.len);
		put_u32(lie.at + AT_N_ENTRIES, sizes[k]);
		reseal(lie.at, lie.len);
		assert_int_not_equal(decode(lie.at, lie.len), WIRE_OK);
		memcpy(lie.at, frame.at, frame.len);
		put_u32(lie.at + AT_SIZE, sizes[k]);
		reseal(lie.at, lie.len);
		assert_int_not_equal(decode(lie.at, lie.len), WIRE_OK);
		free(lie.at);
	}
	put_u32(frame.at + AT_N_ENTRIES, 4); /* one more than there are */
	reseal(frame.at, frame.len);
	assert_int_equal(decode(frame.at, frame.len), WIRE_E_SHORT);
	put_u32(frame.at + AT_N_ENTRIES, 2); /* one less */
	reseal(frame.at, frame.len);
	assert_int_equal(decode(frame.at, frame.len), WIRE_E_FORMAT);
	free(frame.at);
}

static void test_a_hundred_thousand_mutations_decode_to_nothing_or_to_themselves(void **state)
{
	(void)state;
	uint64_t seed = 20240229;
	unsigned accepted = 0;
	struct bytes frames[N_GOLDEN];
	for (unsigned g = 0; g < N_GOLDEN; g++)
		frames[g] = from_hex(golden[g]);
	for (unsigned n = 0; n < 100000; n++) {
		const struct bytes *original = &frames[random_u32(&seed) % N_GOLDEN];
		size_t len = original->len;
		uint8_t *copy = malloc(len);
		assert_non_null(copy);
		memcpy(copy, original->at, len);
		unsigned changes = 1 + random_u32(&seed) % 4;
		for (unsigned k = 0; k < changes; k++) {
			/* Mostly in the first bytes, where the lengths are. */
			size_t at = random_u32(&seed) % (random_u32(&seed) % 2 == 0 ? len : len < 160 ? len : 160);
			copy[at] = (uint8_t)random_u32(&seed);
		}
		if (random_u32(&seed) % 8 != 0) {
			memcpy(copy, original->at, 5); /* magic and version: or everything ends there */
			reseal(copy, len);
		}
		accepted += decode(copy, len) == WIRE_OK;
		free(copy);
	}
	for (unsigned g = 0; g < N_GOLDEN; g++)
		free(frames[g].at);
	assert_true(accepted > 10000 && accepted < 90000); /* it reached both sides */
}

static void test_noise_is_never_a_frame(void **state)
{
	(void)state;
	uint64_t seed = 7;
	uint8_t noise[200];
	for (unsigned n = 0; n < 20000; n++) {
		size_t len = random_u32(&seed) % sizeof(noise);
		for (size_t k = 0; k < len; k++)
			noise[k] = (uint8_t)random_u32(&seed);
		assert_int_not_equal(decode(noise, len), WIRE_OK);
	}
}

static void test_every_result_has_a_name(void **state)
{
	(void)state;
	for (int r = WIRE_OK; r <= WIRE_E_LIMIT; r++)
		assert_string_not_equal(wire_result_name(r), "unknown result");
	assert_string_equal(wire_result_name(-1), "unknown result");
	assert_string_equal(wire_result_name(99), "unknown result");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vote_request_has_its_documented_bytes),
		cmocka_unit_test(test_vote_reply_has_its_documented_bytes),
		cmocka_unit_test(test_appends_have_their_documented_bytes),
		cmocka_unit_test(test_append_reply_has_its_documented_bytes),
		cmocka_unit_test(test_append_reply_promises_only_with_an_acceptance),
		cmocka_unit_test(test_timeout_now_and_hello_have_their_documented_bytes),
		cmocka_unit_test(test_decoding_gives_back_every_field),
		cmocka_unit_test(test_each_flag_travels_by_itself),
		cmocka_unit_test(test_a_frame_may_begin_at_any_address),
		cmocka_unit_test(test_data_of_every_length_and_content_survives),
		cmocka_unit_test(test_the_largest_entry_fits_and_one_byte_more_does_not),
		cmocka_unit_test(test_a_frame_over_the_limit_is_not_encoded),
		cmocka_unit_test(test_the_number_of_entries_is_limited),
		cmocka_unit_test(test_a_frame_over_the_limit_is_refused_before_it_is_read),
		cmocka_unit_test(test_a_truncated_frame_is_short_at_every_length),
		cmocka_unit_test(test_a_truncated_and_resealed_frame_is_refused_at_every_length),
		cmocka_unit_test(test_trailing_bytes_are_refused),
		cmocka_unit_test(test_every_flipped_bit_is_noticed),
		cmocka_unit_test(test_reserved_bytes_and_unknown_flags_are_refused),
		cmocka_unit_test(test_impossible_contents_are_refused),
		cmocka_unit_test(test_magic_and_version_are_looked_at_first),
		cmocka_unit_test(test_hostile_lengths_are_refused),
		cmocka_unit_test(test_a_hundred_thousand_mutations_decode_to_nothing_or_to_themselves),
		cmocka_unit_test(test_noise_is_never_a_frame),
		cmocka_unit_test(test_every_result_has_a_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
