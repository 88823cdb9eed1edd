/* Files above a platter: see platter.h. */
#include "platter.h"

#include "daemon/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *grow(void *items, size_t needed, size_t *capacity, size_t size)
{
	if (needed <= *capacity)
		return items;
	*capacity = needed < 8 ? 8 : needed * 2;
	items = reallocarray(items, *capacity, size);
	raft_assert(items != NULL);
	return items;
}

static void set_name(char *ret_name, const char *name)
{
	int n = snprintf(ret_name, PLATTER_NAME_MAX, "%s", name);
	raft_assert(n >= 0 && (size_t)n < PLATTER_NAME_MAX);
}

static void file_free(struct platter_file *file)
{
	platter_stream_fini(file);
	free(file->bytes);
	free(file->durable);
	free(file->stale);
	free(file->intact);
	free(file);
}

static void free_nameless(struct platter *platter)
{
	size_t kept = 0;
	for (size_t k = 0; k < platter->n_files; k++) {
		if (platter->files[k]->name[0] != '\0')
			platter->files[kept++] = platter->files[k];
		else
			file_free(platter->files[k]);
	}
	platter->n_files = kept;
}

void platter_fini(struct platter *platter)
{
	for (size_t k = 0; k < platter->n_files; k++)
		file_free(platter->files[k]);
	free(platter->files);
	free(platter->changes);
	*platter = (struct platter){0};
}

/* The newest first: most calls are about the segment that is being written. */
struct platter_file *platter_find(const struct platter *platter, const char *name)
{
	for (size_t k = platter->n_files; k-- > 0;)
		if (strcmp(platter->files[k]->name, name) == 0)
			return platter->files[k];
	return NULL;
}

/* Names ----------------------------------------------------------------------------------------------- */

static void change_name(struct platter *platter, struct platter_file *file, const char *new_name)
{
	platter->changes =
		grow(platter->changes, platter->n_changes + 1, &platter->changes_capacity, sizeof *platter->changes);
	struct platter_change *change = &platter->changes[platter->n_changes++];
	change->operation = platter->operations;
	change->file = file;
	set_name(change->old_name, file->name);
	set_name(change->new_name, new_name);
	set_name(file->name, new_name);
}

static void replace(struct platter *platter, const char *name)
{
	struct platter_file *replaced = platter_find(platter, name);
	if (replaced != NULL)
		change_name(platter, replaced, "");
}

struct platter_file *platter_create(struct platter *platter, const char *name, uint64_t size)
{
	struct platter_file *file = calloc(1, sizeof *file);
	raft_assert(file != NULL);
	file->size = size;
	file->bytes = calloc(1, size > 0 ? size : 1);
	raft_assert(file->bytes != NULL);
	platter->files = grow(platter->files, platter->n_files + 1, &platter->files_capacity, sizeof *platter->files);
	platter->operations++;
	replace(platter, name);
	platter->files[platter->n_files++] = file;
	change_name(platter, file, name);
	return file;
}

/* The renamed file moves to the end, where platter_find looks first. */
void platter_rename(struct platter *platter, struct platter_file *file, const char *new_name)
{
	if (strcmp(file->name, new_name) == 0)
		return;
	platter->operations++;
	replace(platter, new_name);
	change_name(platter, file, new_name);
	size_t k = 0;
	while (platter->files[k] != file)
		k++;
	memmove(&platter->files[k], &platter->files[k + 1], (platter->n_files - k - 1) * sizeof *platter->files);
	platter->files[platter->n_files - 1] = file;
}

void platter_remove(struct platter *platter, struct platter_file *file)
{
	platter->operations++;
	change_name(platter, file, "");
}

void platter_sync_directory(struct platter *platter)
{
	platter->n_changes = 0;
	free_nameless(platter);
}

/* A journalling file system keeps a prefix of the operations. */
static void lose_names(struct platter *platter, struct sim_random *random)
{
	if (platter->n_changes == 0)
		return;
	uint64_t first = platter->changes[0].operation;
	uint64_t kept = first + sim_random_below(random, platter->operations - first + 2);
	while (platter->n_changes > 0 && platter->changes[platter->n_changes - 1].operation >= kept) {
		struct platter_change *change = &platter->changes[--platter->n_changes];
		set_name(change->file->name, change->old_name);
	}
	platter->n_changes = 0;
	free_nameless(platter);
}

/* Bytes ----------------------------------------------------------------------------------------------- */

static uint64_t sector_size(const struct platter_file *file, uint64_t sector)
{
	return file->size - sector < SIM_SECTOR ? file->size - sector : SIM_SECTOR;
}

static struct platter_sector *find_sector(struct platter_sector *sectors, size_t n, uint64_t offset)
{
	for (size_t k = 0; k < n; k++)
		if (sectors[k].offset == offset)
			return &sectors[k];
	return NULL;
}

