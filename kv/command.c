/*
 * Encodes and decodes commands: see command.h for the bytes.
 *
 * Knows nothing of the store that executes them. Every bit pattern decodes to the same result on every member:
 * nothing here depends on the process.
 */
#include "kv/command.h"

#include "daemon/assert.h"
#include "kv/bytes.h"

enum {
	OFFSET_VERSION = 0,
	OFFSET_OPERATION = 1,
	OFFSET_KEY_SIZE = 2,
	OFFSET_VALUE_SIZE = 4,
	OFFSET_SESSION = 8,
	OFFSET_SEQUENCE = 16,
	OFFSET_ACKNOWLEDGED = 24,
	OFFSET_EXPECTED = 32,
	OFFSET_RESERVED = 40,
	RESERVED_SIZE = 8,
};
_Static_assert(OFFSET_RESERVED + RESERVED_SIZE == KV_COMMAND_HEADER_SIZE, "the header is as long as command.h says");
_Static_assert(KV_KEY_SIZE_MAX <= UINT16_MAX, "a key's size fits its field");

const char *kv_operation_name(uint8_t operation)
{
	static const char *const names[] = {
		[KV_REGISTER] = "register",
		[KV_PUT] = "put",
		[KV_DELETE] = "delete",
		[KV_CAS] = "cas",
		[KV_NOTHING] = "nothing",
	};

	_Static_assert(sizeof(names) / sizeof(names[0]) == KV_NOTHING + 1, "each has a name");
	return operation < sizeof(names) / sizeof(names[0]) ? names[operation] : NULL;
}

size_t kv_command_size(const struct kv_command *command)
{
	return (size_t)KV_COMMAND_HEADER_SIZE + command->key_size + command->value_size;
}

void kv_command_encode(const struct kv_command *command, uint8_t *buf)
{
	raft_assert(command->key_size <= KV_KEY_SIZE_MAX);
	raft_assert(command->value_size <= KV_VALUE_SIZE_MAX);

	buf[OFFSET_VERSION] = KV_COMMAND_VERSION;
	buf[OFFSET_OPERATION] = command->operation;
	kv_put_u16(buf + OFFSET_KEY_SIZE, command->key_size);
	kv_put_u32(buf + OFFSET_VALUE_SIZE, command->value_size);
	kv_put_u64(buf + OFFSET_SESSION, command->session);
	kv_put_u64(buf + OFFSET_SEQUENCE, command->sequence);
	kv_put_u64(buf + OFFSET_ACKNOWLEDGED, command->acknowledged);
	kv_put_u64(buf + OFFSET_EXPECTED, command->expected);
	memset(buf + OFFSET_RESERVED, 0, RESERVED_SIZE);
	kv_put_bytes(buf + KV_COMMAND_HEADER_SIZE, command->key, command->key_size);
	kv_put_bytes(buf + KV_COMMAND_HEADER_SIZE + command->key_size, command->value, command->value_size);
}

/* Which parts an operation has is part of the format: a part that it has no use for must be absent. */
static bool parts_fit_operation(const struct kv_command *command)
{
	switch ((enum kv_operation)command->operation) {
	case KV_REGISTER:
		return command->key_size == 0 && command->value_size == 0 && command->session == 0;
	case KV_PUT:
	case KV_CAS:
		return command->key_size > 0;
	case KV_DELETE:
		return command->key_size > 0 && command->value_size == 0;
	case KV_NOTHING:
		return command->key_size == 0 && command->value_size == 0;
	}
	return false;
}

int kv_command_decode(const uint8_t *buf, size_t len, struct kv_command *ret_command)
{
	struct kv_command command;

	if (len < 1)
		return KV_DECODE_SHORT;
	if (buf[OFFSET_VERSION] != KV_COMMAND_VERSION)
		return KV_DECODE_VERSION;
	if (len < KV_COMMAND_HEADER_SIZE)
		return KV_DECODE_SHORT;
	command = (struct kv_command){
		.operation = buf[OFFSET_OPERATION],
		.session = kv_take_u64(buf + OFFSET_SESSION),
		.sequence = kv_take_u64(buf + OFFSET_SEQUENCE),
		.acknowledged = kv_take_u64(buf + OFFSET_ACKNOWLEDGED),
		.expected = kv_take_u64(buf + OFFSET_EXPECTED),
		.key_size = kv_take_u16(buf + OFFSET_KEY_SIZE),
		.value_size = kv_take_u32(buf + OFFSET_VALUE_SIZE),
	};
	if (command.key_size > KV_KEY_SIZE_MAX || command.value_size > KV_VALUE_SIZE_MAX)
		return KV_DECODE_FORMAT;
	if (len != kv_command_size(&command))
		return KV_DECODE_SHORT;
	if (!parts_fit_operation(&command) || !kv_all_zero(buf + OFFSET_RESERVED, RESERVED_SIZE))
		return KV_DECODE_FORMAT;
	command.key = buf + KV_COMMAND_HEADER_SIZE;
	command.value = command.key + command.key_size;
	raft_assert(command.value + command.value_size == buf + len);
	*ret_command = command;
	return KV_DECODE_OK;
}
