/*
 * Opening a damaged directory: what can no longer be used is set aside under other names, and never deleted.
 *
 * Two steps, the smaller first.  If a good snapshot covers all segments up to the damaged ones, only those go: what is left
 * is what compaction would have left, and nothing that the member promised is forgotten.  Otherwise everything goes, and the
 * directory is blank: its member is another one from then on, under another incarnation.  That is up to the
 * owner, who knows whether there are others to learn from.
 *
 * Only what does not verify is set aside.  Where the disk reports an error instead, the start is refused: what cannot be read
 * now may be good, and cover what is damaged, at the next start; and what is given up stays so.
 *
 * Oldest first: wherever a crash interrupts it, what is left is either still damaged or good, but never shorter at its
 * newest end, where the promises are.
 */
#include "daemon/storage/recovery.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int set_aside(struct recovery *recovery, const struct file *file)
{
	struct disk_job job = {.type = DISK_JOB_RENAME, .lane = DISK_LANE_LOG};
	memcpy(job.name, file->name, sizeof(job.name));
	int n = snprintf(job.new_name, sizeof(job.new_name), "%s" ASIDE_SUFFIX "%" PRIu32, file->name,
			 recovery->files.n_asides + 1);
	if (n < 0 || (size_t)n >= sizeof(job.new_name))
		return recovery_refuse_error(recovery, file->name, 0, -ENAMETOOLONG);
	return recovery_run_job(recovery, &job);
}

/* Segments up to number end, and with them all snapshots if there is nothing behind. */
static int set_aside_until(struct recovery *recovery, uint64_t end, bool snapshots)
{
	int r = 0;
	for (size_t i = 0; i < recovery->files.count && r == 0; i++) {
		const struct file *file = &recovery->files.items[i];
		if ((file->kind == FILE_SEGMENT && file->number <= end) || (file->kind == FILE_SNAPSHOT && snapshots))
			r = set_aside(recovery, file);
	}
	return r;
}

/* What that segment's header is. Returns 0 or an error that is described. */
static int look_at_header(struct recovery *recovery, const struct file *file, enum format_result *ret_header,
			  struct format_segment *ret_segment)
{
	uint64_t checksum = 0;
	const uint8_t *buf = NULL;
	size_t len = 0;
	int r = recovery_look(recovery, file, 0, FORMAT_HEADER_SIZE, &buf, &len);
	if (r == 0)
		*ret_header = format_segment_decode(buf, len, ret_segment, &checksum);
	return r;
}

static bool belongs_here(const struct recovery *recovery, const struct file *file, const struct format_segment *segment)
{
	const struct storage_options *options = &recovery->storage->options;
	return segment->sequence == file->number && segment->identity.cluster_id == options->cluster_id &&
	       segment->identity.member_id == options->member_id;
}

/* Does the log go on behind a good snapshot? It does so with the first segment behind the damaged one whose header verifies: those in
 * between are damaged as well. *ret_end: the last number that is to go. Returns 0 or an error that is described. */
static int is_covered(struct recovery *recovery, bool *ret_covered, uint64_t *ret_end)
{
	struct format_segment segment;
	enum format_result header = FORMAT_BAD;
	const struct file *file = NULL;
	for (size_t i = 0; recovery->bad && i < recovery->files.n_segments && header == FORMAT_BAD; i++) {
		file = &recovery->files.items[i];
		int r = file->number > recovery->bad->number ? look_at_header(recovery, file, &header, &segment) : 0;
		if (r != 0)
			return r;
	}
	*ret_covered = header == FORMAT_OK && belongs_here(recovery, file, &segment) && recovery->snapshot_index > 0 &&
		       segment.base_index <= recovery->snapshot_index;
	*ret_end = *ret_covered ? segment.sequence - 1 : UINT64_MAX;
	return 0;
}

/* The configuration of the newest whole snapshot, if it is newer than the newest of the log. Returns 0 or an error that is
 * described. */
static int find_config(struct recovery *recovery)
{
	uint8_t *buf = malloc(SNAPSHOT_BLOCK_SIZE);
	struct snapshot_parser parser = {0};
	struct snapshot_found found;
	char name[DISK_NAME_MAX + 1];
	snapshots_name(name, recovery->whole_index, "");
	struct disk *disk = recovery->storage->disk;
	int64_t got = buf ? disk->ops->read(disk, name, 0, buf, SNAPSHOT_BLOCK_SIZE) : -ENOMEM;
	if (got > 0 && snapshot_parse(&parser, buf, (size_t)got, &found) == SNAPSHOT_OK &&
	    parser.header.config_index > recovery->config_index)
		recovery_note_config(recovery, parser.header.config_index, found.payload, found.payload_size, true);
	free(buf);
	return got < 0 ? recovery_refuse_error(recovery, name, 0, (int)got) : 0;
}

void recovery_note_config(struct recovery *recovery, uint64_t index, const uint8_t *data, uint32_t size, bool snapshot)
{
	uint8_t *copy = malloc((size_t)size + 1);
	if (!copy)
		return; /* an older one remains */
	if (size > 0)
		memcpy(copy, data, size);
	free(recovery->config);
	recovery->config = copy;
	recovery->config_size = size;
	recovery->config_index = index;
	recovery->config_in_snapshot = snapshot;
}

/* Asks the owner, once everything is read that may speak against it. Returns 0, STORAGE_E_CORRUPT, or an error that is
 * described. */
static int may_give_up(struct recovery *recovery)
{
	const struct storage_heal *heal = recovery->storage->options.heal;
	if (recovery->unread)
		return recovery_refuse_unread(recovery);
	int r = recovery->whole_index > 0 ? find_config(recovery) : 0;
	if (r != 0)
		return r;
	return heal->may_give_up(heal->arg, recovery->config, recovery->config_size, recovery->config_in_snapshot)
		       ? 0
		       : STORAGE_E_CORRUPT; /* the message stands */
}

int recovery_heal(struct recovery *recovery)
{
	struct storage_state *state = recovery->state;
	uint64_t end = UINT64_MAX;
	bool covered = false;
	char what[STORAGE_MESSAGE_MAX];
	(void)snprintf(what, sizeof(what), "%s", recovery->message);
	int r = is_covered(recovery, &covered, &end);
	if (r == 0 && !covered)
		r = may_give_up(recovery);
	if (r == 0)
		r = set_aside_until(recovery, end, !covered);
	if (r != 0)
		return r;
	state->gave_up |= !covered;
	(void)snprintf(state->healed, sizeof(state->healed), "%.300s. Set aside as *" ASIDE_SUFFIX "%" PRIu32 ": %s",
		       what, recovery->files.n_asides + 1,
		       covered ? "the log up to there, which a good snapshot covers"
			       : "the whole log and all snapshots");
	return -EAGAIN;
}