/* The platter's bytes at the sector differ from the cache from here on, if they do not already. */
static void keep_old(struct platter_file *file, uint64_t sector)
{
	if (find_sector(file->stale, file->n_stale, sector) != NULL)
		return;
	file->stale = grow(file->stale, file->n_stale + 1, &file->stale_capacity, sizeof *file->stale);
	struct platter_sector *stale = &file->stale[file->n_stale++];
	*stale = (struct platter_sector){.offset = sector};
	memcpy(stale->bytes, file->bytes + sector, sector_size(file, sector));
}

/* What the sector ought to hold, if that is not known already. */
static void keep_intact(struct platter_file *file, uint64_t sector, const uint8_t *bytes)
{
	if (find_sector(file->intact, file->n_intact, sector) != NULL)
		return;
	file->intact = grow(file->intact, file->n_intact + 1, &file->intact_capacity, sizeof *file->intact);
	struct platter_sector *intact = &file->intact[file->n_intact++];
	*intact = (struct platter_sector){.offset = sector};
	memcpy(intact->bytes, bytes, sector_size(file, sector));
}

/* Whatever is written anew is no longer damaged. */
void platter_forget_damage(struct platter_file *file, uint64_t offset, uint64_t size)
{
	size_t kept = 0;
	for (size_t k = 0; k < file->n_intact; k++)
		if (file->intact[k].offset < offset || file->intact[k].offset - offset >= size)
			file->intact[kept++] = file->intact[k];
	file->n_intact = kept;
}

/* The kernel writes whole pages: all sectors of a page that is written are dirty again. */
static void make_dirty(struct platter_file *file, uint64_t offset, uint64_t size)
{
	uint64_t from = offset / PLATTER_PAGE * PLATTER_PAGE;
	for (size_t k = 0; k < file->n_stale; k++)
		if (file->stale[k].offset >= from && file->stale[k].offset < offset + size)
			file->stale[k].clean = false;
}

static void write_out(struct platter_file *file)
{
	size_t kept = 0;
	for (size_t k = 0; k < file->n_stale; k++)
		if (file->stale[k].clean)
			file->stale[kept++] = file->stale[k];
	file->n_stale = kept;
}

static void fail_to_write_out(struct platter_file *file, struct sim_random *random)
{
	size_t kept = 0;
	for (size_t k = 0; k < file->n_stale; k++) {
		if (!file->stale[k].clean && sim_random_below(random, 2) == 0)
			continue; /* it reached the platter */
		file->stale[kept] = file->stale[k];
		file->stale[kept++].clean = true;
	}
	file->n_stale = kept;
}

void platter_write(struct platter_file *file, uint64_t offset, const uint8_t *buf, uint64_t size,
		   enum platter_fate fate, struct sim_random *random)
{
	raft_assert(offset + size <= file->size);
	if (file->growing) {
		platter_rewrite_growing(file, offset, buf, size);
		if (fate == PLATTER_SYNCED)
			platter_sync(file);
		else if (fate == PLATTER_UNSYNCED)
			platter_fail_sync(file, random);
		return;
	}
	if (fate != PLATTER_SYNCED)
		for (uint64_t at = offset / SIM_SECTOR * SIM_SECTOR; at < offset + size; at += SIM_SECTOR)
			keep_old(file, at);
	memcpy(file->bytes + offset, buf, size);
	platter_forget_damage(file, offset, size);
	if (file->n_stale == 0)
		return;
	make_dirty(file, offset, size);
	if (fate == PLATTER_SYNCED)
		write_out(file);
	else if (fate == PLATTER_UNSYNCED)
		fail_to_write_out(file, random);
}

static void write_through(struct platter_file *file, uint64_t offset, const uint8_t *buf, uint64_t size)
{
	memcpy(file->bytes + offset, buf, size);
	for (size_t k = 0; k < file->n_stale; k++) {
		struct platter_sector *stale = &file->stale[k];
		for (uint64_t at = offset; at < offset + size; at++)
			if (at >= stale->offset && at < stale->offset + SIM_SECTOR)
				stale->bytes[at - stale->offset] = buf[at - offset];
	}
}

void platter_damage(struct platter_file *file, uint64_t offset, const uint8_t *buf, uint64_t size)
{
	raft_assert(offset % SIM_SECTOR == 0 && offset + size <= file->size);
	raft_assert(size % SIM_SECTOR == 0 || offset + size == file->size);
	raft_assert(file->n_stale == 0 && !file->growing);
	for (uint64_t at = offset; at < offset + size; at += SIM_SECTOR)
		keep_intact(file, at, file->bytes + at);
	memcpy(file->bytes + offset, buf, size);
}

void platter_miss(struct platter_file *file, uint64_t offset, const uint8_t *buf, uint64_t size)
{
	raft_assert(offset % SIM_SECTOR == 0 && size % SIM_SECTOR == 0 && offset + size <= file->size);
	platter_forget_damage(file, offset, size);
	for (uint64_t at = 0; at < size; at += SIM_SECTOR)
		keep_intact(file, offset + at, buf + at);
}

