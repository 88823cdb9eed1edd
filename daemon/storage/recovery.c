/*
 * Opening: from the files of a directory to a log, or to a refusal that says what is wrong and where.
 *
 * The rule: at most one flush was under way when the member died, so only the last record of the last segment may be
 * incomplete, and then nothing valid lies behind it.  That is a torn tail, it was never promised to
 * anybody, and it is cut.  Everything else that does not verify is damage and is never repaired here.
 *
 * What was read may have come from the page cache of a process that died before, or after a failed, fdatasync: before
 * any of it is reported, the last thing written is written and synced once more, and the directory with it.
 */
#include "daemon/storage/internal.h"

#include "daemon/assert.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_BYTES ((size_t)256 * 1024)

enum file_kind { FILE_SEGMENT, FILE_SPARE, FILE_TEMPORARY };

struct file {
	enum file_kind kind;
	uint64_t number; /* sequence or number of the spare */
	uint64_t size;
	char name[DISK_NAME_MAX + 1];
};

/* Sorted by kind and number: segments first. */
struct files {
	struct file *items;
	size_t count;
	size_t capacity;
	size_t n_segments;
	bool out_of_memory;
};

struct recovery {
	struct storage *storage;
	struct storage_state *state;
	char *message;
	struct files files;

	/* The part of the segment being read that is in memory. */
	uint8_t *window;
	size_t window_capacity;
	uint64_t window_offset;
	size_t window_length;
	const struct file *window_file;

	uint64_t last_record; /* in the newest segment: where the last good record begins, 0 if there is none */
};

/* Saying what is wrong ------------------------------------------------------------------------------ */

__attribute__((format(printf, 5, 6))) static int refuse(struct recovery *recovery, int result, const char *name,
							uint64_t offset, const char *format, ...)
{
	char what[256];
	va_list args;
	va_start(args, format);
	(void)vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	(void)snprintf(recovery->message, STORAGE_MESSAGE_MAX, "%s offset %" PRIu64 ": %s", name, offset, what);
	return result;
}

static int refuse_damage(struct recovery *recovery, const struct file *file, uint64_t offset, const char *what)
{
	return refuse(
		recovery, STORAGE_E_CORRUPT, file->name, offset,
		"%s: the log is damaged and was left as it is. Do not empty this directory: the member would forget "
		"what it promised to the others",
		what);
}

static int refuse_error(struct recovery *recovery, const char *name, uint64_t offset, int error)
{
	return refuse(recovery, error, name, offset, "%s", strerror(-error));
}

/* The directory ------------------------------------------------------------------------------------- */

static bool has_suffix(const char *name, const char *suffix)
{
	size_t n = strlen(name);
	size_t m = strlen(suffix);
	return n > m && strcmp(name + n - m, suffix) == 0;
}

static void visit_file(void *arg, const char *name, uint64_t size)
{
	struct files *files = arg;
	struct file file = {.size = size};
	uint32_t spare = 0;
	if (segments_parse_name(name, &file.number)) {
		file.kind = FILE_SEGMENT;
	} else if (segments_parse_spare(name, &spare)) {
		file.kind = FILE_SPARE;
		file.number = spare;
	} else if (has_suffix(name, DISK_TEMPORARY_SUFFIX)) {
		file.kind = FILE_TEMPORARY;
	} else {
		return; /* not ours */
	}
	if (files->count == files->capacity) {
		size_t capacity = files->capacity > 0 ? files->capacity * 2 : 16;
		struct file *grown = reallocarray(files->items, capacity, sizeof(*grown));
		if (!grown) {
			files->out_of_memory = true;
			return;
		}
		files->items = grown;
		files->capacity = capacity;
	}
	(void)snprintf(file.name, sizeof(file.name), "%s", name);
	files->items[files->count++] = file;
	files->n_segments += file.kind == FILE_SEGMENT;
}

static int compare_files(const void *a, const void *b)
{
	const struct file *x = a;
	const struct file *y = b;
	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	return x->number < y->number ? -1 : x->number > y->number;
}

