/* See copy_disk.h. */
#include "copy_disk.h"

#include "daemon/assert.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Files ------------------------------------------------------------------------------------------------ */

struct copy_file *copy_find(const struct copy *copy, const char *name)
{
	for (size_t k = 0; k < copy->n_files; k++)
		if (strcmp(copy->files[k].name, name) == 0)
			return &copy->files[k];
	return NULL;
}

void copy_resize(struct copy_file *file, uint64_t size)
{
	uint8_t *bytes = realloc(file->bytes, size + 1);
	raft_assert(bytes != NULL);
	if (size > file->size)
		memset(bytes + file->size, 0, size - file->size);
	file->bytes = bytes;
	file->size = size;
}

struct copy_file *copy_put(struct copy *copy, const char *name, const uint8_t *bytes, uint64_t size)
{
	copy_remove(copy, name);
	if (copy->n_files == copy->capacity) {
		copy->capacity = copy->capacity * 2 + 8;
		copy->files = realloc(copy->files, copy->capacity * sizeof *copy->files);
		raft_assert(copy->files != NULL);
	}
	struct copy_file *file = &copy->files[copy->n_files++];
	*file = (struct copy_file){.bytes = NULL};
	(void)snprintf(file->name, sizeof file->name, "%s", name);
	copy_resize(file, size);
	if (bytes != NULL && size > 0)
		memcpy(file->bytes, bytes, size);
	return file;
}

void copy_remove(struct copy *copy, const char *name)
{
	struct copy_file *file = copy_find(copy, name);
	if (file == NULL)
		return;
	free(file->bytes);
	*file = copy->files[--copy->n_files];
}

void copy_rename(struct copy *copy, const char *name, const char *new_name)
{
	if (strcmp(name, new_name) == 0)
		return;
	copy_remove(copy, new_name);
	struct copy_file *file = copy_find(copy, name);
	raft_assert(file != NULL);
	(void)snprintf(file->name, sizeof file->name, "%s", new_name);
}

bool copy_equals(const struct copy *one, const struct copy *other)
{
	bool same = one->n_files == other->n_files;
	for (size_t k = 0; k < one->n_files && same; k++) {
		const struct copy_file *file = &one->files[k];
		const struct copy_file *twin = copy_find(other, file->name);
		same = twin != NULL && twin->size == file->size && memcmp(twin->bytes, file->bytes, file->size) == 0;
	}
	return same;
}

/* The disk's interface ---------------------------------------------------------------------------------- */

static struct copy *copy_from(struct disk *disk)
{
	return (struct copy *)disk;
}

static bool fails(struct copy *copy)
{
	return ++copy->operations == copy->fails_at;
}

static void copy_close(struct disk *disk)
{
	(void)disk; /* the files stay */
}

static int copy_list(struct disk *disk, void (*visit)(void *arg, const char *name, uint64_t size), void *arg)
{
	struct copy *copy = copy_from(disk);
	if (fails(copy))
		return -EIO;
	for (size_t k = 0; k < copy->n_files; k++)
		visit(arg, copy->files[k].name, copy->files[k].size);
	return 0;
}

static int64_t copy_read(struct disk *disk, const char *name, uint64_t offset, uint8_t *buf, size_t len)
{
	struct copy *copy = copy_from(disk);
	const struct copy_file *file = copy_find(copy, name);
	if (fails(copy))
		return -EIO;
	if (file == NULL)
		return -ENOENT;
	if (offset >= file->size)
		return 0;
	if (len > file->size - offset)
		len = file->size - offset;
	memcpy(buf, file->bytes + offset, len);
	return (int64_t)len;
}

static int execute(struct copy *copy, const struct disk_job *job)
{
	struct copy_file *file = copy_find(copy, job->name);
	bool creates = job->type == DISK_JOB_PREPARE || (job->type == DISK_JOB_STREAM && job->offset == 0);
	if (creates && copy->full)
		return -ENOSPC;
	if (file == NULL && creates)
		file = copy_put(copy, job->name, NULL, 0);
	if (file == NULL)
		return job->type == DISK_JOB_REMOVE ? 0 : -ENOENT;
	switch (job->type) {
	case DISK_JOB_WRITE:
		if (job->offset > file->size || job->size > file->size - job->offset)
			return -EINVAL;
		memcpy(file->bytes + job->offset, job->buf, job->size);
		break;
	case DISK_JOB_PREPARE:
		copy_resize(file, 0);
		copy_resize(file, job->size);
		break;
	case DISK_JOB_RENAME:
		copy_rename(copy, job->name, job->new_name);
		break;
	case DISK_JOB_REMOVE:
		copy_remove(copy, job->name);
		break;
	case DISK_JOB_STREAM:
		if (job->offset > file->size)
			return -ENOSPC;
		copy_resize(file, job->offset + job->size);
		memcpy(file->bytes + job->offset, job->buf, job->size);
		break;
	case DISK_JOB_SYNC:
		break;
	}
	return 0;
}

static int copy_run(struct disk *disk, const struct disk_job *job)
{
	struct copy *copy = copy_from(disk);
	bool now = fails(copy);
	copy->failed |= copy->last_job != 0 && copy->jobs >= copy->last_job;
	copy->jobs++;
	int r = copy->failed || (now && !copy->done_all_the_same) ? 0 : execute(copy, job);
	copy->failed |= now;
	return copy->failed ? -EIO : r;
}

static int copy_submit(struct disk *disk, const struct disk_job *job)
{
	struct copy *copy = copy_from(disk);
	if (copy->n_done == DISK_JOBS_MAX)
		return -EAGAIN;
	copy->done[copy->n_done++] =
		(struct disk_completion){.ticket = job->ticket, .error = copy_run(disk, job), .duration_us = 1};
	return 0;
}

static size_t copy_take(struct disk *disk, struct disk_completion *ret, size_t max)
{
	struct copy *copy = copy_from(disk);
	size_t n = copy->n_done < max ? copy->n_done : max;
	memcpy(ret, copy->done, n * sizeof *ret);
	copy->n_done -= n;
	memmove(copy->done, copy->done + n, copy->n_done * sizeof *copy->done);
	return n;
}

static int copy_fd(struct disk *disk)
{
	(void)disk;
	return -1;
}

static uint64_t copy_age(struct disk *disk)
{
	(void)disk;
	return 0;
}

static const struct disk_ops copy_ops = {
	.close = copy_close,
	.list = copy_list,
	.read = copy_read,
	.run = copy_run,
	.submit = copy_submit,
	.take = copy_take,
	.fd = copy_fd,
	.oldest_job_age_us = copy_age,
};

void copy_init(struct copy *copy)
{
	*copy = (struct copy){.base.ops = &copy_ops};
}

void copy_of(struct copy *copy, const struct copy *from)
{
	copy_init(copy);
	for (size_t k = 0; k < from->n_files; k++)
		(void)copy_put(copy, from->files[k].name, from->files[k].bytes, from->files[k].size);
}

void copy_fini(struct copy *copy)
{
	for (size_t k = 0; k < copy->n_files; k++)
		free(copy->files[k].bytes);
	free(copy->files);
	copy_init(copy);
}