void platter_lose(struct platter_file *file, uint64_t offset, uint64_t size)
{
	raft_assert(offset % SIM_SECTOR == 0 && size % SIM_SECTOR == 0 && offset + size <= file->size);
	for (uint64_t at = offset; at < offset + size; at += SIM_SECTOR)
		keep_intact(file, at, file->bytes + at);
	memset(file->bytes + offset, 0, size);
}

void platter_heal(struct platter_file *file, uint64_t offset, uint64_t size)
{
	for (size_t k = 0; k < file->n_intact; k++) {
		const struct platter_sector *intact = &file->intact[k];
		if (intact->offset >= offset && intact->offset < offset + size)
			memcpy(file->bytes + intact->offset, intact->bytes, sector_size(file, intact->offset));
	}
	platter_forget_damage(file, offset, size);
}

/* Which sectors of a torn write are new: none, all, a prefix, all but one, or each for itself. */
void platter_tear(struct platter_file *file, uint64_t offset, const uint8_t *buf, uint64_t size,
		  struct sim_random *random)
{
	uint64_t n = (offset + size - 1) / SIM_SECTOR - offset / SIM_SECTOR + 1;
	uint64_t how = sim_random_below(random, 6);
	uint64_t which = sim_random_below(random, n);
	uint64_t k = 0;
	raft_assert(size > 0 && offset + size <= file->size);
	if (file->growing) { /* its sectors are drawn when the power is cut */
		platter_rewrite_growing(file, offset, buf, size);
		return;
	}
	for (uint64_t at = 0; at < size; k++) {
		uint64_t length = SIM_SECTOR - (offset + at) % SIM_SECTOR;
		if (length > size - at)
			length = size - at;
		bool is_new = (how == 1) || (how == 2 && k < which) || (how == 3 && k != which) ||
			      (how > 3 && sim_random_below(random, 2) == 0);
		if (is_new) {
			write_through(file, offset + at, buf + at, length);
			platter_forget_damage(file, offset + at, length);
		}
		at += length;
	}
}

static void restore(const struct platter_file *file, const struct platter_sector *stale, uint8_t *bytes)
{
	memcpy(bytes + stale->offset, stale->bytes, sector_size(file, stale->offset));
}

void platter_cut_power(struct platter *platter, struct sim_random *random)
{
	for (size_t k = 0; k < platter->n_files; k++) {
		struct platter_file *file = platter->files[k];
		for (size_t s = 0; s < file->n_stale; s++)
			if (file->stale[s].clean || sim_random_below(random, 2) == 0)
				restore(file, &file->stale[s], file->bytes);
		file->n_stale = 0;
		if (file->growing)
			platter_cut_growing(file, random);
	}
	lose_names(platter, random);
}

void platter_evict(struct platter *platter, struct sim_random *random)
{
	for (size_t k = 0; k < platter->n_files; k++) {
		struct platter_file *file = platter->files[k];
		size_t kept = 0;
		for (size_t s = 0; s < file->n_stale; s++) {
			if (file->stale[s].clean && sim_random_below(random, 2) == 0)
				restore(file, &file->stale[s], file->bytes);
			else
				file->stale[kept++] = file->stale[s];
		}
		file->n_stale = kept;
		platter_evict_growing(file, random);
	}
}

void platter_wipe(struct platter *platter)
{
	uint64_t operations = platter->operations;
	platter_fini(platter);
	platter->operations = operations;
}

/* The durable view ------------------------------------------------------------------------------------ */

uint64_t platter_bytes(const struct platter *platter)
{
	uint64_t bytes = 0;
	for (size_t k = 0; k < platter->n_files; k++)
		if (platter->files[k]->name[0] != '\0')
			bytes += platter->files[k]->size;
	return bytes;
}

const char *platter_durable_name(const struct platter *platter, const struct platter_file *file)
{
	for (size_t k = 0; k < platter->n_changes; k++)
		if (platter->changes[k].file == file)
			return platter->changes[k].old_name;
	return file->name;
}

static const uint8_t *durable_bytes(struct platter_file *file)
{
	free(file->durable);
	file->durable = NULL;
	if (file->growing)
		return file->synced;
	if (file->n_stale == 0 && file->n_intact == 0)
		return file->bytes;
	file->durable = malloc(file->size + 1);
	raft_assert(file->durable != NULL);
	memcpy(file->durable, file->bytes, file->size);
	for (size_t s = 0; s < file->n_stale; s++)
		restore(file, &file->stale[s], file->durable);
	for (size_t s = 0; s < file->n_intact; s++)
		restore(file, &file->intact[s], file->durable);
	return file->durable;
}

void platter_visit_durable(struct platter *platter,
			   void (*visit)(void *arg, const char *name, const uint8_t *bytes, uint64_t size), void *arg)
{
	for (size_t k = 0; k < platter->n_files; k++) {
		struct platter_file *file = platter->files[k];
		const char *name = platter_durable_name(platter, file);
		if (name[0] != '\0')
			visit(arg, name, durable_bytes(file), file->growing ? file->synced_size : file->size);
	}
}