static int list_files(struct recovery *recovery)
{
	struct disk *disk = recovery->storage->disk;
	struct files *files = &recovery->files;
	int r = disk->ops->list(disk, visit_file, files);
	if (r == 0 && files->out_of_memory)
		r = -ENOMEM;
	if (r < 0)
		return refuse_error(recovery, "data directory", 0, r);
	if (files->count > 0)
		qsort(files->items, files->count, sizeof(*files->items), compare_files);
	for (size_t i = 1; i < files->n_segments; i++) {
		uint64_t expected = files->items[i - 1].number + 1;
		char name[DISK_NAME_MAX + 1];
		if (files->items[i].number == expected)
			continue;
		segments_name(name, expected);
		return refuse(recovery, STORAGE_E_CORRUPT, name, 0, "is missing, but %s exists: the log is damaged",
			      files->items[i].name);
	}
	return 0;
}

/* Reading ------------------------------------------------------------------------------------------- */

/* Makes len bytes at offset available, fewer where the file ends. Returns 0 or an error that is described. */
static int look(struct recovery *recovery, const struct file *file, uint64_t offset, size_t len,
		const uint8_t **ret_buf, size_t *ret_len)
{
	bool inside = recovery->window_file == file && offset >= recovery->window_offset &&
		      offset + len <= recovery->window_offset + recovery->window_length;
	if (!inside) {
		size_t want = len > WINDOW_BYTES ? len : WINDOW_BYTES;
		if (recovery->window_capacity < want) {
			free(recovery->window);
			recovery->window_capacity = 0;
			recovery->window = malloc(want);
			if (!recovery->window)
				return refuse_error(recovery, file->name, offset, -ENOMEM);
			recovery->window_capacity = want;
		}
		struct disk *disk = recovery->storage->disk;
		int64_t got = disk->ops->read(disk, file->name, offset, recovery->window, want);
		if (got < 0)
			return refuse_error(recovery, file->name, offset, (int)got);
		recovery->window_file = file;
		recovery->window_offset = offset;
		recovery->window_length = (size_t)got;
	}
	size_t skip = (size_t)(offset - recovery->window_offset);
	size_t have = recovery->window_length - skip;
	*ret_buf = recovery->window + skip;
	*ret_len = have < len ? have : len;
	return 0;
}

/* Segments ------------------------------------------------------------------------------------------ */

static int check_owner(struct recovery *recovery, const struct file *file, const struct format_segment *segment)
{
	const struct storage_options *options = &recovery->storage->options;
	if (segment->identity.cluster_id != options->cluster_id)
		return refuse(recovery, STORAGE_E_WRONG_CLUSTER, file->name, 0,
			      "belongs to cluster %016" PRIx64 ", this member to %016" PRIx64
			      "; check the cluster's name and the data directory",
			      segment->identity.cluster_id, options->cluster_id);
	if (segment->identity.member_id != options->member_id)
		return refuse(recovery, STORAGE_E_WRONG_CLUSTER, file->name, 0,
			      "belongs to member %" PRIu64 ", this is member %" PRIu64 "; check the data directory",
			      segment->identity.member_id, options->member_id);
	return 0;
}

/* The header must continue what the segments before it say. */
static int check_chain(struct recovery *recovery, const struct file *file, const struct file *before,
		       const struct format_segment *segment)
{
	struct storage *storage = recovery->storage;
	if (segment->sequence != file->number)
		return refuse_damage(recovery, file, 0, "holds another segment's header");
	if (segment->segment_size != file->size)
		return refuse_damage(recovery, file, file->size, "has not the size that its header says");
	if (!before)
		return 0;
	if (segment->identity.incarnation != storage->identity.incarnation)
		return refuse_damage(recovery, file, 0, "belongs to another life of this member");
	if (segment->prev_flush != storage->flush || segment->prev_checksum != storage->checksum)
		return refuse_damage(recovery, before, storage->offset,
				     "no valid record here, though a later segment says there was one");
	return 0;
}

/* The log is cut behind index: what a record says that replaces a suffix, and a header if the cut was the next thing
 * to be written when the segment began. */
static int cut_to(struct recovery *recovery, const struct file *file, uint64_t offset, uint64_t index, uint64_t term)
{
	struct storage *storage = recovery->storage;
	if (index > storage_last_index(storage))
		return refuse_damage(recovery, file, offset, "continues a longer log than there is");
	if (index < storage->base_index) {
		/* The entries before the base were compacted away with their segment after some of them had been
		 * replaced here: what is left of the log begins here. */
		storage->base_index = index;
		storage->base_term = term;
	} else {
		uint64_t known =
			index == storage->base_index ? storage->base_term : log_index_term(&storage->index, index);
		if (known != term)
			return refuse_damage(recovery, file, offset, "continues another log than there is");
	}
	if (index < storage_last_index(storage)) {
		log_cache_cut(&storage->cache, index);
		log_index_cut(&storage->index, index);
	}
	return 0;
}

