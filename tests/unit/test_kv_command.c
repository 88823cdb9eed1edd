/*
 * Commands as bytes (kv/command.h): the golden bytes of the format, what the decoder refuses, and that no bytes at all
 * make it read outside of what it was given.
 */
#include "kv/command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const uint8_t golden_cas[] = {
	1,    4,    3,	  0,				/* version, operation, key size */
	5,    0,    0,	  0,				/* value size */
	0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 1,	/* session */
	9,    0,    0,	  0,	0,    0,    0,	  0,	/* sequence */
	4,    0,    0,	  0,	0,    0,    0,	  0,	/* acknowledged */
	0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, /* expected */
	0,    0,    0,	  0,	0,    0,    0,	  0,	/* reserved */
	'k',  'e',  'y',  'v',	0,    'l',  0xff, 'e',
};

static const struct kv_command cas = {
	.operation = KV_CAS,
	.session = 0x0102030405060708,
	.sequence = 9,
	.acknowledged = 4,
	.expected = 0xfffffffffffffffe,
	.key = (const uint8_t *)"key",
	.key_size = 3,
	.value = (const uint8_t *)"v\0l\xff"
				  "e",
	.value_size = 5,
};

/* Decodes a copy that ends where the heap block ends, so that a sanitizer sees a read beyond it. */
static int decode_copy(const uint8_t *bytes, size_t size)
{
	uint8_t *copy = malloc(size > 0 ? size : 1);
	struct kv_command command = {.operation = 99};
	int r;

	assert_non_null(copy);
	if (size > 0)
		memcpy(copy, bytes, size);
	r = kv_command_decode(copy, size, &command);
	if (r != KV_DECODE_OK)
		assert_int_equal(command.operation, 99); /* untouched on failure */
	free(copy);
	return r;
}

static void command_has_the_documented_bytes(void **state)
{
	uint8_t buf[sizeof(golden_cas)];

	(void)state;
	assert_int_equal(kv_command_size(&cas), sizeof(golden_cas));
	memset(buf, 0xaa, sizeof(buf));
	kv_command_encode(&cas, buf);
	assert_memory_equal(buf, golden_cas, sizeof(buf));
}

static void decoded_command_equals_the_encoded(void **state)
{
	struct kv_command command;

	(void)state;
	assert_int_equal(kv_command_decode(golden_cas, sizeof(golden_cas), &command), KV_DECODE_OK);
	assert_int_equal(command.operation, cas.operation);
	assert_int_equal(command.session, cas.session);
	assert_int_equal(command.sequence, cas.sequence);
	assert_int_equal(command.acknowledged, cas.acknowledged);
	assert_true(command.expected == cas.expected);
	assert_int_equal(command.key_size, 3);
	assert_memory_equal(command.key, "key", 3);
	assert_int_equal(command.value_size, 5);
	assert_memory_equal(command.value, cas.value, 5);
	assert_ptr_equal(command.key, golden_cas + KV_COMMAND_HEADER_SIZE);
}

static void every_truncation_and_extension_is_refused(void **state)
{
	uint8_t longer[sizeof(golden_cas) + 1] = {0};

	(void)state;
	for (size_t size = 0; size < sizeof(golden_cas); size++)
		assert_int_equal(decode_copy(golden_cas, size), KV_DECODE_SHORT);
	memcpy(longer, golden_cas, sizeof(golden_cas));
	assert_int_equal(decode_copy(longer, sizeof(longer)), KV_DECODE_SHORT);
}

static int decode_with_byte(size_t offset, uint8_t byte)
{
	uint8_t bytes[sizeof(golden_cas)];

	memcpy(bytes, golden_cas, sizeof(bytes));
	bytes[offset] = byte;
	return decode_copy(bytes, sizeof(bytes));
}

static void unknown_version_operation_and_reserved_bytes_are_refused(void **state)
{
	(void)state;
	assert_int_equal(decode_with_byte(0, 2), KV_DECODE_VERSION);
	assert_int_equal(decode_with_byte(0, 0), KV_DECODE_VERSION);
	assert_int_equal(decode_with_byte(1, 0), KV_DECODE_FORMAT);
	assert_int_equal(decode_with_byte(1, 6), KV_DECODE_FORMAT);
	assert_int_equal(decode_with_byte(1, 255), KV_DECODE_FORMAT);
	for (size_t offset = 40; offset < 48; offset++)
		assert_int_equal(decode_with_byte(offset, 1), KV_DECODE_FORMAT);
}

/* Encodes with sizes of choice and decodes. */
static int decode_sizes(uint8_t operation, size_t key_size, size_t value_size, uint64_t session)
{
	size_t size = KV_COMMAND_HEADER_SIZE + key_size + value_size;
	uint8_t *bytes = calloc(1, size);
	int r;

	assert_non_null(bytes);
	bytes[0] = KV_COMMAND_VERSION;
	bytes[1] = operation;
	bytes[2] = (uint8_t)key_size;
	bytes[3] = (uint8_t)(key_size >> 8);
	for (unsigned i = 0; i < 4; i++)
		bytes[4 + i] = (uint8_t)(value_size >> (8 * i));
	bytes[8] = (uint8_t)session;
	r = decode_copy(bytes, size);
	free(bytes);
	return r;
}

