/*
 * Bodies of requests and of replies. See request.h; frames are in frame.c, the pages of DUMP and LOG in page.c.
 *
 * A decoder takes any bytes and returns false for those that no encoder makes.
 */
#include "kv/request.h"

#include "daemon/assert.h"
#include "kv/bytes.h"

#include <xxhash.h>

enum {
	GET_OFFSET_FLAGS = 0,
	GET_OFFSET_KEY = 8,
	DUMP_OFFSET_FLAGS = 0,
	DUMP_OFFSET_APPLIED = 8,
	DUMP_OFFSET_KEY = 16,
	LOG_OFFSET_FIRST = 0,
	LOG_OFFSET_MAX = 8,
	LOG_OFFSET_RESERVED = 12,
	REPLY_OFFSET_ANSWER = 0,
	REPLY_OFFSET_STATUS = 1,
	REPLY_OFFSET_RESERVED = 2,
	REPLY_OFFSET_NUMBER = 8,
	REPLY_OFFSET_TERM = 16,
	REPLY_OFFSET_DATA = 24,
};
_Static_assert(KV_GET_BODY_SIZE(0) == GET_OFFSET_KEY, "the key ends the body");
_Static_assert(KV_LOG_BODY_SIZE == LOG_OFFSET_RESERVED + 4, "the reserved bytes end the body");
_Static_assert(KV_REPLY_HEADER_SIZE == REPLY_OFFSET_DATA, "the data follow the header");
_Static_assert(KV_DUMP_BODY_SIZE(0) == DUMP_OFFSET_KEY, "here, too");

/* Requests ----------------------------------------------------------------------------------------------- */

void kv_get_encode(uint8_t *body, uint8_t flags, const uint8_t *key, size_t key_size)
{
	raft_assert(key_size <= KV_KEY_SIZE_MAX);
	raft_assert((flags & ~KV_GET_STALE) == 0);
	memset(body, 0, GET_OFFSET_KEY);
	body[GET_OFFSET_FLAGS] = flags;
	kv_put_bytes(body + GET_OFFSET_KEY, key, key_size);
}

bool kv_get_decode(const uint8_t *body, size_t size, uint8_t *ret_flags, const uint8_t **ret_key, size_t *ret_key_size)
{
	if (size < GET_OFFSET_KEY || size - GET_OFFSET_KEY > KV_KEY_SIZE_MAX)
		return false;
	if ((body[GET_OFFSET_FLAGS] & ~KV_GET_STALE) != 0)
		return false;
	if (!kv_all_zero(body + GET_OFFSET_FLAGS + 1, GET_OFFSET_KEY - GET_OFFSET_FLAGS - 1))
		return false;
	*ret_flags = body[GET_OFFSET_FLAGS];
	*ret_key = body + GET_OFFSET_KEY;
	*ret_key_size = size - GET_OFFSET_KEY;
	return true;
}

void kv_dump_encode(uint8_t *body, const struct kv_dump_request *request)
{
	raft_assert(request->key_size <= KV_KEY_SIZE_MAX);
	raft_assert((request->flags & ~KV_DUMP_AFTER) == 0);
	memset(body, 0, DUMP_OFFSET_APPLIED);
	body[DUMP_OFFSET_FLAGS] = request->flags;
	kv_put_u64(body + DUMP_OFFSET_APPLIED, request->applied);
	kv_put_bytes(body + DUMP_OFFSET_KEY, request->key, request->key_size);
}

bool kv_dump_decode(const uint8_t *body, size_t size, struct kv_dump_request *ret_request)
{
	if (size < DUMP_OFFSET_KEY || size - DUMP_OFFSET_KEY > KV_KEY_SIZE_MAX)
		return false;
	if ((body[DUMP_OFFSET_FLAGS] & ~KV_DUMP_AFTER) != 0 ||
	    !kv_all_zero(body + DUMP_OFFSET_FLAGS + 1, DUMP_OFFSET_APPLIED - DUMP_OFFSET_FLAGS - 1))
		return false;
	*ret_request = (struct kv_dump_request){.flags = body[DUMP_OFFSET_FLAGS],
						.applied = kv_take_u64(body + DUMP_OFFSET_APPLIED),
						.key = body + DUMP_OFFSET_KEY,
						.key_size = size - DUMP_OFFSET_KEY};
	return true;
}

void kv_log_encode(uint8_t *body, uint64_t first_index, uint32_t max_entries)
{
	kv_put_u64(body + LOG_OFFSET_FIRST, first_index);
	kv_put_u32(body + LOG_OFFSET_MAX, max_entries);
	kv_put_u32(body + LOG_OFFSET_RESERVED, 0);
}

