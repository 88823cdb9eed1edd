/*
 * The snapshots that the directory holds: their names, which are kept, which go.
 *
 * The newest two good ones are kept; older ones go when nobody reads them.  A damaged one stays for inspection until a newer
 * good one exists; of those that the owner distrusts the newest.
 */
#include "daemon/storage/internal.h"

#include "daemon/assert.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SNAPSHOT_PREFIX "snapshot-"

void snapshots_name(char *ret_name, uint64_t index, const char *suffix)
{
	(void)snprintf(ret_name, DISK_NAME_MAX + 1, SNAPSHOT_PREFIX "%016" PRIx64 "%s", index, suffix);
}

/* Only the spelling that we write ourselves: parse, spell, compare. */
bool snapshots_parse_name(const char *name, const char *suffix, uint64_t *ret_index)
{
	char again[DISK_NAME_MAX + 1];
	if (strncmp(name, SNAPSHOT_PREFIX, strlen(SNAPSHOT_PREFIX)) != 0)
		return false;
	uint64_t index = strtoull(name + strlen(SNAPSHOT_PREFIX), NULL, 16);
	snapshots_name(again, index, suffix);
	if (index == 0 || strcmp(name, again) != 0)
		return false;
	*ret_index = index;
	return true;
}

int snapshots_reserve(struct storage *storage)
{
	/* Both outputs may end before the next reservation. */
	size_t wanted = storage->n_snapshots + SNAPSHOT_OUTPUTS;
	if (wanted <= storage->snapshots_capacity)
		return 0;
	struct storage_snapshot *grown = reallocarray(storage->snapshots, wanted, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	storage->snapshots = grown;
	storage->snapshots_capacity = wanted;
	return 0;
}

void snapshots_add(struct storage *storage, const struct storage_snapshot *snapshot)
{
	size_t at = 0;
	while (at < storage->n_snapshots && storage->snapshots[at].info.index > snapshot->info.index)
		at++;
	bool replaces = at < storage->n_snapshots && storage->snapshots[at].info.index == snapshot->info.index;
	if (!replaces) {
		raft_assert(storage->n_snapshots < storage->snapshots_capacity);
		memmove(storage->snapshots + at + 1, storage->snapshots + at,
			(storage->n_snapshots - at) * sizeof(*storage->snapshots));
		storage->n_snapshots++;
	}
	raft_assert(!replaces || storage->snapshots[at].readers == 0);
	storage->snapshots[at] = *snapshot;
}

struct storage_snapshot *snapshots_find(struct storage *storage, uint64_t index)
{
	for (size_t i = 0; i < storage->n_snapshots; i++)
		if (storage->snapshots[i].info.index == index && !storage->snapshots[i].damaged)
			return &storage->snapshots[i];
	return NULL;
}

/* The good one number n from the newest, or NULL. */
static const struct storage_snapshot *good(const struct storage *storage, unsigned n)
{
	for (size_t i = 0; i < storage->n_snapshots; i++)
		if (!storage->snapshots[i].damaged && n-- == 0)
			return &storage->snapshots[i];
	return NULL;
}

bool storage_snapshot_newest(const struct storage *storage, struct storage_snapshot_info *ret_info)
{
	const struct storage_snapshot *newest = good(storage, 0);
	if (newest)
		*ret_info = newest->info;
	return newest != NULL;
}

bool storage_snapshot_distrust(struct storage *storage, uint64_t index)
{
	struct storage_snapshot *snapshot = snapshots_find(storage, index);
	if (!snapshot || snapshot->readers > 0)
		return false;
	snapshot->damaged = snapshot->distrusted = true;
	snapshots_tend(storage);
	return true;
}

bool storage_snapshot_keeps(const struct storage *storage, uint64_t *ret_index, uint64_t *ret_term)
{
	const struct storage_snapshot *older = good(storage, SNAPSHOTS_KEPT - 1);
	if (!older)
		return false;
	*ret_index = older->info.index;
	*ret_term = older->info.term;
	return true;
}

/* Removing -------------------------------------------------------------------------------------------- */

/* The oldest that may go, or n_snapshots. */
static size_t find_superfluous(const struct storage *storage)
{
	size_t found = storage->n_snapshots;
	unsigned newer = 0;	       /* good ones */
	bool newer_distrusted = false; /* one of these is enough: a peer may send any number of them */
	for (size_t i = 0; i < storage->n_snapshots; i++) {
		const struct storage_snapshot *snapshot = &storage->snapshots[i];
		/* The log does not reach back to it: nobody can start from it, once the base is durable. */
		bool useless = snapshot->damaged || (snapshot->info.index < storage->base_index &&
						     storage->durable_seq >= storage->reset_seq);
		bool is_repeated = snapshot->distrusted && newer_distrusted;
		if (snapshot->readers == 0 && (is_repeated || newer >= (useless ? 1 : SNAPSHOTS_KEPT)))
			found = i;
		newer += !snapshot->damaged;
		newer_distrusted |= snapshot->distrusted;
	}
	return found;
}

void snapshots_tend(struct storage *storage)
{
	size_t at = find_superfluous(storage);
	if (storage->options.read_only || storage->options.on_trial || storage->error < 0 ||
	    storage->removing_snapshot || at == storage->n_snapshots)
		return;
	struct storage_background background = {.kind = BACKGROUND_REMOVE_SNAPSHOT};
	struct disk_job job = {.type = DISK_JOB_REMOVE};
	snapshots_name(job.name, storage->snapshots[at].info.index, "");
	if (!background_submit(storage, &background, &job))
		return;
	storage->removing_snapshot = true;
	storage->n_snapshots--;
	memmove(storage->snapshots + at, storage->snapshots + at + 1,
		(storage->n_snapshots - at) * sizeof(*storage->snapshots));
}

void snapshots_removed(struct storage *storage, int error)
{
	storage->removing_snapshot = false;
	if (error < 0 && storage->error == 0)
		storage->error = error;
}
