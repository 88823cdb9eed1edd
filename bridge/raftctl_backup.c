/*
 * raftctl backup: the state of one member, whole and at one index, as a file. The member keeps that state while it goes on
 * with its work and hands it out piece by piece. The file has its name only when it is complete and on the disk.
 */
#include "raftctl.h"
#include "raftctl_call.h"
#include "raftctl_data.h"

#include "kv/backup.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define TRIES 5u

struct backup {
	struct ctl_call call;
	uint32_t timeout_ms; /* for each piece */
	FILE *file;
	XXH3_state_t *hash;
	uint64_t pin;
	uint64_t offset;
	uint64_t total;
};

/* Fetches and writes the next piece. CTL_OK: *ret_gone says whether the state is not kept any more. */
static int take_piece(struct backup *backup, bool *ret_gone)
{
	uint8_t body[KV_BACKUP_BODY_SIZE];
	const struct kv_backup_request request = {
		.pin = backup->pin, .offset = backup->offset, .size = KV_PAGE_SIZE_MAX};
	struct kv_answer_body answer;
	struct ctl_question question = {.type = KV_REQUEST_BACKUP, .body = body, .size = sizeof body};
	kv_backup_encode(body, &request);
	backup->call.deadline_us = ctl_now_us() + (uint64_t)backup->timeout_ms * 1000u;
	int code = ctl_call_any(&backup->call, &question, &answer);
	if (code != CTL_OK)
		return code;
	*ret_gone = answer.answer == KV_ANSWER_NOT_FOUND;
	if (*ret_gone)
		return CTL_OK;
	if (answer.answer != KV_ANSWER_OK)
		return ctl_fail(CTL_FAILED, "refused: %s", ctl_answer_name(answer.answer));
	uint64_t total;
	if (answer.size < KV_BACKUP_DATA_HEADER_SIZE)
		return ctl_fail(CTL_FAILED, "the member sent a piece that cannot be read");
	memcpy(&total, answer.data, sizeof total);
	const uint8_t *bytes = answer.data + KV_BACKUP_DATA_HEADER_SIZE;
	size_t size = answer.size - KV_BACKUP_DATA_HEADER_SIZE;
	backup->pin = answer.number;
	backup->total = le64toh(total);
	if (backup->pin == 0)
		return ctl_fail(CTL_FAILED, "the store is empty: there is nothing to back up");
	if (size > backup->total - backup->offset || (size == 0 && backup->offset < backup->total))
		return ctl_fail(CTL_FAILED, "the member sent a piece that cannot be read");
	backup->offset += size;
	(void)XXH3_64bits_update(backup->hash, bytes, size); /* cannot fail with a state */
	if (fwrite(bytes, 1, size, backup->file) != size)
		return ctl_fail(CTL_FAILED, "cannot write the file: %s", strerror(errno));
	return CTL_OK;
}

/* One attempt from the beginning. */
static int take_all(struct backup *backup, bool *ret_gone)
{
	uint8_t header[KV_BACKUP_HEADER_SIZE] = {0};
	backup->pin = backup->offset = backup->total = 0;
	(void)XXH3_64bits_reset(backup->hash);
	if (fseek(backup->file, 0, SEEK_SET) != 0 || ftruncate(fileno(backup->file), 0) < 0 ||
	    fwrite(header, 1, sizeof header, backup->file) != sizeof header)
		return ctl_fail(CTL_FAILED, "cannot write the file: %s", strerror(errno));
	do {
		int code = take_piece(backup, ret_gone);
		if (code != CTL_OK || *ret_gone)
			return code;
	} while (backup->offset < backup->total);
	return CTL_OK;
}

/* The header is written last: a file without it is no backup. */
static int complete(struct backup *backup, uint64_t cluster)
{
	uint8_t buf[KV_BACKUP_HEADER_SIZE];
	const struct kv_backup_header header = {.cluster = cluster,
						.applied = backup->pin,
						.size = backup->total,
						.checksum = XXH3_64bits_digest(backup->hash)};
	kv_backup_header_encode(buf, &header);
	if (fseek(backup->file, 0, SEEK_SET) != 0 || fwrite(buf, 1, sizeof buf, backup->file) != sizeof buf ||
	    fflush(backup->file) != 0 || fsync(fileno(backup->file)) < 0)
		return ctl_fail(CTL_FAILED, "cannot write the file: %s", strerror(errno));
	return CTL_OK;
}