static int open_segment(struct recovery *recovery, const struct file *file, const struct file *before)
{
	struct storage *storage = recovery->storage;
	struct format_segment segment;
	uint64_t checksum = 0;
	const uint8_t *buf = NULL;
	size_t len = 0;
	int r = look(recovery, file, 0, FORMAT_HEADER_SIZE, &buf, &len);
	if (r != 0)
		return r;
	switch (format_segment_decode(buf, len, &segment, &checksum)) {
	case FORMAT_OK:
		break;
	case FORMAT_BAD:
		return refuse_damage(recovery, file, 0, "the segment's header is not valid");
	case FORMAT_NEWER:
		return refuse(recovery, STORAGE_E_VERSION, file->name, 0,
			      "was written by a newer version; install that version again");
	}
	r = check_owner(recovery, file, &segment);
	if (r == 0)
		r = check_chain(recovery, file, before, &segment);
	if (r == 0 && before)
		r = cut_to(recovery, file, 0, segment.base_index, segment.base_term);
	if (r == 0 && segments_reserve(storage) < 0)
		r = refuse_error(recovery, file->name, 0, -ENOMEM);
	if (r != 0)
		return r;
	if (!before) {
		storage->identity = segment.identity;
		storage->base_index = segment.base_index;
		storage->base_term = segment.base_term;
		storage->flush = segment.prev_flush;
		log_cache_init(&storage->cache, segment.base_index + 1);
	}
	storage->segments[storage->n_segments++] = (struct storage_segment){
		.sequence = segment.sequence, .size = file->size, .base_index = segment.base_index, .named = true};
	storage->checksum = checksum;
	storage->offset = FORMAT_HEADER_SIZE;
	storage->term = segment.term;
	storage->vote = segment.vote;
	storage->commit = segment.commit;
	recovery->last_record = 0;
	return 0;
}

/* Records ------------------------------------------------------------------------------------------- */

/* Adds the entries of a verified record to the log in memory. */
static int add_entries(struct storage *storage, const struct format_record *record, const uint8_t *buf)
{
	const uint8_t *at = buf + FORMAT_RECORD_HEADER_SIZE;
	size_t left = record->entry_bytes;
	if (log_index_reserve_run(&storage->index) < 0)
		return -ENOMEM;
	for (uint32_t i = 0; i < record->n_entries; i++) {
		struct raft_entry entry;
		size_t n = format_entry_decode(at, left, &entry);
		raft_assert(n > 0); /* the record was verified */
		if (log_cache_reserve(&storage->cache, 1, n) < 0 || log_index_reserve_terms(&storage->index, 1) < 0)
			return -ENOMEM;
		log_index_add_term(&storage->index, storage->cache.next_index, entry.term);
		log_cache_add(&storage->cache, &entry);
		at += n;
		left -= n;
	}
	if (record->n_entries > 0)
		log_index_add_record(&storage->index, record->prev_index + 1, storage_newest_segment(storage)->sequence,
				     storage->offset, record->length);
	log_cache_evict(&storage->cache, storage_last_index(storage), storage->options.cache_bytes_max);
	return 0;
}

static int apply_record(struct recovery *recovery, const struct file *file, const struct format_record *record,
			const uint8_t *buf)
{
	struct storage *storage = recovery->storage;
	if (record->flush != storage->flush + 1 || record->prev_checksum != storage->checksum)
		return refuse_damage(recovery, file, storage->offset, "the record does not follow the one before it");
	int r = cut_to(recovery, file, storage->offset, record->prev_index, record->prev_term);
	if (r != 0)
		return r;
	if (add_entries(storage, record, buf) < 0)
		return refuse_error(recovery, file->name, storage->offset, -ENOMEM);
	storage->term = record->term;
	storage->vote = record->vote;
	storage->commit = record->commit;
	storage->flush = record->flush;
	storage->checksum = record->checksum;
	recovery->last_record = storage->offset;
	storage->offset += record->length;
	return 0;
}

/* Reads the record at storage->offset. Returns 0 and a record of length 0 when there is no valid one, in which
 * case *ret_torn tells how much of one began there; or an error. */
