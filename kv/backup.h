/*
 * The head of a backup: what `raftctl backup` writes in front of a snapshot's stream (snapshot_stream.h).
 *
 *   offset size field
 *   0      4    magic "RKVB"
 *   4      4    version (1)
 *   8      8    cluster (hash of its name) that it is from
 *   16     8    applied: the index of the last entry whose effect is in it
 *   24     8    size of the stream that follows
 *   32     8    XXH3-64 of the stream
 *   40     16   reserved, zero
 *   56     8    XXH3-64 of the 56 bytes before
 *
 * Pure functions over bytes. What this must not know: files, what the stream means.
 */
#ifndef KV_BACKUP_H
#define KV_BACKUP_H

#include <stddef.h>
#include <stdint.h>

#define KV_BACKUP_VERSION 1u
#define KV_BACKUP_HEADER_SIZE 64u

struct kv_backup_header {
	uint64_t cluster;
	uint64_t applied;
	uint64_t size;
	uint64_t checksum;
};

enum kv_backup_result {
	KV_BACKUP_OK = 0,
	KV_BACKUP_SHORT = 1,
	KV_BACKUP_MAGIC = 2,
	KV_BACKUP_BAD_VERSION = 3,
	KV_BACKUP_DAMAGED = 4,
};
const char *kv_backup_result_name(int result); /* in words for an operator */

void kv_backup_header_encode(uint8_t *buf, const struct kv_backup_header *header); /* KV_BACKUP_HEADER_SIZE bytes */
int kv_backup_header_decode(const uint8_t *buf, size_t size, struct kv_backup_header *ret_header)
	__attribute__((warn_unused_result));

#endif
