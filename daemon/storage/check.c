/*
 * Verifying a whole data directory.  See check.h.
 *
 * The same rules as in recovery, but behind something bad it looks for the next good record and goes on from there.
 */
#include "daemon/storage/check.h"

#include "daemon/storage/recovery.h"

#include "daemon/assert.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct walk {
	struct storage_check *check;
	struct recovery recovery; /* for its window on the files */
	char message[STORAGE_MESSAGE_MAX];
	struct format_identity identity;
	bool has_identity;

	/* Up to here the log was followed without a gap. */
	bool has_chain;
	uint64_t flush;
	uint64_t checksum;
	const struct file *file; /* where it was left … */
	uint64_t offset;
	uint64_t base_index;
	uint64_t last_index;
};

static void damage(struct walk *walk, const char *file, uint64_t offset, const char *what)
{
	walk->check->damages++;
	walk->check->report(walk->check->arg, STORAGE_FINDING_DAMAGE, file, offset, what);
}

static void note(struct walk *walk, const char *file, uint64_t offset, const char *what)
{
	walk->check->report(walk->check->arg, STORAGE_FINDING_NOTE, file, offset, what);
}

/* Records --------------------------------------------------------------------------------------------- */

enum seen { SEEN_RECORD, SEEN_NOTHING, SEEN_BROKEN, SEEN_NEWER };

/* What is at offset: a whole good record, which lies at *ret_buf for now, or how much of one. Returns 0 or negative errno. */
static int see(struct walk *walk, const struct file *file, uint64_t offset, enum seen *ret_seen,
	       struct format_record *ret_record, const uint8_t **ret_buf)
{
	const uint8_t *buf = NULL;
	size_t len = 0;
	*ret_seen = SEEN_NOTHING;
	if (file->size < FORMAT_RECORD_MIN || offset > file->size - FORMAT_RECORD_MIN)
		return 0;
	uint64_t seed = format_seed(&walk->identity, file->number, offset);
	int r = recovery_look(&walk->recovery, file, offset, FORMAT_RECORD_HEADER_SIZE, &buf, &len);
	if (r != 0)
		return r;
	enum format_result result = format_record_decode(buf, len, seed, ret_record);
	if (result == FORMAT_NEWER)
		*ret_seen = SEEN_NEWER;
	if (result != FORMAT_OK)
		return 0;
	r = recovery_look(&walk->recovery, file, offset, ret_record->length, &buf, &len);
	if (r != 0)
		return r;
	bool whole = len == ret_record->length && format_record_verify(ret_record, seed, buf);
	*ret_seen = whole ? SEEN_RECORD : SEEN_BROKEN;
	*ret_buf = buf;
	return 0;
}

/* The next place behind offset where a record's header verifies, or the file's size. */
static int find_next(struct walk *walk, const struct file *file, uint64_t offset, uint64_t *ret_next)
{
	for (uint64_t at = offset + FORMAT_SECTOR; at < file->size; at += FORMAT_SECTOR) {
		struct format_record record;
		const uint8_t *buf = NULL;
		enum seen seen = SEEN_NOTHING;
		int r = see(walk, file, at, &seen, &record, &buf);
		if (r != 0)
			return r;
		if (seen != SEEN_NOTHING) {
			*ret_next = at;
			return 0;
		}
	}
	*ret_next = file->size;
	return 0;
}

/* Where a record or a header takes the log up: behind this entry, which is known unless the log begins anew there. */
struct joint {
	uint64_t index;
	uint64_t term;
	bool anew;
};

/* chained: what was seen before is what this continues. Returns 0 or -ENOMEM. */
static int take_up(struct walk *walk, const struct file *file, uint64_t offset, const struct joint *joint, bool chained)
{
	struct log_index *terms = &walk->recovery.storage->index;
	bool follows = chained && !joint->anew;
	bool within = joint->index >= walk->base_index && joint->index <= walk->last_index;
	uint64_t term = joint->index > 0 ? log_index_term(terms, joint->index) : 0;
	if (log_index_reserve_terms(terms, 1) < 0)
		return -ENOMEM;
	if (follows && joint->index > walk->last_index)
		damage(walk, file->name, offset, "continues a longer log than there is");
	else if (follows && within && term != joint->term && (term > 0 || joint->index == 0))
		damage(walk, file->name, offset, "continues another log than there is");
	if (follows && within && term == joint->term)
		log_index_cut(terms, joint->index);
	else
		log_index_begin(terms, joint->index, joint->term);
	if (joint->anew || joint->index < walk->base_index)
		walk->base_index = joint->index;
	walk->last_index = joint->index;
	walk->has_chain = true;
	return 0;
}

