/*
 * What the replica itself keeps in a snapshot, in the storage's eyes the configuration: the newest time in any entry known
 * when it was taken, u64 little-endian, then the encoded configuration, if there is one.
 *
 * Pure functions over bytes, shared with raftctl, which makes data directories.
 */
#ifndef RAFT_KV_REPLICATOR_SNAPSHOT_META_H
#define RAFT_KV_REPLICATOR_SNAPSHOT_META_H

#include "../raft/config_codec.h"

#define SNAPSHOT_META_HEADER_SIZE 8u
#define SNAPSHOT_META_SIZE_MAX (SNAPSHOT_META_HEADER_SIZE + RAFT_CONFIG_SIZE_MAX)

/* Into SNAPSHOT_META_SIZE_MAX bytes; config NULL, or without members: none. Returns how many were used. */
uint32_t snapshot_meta_encode(uint64_t time_ms, const struct raft_config *config, uint8_t *buf);
/* False: these bytes are not what the other writes. No configuration: *ret_config has no members. */
bool snapshot_meta_decode(const uint8_t *bytes, size_t len, uint64_t *ret_time_ms, struct raft_config *ret_config);

#endif