bool kv_log_decode(const uint8_t *body, size_t size, uint64_t *ret_first_index, uint32_t *ret_max_entries)
{
	if (size != KV_LOG_BODY_SIZE || kv_take_u32(body + LOG_OFFSET_RESERVED) != 0)
		return false;
	*ret_first_index = kv_take_u64(body + LOG_OFFSET_FIRST);
	*ret_max_entries = kv_take_u32(body + LOG_OFFSET_MAX);
	return true;
}

void kv_transfer_encode(uint8_t *body, uint64_t target)
{
	kv_put_u64(body, target);
}

bool kv_transfer_decode(const uint8_t *body, size_t size, uint64_t *ret_target)
{
	if (size != KV_TRANSFER_BODY_SIZE)
		return false;
	*ret_target = kv_take_u64(body);
	return true;
}

/* Replies ------------------------------------------------------------------------------------------------ */

void kv_reply_encode(uint8_t *body, const struct kv_answer_body *answer)
{
	raft_assert(answer->answer <= KV_ANSWER_REFUSED);
	raft_assert(answer->status <= KV_WINDOW_FULL);
	memset(body, 0, REPLY_OFFSET_NUMBER);
	body[REPLY_OFFSET_ANSWER] = answer->answer;
	body[REPLY_OFFSET_STATUS] = answer->status;
	kv_put_u64(body + REPLY_OFFSET_NUMBER, answer->number);
	kv_put_u64(body + REPLY_OFFSET_TERM, answer->term);
	kv_put_bytes(body + REPLY_OFFSET_DATA, answer->data, answer->size);
}

bool kv_reply_decode(const uint8_t *body, size_t size, struct kv_answer_body *ret_answer)
{
	if (size < REPLY_OFFSET_DATA || size > KV_FRAME_SIZE_MAX)
		return false;
	if (body[REPLY_OFFSET_ANSWER] > KV_ANSWER_REFUSED || body[REPLY_OFFSET_STATUS] > KV_WINDOW_FULL)
		return false;
	if (!kv_all_zero(body + REPLY_OFFSET_RESERVED, REPLY_OFFSET_NUMBER - REPLY_OFFSET_RESERVED))
		return false;
	*ret_answer = (struct kv_answer_body){
		.answer = body[REPLY_OFFSET_ANSWER],
		.status = body[REPLY_OFFSET_STATUS],
		.number = kv_take_u64(body + REPLY_OFFSET_NUMBER),
		.term = kv_take_u64(body + REPLY_OFFSET_TERM),
		.data = body + REPLY_OFFSET_DATA,
		.size = (uint32_t)(size - REPLY_OFFSET_DATA),
	};
	return true;
}

/* Status ------------------------------------------------------------------------------------------------- */

#define STATUS_NUMBERS (sizeof(struct kv_member_status) / sizeof(uint64_t))
_Static_assert(sizeof(struct kv_member_status) == STATUS_NUMBERS * sizeof(uint64_t), "a list of u64 and nothing else");

void kv_status_encode(uint8_t *data, const struct kv_member_status *status)
{
	uint64_t numbers[STATUS_NUMBERS];

	memcpy(numbers, status, sizeof(numbers));
	for (size_t i = 0; i < STATUS_NUMBERS; i++)
		kv_put_u64(data + i * sizeof(uint64_t), numbers[i]);
}

uint64_t kv_version_number(const char *text)
{
	uint64_t version = 0;
	for (unsigned part = 0; part < 3; part++) {
		uint64_t number = 0;
		unsigned digits = 0;
		for (; *text >= '0' && *text <= '9' && digits < 5; text++, digits++)
			number = 10 * number + (uint64_t)(*text - '0');
		if (digits == 0 || number > UINT16_MAX || (part < 2 && *text++ != '.'))
			return 0;
		version = version << 16 | number;
	}
	return version;
}

bool kv_status_decode(const uint8_t *data, size_t size, struct kv_member_status *ret_status)
{
	uint64_t numbers[STATUS_NUMBERS] = {0};

	if (size == 0 || size % sizeof(uint64_t) != 0)
		return false;
	for (size_t i = 0; i < STATUS_NUMBERS && i < size / sizeof(uint64_t); i++)
		numbers[i] = kv_take_u64(data + i * sizeof(uint64_t));
	memcpy(ret_status, numbers, sizeof(*ret_status));
	return true;
}

uint64_t kv_cluster_id(const char *name)
{
	uint64_t hash = XXH3_64bits(name, strlen(name));

	return hash != 0 ? hash : 1;
}
