/*
 * The wire codec: see wire.h for the contract and README.md for the byte tables that this file follows.
 *
 * There is exactly one encoding of a message: reserved bytes, unknown flag bits and padding must be zero. What
 * decodes therefore encodes to the same bytes again, which the tests and the fuzzer use.
 *
 * What this must not know: sockets, Raft, whether a message makes sense.
 */
#include "wire.h"

#include "../assert.h"

#define XXH_INLINE_ALL /* the streaming state lives on the stack; its size is then this header's own business */
#include <xxhash.h>

#include <endian.h>
#include <string.h>

/* Header: README.md, "The header of a frame". */
#define AT_VERSION 4u
#define AT_TYPE 5u
#define AT_RESERVED 6u
#define AT_CHECKSUM 8u
#define AT_CLUSTER 16u
#define AT_FROM 24u
#define AT_FROM_INCARNATION 32u
#define AT_TO 40u
#define AT_TERM 48u
#define AT_SIZE 56u
#define AT_SIZE_RESERVED 60u
#define HEADER_SIZE 64u

/* Bodies. */
#define VOTE_REQUEST_SIZE 24u
#define VOTE_REPLY_SIZE 16u
#define APPEND_SIZE 40u /* and the entries */
#define APPEND_REPLY_SIZE 48u
#define TIMEOUT_NOW_SIZE 0u
#define HELLO_SIZE 8u
#define SNAPSHOT_OFFER_SIZE 24u
#define SNAPSHOT_REQUEST_SIZE 32u
#define SNAPSHOT_CHUNK_SIZE 40u /* and the data */
#define NOT_A_MEMBER_SIZE 8u
#define CHECKPOINT_SIZE 24u
#define ENDPOINT_SIZE 208u
#define ENTRY_HEADER_SIZE 24u

#define FLAG_0 1u
#define FLAG_1 2u

/* Frames up to this size are hashed from a copy on the stack: cheaper than setting up the streaming state. */
#define SMALL_FRAME_SIZE 256u

static const uint8_t magic[4] = {'R', 'K', 'V', 'P'};

_Static_assert(HEADER_SIZE % 8 == 0 && APPEND_SIZE % 8 == 0 && ENTRY_HEADER_SIZE % 8 == 0,
	       "everything in a frame begins at a multiple of 8");
_Static_assert(HEADER_SIZE + APPEND_SIZE + ENTRY_HEADER_SIZE + RAFT_ENTRY_SIZE_MAX + 7 <= WIRE_FRAME_SIZE_MAX,
	       "the largest entry fits a frame");
_Static_assert(HEADER_SIZE + SNAPSHOT_CHUNK_SIZE + WIRE_CHUNK_BYTES_MAX + 7 <= WIRE_FRAME_SIZE_MAX,
	       "the largest chunk fits a frame");
_Static_assert(ENDPOINT_SIZE > WIRE_ENDPOINT_MAX && ENDPOINT_SIZE % 8 == 0, "an endpoint ends with a zero");
_Static_assert(HEADER_SIZE + APPEND_REPLY_SIZE <= SMALL_FRAME_SIZE, "all but appends with entries are small");
_Static_assert(WIRE_VERSION <= UINT8_MAX, "the version is one byte");

static void put_u16(uint8_t *at, uint16_t number)
{
	number = htole16(number);
	memcpy(at, &number, sizeof(number));
}

static void put_u32(uint8_t *at, uint32_t number)
{
	number = htole32(number);
	memcpy(at, &number, sizeof(number));
}

static void put_u64(uint8_t *at, uint64_t number)
{
	number = htole64(number);
	memcpy(at, &number, sizeof(number));
}

static uint16_t get_u16(const uint8_t *at)
{
	uint16_t number;

	memcpy(&number, at, sizeof(number));
	return le16toh(number);
}

static uint32_t get_u32(const uint8_t *at)
{
	uint32_t number;

	memcpy(&number, at, sizeof(number));
	return le32toh(number);
}

