/*
 * raftctl recover: when a majority is gone for good, a new cluster of one member from what a stopped member has.
 *
 * The directory is not changed but read and put aside; in its place comes a new one under a new incarnation, with the state
 * after everything that the log holds. That may be less than what was acknowledged, as others may have had more; and more,
 * as the last entries may never have been committed. Nobody can know: hence --yes.
 */
#include "raftctl.h"
#include "raftctl_data.h"

#include "daemon/replicator/snapshot_meta.h"
#include "daemon/storage/snapshots.h"
#include "kv/snapshot_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_ENTRIES 256u
#define PAGE_BYTES (1024u * 1024u)

struct recovered {
	struct kv_store *store;
	struct ctl_new_data data;
	uint64_t committed; /* known to be */
};

/* Reading ---------------------------------------------------------------------------------------------- */

static int feed_snapshot(struct snapshot_reader *reader, struct kv_store_loader *loader, struct kv_store **ret_store)
{
	for (;;) {
		const uint8_t *buf;
		size_t len;
		int r = snapshot_reader_next(reader, &buf, &len);
		if (r != 0)
			return ctl_fail(CTL_FAILED, "the snapshot cannot be read: %s",
					r < 0 ? strerror(-r) : storage_result_name(r));
		r = len > 0 ? kv_store_load_feed(loader, buf, len) : kv_store_load_finish(loader, ret_store);
		if (r != KV_LOAD_OK)
			return ctl_fail(CTL_FAILED, "the snapshot's state cannot be read: %s", kv_load_result_name(r));
		if (len == 0)
			return CTL_OK;
	}
}

static void note_time(struct recovered *recovered, uint64_t time_ms)
{
	if (time_ms > recovered->data.time_ms)
		recovered->data.time_ms = time_ms;
}

static int load_snapshot(struct storage *storage, uint64_t index, struct recovered *recovered)
{
	struct raft_config config; /* of a cluster that is no more */
	uint64_t time_ms;
	struct snapshot_reader *reader = NULL;
	struct storage_snapshot_info info;
	const uint8_t *meta;
	struct kv_store_loader *loader = kv_store_load_new();
	int r = loader != NULL ? snapshot_reader_new(storage, index, &reader, &info, &meta) : -ENOMEM;
	if (r == 0 && !snapshot_meta_decode(meta, info.config_size, &time_ms, &config))
		r = STORAGE_E_CORRUPT;
	if (r == 0) {
		note_time(recovered, time_ms);
		kv_store_load_between(loader, 0, index); /* the log goes on behind it */
	}
	int code = r == 0 ? feed_snapshot(reader, loader, &recovered->store)
			  : ctl_fail(CTL_FAILED, "the snapshot cannot be opened: %s",
				     r < 0 ? strerror(-r) : storage_result_name(r));
	snapshot_reader_free(reader);
	kv_store_load_free(loader);
	return code;
}

static int apply_log(struct storage *storage, uint64_t last, struct recovered *recovered)
{
	static struct raft_entry entries[PAGE_ENTRIES];
	while (recovered->data.index < last) {
		uint32_t n = 0;
		int r = storage_read(storage, recovered->data.index + 1, PAGE_ENTRIES, PAGE_BYTES, entries, &n);
		if (r != 0 || n == 0)
			return ctl_fail(CTL_FAILED, "cannot read entry %" PRIu64 ": %s", recovered->data.index + 1,
					r < 0 ? strerror(-r) : storage_result_name(r));
		for (uint32_t k = 0; k < n; k++) {
			recovered->data.index++;
			recovered->data.entry_term = entries[k].term;
			note_time(recovered, entries[k].time_ms);
			if (entries[k].type == RAFT_ENTRY_COMMAND)
				(void)kv_store_apply(recovered->store, recovered->data.index, entries[k].time_ms,
						     entries[k].data, entries[k].size); /* nobody waits for a reply */
		}
	}
	return CTL_OK;
}

static int read_directory(const struct ctl *ctl, struct storage *storage, const struct storage_state *state,
			  struct recovered *recovered)
{
	int code = CTL_OK;
	recovered->data.index = state->snapshot_index;
	recovered->data.entry_term = state->snapshot_term;
	recovered->data.level = state->level;
	recovered->data.term = state->term > state->snapshot_term ? state->term : state->snapshot_term;
	recovered->committed = state->commit > state->snapshot_index ? state->commit : state->snapshot_index;
	if (state->snapshot_index > 0)
		code = load_snapshot(storage, state->snapshot_index, recovered);
	else if ((recovered->store = kv_store_new()) == NULL)
		code = ctl_fail(CTL_FAILED, "out of memory");
	if (code == CTL_OK && !state->snapshot_beyond_log)
		code = apply_log(storage, state->last_index, recovered);
	if (code == CTL_OK && recovered->data.index == 0)
		code = ctl_fail(CTL_FAILED, "%s is empty: there is nothing to recover", ctl->options.data);
	return code;
}

