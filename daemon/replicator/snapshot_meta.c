/* See snapshot_meta.h. */
#include "snapshot_meta.h"

#include <endian.h>
#include <string.h>

uint32_t snapshot_meta_encode(uint64_t time_ms, const struct raft_config *config, uint8_t *buf)
{
	uint64_t time_le = htole64(time_ms);
	size_t size = SNAPSHOT_META_HEADER_SIZE;
	memcpy(buf, &time_le, sizeof time_le);
	if (config != NULL && config->n_members > 0)
		size += raft_config_encode(config, buf + size);
	return (uint32_t)size;
}

bool snapshot_meta_decode(const uint8_t *bytes, size_t len, uint64_t *ret_time_ms, struct raft_config *ret_config)
{
	uint64_t time_le;
	memset(ret_config, 0, sizeof *ret_config);
	if (len < SNAPSHOT_META_HEADER_SIZE)
		return false;
	memcpy(&time_le, bytes, sizeof time_le);
	*ret_time_ms = le64toh(time_le);
	return len == SNAPSHOT_META_HEADER_SIZE ||
	       raft_config_decode(bytes + SNAPSHOT_META_HEADER_SIZE, len - SNAPSHOT_META_HEADER_SIZE, ret_config) ==
		       RAFT_CONFIG_OK;
}