static uint64_t get_u64(const uint8_t *at)
{
	uint64_t number;

	memcpy(&number, at, sizeof(number));
	return le64toh(number);
}

/* Data of an entry takes a multiple of 8 bytes. No overflow: size is at most RAFT_ENTRY_SIZE_MAX. */
static uint32_t padded_size(uint32_t size)
{
	return (size + 7u) & ~7u;
}

const char *wire_result_name(int result)
{
	switch ((enum wire_result)result) {
	case WIRE_OK:
		return "ok";
	case WIRE_E_SHORT:
		return "too short";
	case WIRE_E_MAGIC:
		return "not a raft-kv frame";
	case WIRE_E_VERSION:
		return "a newer version";
	case WIRE_E_CHECKSUM:
		return "bad checksum";
	case WIRE_E_FORMAT:
		return "malformed";
	case WIRE_E_LIMIT:
		return "over a limit";
	}
	return "unknown result";
}

/* XXH3-64 of the frame as if its checksum field were zero. len is at least HEADER_SIZE. */
static uint64_t checksum_frame(const uint8_t *frame, size_t len)
{
	static const uint8_t zero[sizeof(uint64_t)];

	raft_assert(len >= HEADER_SIZE);
	raft_assert(len <= WIRE_FRAME_SIZE_MAX);
	if (len <= SMALL_FRAME_SIZE) {
		uint8_t copy[SMALL_FRAME_SIZE];
		memcpy(copy, frame, len);
		memcpy(copy + AT_CHECKSUM, zero, sizeof(zero));
		return XXH3_64bits(copy, len);
	}
	XXH3_state_t state;
	size_t behind = AT_CHECKSUM + sizeof(zero);
	(void)XXH3_64bits_reset(&state); /* these fail only for a null pointer */
	(void)XXH3_64bits_update(&state, frame, AT_CHECKSUM);
	(void)XXH3_64bits_update(&state, zero, sizeof(zero));
	(void)XXH3_64bits_update(&state, frame + behind, len - behind);
	return XXH3_64bits_digest(&state);
}

/* Bytes of the body without entries or data, or -1 for an unknown type. */
static int body_size(uint8_t type)
{
	switch ((enum wire_type)type) {
	case WIRE_VOTE_REQUEST:
		return VOTE_REQUEST_SIZE;
	case WIRE_VOTE_REPLY:
		return VOTE_REPLY_SIZE;
	case WIRE_APPEND:
		return APPEND_SIZE;
	case WIRE_APPEND_REPLY:
		return APPEND_REPLY_SIZE;
	case WIRE_TIMEOUT_NOW:
		return TIMEOUT_NOW_SIZE;
	case WIRE_HELLO:
		return HELLO_SIZE;
	case WIRE_SNAPSHOT_OFFER:
		return SNAPSHOT_OFFER_SIZE;
	case WIRE_SNAPSHOT_REQUEST:
		return SNAPSHOT_REQUEST_SIZE;
	case WIRE_SNAPSHOT_CHUNK:
		return SNAPSHOT_CHUNK_SIZE;
	case WIRE_NOT_A_MEMBER:
		return NOT_A_MEMBER_SIZE;
	case WIRE_CHECKPOINT:
		return CHECKPOINT_SIZE;
	case WIRE_ENDPOINT:
		return ENDPOINT_SIZE;
	}
	return -1;
}

/* Encoding --------------------------------------------------------------------------------------------- */

