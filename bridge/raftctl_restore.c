/*
 * raftctl restore: a data directory for the first member of a new cluster, with the state of a backup. The other members of
 * the configuration join it with blank directories.
 *
 * The whole file is read and verified before anything is written.
 */
#include "raftctl.h"
#include "raftctl_data.h"

#include "kv/backup.h"
#include "kv/snapshot_stream.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

#define PIECE_BYTES (256u * 1024u)

static int refuse(const char *path, const char *why)
{
	return ctl_fail(CTL_FAILED, "%s is %s", path, why);
}

/* Feeds what follows the header; *ret_size, *ret_checksum are of all of it. */
static int feed(const char *path, FILE *file, struct kv_store_loader *loader, uint64_t *ret_size,
		uint64_t *ret_checksum)
{
	uint8_t *buf = malloc(PIECE_BYTES);
	XXH3_state_t *hash = XXH3_createState();
	int code = buf != NULL && hash != NULL ? CTL_OK : ctl_fail(CTL_FAILED, "out of memory");
	size_t size;
	*ret_size = 0;
	if (code == CTL_OK)
		(void)XXH3_64bits_reset(hash); /* cannot fail with a state */
	while (code == CTL_OK && (size = fread(buf, 1, PIECE_BYTES, file)) > 0) {
		(void)XXH3_64bits_update(hash, buf, size); /* the same */
		*ret_size += size;
		int r = kv_store_load_feed(loader, buf, size);
		if (r != KV_LOAD_OK)
			code = ctl_fail(CTL_FAILED, "%s is damaged at byte %" PRIu64 ": %s", path,
					KV_BACKUP_HEADER_SIZE + kv_store_load_offset(loader), kv_load_result_name(r));
	}
	if (code == CTL_OK && ferror(file) != 0)
		code = ctl_fail(CTL_FAILED, "cannot read %s: %s", path, strerror(errno));
	if (code == CTL_OK)
		*ret_checksum = XXH3_64bits_digest(hash);
	(void)XXH3_freeState(hash); /* always succeeds */
	free(buf);
	return code;
}

static int load_store(const char *path, FILE *file, const struct kv_backup_header *header, struct kv_store **ret_store)
{
	uint64_t size = 0;
	uint64_t checksum = 0;
	struct kv_store_loader *loader = kv_store_load_new();
	if (loader == NULL)
		return ctl_fail(CTL_FAILED, "out of memory");
	int code = feed(path, file, loader, &size, &checksum);
	if (code == CTL_OK && (size != header->size || checksum != header->checksum))
		code = refuse(path, kv_backup_result_name(size < header->size ? KV_BACKUP_SHORT : KV_BACKUP_DAMAGED));
	if (code == CTL_OK) {
		int r = kv_store_load_finish(loader, ret_store);
		if (r != KV_LOAD_OK)
			code = refuse(path, kv_load_result_name(r));
	}
	kv_store_load_free(loader);
	return code;
}

static int load_file(const char *path, struct kv_backup_header *ret_header, struct kv_store **ret_store)
{
	uint8_t buf[KV_BACKUP_HEADER_SIZE];
	FILE *file = fopen(path, "re");
	if (file == NULL)
		return ctl_fail(CTL_FAILED, "cannot open %s: %s", path, strerror(errno));
	int r = kv_backup_header_decode(buf, fread(buf, 1, sizeof buf, file), ret_header);
	int code = r == KV_BACKUP_OK ? load_store(path, file, ret_header, ret_store)
				     : refuse(path, kv_backup_result_name(r));
	(void)fclose(file); /* only read */
	return code;
}

int ctl_restore(struct ctl *ctl)
{
	struct kv_backup_header header;
	struct kv_store *store = NULL;
	struct kv_stats stats;
	if (ctl->options.data == NULL)
		return ctl_fail(CTL_USAGE, "--data says where: an empty directory");
	uint64_t id = ctl_data_owner(ctl);
	if (id == 0)
		return CTL_USAGE;
	int code = ctl_data_check_neighbours(ctl, id);
	if (code == CTL_OK)
		code = load_file(ctl->arguments[0], &header, &store);
	if (code != CTL_OK)
		return code;
	kv_store_stats(store, &stats);
	const struct ctl_new_data data = {.id = id,
					  .index = header.applied,
					  .entry_term = 1,
					  .term = 1,
					  .time_ms = (uint64_t)time(NULL) * 1000u,
					  .others_join = true};
	code = stats.applied == header.applied && header.applied > 0
		       ? ctl_data_create(ctl, ctl->options.data, &data, store)
		       : refuse(ctl->arguments[0], kv_backup_result_name(KV_BACKUP_DAMAGED));
	kv_store_free(store);
	if (code == CTL_OK)
		printf("OK revision %" PRIu64 ", %" PRIu64 " keys: start member %" PRIu64
		       "; the others join with empty directories\n",
		       header.applied, stats.keys, id);
	return code;
}