/* Follows the log with a good record. Returns 0 or -ENOMEM. */
static int follow(struct walk *walk, const struct file *file, uint64_t offset, const struct format_record *record,
		  const uint8_t *buf)
{
	const struct joint joint = {.index = record->prev_index, .term = record->prev_term, .anew = record->reset};
	struct log_index *terms = &walk->recovery.storage->index;
	bool chained = walk->has_chain && record->flush == walk->flush + 1 && record->prev_checksum == walk->checksum;
	if (walk->has_chain && !chained)
		damage(walk, file->name, offset, "the record does not follow the one before it");
	if (take_up(walk, file, offset, &joint, chained) < 0 || log_index_reserve_terms(terms, record->n_entries) < 0)
		return -ENOMEM;
	const uint8_t *at = buf + FORMAT_RECORD_HEADER_SIZE;
	size_t left = record->entry_bytes;
	for (uint32_t i = 0; i < record->n_entries; i++) {
		struct raft_entry entry;
		size_t n = format_entry_decode(at, left, &entry);
		raft_assert(n > 0); /* the record was verified */
		log_index_add_term(terms, ++walk->last_index, entry.term);
		at += n;
		left -= n;
	}
	walk->flush = record->flush;
	walk->checksum = record->checksum;
	walk->check->records++;
	return 0;
}

static int walk_records(struct walk *walk, const struct file *file, bool last)
{
	uint64_t offset = FORMAT_HEADER_SIZE;
	walk->file = file;
	while (offset < file->size) {
		struct format_record record;
		enum seen seen = SEEN_NOTHING;
		const uint8_t *buf = NULL;
		uint64_t next = file->size;
		int r = see(walk, file, offset, &seen, &record, &buf);
		if (r == 0 && seen == SEEN_RECORD) {
			r = follow(walk, file, offset, &record, buf);
			if (r < 0)
				return r;
			offset += record.length;
			walk->offset = offset;
			continue;
		}
		if (r == 0)
			r = find_next(walk, file, offset, &next);
		if (r != 0)
			return r;
		walk->offset = offset;
		if (seen == SEEN_NEWER)
			damage(walk, file->name, offset,
			       "was written by a newer version: check it with that version's raftctl");
		else if (next < file->size)
			damage(walk, file->name, offset, "no valid record here, though there are later ones");
		else if (last && seen == SEEN_BROKEN)
			note(walk, file->name, offset, "a record that was never completed; the next start cuts it");
		if (next < file->size)
			walk->has_chain = false;
		offset = next;
	}
	return 0;
}

/* Segments -------------------------------------------------------------------------------------------- */

/* Takes up what a header says. Returns 0 or -ENOMEM; *ret_readable: its records can be looked at. */
static int follow_header(struct walk *walk, const struct file *file, const struct format_segment *segment,
			 uint64_t checksum, bool *ret_readable)
{
	const struct joint joint = {.index = segment->base_index,
				    .term = segment->base_term,
				    .anew = segment->reset || !walk->has_identity};
	if (segment->sequence != file->number)
		damage(walk, file->name, 0, "holds another segment's header");
	else if (segment->segment_size != file->size)
		damage(walk, file->name, file->size, "has not the size that its header says");
	if (walk->has_identity && (segment->identity.cluster_id != walk->identity.cluster_id ||
				   segment->identity.member_id != walk->identity.member_id ||
				   segment->identity.incarnation != walk->identity.incarnation)) {
		damage(walk, file->name, 0, "belongs to another life, member or cluster than the segments before it");
		*ret_readable = false;
		return 0;
	}
	bool chained =
		walk->has_chain && segment->prev_flush == walk->flush && segment->prev_checksum == walk->checksum;
	if (walk->has_chain && !chained)
		damage(walk, walk->file->name, walk->offset,
		       "no valid record here, though a later segment says there was one");
	walk->identity = segment->identity;
	walk->has_identity = true;
	walk->flush = segment->prev_flush;
	walk->checksum = checksum;
	*ret_readable = true;
	return take_up(walk, file, 0, &joint, chained);
}

static int walk_segment(struct walk *walk, const struct file *file, bool first, bool last)
{
	struct format_segment segment;
	const uint8_t *buf = NULL;
	uint64_t checksum = 0;
	size_t len = 0;
	walk->check->segments++;
	walk->check->bytes += file->size;
	if (!first && file[-1].number + 1 != file->number) {
		char name[DISK_NAME_MAX + 1];
		segments_name(name, file[-1].number + 1);
		damage(walk, name, 0, "is missing, though later segments exist");
		walk->has_chain = false;
	}
	int r = recovery_look(&walk->recovery, file, 0, FORMAT_HEADER_SIZE, &buf, &len);
	if (r != 0)
		return r;
	bool readable = walk->has_identity; /* without a header of its own, by the others' identity */
	switch (format_segment_decode(buf, len, &segment, &checksum)) {
	case FORMAT_OK:
		r = follow_header(walk, file, &segment, checksum, &readable);
		if (r < 0)
			return r;
		break;
	case FORMAT_BAD:
		damage(walk, file->name, 0, "the segment's header is not valid");
		walk->has_chain = false;
		break;
	case FORMAT_NEWER:
		damage(walk, file->name, 0, "was written by a newer version: check it with that version's raftctl");
		readable = false;
		break;
	}
	if (readable)
		return walk_records(walk, file, last);
	walk->has_chain = false;
	return 0;
}