size_t wire_encoded_size(const struct wire_message *message)
{
	int body = body_size(message->type);

	raft_assert(body >= 0);
	size_t size = HEADER_SIZE + (size_t)body;
	if (message->type == WIRE_SNAPSHOT_CHUNK)
		return message->snapshot_chunk.size <= WIRE_CHUNK_BYTES_MAX
			       ? size + padded_size(message->snapshot_chunk.size)
			       : 0;
	if (message->type != WIRE_APPEND)
		return size;
	if (message->append.n_entries > WIRE_ENTRIES_MAX)
		return 0;
	for (uint32_t k = 0; k < message->append.n_entries; k++) {
		if (message->append.entries[k].size > RAFT_ENTRY_SIZE_MAX)
			return 0;
		size += ENTRY_HEADER_SIZE + padded_size(message->append.entries[k].size);
		if (size > WIRE_FRAME_SIZE_MAX)
			return 0;
	}
	return size;
}

static uint8_t *encode_entry(uint8_t *at, const struct raft_entry *entry)
{
	uint32_t padded = padded_size(entry->size);

	raft_assert(entry->term != 0);
	raft_assert(entry->type >= RAFT_ENTRY_NOOP && entry->type <= RAFT_ENTRY_CONFIG);
	raft_assert(entry->type != RAFT_ENTRY_NOOP || entry->size == 0);
	put_u64(at, entry->term);
	put_u64(at + 8, entry->time_ms);
	put_u32(at + 16, entry->size);
	put_u32(at + 20, entry->type); /* the type's byte, then three zeros */
	at += ENTRY_HEADER_SIZE;
	if (entry->size > 0) {
		put_u64(at + padded - 8, 0); /* the padding; the data go over the rest of it */
		memcpy(at, entry->data, entry->size);
	}
	return at + padded;
}

static uint8_t *encode_append(uint8_t *at, const struct wire_message *message)
{
	put_u64(at, message->append.prev_index);
	put_u64(at + 8, message->append.prev_term);
	put_u64(at + 16, message->append.commit);
	put_u64(at + 24, message->append.round);
	put_u32(at + 32, message->append.n_entries);
	put_u32(at + 36, 0);
	at += APPEND_SIZE;
	for (uint32_t k = 0; k < message->append.n_entries; k++)
		at = encode_entry(at, &message->append.entries[k]);
	return at;
}

static uint8_t *encode_chunk(uint8_t *at, const struct wire_message *message)
{
	uint32_t size = message->snapshot_chunk.size;
	uint32_t padded = padded_size(size);

	raft_assert(size > 0 && size <= WIRE_CHUNK_BYTES_MAX);
	put_u64(at, message->snapshot_chunk.index);
	put_u64(at + 8, message->snapshot_chunk.term);
	put_u64(at + 16, message->snapshot_chunk.offset);
	put_u64(at + 24, message->snapshot_chunk.total);
	put_u32(at + 32, size);
	put_u32(at + 36, 0);
	at += SNAPSHOT_CHUNK_SIZE;
	put_u64(at + padded - 8, 0); /* the padding; the data go over the rest of it */
	memcpy(at, message->snapshot_chunk.data, size);
	return at + padded;
}

static uint64_t flags_word(bool flag_0, bool flag_1)
{
	return (flag_0 ? FLAG_0 : 0u) | (flag_1 ? FLAG_1 : 0u);
}