static int next_record(struct recovery *recovery, const struct file *file, struct format_record *ret_record,
		       const uint8_t **ret_buf, uint64_t *ret_torn)
{
	struct storage *storage = recovery->storage;
	struct format_record record = {0};
	const uint8_t *buf = NULL;
	size_t len = 0;
	*ret_record = record;
	*ret_torn = 0;
	if (file->size - storage->offset < FORMAT_RECORD_MIN)
		return 0;
	int r = look(recovery, file, storage->offset, FORMAT_RECORD_HEADER_SIZE, &buf, &len);
	if (r != 0)
		return r;
	uint64_t seed = format_seed(&storage->identity, file->number, storage->offset);
	switch (format_record_decode(buf, len, seed, &record)) {
	case FORMAT_OK:
		break;
	case FORMAT_BAD:
		return 0;
	case FORMAT_NEWER:
		return refuse(recovery, STORAGE_E_VERSION, file->name, storage->offset,
			      "was written by a newer version; install that version again");
	}
	r = look(recovery, file, storage->offset, record.length, &buf, &len);
	if (r != 0)
		return r;
	if (len < record.length || !format_record_verify(&record, seed, buf)) {
		*ret_torn = record.length;
		return 0;
	}
	*ret_record = record;
	*ret_buf = buf;
	return 0;
}

/* A header that verifies behind the end proves that the record at the end was durable: it is damage then. */
static int check_tail(struct recovery *recovery, const struct file *file)
{
	struct storage *storage = recovery->storage;
	for (uint64_t at = storage->offset + FORMAT_SECTOR; at < file->size; at += FORMAT_SECTOR) {
		struct format_record record;
		const uint8_t *buf = NULL;
		size_t len = 0;
		int r = look(recovery, file, at, FORMAT_RECORD_HEADER_SIZE, &buf, &len);
		if (r != 0)
			return r;
		uint64_t seed = format_seed(&storage->identity, file->number, at);
		if (format_record_decode(buf, len, seed, &record) != FORMAT_BAD)
			return refuse_damage(recovery, file, storage->offset,
					     "no valid record here, though there are later ones");
	}
	return 0;
}

static int scan_segment(struct recovery *recovery, const struct file *file, bool last)
{
	struct storage *storage = recovery->storage;
	struct format_record record;
	const uint8_t *buf = NULL;
	uint64_t torn = 0;
	int r = next_record(recovery, file, &record, &buf, &torn);
	while (r == 0 && record.length > 0) {
		r = apply_record(recovery, file, &record, buf);
		if (r == 0)
			r = next_record(recovery, file, &record, &buf, &torn);
	}
	/* In an earlier segment the next header tells whether this is really the end. */
	if (r != 0 || !last)
		return r;
	r = check_tail(recovery, file);
	if (r == 0 && torn > 0) {
		recovery->state->torn_bytes = torn;
		(void)snprintf(recovery->state->torn_where, sizeof(recovery->state->torn_where), "%s offset %" PRIu64,
			       file->name, storage->offset);
	}
	return r;
}

/* Making it durable and usable ---------------------------------------------------------------------- */

static int run(struct recovery *recovery, struct disk_job *job)
{
	struct disk *disk = recovery->storage->disk;
	int r = disk->ops->run(disk, job);
	if (r == -ENOSPC && job->type == DISK_JOB_PREPARE)
		return refuse(recovery, STORAGE_E_FULL, job->name, 0,
			      "no room for a file of %" PRIu64 " bytes; free some space and start again", job->size);
	return r < 0 ? refuse_error(recovery, job->name, job->offset, r) : 0;
}

/* Writes the last record, or the header of a segment without one, once more, and zeros over where the next will
 * begin: a torn record's header must not come back to life when a later torn write happens to complete its
 * body. Both are repeatable: a crash in between leaves what was there before. */
