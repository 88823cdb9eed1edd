/*
 * The log's interface: opening, queuing writes, driving the disk, statistics.  See storage.h for the
 * contract and internal.h for how the parts fit together.
 */
#include "daemon/storage/internal.h"

#include "daemon/assert.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARKERS_KEEP 1024u
#define HEALS_MAX 16u /* damaged places that are set aside in one opening */
#define READ_BUFFER_KEEP ((size_t)256 * 1024)
#define RESERVE_MAX ((uint64_t)64 * 1024) /* of the last segment, for votes and terms when the disk is full */

const char *storage_result_name(int result)
{
	switch ((enum storage_result)result) {
	case STORAGE_OK:
		return "ok";
	case STORAGE_E_CORRUPT:
		return "corrupt";
	case STORAGE_E_WRONG_CLUSTER:
		return "wrong cluster";
	case STORAGE_E_VERSION:
		return "newer version";
	case STORAGE_E_FULL:
		return "disk full";
	case STORAGE_E_COMPACTED:
		return "compacted";
	case STORAGE_E_BUSY:
		return "busy";
	}
	return "unknown";
}

/* Opening and closing ------------------------------------------------------------------------------- */

static void release(struct storage *storage)
{
	for (unsigned i = 0; i < storage->n_flights; i++)
		free(storage->flights[(storage->flights_first + i) % DISK_JOBS_MAX].header);
	for (unsigned b = 0; b < RECORDS_UNDER_WAY_MAX; b++)
		free(storage->buffers[b].data);
	log_cache_fini(&storage->cache);
	log_index_fini(&storage->index);
	reader_release(storage, 0);
	free(storage->markers);
	free(storage->segments);
	free(storage->retired);
	outputs_release(storage);
	free(storage->snapshots);
	free(storage);
}

/* One attempt. Returns -EAGAIN when damage was set aside. */
static int try_open(struct disk *disk, const struct storage_options *options, struct storage **ret_storage,
		    struct storage_state *state, char *ret_message)
{
	struct storage *storage = calloc(1, sizeof(*storage));
	if (!storage)
		return -ENOMEM;
	storage->disk = disk;
	storage->options = *options;
	storage->retry_memory_us = UINT64_MAX;
	storage->settle_us = UINT64_MAX;
	log_cache_init(&storage->cache, 1);
	log_index_init(&storage->index);

	int r = recovery_run(storage, state, ret_message);
	if (r == 0) {
		segments_tend(storage);
		snapshots_tend(storage);
		r = storage->error;
	}
	if (r != 0) {
		release(storage);
		return r;
	}
	storage->options.heal = NULL; /* the caller's, for as long as this call */
	*ret_storage = storage;
	return 0;
}

int storage_open(struct disk *disk, const struct storage_options *options, struct storage **ret_storage,
		 struct storage_state *ret_state, char *ret_message)
{
	struct storage_state state = {0};
	struct storage_options tried = *options;
	int r = -EAGAIN;
	ret_message[0] = '\0';
	if (options->incarnation == 0 || options->segment_size % FORMAT_PAGE != 0 ||
	    options->segment_size < SEGMENT_SIZE_LEAST || options->segment_size > STORAGE_SEGMENT_SIZE_MAX) {
		(void)snprintf(ret_message, STORAGE_MESSAGE_MAX, "impossible options for the log");
		return -EINVAL;
	}
	/* Each time round there are fewer files; not so on a disk that renames nothing and does not say so. */
	for (unsigned tries = 0; r == -EAGAIN; tries++) {
		if (tries >= HEALS_MAX)
			tried.heal = NULL;
		struct storage_state found = {.gave_up = state.gave_up};
		memcpy(found.healed, state.healed, sizeof(found.healed));
		state = found;
		r = try_open(disk, &tried, ret_storage, &state, ret_message);
	}
	if (r == 0)
		*ret_state = state;
	return r;
}

