/*
 * Fuzzes what members and clients say to one another (kv/request.h, kv/command.h): no bytes may crash a decoder, and
 * what one accepts lies within what it was given.
 *
 * The first byte of an input chooses what the rest is: a frame as it is, a frame whose header is made to fit (a checksum
 * keeps random bytes out otherwise), or the bare body of one of the decoders.
 */
#include "daemon/assert.h"
#include "kv/admin.h"
#include "kv/backup.h"
#include "kv/command.h"
#include "kv/request.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define CLUSTER 0x1122334455667788u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void assert_within(const uint8_t *part, size_t part_size, const uint8_t *whole, size_t size)
{
	if (part_size > 0)
		raft_assert(part >= whole && part_size <= size && (size_t)(part - whole) <= size - part_size);
}

static void try_command(const uint8_t *data, size_t size)
{
	struct kv_command command;

	if (kv_command_decode(data, size, &command) != KV_DECODE_OK)
		return;
	raft_assert(kv_operation_name(command.operation) != NULL);
	raft_assert(command.key_size <= KV_KEY_SIZE_MAX && command.value_size <= KV_VALUE_SIZE_MAX);
	assert_within(command.key, command.key_size, data, size);
	assert_within(command.value, command.value_size, data, size);
	raft_assert(kv_command_size(&command) == size);
	uint8_t *again = malloc(size);
	if (again == NULL)
		return;
	kv_command_encode(&command, again);
	raft_assert(memcmp(again, data, size) == 0);
	free(again);
}

static void try_get(const uint8_t *data, size_t size)
{
	uint8_t flags;
	const uint8_t *key;
	size_t key_size;

	if (kv_get_decode(data, size, &flags, &key, &key_size))
		assert_within(key, key_size, data, size);
}

static void try_dump(const uint8_t *data, size_t size)
{
	struct kv_dump_request request;

	if (kv_dump_decode(data, size, &request))
		assert_within(request.key, request.key_size, data, size);
}

static void try_backup(const uint8_t *data, size_t size)
{
	struct kv_backup_request request;
	struct kv_backup_header header;

	(void)kv_backup_decode(data, size, &request);
	raft_assert(kv_backup_result_name(kv_backup_header_decode(data, size, &header)) != NULL);
}

static void try_log(const uint8_t *data, size_t size)
{
	uint64_t first;
	uint32_t max_entries;

	(void)kv_log_decode(data, size, &first, &max_entries);
}

static void try_transfer(const uint8_t *data, size_t size)
{
	uint64_t target;

	(void)kv_transfer_decode(data, size, &target);
}

static void try_status(const uint8_t *data, size_t size)
{
	struct kv_member_status status;

	(void)kv_status_decode(data, size, &status);
}

static void try_dump_page(const uint8_t *data, size_t size)
{
	struct kv_dump_page page;
	struct kv_item item;

	if (!kv_dump_page_decode(data, size, &page))
		return;
	while (kv_dump_item_decode(&page, &item)) {
		assert_within(item.key, item.key_size, data, size);
		assert_within(item.value, item.value_size, data, size);
	}
}

static void try_log_page(const uint8_t *data, size_t size)
{
	struct kv_log_page page;
	struct kv_log_item item;

	if (!kv_log_page_decode(data, size, &page))
		return;
	while (kv_log_item_decode(&page, &item))
		assert_within(item.data, item.size, data, size);
}

static void try_reply(const uint8_t *data, size_t size)
{
	struct kv_answer_body answer;

	if (!kv_reply_decode(data, size, &answer))
		return;
	assert_within(answer.data, answer.size, data, size);
	try_status(answer.data, answer.size);
	try_dump_page(answer.data, answer.size);
	try_log_page(answer.data, answer.size);
}

typedef void body_decoder(const uint8_t *data, size_t size);
static body_decoder *const decoders[] = {try_command,  try_get,	   try_backup,	  try_dump,	try_log,
					 try_transfer, try_status, try_dump_page, try_log_page, try_reply};
#define N_DECODERS (sizeof(decoders) / sizeof(decoders[0]))

static void try_frame(const uint8_t *data, size_t size, uint8_t kind)
{
	struct kv_frame_reader reader;
	struct kv_frame_item item;
	size_t items = 0;
	int r = kv_frame_read(data, size, kind, CLUSTER, &reader);

	raft_assert(kv_frame_result_name(r) != NULL);
	if (r != KV_FRAME_OK)
		return;
	while (kv_frame_next(&reader, &item)) {
		assert_within(item.body, item.size, data, size);
		raft_assert(++items <= size / KV_ITEM_HEADER_SIZE);
		for (unsigned k = 0; k < N_DECODERS; k++)
			decoders[k](item.body, item.size);
	}
}

static void put_number(uint8_t *at, uint64_t number, unsigned bytes)
{
	for (unsigned k = 0; k < bytes; k++)
		at[k] = (uint8_t)(number >> (8 * k));
}

static void seal(uint8_t *frame, size_t size, uint8_t kind)
{
	memcpy(frame, "RKVC\1", 5);
	frame[5] = kind;
	put_number(frame + 6, 0, 2);
	put_number(frame + 12, size, 4);
	put_number(frame + 16, CLUSTER, 8);
	put_number(frame + 24, 0, 8);
	put_number(frame + 24, XXH3_64bits(frame, size), 8);
}

static void try_sealed_frame(const uint8_t *data, size_t size, uint8_t kind)
{
	if (size < KV_FRAME_HEADER_SIZE || size > KV_FRAME_SIZE_MAX)
		return;
	uint8_t *copy = malloc(size);
	if (copy == NULL)
		return;
	memcpy(copy, data, size);
	seal(copy, size, kind);
	try_frame(copy, size, kind);
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	unsigned choice = data[0] % (N_DECODERS + 4);
	data++;
	size--;
	if (choice < N_DECODERS)
		decoders[choice](data, size);
	else if (choice < N_DECODERS + 2)
		try_sealed_frame(data, size, choice == N_DECODERS ? KV_FRAME_REQUESTS : KV_FRAME_REPLIES);
	else
		try_frame(data, size, choice == N_DECODERS + 2 ? KV_FRAME_REQUESTS : KV_FRAME_REPLIES);
	return 0;
}