/* Returns the end of the body. */
static uint8_t *encode_body(uint8_t *at, const struct wire_message *message)
{
	switch ((enum wire_type)message->type) {
	case WIRE_VOTE_REQUEST:
		put_u64(at, message->vote_request.last_index);
		put_u64(at + 8, message->vote_request.last_term);
		put_u64(at + 16, flags_word(message->vote_request.pre_vote, message->vote_request.transfer));
		return at + VOTE_REQUEST_SIZE;
	case WIRE_VOTE_REPLY:
		put_u64(at, message->vote_reply.request_term);
		put_u64(at + 8, flags_word(message->vote_reply.granted, message->vote_reply.pre_vote));
		return at + VOTE_REPLY_SIZE;
	case WIRE_APPEND:
		return encode_append(at, message);
	case WIRE_APPEND_REPLY:
		put_u64(at, message->append_reply.match);
		put_u64(at + 8, message->append_reply.round);
		put_u64(at + 16, message->append_reply.rejected ? message->append_reply.prev_index
								: message->append_reply.promise_us);
		put_u64(at + 24, message->append_reply.conflict_index);
		put_u64(at + 32, message->append_reply.conflict_term);
		put_u64(at + 40, flags_word(message->append_reply.rejected, false));
		return at + APPEND_REPLY_SIZE;
	case WIRE_TIMEOUT_NOW:
		return at + TIMEOUT_NOW_SIZE;
	case WIRE_HELLO:
		put_u16(at, message->hello.version_min);
		put_u16(at + 2, message->hello.version_max);
		put_u32(at + 4, message->hello.blank ? FLAG_0 : 0u);
		return at + HELLO_SIZE;
	case WIRE_SNAPSHOT_OFFER:
		put_u64(at, message->snapshot_offer.index);
		put_u64(at + 8, message->snapshot_offer.term);
		put_u64(at + 16, message->snapshot_offer.size);
		return at + SNAPSHOT_OFFER_SIZE;
	case WIRE_SNAPSHOT_REQUEST:
		put_u64(at, message->snapshot_request.index);
		put_u64(at + 8, message->snapshot_request.term);
		put_u64(at + 16, message->snapshot_request.offset);
		put_u32(at + 24, message->snapshot_request.size);
		put_u32(at + 28, 0);
		return at + SNAPSHOT_REQUEST_SIZE;
	case WIRE_SNAPSHOT_CHUNK:
		return encode_chunk(at, message);
	case WIRE_NOT_A_MEMBER:
		put_u64(at, message->not_a_member.config_index);
		return at + NOT_A_MEMBER_SIZE;
	case WIRE_CHECKPOINT:
		put_u64(at, message->checkpoint.index);
		put_u64(at + 8, message->checkpoint.hash);
		put_u64(at + 16, flags_word(message->checkpoint.majority, message->checkpoint.undecided));
		return at + CHECKPOINT_SIZE;
	case WIRE_ENDPOINT:
		memset(at, 0, ENDPOINT_SIZE);
		memcpy(at, message->endpoint.peer, strnlen(message->endpoint.peer, WIRE_ENDPOINT_MAX));
		return at + ENDPOINT_SIZE;
	}
	raft_assert(body_size(message->type) >= 0);
	return at;
}

void wire_encode(const struct wire_message *message, uint8_t *buf)
{
	raft_assert(message->type != WIRE_APPEND || message->append.n_entries <= WIRE_ENTRIES_MAX);
	raft_assert(message->type != WIRE_HELLO || message->hello.version_min <= message->hello.version_max);

	size_t size = (size_t)(encode_body(buf + HEADER_SIZE, message) - buf);
	raft_assert(size <= WIRE_FRAME_SIZE_MAX);
	memcpy(buf, magic, sizeof(magic));
	buf[AT_VERSION] = WIRE_VERSION;
	buf[AT_TYPE] = message->type;
	put_u16(buf + AT_RESERVED, 0);
	put_u64(buf + AT_CHECKSUM, 0);
	put_u64(buf + AT_CLUSTER, message->cluster);
	put_u64(buf + AT_FROM, message->from);
	put_u64(buf + AT_FROM_INCARNATION, message->from_incarnation);
	put_u64(buf + AT_TO, message->to);
	put_u64(buf + AT_TERM, message->term);
	put_u32(buf + AT_SIZE, (uint32_t)size);
	put_u32(buf + AT_SIZE_RESERVED, 0);
	put_u64(buf + AT_CHECKSUM, XXH3_64bits(buf, size));
}

/* Decoding --------------------------------------------------------------------------------------------- */

