/* See raftctl_data.h. */
#include "raftctl_data.h"

#include "raftctl_link.h"

#include "daemon/assert.h"
#include "daemon/replicator/snapshot_meta.h"
#include "daemon/storage/snapshots.h"
#include "kv/snapshot_stream.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define CACHE_BYTES (1024u * 1024u)
#define PIECE_BYTES (256u * 1024u)
#define LOOK_MS 100 /* the disk wakes us; this is for deadlines of its own */

uint64_t ctl_data_owner(const struct ctl *ctl)
{
	uint64_t id = ctl->options.id;
	char *wanted = id == 0 ? realpath(ctl->options.data, NULL) : NULL;
	for (unsigned k = 0; wanted != NULL && id == 0 && k < ctl->config.n_members; k++) {
		char *path = realpath(ctl->config.members[k].data, NULL);
		if (path != NULL && strcmp(path, wanted) == 0)
			id = ctl->config.members[k].id;
		free(path);
	}
	free(wanted);
	if (id == 0)
		(void)ctl_fail(CTL_USAGE, "%s is no member's data directory in %s; --id says whose it is",
			       ctl->options.data, ctl->options.config_path);
	return id;
}

/* The lock is only looked at: holding it could keep a member from starting. */
bool ctl_data_is_in_use(const char *directory)
{
	char path[CONFIG_PATH_MAX + 8];
	if (snprintf(path, sizeof path, "%s/lock", directory) >= (int)sizeof path)
		return false;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false; /* never used, or not ours to read: opening the disk tells */
	bool used = flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
	(void)close(fd); /* gives the lock back */
	if (used)
		(void)ctl_fail(CTL_FAILED, "%s is in use by a running member: stop it first, or ask it with --id",
			       directory);
	return used;
}

static int open_storage(const char *directory, struct disk *disk, const struct storage_options *options,
			struct storage **ret_storage, struct storage_state *ret_state)
{
	char message[STORAGE_MESSAGE_MAX] = "";
	int r = storage_open(disk, options, ret_storage, ret_state, message);
	if (r == 0)
		return CTL_OK;
	disk->ops->close(disk);
	return ctl_fail(CTL_FAILED, "%s: %s", directory,
			message[0] != '\0' ? message
			: r < 0		   ? strerror(-r)
					   : storage_result_name(r));
}

int ctl_data_open(const struct ctl *ctl, const char *directory, uint64_t id, struct storage **ret_storage,
		  struct storage_state *ret_state)
{
	const struct storage_options options = {
		.cluster_id = kv_cluster_id(ctl->config.cluster_name),
		.member_id = id,
		.incarnation = 1, /* not written: read_only */
		.segment_size = ctl->config.segment_size,
		.cache_bytes_max = CACHE_BYTES,
		.read_only = true,
	};
	struct disk *disk;
	if (ctl_data_is_in_use(directory))
		return CTL_FAILED;
	int r = disk_posix_open_readonly(directory, &disk);
	if (r < 0)
		return ctl_fail(CTL_FAILED, "cannot open %s: %s", directory, strerror(-r));
	return open_storage(directory, disk, &options, ret_storage, ret_state);
}

int ctl_sync_directory(const char *directory)
{
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int r = fsync(fd) < 0 ? -errno : 0;
	(void)close(fd); /* only read */
	return r;
}

/* Making one ------------------------------------------------------------------------------------------- */

static void fill_config(const struct ctl *ctl, const struct ctl_new_data *data, uint64_t incarnation,
			struct raft_config *ret)
{
	memset(ret, 0, sizeof *ret);
	ret->level = data->level > RAFT_LEVEL_MIN ? data->level : RAFT_LEVEL_MIN;
	for (unsigned k = 0; k < ctl->config.n_members; k++) {
		const struct config_member *from = &ctl->config.members[k];
		bool self = from->id == data->id;
		if (!self && !data->others_join)
			continue;
		struct raft_config_member *to = &ret->members[ret->n_members++];
		to->id = from->id;
		to->role = self ? RAFT_MEMBER_VOTER : RAFT_MEMBER_JOINING;
		to->incarnation = self ? incarnation : 0;
		memcpy(to->peer_endpoint, from->peer, strlen(from->peer) + 1);
		memcpy(to->client_endpoint, from->client, strlen(from->client) + 1);
	}
	raft_assert(raft_config_problem(ret) == NULL);
}

/* Lets the disk work until something of it is done. 0, or negative errno. */
static int turn(struct storage *storage)
{
	struct pollfd fd = {.fd = storage_fd(storage), .events = POLLIN};
	int r = storage_process(storage, ctl_now_us());
	if (r < 0)
		return r;
	if (poll(&fd, 1, LOOK_MS) < 0 && errno != EINTR)
		return -errno;
	return storage_process(storage, ctl_now_us());
}

