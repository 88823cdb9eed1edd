/*
 * Snapshots on the disk of a storage: writing them, receiving another member's, reading and keeping them.
 *
 * A snapshot is written in the background under a temporary name, synced, renamed, and the directory synced: only then
 * it counts, and storage_snapshot_newest names it after the storage_process that learnt of it.  The newest two are kept;
 * so compact the log up to storage_snapshot_keeps, which is the older of the two: should the newest rot, the member
 * starts from the one before and the log.
 *
 * One may be written and one received at a time, each with half a megabyte of memory at most.  A lack of room only ends
 * that one snapshot; any other failure of the disk is final.  What this must not know: what the bytes mean.
 */
#ifndef RAFT_KV_SNAPSHOTS_H
#define RAFT_KV_SNAPSHOTS_H

#include "storage.h"

struct storage_snapshot_info {
	uint64_t index; /* of the last entry in it */
	uint64_t term;	/* of that entry */
	uint64_t config_index;
	uint32_t config_size;
	uint32_t level; /* the feature level that a program must know; 0 or 1: any does */
	uint64_t payload_bytes;
	uint64_t file_bytes;
};

/* The newest good one. Returns false if there is none. */
bool storage_snapshot_newest(const struct storage *storage, struct storage_snapshot_info *ret_info);
/* It was good when its name became durable, or at the start, and is not any more: from now on it counts as little as one that was
 * found damaged at the start. Not while anybody reads it: false. */
bool storage_snapshot_distrust(struct storage *storage, uint64_t index);
/* Up to where the log may be compacted: the older of the newest two. Returns false while there are not two. */
bool storage_snapshot_keeps(const struct storage *storage, uint64_t *ret_index, uint64_t *ret_term);

/* Writing ------------------------------------------------------------------------------------------- */

enum storage_snapshot_phase {
	STORAGE_SNAPSHOT_IDLE,
	STORAGE_SNAPSHOT_WRITING,   /* waits for bytes */
	STORAGE_SNAPSHOT_FINISHING, /* has them all; waits for the disk */
	STORAGE_SNAPSHOT_CLEANING,  /* given up: what was written is being removed */
};

struct storage_snapshot_progress {
	enum storage_snapshot_phase phase;
	int result; /* of the last one that ended: 0, STORAGE_E_FULL, STORAGE_E_CORRUPT (received bytes do not verify) */
	uint64_t index;	 /* of the one under way */
	uint64_t offset; /* received: the byte of the file that is wanted next */
	bool waits;	 /* received: nothing is taken before the disk has written what it was handed */
};

struct storage_snapshot_begin {
	uint64_t index;
	uint64_t term;
	uint64_t config_index;
	const uint8_t *config; /* at most SNAPSHOT_CONFIG_MAX (snapshot.h) bytes; copied */
	uint32_t config_size;
	uint32_t level; /* of the state in it */
};

/* Returns 0; STORAGE_E_BUSY while another one is written or cleaned up, or this one is received; -EINVAL if it is not newer than the newest;
 * -ENOMEM; or the disk's final error. */
int storage_snapshot_begin(struct storage *storage, const struct storage_snapshot_begin *begin)
	__attribute__((warn_unused_result));
/* Takes as many bytes as there is room for, maybe none: the rest after the next storage_process. Returns 0,
 * STORAGE_E_FULL when the disk is full and the snapshot was given up, -EINVAL when none is being written, or the disk's
 * final error. */
int storage_snapshot_write(struct storage *storage, const uint8_t *buf, size_t len, size_t *ret_taken)
	__attribute__((warn_unused_result));
/* That was all. Returns like storage_snapshot_write. */
int storage_snapshot_finish(struct storage *storage) __attribute__((warn_unused_result));
void storage_snapshot_abort(struct storage *storage); /* nothing under way: nothing happens */
void storage_snapshot_written(const struct storage *storage, struct storage_snapshot_progress *ret_progress);

/* Receiving ------------------------------------------------------------------------------------------ */

/* Begins or resumes: *ret_offset is the byte of the file to go on with. What is there of another snapshot is
 * dropped, which may take a while: STORAGE_E_BUSY. Otherwise returns like storage_snapshot_begin. */
int storage_receive_begin(struct storage *storage, uint64_t index, uint64_t term, uint64_t *ret_offset)
	__attribute__((warn_unused_result));
/* Takes as many of the file's raw bytes as there is room for; they must be those at the wanted offset (-EINVAL). With the
 * last byte the snapshot finishes by itself. Returns STORAGE_E_CORRUPT when the bytes do not verify: all of it is
 * dropped, begin again; STORAGE_E_VERSION when the sender is newer than we are; otherwise like storage_snapshot_write. */
int storage_receive_write(struct storage *storage, uint64_t offset, const uint8_t *buf, size_t len, size_t *ret_taken)
	__attribute__((warn_unused_result));
/* What is there of one is dropped, also when it was found at the start; one that was received whole goes on. */
void storage_receive_abort(struct storage *storage);
void storage_received(const struct storage *storage, struct storage_snapshot_progress *ret_progress);

/* Reading: from the disk, on the caller's thread, a block at a time ------------------------------------- */

struct snapshot_reader;

/* Opens the good snapshot at index and verifies its header; the file stays until the reader is freed. Returns 0, -ENOENT,
 * STORAGE_E_CORRUPT, -ENOMEM or a read error. The configuration is valid as long as the reader. */
int snapshot_reader_new(struct storage *storage, uint64_t index, struct snapshot_reader **ret_reader,
			struct storage_snapshot_info *ret_info, const uint8_t **ret_config)
	__attribute__((warn_unused_result));
struct snapshot_reader *snapshot_reader_free(struct snapshot_reader *reader); /* before the storage; NULL is fine */
/* The next block of what was written, verified; valid until the next call. *ret_len 0: all of it was read, and verified to
 * the end. Returns 0, STORAGE_E_CORRUPT or a read error. */
int snapshot_reader_next(struct snapshot_reader *reader, const uint8_t **ret_buf, size_t *ret_len)
	__attribute__((warn_unused_result));
/* Where in the file the next block begins: says where the damage is. */
uint64_t snapshot_reader_offset(const struct snapshot_reader *reader);
/* Raw bytes of the file, for another member, which verifies them. Returns 0 and fewer bytes only at the end of the file,
 * or a read error. */
int snapshot_reader_raw(struct snapshot_reader *reader, uint64_t offset, uint8_t *buf, size_t len, size_t *ret_len)
	__attribute__((warn_unused_result));

#endif
