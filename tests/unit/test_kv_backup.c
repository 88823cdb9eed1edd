/*
 * The head of a backup (kv/backup.h): read back, and every damaged bit noticed.
 */
#include "kv/backup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void header_is_read_back(void **state)
{
	const struct kv_backup_header header = {.cluster = 1, .applied = 0x0102030405060708, .size = 3, .checksum = 4};
	struct kv_backup_header decoded;
	uint8_t buf[KV_BACKUP_HEADER_SIZE];
	(void)state;
	kv_backup_header_encode(buf, &header);
	assert_memory_equal(buf, "RKVB\1\0\0\0\1\0\0\0\0\0\0\0\10\7\6\5\4\3\2\1", 24);
	assert_int_equal(kv_backup_header_decode(buf, sizeof buf, &decoded), KV_BACKUP_OK);
	assert_memory_equal(&decoded, &header, sizeof header);
	for (size_t size = 0; size < sizeof buf; size++)
		assert_int_equal(kv_backup_header_decode(buf, size, &decoded), KV_BACKUP_SHORT);
}

static void every_flipped_bit_is_noticed(void **state)
{
	const struct kv_backup_header header = {.cluster = 1, .applied = 2, .size = 3, .checksum = 4};
	struct kv_backup_header decoded;
	uint8_t buf[KV_BACKUP_HEADER_SIZE];
	(void)state;
	kv_backup_header_encode(buf, &header);
	for (size_t bit = 0; bit < 8 * sizeof buf; bit++) {
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		int r = kv_backup_header_decode(buf, sizeof buf, &decoded);
		assert_int_equal(r, bit < 32 ? KV_BACKUP_MAGIC : KV_BACKUP_DAMAGED);
		assert_non_null(kv_backup_result_name(r));
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(header_is_read_back),
		cmocka_unit_test(every_flipped_bit_is_noticed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