static int take(struct backup *backup, uint64_t cluster)
{
	for (unsigned tries = 0; tries < TRIES; tries++) {
		bool gone = false;
		int code = take_all(backup, &gone);
		if (code != CTL_OK)
			return code;
		if (!gone)
			return complete(backup, cluster);
	}
	return ctl_fail(CTL_FAILED, "the member did not keep its state long enough: %u attempts", TRIES);
}

/* Gives the complete file its name. */
static int name_it(const struct ctl *ctl, const char *temporary, const char *path)
{
	unsigned flags = ctl->options.force ? 0 : RENAME_NOREPLACE;
	char *copy = strdup(path);
	if (copy == NULL)
		return ctl_fail(CTL_FAILED, "out of memory");
	int r = renameat2(AT_FDCWD, temporary, AT_FDCWD, path, flags) < 0 ? -errno : ctl_sync_directory(dirname(copy));
	free(copy);
	return r == 0 ? CTL_OK : ctl_fail(CTL_FAILED, "cannot make %s: %s", path, strerror(-r));
}

static int backup_into(struct ctl *ctl, struct backup *backup, const char *temporary, const char *path)
{
	int fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	backup->file = fd < 0 ? NULL : fdopen(fd, "w+");
	if (backup->file == NULL)
		return ctl_fail(CTL_FAILED, "cannot create %s: %s%s", temporary, strerror(errno),
				errno == EEXIST ? "; another backup is under way, or was broken off: remove it" : "");
	backup->hash = XXH3_createState();
	int code = backup->hash != NULL ? take(backup, kv_cluster_id(ctl->config.cluster_name))
					: ctl_fail(CTL_FAILED, "out of memory");
	(void)XXH3_freeState(backup->hash); /* always succeeds */
	if (fclose(backup->file) != 0 && code == CTL_OK)
		code = ctl_fail(CTL_FAILED, "cannot write the file: %s", strerror(errno));
	if (code == CTL_OK)
		code = name_it(ctl, temporary, path);
	if (code == CTL_OK)
		printf("OK revision %" PRIu64 ", %" PRIu64 " bytes\n", backup->pin,
		       backup->total + KV_BACKUP_HEADER_SIZE);
	else
		(void)unlink(temporary); /* may fail: then it stays, and the next one says so */
	return code;
}

/* Without --id: of the leader, who has applied everything that was acknowledged. */
static int choose_member(struct ctl *ctl)
{
	struct ctl_links links;
	uint64_t term;
	if (ctl->options.id != 0)
		return CTL_OK;
	struct ctl_call call = {.links = &links,
				.deadline_us = ctl_now_us() + (uint64_t)ctl->options.timeout_ms * 1000u};
	int code = CTL_FAILED;
	if (ctl_links_open(&ctl->config, 0, &links) == 0)
		code = ctl_call_find_leader(&call, 0, &ctl->options.id, &term);
	ctl_links_close(&links);
	return code;
}

int ctl_backup(struct ctl *ctl)
{
	char temporary[CONFIG_PATH_MAX];
	const char *path = ctl->arguments[0];
	struct ctl_links links;
	struct backup backup = {.timeout_ms = ctl->options.timeout_ms};
	if (snprintf(temporary, sizeof temporary, "%s.partial", path) >= (int)sizeof temporary)
		return ctl_fail(CTL_USAGE, "the name is too long");
	if (!ctl->options.force && access(path, F_OK) == 0)
		return ctl_fail(CTL_FAILED, "%s exists; --force replaces it", path);
	int code = choose_member(ctl);
	if (code != CTL_OK)
		return code;
	backup.call.links = &links;
	code = CTL_FAILED;
	if (ctl_links_open(&ctl->config, ctl->options.id, &links) == 0)
		code = backup_into(ctl, &backup, temporary, path);
	ctl_links_close(&links);
	return code;
}