struct disk *storage_give_back(struct storage *storage)
{
	struct disk *disk = storage->disk;
	raft_assert(storage->options.on_trial);
	release(storage);
	return disk;
}

struct storage *storage_free(struct storage *storage)
{
	if (!storage)
		return NULL;
	storage->disk->ops->close(storage->disk); /* from here on nothing reads the buffers */
	release(storage);
	return NULL;
}

/* Queuing ------------------------------------------------------------------------------------------- */

void storage_raise_level(struct storage *storage, uint32_t level)
{
	raft_assert(level <= storage_level_max(storage));
	if (level > storage->level)
		storage->level = level;
}

struct append {
	uint64_t cut; /* the log is cut behind this index; the entries follow */
	size_t data_bytes;
	uint64_t entry_bytes; /* encoded */
	size_t n_terms;	      /* changes of term */
};

/* Checks a write against the log and measures it. Returns 0 or -EINVAL. */
static int check_write(const struct storage *storage, const struct storage_write *write, struct append *ret_append)
{
	uint64_t last = storage_last_index(storage);
	struct append append = {.cut = last};
	if (write->n_entries > 0) {
		if (write->first_index == 0 || write->first_index > last + 1 ||
		    (write->truncate_from > 0 && write->truncate_from < write->first_index))
			return -EINVAL;
		append.cut = write->first_index - 1;
	} else if (write->truncate_from > 0 && write->truncate_from <= last) {
		append.cut = write->truncate_from - 1;
	}
	if (append.cut < storage->base_index)
		return -EINVAL;
	uint64_t term = 0;
	for (uint32_t i = 0; i < write->n_entries; i++) {
		const struct raft_entry *entry = &write->entries[i];
		uint64_t size = format_entry_size(entry->size);
		if (entry->term == 0 || entry->size > RAFT_ENTRY_SIZE_MAX ||
		    format_record_size(size) > storage_record_max(storage))
			return -EINVAL;
		append.data_bytes += (size_t)(size - FORMAT_ENTRY_HEADER_SIZE);
		append.entry_bytes += size;
		append.n_terms += entry->term != term;
		term = entry->term;
	}
	*ret_append = append;
	return 0;
}

