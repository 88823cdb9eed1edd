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
#include "daemon/storage/recovery.h"

#include "daemon/assert.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_BYTES ((size_t)256 * 1024)

/* Saying what is wrong ------------------------------------------------------------------------------ */

__attribute__((format(printf, 5, 6))) int recovery_refuse(struct recovery *recovery, int result, const char *name,
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

int recovery_refuse_damage(struct recovery *recovery, const struct file *file, uint64_t offset, const char *what)
{
	recovery->bad = file;
	return recovery_refuse(
		recovery, STORAGE_E_CORRUPT, file->name, offset,
		"%s: the log is damaged and was left as it is. Do not empty this directory: the member would forget "
		"what it promised to the others",
		what);
}

int recovery_refuse_error(struct recovery *recovery, const char *name, uint64_t offset, int error)
{
	return recovery_refuse(recovery, error, name, offset, "%s", strerror(-error));
}

int recovery_refuse_newer(struct recovery *recovery, const struct file *file, uint64_t offset)
{
	return recovery_refuse(recovery, STORAGE_E_VERSION, file->name, offset,
			       "was written in a format that is newer than this program, raft-kv " RAFT_KV_VERSION
			       "; install the newer version again. Nothing was changed");
}

int recovery_check_level(struct recovery *recovery, const char *name, uint64_t offset, uint32_t level)
{
	struct storage *storage = recovery->storage;
	if (level > storage_level_max(storage))
		return recovery_refuse(recovery, STORAGE_E_VERSION, name, offset,
				       "was written at feature level %u, and this program, raft-kv " RAFT_KV_VERSION
				       ", knows levels up to %u; install the newer version again. Nothing was changed",
				       level, storage_level_max(storage));
	storage_raise_level(storage, level);
	return 0;
}

/* The directory ------------------------------------------------------------------------------------- */

static bool has_suffix(const char *name, const char *suffix)
{
	size_t n = strlen(name);
	size_t m = strlen(suffix);
	return n > m && strcmp(name + n - m, suffix) == 0;
}

/* Notes the number behind the suffix of a file that was set aside. */
static void visit_aside(struct files *files, const char *name)
{
	const char *suffix = strstr(name, ASIDE_SUFFIX);
	if (!suffix)
		return;
	uint32_t number = (uint32_t)strtoul(suffix + strlen(ASIDE_SUFFIX), NULL, 10);
	if (number > files->n_asides)
		files->n_asides = number;
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
	} else if (snapshots_parse_name(name, "", &file.number)) {
		file.kind = FILE_SNAPSHOT;
	} else if (snapshots_parse_name(name, SNAPSHOT_PART_SUFFIX, &file.number)) {
		file.kind = FILE_PART;
	} else if (has_suffix(name, DISK_TEMPORARY_SUFFIX)) {
		file.kind = FILE_TEMPORARY;
	} else {
		visit_aside(files, name);
		return; /* not ours any more, or never */
	}
	if (size == DISK_NO_FILE) {
		if (file.kind != FILE_TEMPORARY)
			(void)snprintf(files->no_file, sizeof(files->no_file), "%s", name);
		return;
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

int recovery_list_files(struct disk *disk, struct files *files)
{
	int r = disk->ops->list(disk, visit_file, files);
	if (r == 0 && files->out_of_memory)
		r = -ENOMEM;
	if (r == 0 && files->count > 0)
		qsort(files->items, files->count, sizeof(*files->items), compare_files);
	return r;
}

static int check_gaps(struct recovery *recovery)
{
	const struct files *files = &recovery->files;
	for (size_t i = 1; i < files->n_segments; i++) {
		uint64_t expected = files->items[i - 1].number + 1;
		char name[DISK_NAME_MAX + 1];
		if (files->items[i].number == expected)
			continue;
		segments_name(name, expected);
		recovery->bad = &files->items[i - 1];
		return recovery_refuse(recovery, STORAGE_E_CORRUPT, name, 0,
				       "is missing, but %s exists: the log is damaged", files->items[i].name);
	}
	return 0;
}

/* Reading ------------------------------------------------------------------------------------------- */

int recovery_look(struct recovery *recovery, const struct file *file, uint64_t offset, size_t len,
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
				return recovery_refuse_error(recovery, file->name, offset, -ENOMEM);
			recovery->window_capacity = want;
		}
		struct disk *disk = recovery->storage->disk;
		int64_t got = disk->ops->read(disk, file->name, offset, recovery->window, want);
		if (got < 0)
			return recovery_refuse_error(recovery, file->name, offset, (int)got);
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

int recovery_run_job(struct recovery *recovery, struct disk_job *job)
{
	struct disk *disk = recovery->storage->disk;
	int r = disk->ops->run(disk, job);
	if (r == -ENOSPC && job->type == DISK_JOB_PREPARE)
		return recovery_refuse(recovery, STORAGE_E_FULL, job->name, 0,
				       "no room for a file of %" PRIu64 " bytes; free some space and start again",
				       job->size);
	return r < 0 ? recovery_refuse_error(recovery, job->name, job->offset, r) : 0;
}

/* All together -------------------------------------------------------------------------------------- */

static int recover_segments(struct recovery *recovery)
{
	const struct file *before = NULL;
	int r = 0;
	for (size_t i = 0; i < recovery->files.n_segments && r == 0; i++) {
		const struct file *file = &recovery->files.items[i];
		r = recovery_open_segment(recovery, file, before);
		if (r == 0)
			r = recovery_scan_segment(recovery, file, i + 1 == recovery->files.n_segments);
		before = file;
	}
	if (r == 0)
		r = recovery_judge_snapshots(recovery);
	if (r != 0 || recovery->storage->options.read_only)
		return r;
	if (recovery->last_needs_proof)
		recovery->storage->settle_us = SETTLE_US;
	return recovery_rewrite_tail(recovery, before);
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
	state->level = storage->level;
}

/* Without it the log would seem to end early, and the member forget what it promised. It is not ours to follow or to set aside. */
static int refuse_no_file(struct recovery *recovery)
{
	return recovery_refuse(recovery, STORAGE_E_CORRUPT, recovery->files.no_file, 0,
			       "is no regular file: the file that belongs here may lie elsewhere. Put it back under "
			       "this name, then start again. Nothing was changed");
}

int recovery_run(struct storage *storage, struct storage_state *ret_state, char *ret_message)
{
	struct recovery recovery = {.storage = storage, .state = ret_state, .message = ret_message};
	int r = recovery_list_files(storage->disk, &recovery.files);
	if (r < 0)
		r = recovery_refuse_error(&recovery, "data directory", 0, r);
	ret_state->blank = recovery.files.n_segments == 0;
	ret_state->aside = recovery.files.n_asides > 0;
	bool heals = storage->options.heal && !storage->options.read_only && recovery.files.no_file[0] == '\0';
	if (r == 0 && recovery.files.no_file[0] != '\0')
		r = refuse_no_file(&recovery);
	if (r == 0)
		r = recovery_read_snapshots(&recovery);
	if (r == 0)
		r = check_gaps(&recovery);
	if (r == 0 && !ret_state->blank)
		r = recover_segments(&recovery);
	if (r == 0 && !storage->options.read_only)
		r = recovery_adopt_files(&recovery);
	if (r == 0 && ret_state->blank && !storage->options.read_only)
		r = recovery_create_log(&recovery);
	if (r == 0)
		report(storage, ret_state);
	if (r == STORAGE_E_CORRUPT && heals)
		r = recovery_heal(&recovery);
	log_cache_shrink(&storage->cache);
	free(recovery.config);
	free(recovery.window);
	free(recovery.files.items);
	return r;
}