/* One entry from [*at, end); moves *at behind it. */
static int decode_entry(const uint8_t **at, const uint8_t *end, struct raft_entry *ret_entry)
{
	const uint8_t *cursor = *at;

	raft_assert(cursor <= end);
	if ((size_t)(end - cursor) < ENTRY_HEADER_SIZE)
		return WIRE_E_SHORT;
	uint32_t size = get_u32(cursor + 16);
	uint32_t type = get_u32(cursor + 20);
	uint64_t term = get_u64(cursor);
	if (size > RAFT_ENTRY_SIZE_MAX)
		return WIRE_E_LIMIT;
	if (type < RAFT_ENTRY_NOOP || type > RAFT_ENTRY_CONFIG || term == 0)
		return WIRE_E_FORMAT;
	if (type == RAFT_ENTRY_NOOP && size != 0)
		return WIRE_E_FORMAT;
	const uint8_t *data = cursor + ENTRY_HEADER_SIZE;
	uint32_t padded = padded_size(size);
	if ((size_t)(end - data) < padded)
		return WIRE_E_SHORT;
	for (uint32_t k = size; k < padded; k++)
		if (data[k] != 0)
			return WIRE_E_FORMAT;
	ret_entry->term = term;
	ret_entry->time_ms = get_u64(cursor + 8);
	ret_entry->type = (uint8_t)type;
	ret_entry->size = size;
	ret_entry->data = data;
	raft_assert(data + padded <= end);
	*at = data + padded;
	return WIRE_OK;
}

/* The rest of an append: [body, end) holds at least APPEND_SIZE bytes. */
static int decode_append(const uint8_t *body, const uint8_t *end, struct raft_entry *entries, uint32_t max_entries,
			 struct wire_message *message)
{
	const uint8_t *at = body + APPEND_SIZE;
	uint32_t n_entries = get_u32(body + 32);

	raft_assert(at <= end);
	if (get_u32(body + 36) != 0)
		return WIRE_E_FORMAT;
	if (n_entries > WIRE_ENTRIES_MAX || n_entries > max_entries)
		return WIRE_E_LIMIT;
	for (uint32_t k = 0; k < n_entries; k++) {
		int r = decode_entry(&at, end, &entries[k]);
		if (r != WIRE_OK)
			return r;
	}
	if (at != end)
		return WIRE_E_FORMAT;
	message->append.prev_index = get_u64(body);
	message->append.prev_term = get_u64(body + 8);
	message->append.commit = get_u64(body + 16);
	message->append.round = get_u64(body + 24);
	message->append.n_entries = n_entries;
	message->append.entries = entries;
	return WIRE_OK;
}

/* A word of flags that has no bits but those in `known`. */
static bool flags_valid(uint64_t flags, uint64_t known)
{
	return (flags & ~known) == 0;
}

static int decode_vote_request(const uint8_t *body, struct wire_message *message)
{
	uint64_t flags = get_u64(body + 16);

	if (!flags_valid(flags, FLAG_0 | FLAG_1))
		return WIRE_E_FORMAT;
	message->vote_request.last_index = get_u64(body);
	message->vote_request.last_term = get_u64(body + 8);
	message->vote_request.pre_vote = (flags & FLAG_0) != 0;
	message->vote_request.transfer = (flags & FLAG_1) != 0;
	return WIRE_OK;
}

static int decode_vote_reply(const uint8_t *body, struct wire_message *message)
{
	uint64_t flags = get_u64(body + 8);

	if (!flags_valid(flags, FLAG_0 | FLAG_1))
		return WIRE_E_FORMAT;
	message->vote_reply.request_term = get_u64(body);
	message->vote_reply.granted = (flags & FLAG_0) != 0;
	message->vote_reply.pre_vote = (flags & FLAG_1) != 0;
	return WIRE_OK;
}

static int decode_append_reply(const uint8_t *body, struct wire_message *message)
{
	uint64_t flags = get_u64(body + 40);

	if (!flags_valid(flags, FLAG_0))
		return WIRE_E_FORMAT;
	message->append_reply.match = get_u64(body);
	message->append_reply.round = get_u64(body + 8);
	message->append_reply.conflict_index = get_u64(body + 24);
	message->append_reply.conflict_term = get_u64(body + 32);
	message->append_reply.rejected = (flags & FLAG_0) != 0;
	if (message->append_reply.rejected)
		message->append_reply.prev_index = get_u64(body + 16);
	else
		message->append_reply.promise_us = get_u64(body + 16);
	return WIRE_OK;
}