/* Room for one more marker at the end. */
static int reserve_marker(struct storage *storage)
{
	if (storage->markers_end < storage->markers_capacity)
		return 0;
	if (storage->markers_first > storage->markers_capacity / 2) {
		size_t n = storage->markers_end - storage->markers_first;
		memmove(storage->markers, storage->markers + storage->markers_first, n * sizeof(*storage->markers));
		storage->markers_first = 0;
		storage->markers_end = n;
		return 0;
	}
	size_t capacity = storage->markers_capacity > 0 ? storage->markers_capacity * 2 : 16;
	struct storage_marker *grown = reallocarray(storage->markers, capacity, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	storage->markers = grown;
	storage->markers_capacity = capacity;
	return 0;
}

/* Removes the entries behind index, queued or durable, from everything that is in memory. */
static void cut_log(struct storage *storage, uint64_t index)
{
	raft_assert(index >= storage->base_index);
	raft_assert(index < storage_last_index(storage));
	for (uint64_t i = storage_last_index(storage); i > index && i > storage->submitted_last; i--)
		storage->queued_bytes -= format_entry_size(log_cache_get(&storage->cache, i)->size);
	log_cache_cut(&storage->cache, index);
	log_index_cut(&storage->index, index);
	if (storage->submitted_last > index)
		storage->submitted_last = index;
	if (storage->durable_index > index)
		storage->durable_index = index;
	for (unsigned i = 0; i < storage->n_flights; i++) {
		struct storage_flight *flight = &storage->flights[(storage->flights_first + i) % DISK_JOBS_MAX];
		if (flight->kind == FLIGHT_RECORD && flight->last_index > index)
			flight->last_index = index;
	}
	/* What is queued becomes one with the cut: none of it is reported before the cut is durable, too. */
	storage->markers_first = storage->markers_end = 0;
}

static void add_marker(struct storage *storage, uint64_t seq)
{
	uint64_t last = storage_last_index(storage);
	if (storage->markers_first < storage->markers_end &&
	    storage->markers[storage->markers_end - 1].last_index == last) {
		storage->markers[storage->markers_end - 1].seq = seq;
		return;
	}
	raft_assert(storage->markers_end < storage->markers_capacity);
	storage->markers[storage->markers_end++] = (struct storage_marker){.seq = seq, .last_index = last};
}

/* Bytes that are kept free for writes without entries while the disk is full. */
static uint64_t reserve_bytes(const struct storage *storage)
{
	uint64_t part = storage->options.segment_size / 8;
	return part < RESERVE_MAX ? part : RESERVE_MAX;
}

/* Whether the newest segment still takes what is queued and so many bytes more, counted as if each write became a
 * record of its own. Only asked when no other file can be had. */
static bool fits_without_spare(const struct storage *storage, uint64_t bytes)
{
	uint64_t overhead = FORMAT_RECORD_HEADER_SIZE + FORMAT_SECTOR;
	uint64_t room = storage_newest_segment(storage)->size - storage->offset;
	uint64_t all = storage->queued_bytes + bytes;
	/* Two neighbours that do not fit one record fill more than one between them. */
	uint64_t n_records = storage->queued_writes + 1 + 2 * all / storage_record_max(storage);
	return all + n_records * overhead <= room;
}

static bool is_full(const struct storage *storage)
{
	return storage->full && storage->n_spares == 0;
}

/* An ordinary write is taken to be as large as the reserve: larger ones may be refused a little earlier. */
bool storage_has_room(const struct storage *storage)
{
	return !is_full(storage) || fits_without_spare(storage, 2 * reserve_bytes(storage));
}

/* Entries encoded in so many bytes; what is kept free for writes without any stays free unless they are the owner's own. */
static bool takes_entries(const struct storage *storage, uint64_t entry_bytes, bool own)
{
	uint64_t reserve = entry_bytes > 0 && !own ? reserve_bytes(storage) : 0;
	return !is_full(storage) || fits_without_spare(storage, entry_bytes + reserve);
}

bool storage_takes(const struct storage *storage, uint32_t n_entries, uint64_t data_bytes, bool own)
{
	uint64_t padding = FORMAT_ENTRY_HEADER_SIZE + 7;
	return takes_entries(storage, data_bytes + n_entries * padding, own);
}

/* What everything that was handed over or queued says about entries is void; that it becomes durable in its order is
 * not. */
static int append_reset(struct storage *storage, const struct storage_write *write)
{
	const struct storage_snapshot *snapshot = snapshots_find(storage, write->reset_index);
	if (!snapshot || snapshot->info.term != write->reset_term || write->n_entries > 0 || write->truncate_from > 0 ||
	    write->reset_index < storage->base_index)
		return -EINVAL;
	if (is_full(storage) && !fits_without_spare(storage, 0))
		return STORAGE_E_FULL;
	int r = log_index_reserve_terms(&storage->index, 1);
	if (r == 0)
		r = reserve_marker(storage);
	if (r < 0)
		return r;
	log_cache_begin(&storage->cache, write->reset_index + 1);
	log_index_begin(&storage->index, write->reset_index, write->reset_term);
	storage->base_index = write->reset_index;
	storage->base_term = write->reset_term;
	storage->submitted_last = write->reset_index;
	storage->durable_index = write->reset_index; /* in the snapshot */
	for (unsigned i = 0; i < storage->n_flights; i++)
		storage->flights[(storage->flights_first + i) % DISK_JOBS_MAX].last_index = write->reset_index;
	/* Segments of the old log count as lying before the base, wherever their numbers are. */
	for (size_t i = 0; i < storage->n_segments; i++)
		storage->segments[i].base_index = 0;
	storage->queued_bytes = 0;
	storage->markers_first = storage->markers_end = 0;
	storage->reset_queued = true;
	storage->reset_seq = write->seq;
	storage->term = write->term;
	storage->vote = write->vote;
	storage->commit = write->commit;
	storage->queued_writes++;
	add_marker(storage, write->seq);
	return 0;
}

int storage_append(struct storage *storage, const struct storage_write *write)
{
	struct append append;
	if (storage->error < 0)
		return storage->error;
	if (storage->options.read_only)
		return -EROFS;
	if (write->reset_index > 0)
		return append_reset(storage, write);
	int r = check_write(storage, write, &append);
	if (r < 0)
		return r;
	if (!takes_entries(storage, append.entry_bytes, write->own))
		return STORAGE_E_FULL;
	r = log_cache_reserve(&storage->cache, write->n_entries, append.data_bytes);
	if (r == 0)
		r = log_index_reserve_terms(&storage->index, append.n_terms);
	if (r == 0)
		r = reserve_marker(storage);
	if (r < 0)
		return r;

	/* From here on nothing fails. */
	if (append.cut < storage_last_index(storage))
		cut_log(storage, append.cut);
	for (uint32_t i = 0; i < write->n_entries; i++) {
		log_index_add_term(&storage->index, storage->cache.next_index, write->entries[i].term);
		log_cache_add(&storage->cache, &write->entries[i]);
	}
	storage->term = write->term;
	storage->vote = write->vote;
	storage->commit = write->commit;
	storage->queued_bytes += append.entry_bytes;
	storage->queued_writes++;
	add_marker(storage, write->seq);
	raft_assert(storage_last_index(storage) == append.cut + write->n_entries);
	return 0;
}

/* Driving the disk ---------------------------------------------------------------------------------- */

static void background_done(struct storage *storage, int error)
{
	struct storage_background done = storage->background[0];
	storage->n_background--;
	memmove(storage->background, storage->background + 1, storage->n_background * sizeof(*storage->background));
	switch (done.kind) {
	case BACKGROUND_PREPARE:
	case BACKGROUND_RECYCLE:
	case BACKGROUND_REMOVE:
		segments_background_done(storage, &done, error);
		break;
	case BACKGROUND_OUTPUT:
		outputs_done(storage, &done, error);
		break;
	case BACKGROUND_REMOVE_SNAPSHOT:
		snapshots_removed(storage, error);
		break;
	}
}

static void take_completions(struct storage *storage)
{
	struct disk_completion done[DISK_JOBS_MAX];
	size_t n = storage->disk->ops->take(storage->disk, done, DISK_JOBS_MAX);
	raft_assert(n <= DISK_JOBS_MAX);
	for (size_t i = 0; i < n; i++) {
		if (storage->n_background > 0 && storage->background[0].ticket == done[i].ticket)
			background_done(storage, done[i].error);
		else
			flush_flight_done(storage, &done[i]);
	}
}

/* Memory that only a burst needed. */
static void relax(struct storage *storage)
{
	log_cache_evict(&storage->cache, storage->durable_index, storage->options.cache_bytes_max);
	log_cache_shrink(&storage->cache);
	reader_release(storage, READ_BUFFER_KEEP);
	if (storage->n_records > 0 || storage->markers_first < storage->markers_end)
		return;
	flush_release_buffers(storage);
	if (storage->markers_capacity > MARKERS_KEEP) {
		free(storage->markers);
		storage->markers = NULL;
		storage->markers_capacity = 0;
	}
}

int storage_process(struct storage *storage, uint64_t now_us)
{
	if (storage->options.read_only)
		return 0;
	storage->now_us = now_us;
	storage->options.on_trial = false;
	take_completions(storage);
	if (storage->error < 0)
		return storage->error;
	segments_retire(storage);
	flush_submit(storage);
	segments_tend(storage);
	outputs_tend(storage);
	snapshots_tend(storage);
	relax(storage);
	raft_assert(storage->durable_index <= storage->submitted_last);
	raft_assert(storage->submitted_last <= storage_last_index(storage));
	return storage->error;
}

uint64_t storage_durable_seq(const struct storage *storage)
{
	return storage->durable_seq;
}

int storage_fd(const struct storage *storage)
{
	return storage->disk->ops->fd(storage->disk);
}

uint64_t storage_oldest_write_age_us(const struct storage *storage)
{
	return storage->disk->ops->oldest_job_age_us(storage->disk);
}

uint64_t storage_deadline_us(const struct storage *storage)
{
	/* While something is under way in the background, its completion is what to wait for. */
	uint64_t full = is_full(storage) && storage->n_segment_jobs == 0 ? storage->retry_full_us : UINT64_MAX;
	uint64_t deadline = full < storage->retry_memory_us ? full : storage->retry_memory_us;
	return deadline < storage->settle_us ? deadline : storage->settle_us;
}

/* Reading and compaction ---------------------------------------------------------------------------- */

int storage_read(struct storage *storage, uint64_t first_index, uint32_t max_entries, uint64_t bytes_max,
		 struct raft_entry *ret_entries, uint32_t *ret_n)
{
	if (first_index <= storage->base_index)
		return STORAGE_E_COMPACTED;
	if (first_index > storage_last_index(storage) || max_entries == 0)
		return -EINVAL;
	if (!log_cache_get(&storage->cache, first_index))
		return reader_read(storage, first_index, max_entries, bytes_max, ret_entries, ret_n);
	uint32_t n = 0;
	uint64_t bytes = 0;
	for (uint64_t index = first_index; n < max_entries && index <= storage_last_index(storage); index++) {
		const struct raft_entry *entry = log_cache_get(&storage->cache, index);
		raft_assert(entry);
		if (n > 0 && entry->size > bytes_max - bytes)
			break;
		bytes += entry->size;
		ret_entries[n++] = *entry;
		if (bytes >= bytes_max)
			break;
	}
	raft_assert(n > 0);
	*ret_n = n;
	return 0;
}

const char *storage_damage(const struct storage *storage)
{
	return storage->damage;
}

int storage_compact(struct storage *storage, uint64_t index, uint64_t term)
{
	if (storage->error < 0)
		return storage->error;
	if (index <= storage->base_index)
		return 0;
	struct storage_snapshot_info newest;
	if (!storage_snapshot_newest(storage, &newest) || index > newest.index || index > storage_last_index(storage) ||
	    term == 0 || log_index_term(&storage->index, index) != term)
		return -EINVAL;
	storage->base_index = index;
	storage->base_term = term;
	segments_retire(storage);
	segments_tend(storage);
	snapshots_tend(storage);
	return storage->error;
}

void storage_get_stats(const struct storage *storage, struct storage_stats *ret_stats)
{
	*ret_stats = storage->stats;
	ret_stats->queued_bytes = storage->queued_bytes + storage->flight_bytes;
	ret_stats->full = is_full(storage);
	ret_stats->cache_bytes = storage->cache.bytes;
	ret_stats->segments = storage->n_segments;
	uint64_t bytes = (uint64_t)storage->n_spares * storage->options.segment_size;
	for (size_t i = 0; i < storage->n_segments; i++)
		bytes += storage->segments[i].size;
	for (size_t i = 0; i < storage->n_retired; i++)
		bytes += storage->retired[i].size;
	for (size_t i = 0; i < storage->n_snapshots; i++)
		ret_stats->snapshot_bytes += storage->snapshots[i].info.file_bytes;
	ret_stats->disk_bytes = bytes + ret_stats->snapshot_bytes;
	ret_stats->log_bytes_since_snapshot = storage->log_written - storage->log_mark;
}