static void limits_of_sizes_are_exact(void **state)
{
	(void)state;
	assert_int_equal(decode_sizes(KV_PUT, KV_KEY_SIZE_MAX, KV_VALUE_SIZE_MAX, 1), KV_DECODE_OK);
	assert_int_equal(decode_sizes(KV_PUT, KV_KEY_SIZE_MAX + 1, 0, 1), KV_DECODE_FORMAT);
	assert_int_equal(decode_sizes(KV_PUT, 1, KV_VALUE_SIZE_MAX + 1, 1), KV_DECODE_FORMAT);
	assert_int_equal(decode_sizes(KV_PUT, 1, 0, 1), KV_DECODE_OK);
	assert_int_equal(decode_sizes(KV_PUT, 0, 1, 1), KV_DECODE_FORMAT);
	assert_int_equal(decode_sizes(KV_CAS, 0, 0, 1), KV_DECODE_FORMAT);
	assert_int_equal(decode_sizes(KV_DELETE, 0, 0, 1), KV_DECODE_FORMAT);
}

static void an_operation_has_no_parts_that_it_does_not_use(void **state)
{
	(void)state;
	assert_int_equal(decode_sizes(KV_DELETE, 1, 0, 1), KV_DECODE_OK);
	assert_int_equal(decode_sizes(KV_DELETE, 1, 1, 1), KV_DECODE_FORMAT);
	assert_int_equal(decode_sizes(KV_NOTHING, 0, 0, 1), KV_DECODE_OK);
	assert_int_equal(decode_sizes(KV_NOTHING, 1, 0, 1), KV_DECODE_FORMAT);
	assert_int_equal(decode_sizes(KV_NOTHING, 0, 1, 1), KV_DECODE_FORMAT);
	assert_int_equal(decode_sizes(KV_REGISTER, 0, 0, 0), KV_DECODE_OK);
	assert_int_equal(decode_sizes(KV_REGISTER, 0, 0, 1), KV_DECODE_FORMAT);
	assert_int_equal(decode_sizes(KV_REGISTER, 1, 0, 0), KV_DECODE_FORMAT);
}

static void sizes_that_lie_are_refused(void **state)
{
	(void)state;
	assert_int_equal(decode_with_byte(2, 4), KV_DECODE_SHORT);
	assert_int_equal(decode_with_byte(4, 4), KV_DECODE_SHORT);
	assert_int_equal(decode_with_byte(3, 0xff), KV_DECODE_FORMAT);
	assert_int_equal(decode_with_byte(7, 0xff), KV_DECODE_FORMAT);
}

static void random_bytes_decode_to_something_that_encodes_back(void **state)
{
	unsigned seed = 20250101;
	uint8_t bytes[96], again[96];
	unsigned accepted = 0;

	(void)state;
	for (unsigned round = 0; round < 100000; round++) {
		size_t size = sizeof(golden_cas);
		struct kv_command command;

		memcpy(bytes, golden_cas, size);
		for (unsigned i = 0; i < 1 + round % 4; i++)
			bytes[(unsigned)rand_r(&seed) % size] = (uint8_t)rand_r(&seed);
		if (round % 5 == 0)
			size = (unsigned)rand_r(&seed) % sizeof(bytes);
		if (decode_copy(bytes, size) != KV_DECODE_OK)
			continue;
		assert_int_equal(kv_command_decode(bytes, size, &command), KV_DECODE_OK);
		kv_command_encode(&command, again);
		assert_memory_equal(again, bytes, size);
		accepted++;
	}
	assert_true(accepted > 1000); /* else the test would show nothing */
}

static void names_exist_for_every_operation_only(void **state)
{
	(void)state;
	assert_null(kv_operation_name(0));
	assert_string_equal(kv_operation_name(KV_REGISTER), "register");
	assert_string_equal(kv_operation_name(KV_PUT), "put");
	assert_string_equal(kv_operation_name(KV_DELETE), "delete");
	assert_string_equal(kv_operation_name(KV_CAS), "cas");
	assert_string_equal(kv_operation_name(KV_NOTHING), "nothing");
	assert_null(kv_operation_name(6));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(command_has_the_documented_bytes),
		cmocka_unit_test(decoded_command_equals_the_encoded),
		cmocka_unit_test(every_truncation_and_extension_is_refused),
		cmocka_unit_test(unknown_version_operation_and_reserved_bytes_are_refused),
		cmocka_unit_test(limits_of_sizes_are_exact),
		cmocka_unit_test(an_operation_has_no_parts_that_it_does_not_use),
		cmocka_unit_test(sizes_that_lie_are_refused),
		cmocka_unit_test(random_bytes_decode_to_something_that_encodes_back),
		cmocka_unit_test(names_exist_for_every_operation_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