static int rewrite_tail(struct recovery *recovery, const struct file *file)
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
	int r = look(recovery, file, from, keep, &buf, &len);
	if (r != 0)
		return r;
	if (len < keep)
		return refuse_damage(recovery, file, from, "became shorter while it was read");
	uint8_t *copy = malloc(keep + zeros);
	if (!copy)
		return refuse_error(recovery, file->name, from, -ENOMEM);
	memcpy(copy, buf, keep);
	memset(copy + keep, 0, zeros);
	struct disk_job job = {
		.type = DISK_JOB_WRITE, .lane = DISK_LANE_LOG, .offset = from, .size = keep + zeros, .buf = copy};
	segments_name(job.name, file->number);
	r = run(recovery, &job);
	free(copy);
	if (r != 0)
		return r;
	job = (struct disk_job){.type = DISK_JOB_RENAME, .lane = DISK_LANE_LOG};
	segments_name(job.name, file->number);
	segments_name(job.new_name, file->number);
	return run(recovery, &job);
}

/* Takes over spares of the right size; what cannot be used is removed. */
static int adopt_spares(struct recovery *recovery)
{
	struct storage *storage = recovery->storage;
	for (size_t i = recovery->files.n_segments; i < recovery->files.count; i++) {
		const struct file *file = &recovery->files.items[i];
		if (file->kind == FILE_SPARE && file->number < UINT32_MAX) {
			storage->next_spare = (uint32_t)file->number + 1;
			if (file->size == storage->options.segment_size && storage->n_spares < SPARES_MAX) {
				storage->spares[storage->n_spares++] = (uint32_t)file->number;
				continue;
			}
		}
		struct disk_job job = {.type = DISK_JOB_REMOVE, .lane = DISK_LANE_BACKGROUND};
		memcpy(job.name, file->name, sizeof(job.name));
		int r = run(recovery, &job);
		if (r != 0)
			return r;
	}
	return 0;
}

/* The first segment of an empty log. Until its name is there, the directory still counts as blank. */
static int create_log(struct recovery *recovery)
{
	struct storage *storage = recovery->storage;
	const struct storage_options *options = &storage->options;
	struct disk_job job = {.type = DISK_JOB_PREPARE, .lane = DISK_LANE_BACKGROUND, .size = options->segment_size};
	if (storage->n_spares == 0) {
		segments_spare_name(job.name, storage->next_spare);
		int r = run(recovery, &job);
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
	int r = run(recovery, &job);
	if (r != 0)
		return r;
	job.type = DISK_JOB_RENAME;
	segments_name(job.new_name, segment.sequence);
	r = run(recovery, &job);
	if (r != 0)
		return r;
	if (segments_reserve(storage) < 0)
		return refuse_error(recovery, job.new_name, 0, -ENOMEM);
	storage->segments[storage->n_segments++] =
		(struct storage_segment){.sequence = 1, .size = options->segment_size, .named = true};
	storage->offset = FORMAT_HEADER_SIZE;
	return 0;
}

/* All together -------------------------------------------------------------------------------------- */

static int recover_segments(struct recovery *recovery)
{
	const struct file *before = NULL;
	int r = 0;
	for (size_t i = 0; i < recovery->files.n_segments && r == 0; i++) {
		const struct file *file = &recovery->files.items[i];
		r = open_segment(recovery, file, before);
		if (r == 0)
			r = scan_segment(recovery, file, i + 1 == recovery->files.n_segments);
		before = file;
	}
	if (r != 0 || recovery->storage->options.read_only)
		return r;
	return rewrite_tail(recovery, before);
}

static void report(struct storage *storage, struct storage_state *state)
{
	uint64_t last = storage_last_index(storage);
	if (storage->commit < storage->base_index)
		storage->commit = storage->base_index;
	if (storage->commit > last)
		storage->commit = last;
	storage->submitted_last = last;
	storage->durable_index = last;
	state->incarnation = storage->identity.incarnation;
	state->term = storage->term;
	state->vote = storage->vote;
	state->commit = storage->commit;
	state->base_index = storage->base_index;
	state->base_term = storage->base_term;
	state->last_index = last;
}

int recovery_run(struct storage *storage, struct storage_state *ret_state, char *ret_message)
{
	struct recovery recovery = {.storage = storage, .state = ret_state, .message = ret_message};
	int r = list_files(&recovery);
	ret_state->blank = recovery.files.n_segments == 0;
	if (r == 0 && !ret_state->blank)
		r = recover_segments(&recovery);
	if (r == 0 && !storage->options.read_only)
		r = adopt_spares(&recovery);
	if (r == 0 && ret_state->blank && !storage->options.read_only)
		r = create_log(&recovery);
	if (r == 0)
		report(storage, ret_state);
	log_cache_shrink(&storage->cache);
	free(recovery.window);
	free(recovery.files.items);
	return r;
}