static int decode_hello(const uint8_t *body, struct wire_message *message)
{
	uint16_t version_min = get_u16(body);
	uint16_t version_max = get_u16(body + 2);
	uint32_t flags = get_u32(body + 4);

	if (!flags_valid(flags, FLAG_0) || version_min > version_max)
		return WIRE_E_FORMAT;
	message->hello.version_min = version_min;
	message->hello.version_max = version_max;
	message->hello.blank = (flags & FLAG_0) != 0;
	return WIRE_OK;
}

static int decode_offer(const uint8_t *body, struct wire_message *message)
{
	message->snapshot_offer.index = get_u64(body);
	message->snapshot_offer.term = get_u64(body + 8);
	message->snapshot_offer.size = get_u64(body + 16);
	return WIRE_OK;
}

static int decode_request(const uint8_t *body, struct wire_message *message)
{
	uint32_t size = get_u32(body + 24);

	if (size == 0 || get_u32(body + 28) != 0)
		return WIRE_E_FORMAT;
	if (size > WIRE_CHUNK_BYTES_MAX)
		return WIRE_E_LIMIT;
	message->snapshot_request.index = get_u64(body);
	message->snapshot_request.term = get_u64(body + 8);
	message->snapshot_request.offset = get_u64(body + 16);
	message->snapshot_request.size = size;
	return WIRE_OK;
}

/* [body, end) holds at least SNAPSHOT_CHUNK_SIZE bytes. */
static int decode_chunk(const uint8_t *body, const uint8_t *end, struct wire_message *message)
{
	const uint8_t *data = body + SNAPSHOT_CHUNK_SIZE;
	uint64_t offset = get_u64(body + 16);
	uint64_t total = get_u64(body + 24);
	uint32_t size = get_u32(body + 32);

	if (size == 0 || get_u32(body + 36) != 0)
		return WIRE_E_FORMAT;
	if (size > WIRE_CHUNK_BYTES_MAX)
		return WIRE_E_LIMIT;
	if ((size_t)(end - data) < padded_size(size))
		return WIRE_E_SHORT;
	if ((size_t)(end - data) != padded_size(size) || size > total || offset > total - size)
		return WIRE_E_FORMAT;
	for (uint32_t k = size; k < padded_size(size); k++)
		if (data[k] != 0)
			return WIRE_E_FORMAT;
	message->snapshot_chunk.index = get_u64(body);
	message->snapshot_chunk.term = get_u64(body + 8);
	message->snapshot_chunk.offset = offset;
	message->snapshot_chunk.total = total;
	message->snapshot_chunk.size = size;
	message->snapshot_chunk.data = data;
	return WIRE_OK;
}

static int decode_checkpoint(const uint8_t *body, struct wire_message *message)
{
	uint64_t flags = get_u64(body + 16);

	if (flags > FLAG_1)
		return WIRE_E_FORMAT; /* unknown ones, or both */
	message->checkpoint.index = get_u64(body);
	message->checkpoint.hash = get_u64(body + 8);
	message->checkpoint.majority = (flags & FLAG_0) != 0;
	message->checkpoint.undecided = (flags & FLAG_1) != 0;
	return WIRE_OK;
}

static int decode_endpoint(const uint8_t *body, struct wire_message *message)
{
	size_t len = 0;

	while (len < WIRE_ENDPOINT_MAX && body[len] >= 0x20 && body[len] != 0x7f)
		len++;
	for (size_t k = len; k < ENDPOINT_SIZE; k++)
		if (body[k] != 0)
			return WIRE_E_FORMAT;
	if (len == 0)
		return WIRE_E_FORMAT;
	memset(message->endpoint.peer, 0, sizeof(message->endpoint.peer));
	memcpy(message->endpoint.peer, body, len);
	return WIRE_OK;
}