static int write_bytes(struct storage *storage, struct kv_snapshot_stream *stream, uint8_t *buf)
{
	size_t size;
	int r = 0;
	while (r == 0 && (size = kv_snapshot_stream_read(stream, buf, PIECE_BYTES)) > 0) {
		for (size_t at = 0; r == 0 && at < size;) {
			size_t taken = 0;
			r = storage_snapshot_write(storage, buf + at, size - at, &taken);
			at += taken;
			if (r == 0 && taken == 0)
				r = turn(storage);
		}
	}
	return r == 0 ? storage_snapshot_finish(storage) : r;
}

/* 0, STORAGE_E_… or negative errno. */
static int write_snapshot(struct storage *storage, const struct storage_snapshot_begin *begin, struct kv_store *store)
{
	struct storage_snapshot_progress progress;
	uint8_t *buf = malloc(PIECE_BYTES);
	struct kv_snapshot *snapshot = kv_store_snapshot(store);
	struct kv_snapshot_stream *stream = snapshot != NULL ? kv_snapshot_stream_new(snapshot) : NULL;
	int r = buf != NULL && stream != NULL ? storage_snapshot_begin(storage, begin) : -ENOMEM;
	if (r == 0)
		r = write_bytes(storage, stream, buf);
	kv_snapshot_stream_free(stream);
	kv_snapshot_free(snapshot);
	free(buf);
	storage_snapshot_written(storage, &progress);
	while (r == 0 && progress.phase != STORAGE_SNAPSHOT_IDLE) {
		r = turn(storage);
		storage_snapshot_written(storage, &progress);
	}
	return r == 0 ? progress.result : r;
}

/* The log begins after the snapshot. */
static int write_log(struct storage *storage, const struct ctl_new_data *data)
{
	storage_raise_level(storage, data->level);
	const struct storage_write write = {.seq = 1,
					    .term = data->term,
					    .commit = data->index,
					    .reset_index = data->index,
					    .reset_term = data->entry_term};
	int r = storage_append(storage, &write);
	while (r == 0 && storage_durable_seq(storage) < write.seq)
		r = turn(storage);
	return r;
}

static int write_state(const struct ctl *ctl, const struct ctl_new_data *data, uint64_t incarnation,
		       struct storage *storage, struct kv_store *store)
{
	static uint8_t bytes[SNAPSHOT_META_SIZE_MAX];
	struct raft_config config;
	fill_config(ctl, data, incarnation, &config);
	const struct storage_snapshot_begin begin = {.index = data->index,
						     .term = data->entry_term,
						     .config_index = data->index,
						     .config = bytes,
						     .level = config.level,
						     .config_size =
							     snapshot_meta_encode(data->time_ms, &config, bytes)};
	int r = write_snapshot(storage, &begin, store);
	return r == 0 ? write_log(storage, data) : r;
}

/* Root may have made files that the member's own user must be able to write. */
static int give_to_owner(const char *directory)
{
	struct stat owner;
	struct dirent *entry;
	DIR *dir = opendir(directory);
	if (dir == NULL)
		return -errno;
	int r = fstat(dirfd(dir), &owner) < 0 ? -errno : 0;
	while (r == 0 && owner.st_uid != geteuid() && (entry = readdir(dir)) != NULL)
		if (entry->d_name[0] != '.' &&
		    fchownat(dirfd(dir), entry->d_name, owner.st_uid, owner.st_gid, AT_SYMLINK_NOFOLLOW) < 0)
			r = -errno;
	(void)closedir(dir); /* only read */
	return r;
}

int ctl_data_create(const struct ctl *ctl, const char *directory, const struct ctl_new_data *data,
		    struct kv_store *store)
{
	struct storage_options options = {
		.cluster_id = kv_cluster_id(ctl->config.cluster_name),
		.member_id = data->id,
		.segment_size = ctl->config.segment_size,
		.cache_bytes_max = CACHE_BYTES,
	};
	struct storage *storage;
	struct storage_state state;
	struct disk *disk;
	while (options.incarnation == 0)
		if (getrandom(&options.incarnation, sizeof options.incarnation, 0) < 0)
			return ctl_fail(CTL_FAILED, "no random numbers: %s", strerror(errno));
	int r = disk_posix_open(directory, &disk);
	if (r == -EWOULDBLOCK)
		return ctl_fail(CTL_FAILED, "%s is in use by a running member: stop it first", directory);
	if (r < 0)
		return ctl_fail(CTL_FAILED, "cannot open %s: %s", directory, strerror(-r));
	int code = open_storage(directory, disk, &options, &storage, &state);
	if (code != CTL_OK)
		return code;
	if (state.last_index > 0 || state.base_index > 0 || state.snapshot_index > 0 || state.term > 0) {
		storage_free(storage);
		return ctl_fail(CTL_FAILED, "%s is not empty: entries up to %" PRIu64 " are in it", directory,
				state.last_index);
	}
	r = write_state(ctl, data, state.incarnation, storage, store);
	storage_free(storage);
	if (r == 0)
		r = give_to_owner(directory);
	if (r == 0)
		return CTL_OK;
	return ctl_fail(CTL_FAILED, "cannot write to %s: %s", directory, r < 0 ? strerror(-r) : storage_result_name(r));
}