/* Everything ------------------------------------------------------------------------------------------ */

/* The newest good one; its index is 0 when there is none. */
struct newest {
	const struct file *file;
	uint64_t index;
	uint64_t term;
};

static int check_snapshot(struct walk *walk, const struct file *file, struct newest *newest)
{
	struct snapshot_verdict verdict =
		snapshot_verify(walk->recovery.storage->disk, file->name, file->size, SNAPSHOT_WHOLE);
	const struct snapshot_header *header = &verdict.parser.header;
	if (verdict.result == -ENOMEM)
		return verdict.result;
	walk->check->bytes += file->size;
	if (verdict.result != 0)
		damage(walk, file->name, verdict.parser.chain.offset, verdict.what);
	else if (header->index != file->number)
		damage(walk, file->name, 0, "holds another snapshot");
	else if (walk->has_identity && header->cluster_id != walk->identity.cluster_id)
		damage(walk, file->name, 0, "belongs to another cluster");
	else {
		walk->check->snapshots++;
		*newest = (struct newest){.file = file, .index = header->index, .term = header->term};
	}
	return 0;
}

/* A log that ends before the newest snapshot, or has another entry there, counts no more: every start says so, also while there is no
 * room to write that it begins anew. */
static void follow_snapshot(struct walk *walk, const struct newest *newest)
{
	bool within = newest->index > walk->base_index && newest->index <= walk->last_index;
	if (newest->index <= walk->base_index ||
	    (within && log_index_term(&walk->recovery.storage->index, newest->index) == newest->term))
		return;
	note(walk, newest->file->name, newest->file->size,
	     "the log does not lead to this snapshot; the next start begins it anew behind");
	walk->base_index = walk->last_index = newest->index;
}

/* As a start has it: that there were segments is certain, and what the member promised is in no snapshot. */
static void miss_segments(struct walk *walk)
{
	const struct files *files = &walk->recovery.files;
	for (size_t i = files->count; i-- > 0;)
		if (files->items[i].kind == FILE_SNAPSHOT) {
			damage(walk, files->items[i].name, 0,
			       "exists, but no segment: the log is lost, and with it what the member promised to the "
			       "others");
			return;
		}
}

static int walk_files(struct walk *walk)
{
	struct files *files = &walk->recovery.files;
	struct newest newest = {0};
	int r = 0;
	for (size_t i = 0; i < files->count && r == 0; i++) {
		const struct file *file = &files->items[i];
		switch (file->kind) {
		case FILE_SEGMENT:
			r = walk_segment(walk, file, i == 0, i + 1 == files->n_segments);
			break;
		case FILE_SNAPSHOT:
			r = check_snapshot(walk, file, &newest);
			break;
		case FILE_PART:
			note(walk, file->name, file->size, "a snapshot that is being received");
			break;
		case FILE_TEMPORARY:
			note(walk, file->name, file->size, "was not finished; the next start removes it");
			break;
		case FILE_SPARE:
			break;
		}
		if (r < 0 && r != -ENOMEM) {
			damage(walk, file->name, 0, strerror(-r)); /* cannot be read: the others can */
			walk->has_chain = false;
			r = 0;
		}
	}
	if (r == 0 && files->n_segments == 0)
		miss_segments(walk);
	if (r == 0 && walk->has_identity && walk->base_index > newest.index)
		damage(walk, files->items[0].name, 0,
		       "the log begins later than any good snapshot reaches: entries are missing");
	else if (r == 0 && walk->check->damages == 0)
		follow_snapshot(walk, &newest);
	return r;
}

int storage_check(struct disk *disk, struct storage_check *check)
{
	struct walk *walk = calloc(1, sizeof(*walk));
	struct storage *storage = calloc(1, sizeof(*storage));
	int r = walk && storage ? 0 : -ENOMEM;
	if (r == 0) {
		storage->disk = disk;
		log_index_init(&storage->index);
		walk->check = check;
		walk->recovery.storage = storage;
		walk->recovery.message = walk->message;
		r = recovery_list_files(disk, &walk->recovery.files);
	}
	if (r == 0 && walk->recovery.files.no_file[0] != '\0')
		damage(walk, walk->recovery.files.no_file, 0, "is no regular file");
	if (r == 0)
		r = walk_files(walk);
	if (r == 0) {
		check->base_index = walk->base_index;
		check->last_index = walk->last_index;
		check->entries = walk->last_index - walk->base_index;
		r = check->damages > 0 ? STORAGE_E_CORRUPT : 0;
	}
	if (walk) {
		free(walk->recovery.files.items);
		free(walk->recovery.window);
	}
	if (storage)
		log_index_fini(&storage->index);
	free(walk);
	free(storage);
	return r;
}