/* Is this a whole, undamaged frame of a version that this file knows? Nothing before this is believed. */
static int check_frame(const uint8_t *frame, size_t len)
{
	if (len < HEADER_SIZE)
		return WIRE_E_SHORT;
	if (memcmp(frame, magic, sizeof(magic)) != 0)
		return WIRE_E_MAGIC;
	if (frame[AT_VERSION] > WIRE_VERSION)
		return WIRE_E_VERSION;
	if (len > WIRE_FRAME_SIZE_MAX)
		return WIRE_E_LIMIT;
	if (get_u32(frame + AT_SIZE) > len)
		return WIRE_E_SHORT;
	if (get_u64(frame + AT_CHECKSUM) != checksum_frame(frame, len))
		return WIRE_E_CHECKSUM;
	if (frame[AT_VERSION] != WIRE_VERSION || get_u32(frame + AT_SIZE) != len)
		return WIRE_E_FORMAT;
	if (get_u16(frame + AT_RESERVED) != 0 || get_u32(frame + AT_SIZE_RESERVED) != 0)
		return WIRE_E_FORMAT;
	return WIRE_OK;
}

/* The body's size was checked against its type: exact, but for an append's entries and a chunk's data. */
static int decode_body(const uint8_t *body, const uint8_t *end, struct raft_entry *entries, uint32_t max_entries,
		       struct wire_message *message)
{
	switch ((enum wire_type)message->type) {
	case WIRE_VOTE_REQUEST:
		return decode_vote_request(body, message);
	case WIRE_VOTE_REPLY:
		return decode_vote_reply(body, message);
	case WIRE_APPEND:
		return decode_append(body, end, entries, max_entries, message);
	case WIRE_APPEND_REPLY:
		return decode_append_reply(body, message);
	case WIRE_TIMEOUT_NOW:
		return WIRE_OK;
	case WIRE_HELLO:
		return decode_hello(body, message);
	case WIRE_SNAPSHOT_OFFER:
		return decode_offer(body, message);
	case WIRE_SNAPSHOT_REQUEST:
		return decode_request(body, message);
	case WIRE_SNAPSHOT_CHUNK:
		return decode_chunk(body, end, message);
	case WIRE_NOT_A_MEMBER:
		message->not_a_member.config_index = get_u64(body);
		return WIRE_OK;
	case WIRE_CHECKPOINT:
		return decode_checkpoint(body, message);
	case WIRE_ENDPOINT:
		return decode_endpoint(body, message);
	}
	return WIRE_E_FORMAT;
}

int wire_decode(const uint8_t *frame, size_t len, struct raft_entry *entries, uint32_t max_entries,
		struct wire_message *ret_message)
{
	raft_assert(frame != NULL || len == 0);
	raft_assert(entries != NULL || max_entries == 0);

	int r = check_frame(frame, len);
	if (r != WIRE_OK)
		return r;
	struct wire_message message = {.type = frame[AT_TYPE]};
	int body = body_size(message.type);
	size_t rest = len - HEADER_SIZE;
	if (body < 0)
		return WIRE_E_FORMAT;
	if (rest < (size_t)body)
		return WIRE_E_SHORT;
	if (message.type != WIRE_APPEND && message.type != WIRE_SNAPSHOT_CHUNK && rest != (size_t)body)
		return WIRE_E_FORMAT;
	message.cluster = get_u64(frame + AT_CLUSTER);
	message.from = get_u64(frame + AT_FROM);
	message.from_incarnation = get_u64(frame + AT_FROM_INCARNATION);
	message.to = get_u64(frame + AT_TO);
	message.term = get_u64(frame + AT_TERM);
	r = decode_body(frame + HEADER_SIZE, frame + len, entries, max_entries, &message);
	if (r == WIRE_OK)
		*ret_message = message;
	return r;
}