/* Replacing -------------------------------------------------------------------------------------------- */

static int replace(const char *directory, const char *aside, const char *fresh)
{
	char *copy = strdup(directory);
	int r = copy == NULL ? -ENOMEM : 0;
	if (r == 0 && renameat2(AT_FDCWD, directory, AT_FDCWD, aside, RENAME_NOREPLACE) < 0)
		r = -errno;
	if (r == 0 && rename(fresh, directory) < 0) {
		r = -errno;
		(void)rename(aside, directory); /* as it was; if that fails, too, the message says where all is */
	}
	if (r == 0)
		r = ctl_sync_directory(dirname(copy));
	free(copy);
	return r == 0 ? CTL_OK
		      : ctl_fail(CTL_FAILED, "cannot put %s in the place of %s, and that aside as %s: %s", fresh,
				 directory, aside, strerror(-r));
}

/* A directory like the other one, empty. */
static int make_directory(const char *directory, const char *like)
{
	struct stat model;
	if (stat(like, &model) < 0 || mkdir(directory, 0700) < 0 || chmod(directory, model.st_mode & 07777) < 0 ||
	    chown(directory, model.st_uid, model.st_gid) < 0)
		return ctl_fail(CTL_FAILED, "cannot make %s: %s", directory, strerror(errno));
	return CTL_OK;
}

static void warn(const struct recovered *recovered, const char *directory)
{
	(void)fprintf(
		stderr,
		"raftctl: what recover makes of %s\n"
		"  It becomes a cluster of member %" PRIu64 " alone, with all entries up to %" PRIu64 ".\n"
		"  Writes that were acknowledged and had not reached this member are LOST.\n"
		"  Entries from %" PRIu64 " on are not known to be committed; they count from now on.\n"
		"  All other members must be stopped for good, and their directories emptied before they are added\n"
		"  again with 'raftctl member add': two of the old cluster would be a second cluster.\n",
		directory, recovered->data.id, recovered->data.index, recovered->committed + 1);
}

static int write_directory(const struct ctl *ctl, const char *directory, const struct recovered *recovered)
{
	char aside[CONFIG_PATH_MAX + 32];
	char fresh[CONFIG_PATH_MAX + 32];
	(void)snprintf(aside, sizeof aside, "%s.before-recovery", directory);
	(void)snprintf(fresh, sizeof fresh, "%s.recovered", directory);
	warn(recovered, directory);
	if (!ctl->options.yes)
		return ctl_fail(CTL_USAGE, "nothing was done; --yes does it");
	if (access(aside, F_OK) == 0)
		return ctl_fail(CTL_FAILED, "%s exists: of an earlier recovery; move it away first", aside);
	int code = ctl_data_check_neighbours(ctl, recovered->data.id);
	if (code == CTL_OK)
		code = make_directory(fresh, directory);
	if (code == CTL_OK)
		code = ctl_data_create(ctl, fresh, &recovered->data, recovered->store);
	if (code == CTL_OK)
		code = replace(directory, aside, fresh);
	if (code == CTL_OK)
		printf("OK entry %" PRIu64 "; the old directory is %s\n", recovered->data.index, aside);
	return code;
}

int ctl_recover(struct ctl *ctl)
{
	struct recovered recovered = {0};
	struct storage *storage = NULL;
	struct storage_state state;
	if (ctl->options.data == NULL)
		return ctl_fail(CTL_USAGE, "--data says which directory");
	recovered.data.id = ctl_data_owner(ctl);
	if (recovered.data.id == 0)
		return CTL_USAGE;
	char *directory = realpath(ctl->options.data, NULL);
	if (directory == NULL)
		return ctl_fail(CTL_FAILED, "cannot find %s: %s", ctl->options.data, strerror(errno));
	int code = ctl_data_open(ctl, directory, recovered.data.id, &storage, &state);
	if (code == CTL_OK)
		code = read_directory(ctl, storage, &state, &recovered);
	storage_free(storage);
	if (code == CTL_OK)
		code = write_directory(ctl, directory, &recovered);
	kv_store_free(recovered.store);
	free(directory);
	return code;
}
