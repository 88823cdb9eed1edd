/*
 * Opening: making durable what is reported, and the rest of the directory usable.
 */
#include "daemon/storage/recovery.h"

#include "daemon/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Writes the last record, or the header of a segment without one, once more, and zeros over where the next will
 * begin: a torn record's header must not come back to life when a later torn write happens to complete its
 * body. Both are repeatable: a crash in between leaves what was there before. */
int recovery_rewrite_tail(struct recovery *recovery, const struct file *file)
{
	struct storage *storage = recovery->storage;
	uint64_t from = recovery->last_record;
	size_t keep = (size_t)(storage->offset - from);
	uint64_t room = file->size - storage->offset;
	size_t zeros = (size_t)(-storage->offset % FORMAT_PAGE);
	if (zeros == 0)
		zeros = room < FORMAT_PAGE ? (size_t)room : FORMAT_PAGE;
	raft_assert(zeros <= room);

	const uint8_t *buf = NULL;
	size_t len = 0;
	int r = recovery_look(recovery, file, from, keep, &buf, &len);
	if (r != 0)
		return r;
	if (len < keep)
		return recovery_refuse_damage(recovery, file, from, "became shorter while it was read");
	uint8_t *copy = malloc(keep + zeros);
	if (!copy)
		return recovery_refuse_error(recovery, file->name, from, -ENOMEM);
	memcpy(copy, buf, keep);
	memset(copy + keep, 0, zeros);
	struct disk_job job = {
		.type = DISK_JOB_WRITE, .lane = DISK_LANE_LOG, .offset = from, .size = keep + zeros, .buf = copy};
	segments_name(job.name, file->number);
	r = recovery_run_job(recovery, &job);
	free(copy);
	if (r != 0)
		return r;
	job = (struct disk_job){.type = DISK_JOB_RENAME, .lane = DISK_LANE_LOG};
	segments_name(job.name, file->number);
	segments_name(job.new_name, file->number);
	return recovery_run_job(recovery, &job);
}

#define REWRITE_BYTES ((size_t)256 * 1024)

/* The part of a received snapshot that verifies is kept. It was read from memory, maybe: after a failed sync that is not
 * what is on the disk, so the same bytes are written and synced once more. */
static int rewrite_part(struct recovery *recovery, const struct file *file, uint64_t size)
{
	int r = 0;
	for (uint64_t offset = 0; offset < size && r == 0; offset += REWRITE_BYTES) {
		uint64_t left = size - offset;
		size_t want = left < REWRITE_BYTES ? (size_t)left : REWRITE_BYTES;
		size_t len = 0;
		struct disk_job job = {.type = DISK_JOB_WRITE, .lane = DISK_LANE_BACKGROUND, .offset = offset};
		r = recovery_look(recovery, file, offset, want, &job.buf, &len);
		if (r == 0 && len < want)
			return recovery_refuse_error(recovery, file->name, offset,
						     -EIO); /* no segment: nothing to heal */
		job.size = want;
		memcpy(job.name, file->name, sizeof(job.name));
		if (r == 0)
			r = recovery_run_job(recovery, &job);
	}
	return r;
}

/* *ret_kept: whether it is good for anything; only the newest can be, and only if it is newer than what there is. */
static int adopt_part(struct recovery *recovery, const struct file *file, bool newest, bool *ret_kept)
{
	struct storage *storage = recovery->storage;
	*ret_kept = false;
	if (!newest || file->number <= recovery->snapshot_index)
		return 0;
	struct snapshot_verdict verdict = snapshot_verify(storage->disk, file->name, file->size, SNAPSHOT_PARTIAL);
	const struct snapshot_header *header = &verdict.parser.header;
	if (verdict.result != 0 || !verdict.parser.started || header->level > storage_level_max(storage) ||
	    header->index != file->number || header->cluster_id != storage->identity.cluster_id)
		return 0;
	*ret_kept = true;
	storage->outputs[SNAPSHOT_RECEIVED] = (struct snapshot_output){.step = STEP_FILLING,
								       .submitted = true,
								       .index = header->index,
								       .term = header->term,
								       .parser = verdict.parser};
	return rewrite_part(recovery, file, verdict.parser.chain.offset);
}

/* A spare of the right size is taken over. */
static bool adopt_spare(struct storage *storage, const struct file *file)
{
	if (file->number == UINT32_MAX)
		return false;
	storage->next_spare = (uint32_t)file->number + 1;
	if (file->size != storage->options.segment_size || storage->n_spares == SPARES_MAX)
		return false;
	storage->spares[storage->n_spares++] = (uint32_t)file->number;
	return true;
}

int recovery_adopt_files(struct recovery *recovery)
{
	for (size_t i = recovery->files.n_segments; i < recovery->files.count; i++) {
		const struct file *file = &recovery->files.items[i];
		bool kept = file->kind == FILE_SNAPSHOT;
		int r = 0;
		if (file->kind == FILE_SPARE) {
			kept = adopt_spare(recovery->storage, file);
		} else if (file->kind == FILE_PART) {
			bool newest = i + 1 == recovery->files.count || file[1].kind != FILE_PART;
			r = adopt_part(recovery, file, newest, &kept);
		}
		struct disk_job job = {.type = DISK_JOB_REMOVE, .lane = DISK_LANE_BACKGROUND};
		memcpy(job.name, file->name, sizeof(job.name));
		if (r == 0 && !kept)
			r = recovery_run_job(recovery, &job);
		if (r != 0)
			return r;
	}
	return 0;
}

/* The first segment of an empty log. Until its name is there, the directory still counts as blank. */
int recovery_create_log(struct recovery *recovery)
{
	struct storage *storage = recovery->storage;
	const struct storage_options *options = &storage->options;
	struct disk_job job = {.type = DISK_JOB_PREPARE, .lane = DISK_LANE_BACKGROUND, .size = options->segment_size};
	if (storage->n_spares == 0) {
		segments_spare_name(job.name, storage->next_spare);
		int r = recovery_run_job(recovery, &job);
		if (r != 0)
			return r;
		storage->spares[storage->n_spares++] = storage->next_spare++;
	}
	storage->identity = (struct format_identity){.cluster_id = options->cluster_id,
						     .member_id = options->member_id,
						     .incarnation = options->incarnation};
	struct format_segment segment = {
		.identity = storage->identity, .sequence = 1, .segment_size = options->segment_size};
	uint8_t header[FORMAT_HEADER_SIZE];
	storage->checksum = format_segment_encode(&segment, header);
	job = (struct disk_job){
		.type = DISK_JOB_WRITE, .lane = DISK_LANE_LOG, .size = FORMAT_HEADER_SIZE, .buf = header};
	segments_spare_name(job.name, storage->spares[--storage->n_spares]);
	int r = recovery_run_job(recovery, &job);
	if (r != 0)
		return r;
	job.type = DISK_JOB_RENAME;
	segments_name(job.new_name, segment.sequence);
	r = recovery_run_job(recovery, &job);
	if (r != 0)
		return r;
	if (segments_reserve(storage) < 0)
		return recovery_refuse_error(recovery, job.new_name, 0, -ENOMEM);
	storage->segments[storage->n_segments++] =
		(struct storage_segment){.sequence = 1, .size = options->segment_size, .named = true};
	storage->offset = FORMAT_HEADER_SIZE;
	return 0;
}
