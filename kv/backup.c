/* See backup.h. */
#include "kv/backup.h"

#include "kv/bytes.h"

#include <xxhash.h>

#define MAGIC "RKVB"

enum {
	OFFSET_MAGIC = 0,
	OFFSET_VERSION = 4,
	OFFSET_CLUSTER = 8,
	OFFSET_APPLIED = 16,
	OFFSET_SIZE = 24,
	OFFSET_CHECKSUM = 32,
	OFFSET_RESERVED = 40,
	OFFSET_HEADER_CHECKSUM = 56,
};
_Static_assert(KV_BACKUP_HEADER_SIZE == OFFSET_HEADER_CHECKSUM + 8, "the checksum ends it");

const char *kv_backup_result_name(int result)
{
	static const char *const names[] = {
		[KV_BACKUP_OK] = "a backup",
		[KV_BACKUP_SHORT] = "too short to be a backup",
		[KV_BACKUP_MAGIC] = "not a backup of raftctl",
		[KV_BACKUP_BAD_VERSION] = "of a newer version than this raftctl knows",
		[KV_BACKUP_DAMAGED] = "damaged: its bytes are not those that were written",
	};

	_Static_assert(sizeof(names) / sizeof(names[0]) == KV_BACKUP_DAMAGED + 1, "each has a name");
	return result >= 0 && (size_t)result < sizeof(names) / sizeof(names[0]) ? names[result] : NULL;
}

void kv_backup_header_encode(uint8_t *buf, const struct kv_backup_header *header)
{
	memset(buf, 0, KV_BACKUP_HEADER_SIZE);
	memcpy(buf + OFFSET_MAGIC, MAGIC, sizeof(MAGIC) - 1);
	kv_put_u32(buf + OFFSET_VERSION, KV_BACKUP_VERSION);
	kv_put_u64(buf + OFFSET_CLUSTER, header->cluster);
	kv_put_u64(buf + OFFSET_APPLIED, header->applied);
	kv_put_u64(buf + OFFSET_SIZE, header->size);
	kv_put_u64(buf + OFFSET_CHECKSUM, header->checksum);
	kv_put_u64(buf + OFFSET_HEADER_CHECKSUM, XXH3_64bits(buf, OFFSET_HEADER_CHECKSUM));
}

int kv_backup_header_decode(const uint8_t *buf, size_t size, struct kv_backup_header *ret_header)
{
	if (size < KV_BACKUP_HEADER_SIZE)
		return KV_BACKUP_SHORT;
	if (memcmp(buf + OFFSET_MAGIC, MAGIC, sizeof(MAGIC) - 1) != 0)
		return KV_BACKUP_MAGIC;
	if (kv_take_u64(buf + OFFSET_HEADER_CHECKSUM) != XXH3_64bits(buf, OFFSET_HEADER_CHECKSUM))
		return KV_BACKUP_DAMAGED;
	if (kv_take_u32(buf + OFFSET_VERSION) != KV_BACKUP_VERSION ||
	    !kv_all_zero(buf + OFFSET_RESERVED, OFFSET_HEADER_CHECKSUM - OFFSET_RESERVED))
		return KV_BACKUP_BAD_VERSION;
	*ret_header = (struct kv_backup_header){
		.cluster = kv_take_u64(buf + OFFSET_CLUSTER),
		.applied = kv_take_u64(buf + OFFSET_APPLIED),
		.size = kv_take_u64(buf + OFFSET_SIZE),
		.checksum = kv_take_u64(buf + OFFSET_CHECKSUM),
	};
	return KV_BACKUP_OK;
}
