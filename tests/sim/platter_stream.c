/*
 * Files that grow: pieces are added to the page cache, and a sync at the end makes them durable. Until then a power cut leaves
 * any length between the two, and each sector old or new; platter.h says the rest.
 */
#include "platter.h"

#include "daemon/assert.h"

#include <stdlib.h>
#include <string.h>

static size_t sectors_of(uint64_t size)
{
	return (size_t)((size + SIM_SECTOR - 1) / SIM_SECTOR);
}

/* Room for a sector's mark that the kernel takes for written what the platter lacks. */
static void reserve_marks(struct platter_file *file, size_t n)
{
	if (n <= file->n_missed)
		return;
	file->missed = realloc(file->missed, n);
	raft_assert(file->missed != NULL);
	memset(file->missed + file->n_missed, 0, n - file->n_missed);
	file->n_missed = n;
}

/* From here on the cache may be ahead of the platter, which keeps what it has. */
static void begin_growing(struct platter_file *file)
{
	if (file->growing)
		return;
	file->growing = true;
	file->synced_size = file->size;
	file->synced = malloc(file->size + 1);
	raft_assert(file->synced != NULL);
	memcpy(file->synced, file->bytes, file->size);
	reserve_marks(file, sectors_of(file->size));
	for (size_t k = 0; k < file->n_stale; k++) {
		const struct platter_sector *stale = &file->stale[k];
		uint64_t left = file->size - stale->offset;
		memcpy(file->synced + stale->offset, stale->bytes, left < SIM_SECTOR ? left : SIM_SECTOR);
		file->missed[stale->offset / SIM_SECTOR] = stale->clean;
	}
	file->n_stale = 0;
}

static void end_growing(struct platter_file *file)
{
	free(file->synced);
	free(file->missed);
	file->synced = NULL;
	file->missed = NULL;
	file->n_missed = 0;
	file->growing = false;
}

/* What is written is dirty, and with it the rest of its pages. */
static void unmark(struct platter_file *file, uint64_t offset, uint64_t size)
{
	uint64_t from = offset / PLATTER_PAGE * PLATTER_PAGE / SIM_SECTOR;
	uint64_t to = (offset + size + PLATTER_PAGE - 1) / PLATTER_PAGE * PLATTER_PAGE / SIM_SECTOR;
	for (uint64_t k = from; k < to && k < file->n_missed; k++)
		file->missed[k] = 0;
}

/* A damaged sector of which only the end is written anew is damaged still; what it ought to hold has that end. */
static void mend_intact(struct platter_file *file, uint64_t offset, const uint8_t *buf, uint64_t size)
{
	for (size_t k = 0; k < file->n_intact; k++) {
		struct platter_sector *intact = &file->intact[k];
		if (intact->offset >= offset || offset - intact->offset >= SIM_SECTOR)
			continue;
		uint64_t at = offset - intact->offset;
		memcpy(intact->bytes + at, buf, size < SIM_SECTOR - at ? size : SIM_SECTOR - at);
	}
}

void platter_stream(struct platter_file *file, uint64_t offset, const uint8_t *buf, uint64_t size)
{
	raft_assert(offset <= file->size);
	begin_growing(file);
	uint8_t *grown = realloc(file->bytes, offset + size + 1);
	raft_assert(grown != NULL);
	file->bytes = grown;
	if (size > 0) {
		memcpy(file->bytes + offset, buf, size);
		mend_intact(file, offset, buf, size);
	}
	file->size = offset + size;
	platter_forget_damage(file, offset, UINT64_MAX - offset);
	unmark(file, offset, size);
}

/* Takes over a sector from the cache. */
static void settle(struct platter_file *file, size_t sector)
{
	uint64_t from = (uint64_t)sector * SIM_SECTOR;
	uint64_t to = from + SIM_SECTOR;
	if (to > file->size)
		to = file->size;
	if (from < to)
		memcpy(file->synced + from, file->bytes + from, to - from);
}

/* The platter's file gets another length; what is new reads as zeros. */
static void set_synced_size(struct platter_file *file, uint64_t size)
{
	uint64_t room = size > file->size ? size : file->size;
	uint8_t *grown = realloc(file->synced, room + 1);
	raft_assert(grown != NULL);
	file->synced = grown;
	if (room > file->synced_size)
		memset(file->synced + file->synced_size, 0, room - file->synced_size);
	file->synced_size = size;
}

void platter_sync(struct platter_file *file)
{
	bool whole = true;
	if (!file->growing)
		return;
	set_synced_size(file, file->size);
	for (size_t k = 0; k < sectors_of(file->size); k++) {
		if (k < file->n_missed && file->missed[k] != 0)
			whole = false;
		else
			settle(file, k);
	}
	if (whole)
		end_growing(file);
}

void platter_fail_sync(struct platter_file *file, struct sim_random *random)
{
	if (!file->growing)
		return;
	set_synced_size(file, file->size);
	reserve_marks(file, sectors_of(file->size));
	for (size_t k = 0; k < sectors_of(file->size); k++) {
		if (file->missed[k] == 0 && sim_random_below(random, 2) == 0)
			settle(file, k);
		else
			file->missed[k] = 1;
	}
}

static void show_platter(struct platter_file *file)
{
	uint8_t *bytes = realloc(file->bytes, file->synced_size + 1);
	raft_assert(bytes != NULL);
	memcpy(bytes, file->synced, file->synced_size);
	file->bytes = bytes;
	file->size = file->synced_size;
	platter_forget_damage(file, file->size, UINT64_MAX - file->size);
	end_growing(file);
}

/* The old length, the new one, or anything between; of the sectors none, all, or each for itself. */
void platter_cut_growing(struct platter_file *file, struct sim_random *random)
{
	uint64_t how = sim_random_below(random, 4);
	uint64_t low = file->size < file->synced_size ? file->size : file->synced_size;
	uint64_t high = file->size < file->synced_size ? file->synced_size : file->size;
	uint64_t size = low + sim_random_below(random, high - low + 1);
	if (how < 2)
		size = how == 0 ? file->synced_size : file->size;
	uint64_t share = sim_random_below(random, 3);
	set_synced_size(file, size);
	for (size_t k = 0; k < sectors_of(size); k++) {
		bool written = share == 1 || (share == 2 && sim_random_below(random, 2) == 0);
		if (written && (k >= file->n_missed || file->missed[k] == 0))
			settle(file, k);
	}
	show_platter(file);
}

void platter_evict_growing(struct platter_file *file, struct sim_random *random)
{
	for (size_t k = 0; k < file->n_missed; k++) {
		uint64_t from = (uint64_t)k * SIM_SECTOR;
		uint64_t to = from + SIM_SECTOR < file->size ? from + SIM_SECTOR : file->size;
		if (to > file->synced_size)
			to = file->synced_size;
		if (file->missed[k] != 0 && from < to && sim_random_below(random, 2) == 0)
			memcpy(file->bytes + from, file->synced + from, to - from);
	}
}

/* As a write into it that is synced; a file that was streamed takes part of its pages for written. */
void platter_rewrite_growing(struct platter_file *file, uint64_t offset, const uint8_t *buf, uint64_t size)
{
	raft_assert(file->growing && offset + size <= file->size);
	memcpy(file->bytes + offset, buf, size);
	platter_forget_damage(file, offset, size);
	unmark(file, offset, size);
}

void platter_stream_fini(struct platter_file *file)
{
	end_growing(file);
}
