/*
 * What a job of the POSIX disk does: writing, syncing, making and naming files.  See disk.h for the promises.
 *
 * Called by the lanes' threads, and by the owner while they are idle or have to do with other files.
 */
#include "daemon/storage/disk_posix_internal.h"

#include "daemon/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ZERO_BYTES ((size_t)1024 * 1024) /* written out piece by piece, so that the log's syncs never wait long */

void disk_posix_close_fd(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd); /* what matters was synced before */
	*fd = -1;
}

static int sync_directory(const struct posix_disk *disk)
{
	return fsync(disk->directory) < 0 ? -errno : 0;
}

uint64_t disk_posix_generation(struct posix_disk *disk)
{
	disk_posix_lock(disk);
	uint64_t generation = disk->generation;
	disk_posix_unlock(disk);
	return generation;
}

static void change_generation(struct posix_disk *disk)
{
	disk_posix_lock(disk);
	disk->generation++;
	disk_posix_unlock(disk);
}

static int write_all(int fd, const uint8_t *buf, uint64_t size, uint64_t offset)
{
	while (size > 0) {
		ssize_t n = pwrite(fd, buf, size, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		buf += n;
		size -= (uint64_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

static int open_for_writing(struct posix_disk *disk, struct lane *lane, const char *name, bool create)
{
	uint64_t generation = disk_posix_generation(disk);
	if (lane->fd >= 0 && lane->fd_generation == generation && strcmp(lane->fd_name, name) == 0)
		return lane->fd;
	disk_posix_close_fd(&lane->fd);
	lane->fd = openat(disk->directory, name, O_WRONLY | (create ? O_CREAT : 0) | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (lane->fd < 0)
		return -errno;
	lane->fd_generation = generation;
	(void)snprintf(lane->fd_name, sizeof(lane->fd_name), "%s", name);
	return lane->fd;
}

static int execute_write(struct posix_disk *disk, struct lane *lane, const struct disk_job *job)
{
	if (job->offset > INT64_MAX - job->size)
		return -EFBIG;
	int fd = open_for_writing(disk, lane, job->name, false);
	if (fd < 0)
		return fd;
	int r = write_all(fd, job->buf, job->size, job->offset);
	if (r < 0)
		return r;
	return fdatasync(fd) < 0 ? -errno : 0;
}

static bool is_stopping(struct posix_disk *disk)
{
	disk_posix_lock(disk);
	bool stopping = disk->stopping;
	disk_posix_unlock(disk);
	return stopping;
}

/* Waits until the piece is on the disk, where the file system can: otherwise the sync at the end does it all. */
static int write_out(int fd, uint64_t offset, uint64_t size)
{
	unsigned how = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
	if (sync_file_range(fd, (off64_t)offset, (off64_t)size, how) == 0)
		return 0;
	return errno == ENOSYS || errno == EOPNOTSUPP || errno == EINVAL || errno == ESPIPE ? 0 : -errno;
}

static int fill_with_zeros(struct posix_disk *disk, int fd, uint64_t size)
{
	/* Reserves all of it at once: in one piece if possible, and a full disk is noticed before anything is
	 * written. Some file systems cannot, and notice later. */
	if (fallocate(fd, 0, 0, (off_t)size) < 0 && errno != EOPNOTSUPP && errno != ENOSYS)
		return -errno;
	/* Pages that are only read all are the kernel's one page of zeros: this costs no memory. */
	void *zeros = mmap(NULL, ZERO_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (zeros == MAP_FAILED)
		return -errno;
	int r = 0;
	for (uint64_t offset = 0; offset < size && r == 0; offset += ZERO_BYTES) {
		uint64_t n = size - offset < ZERO_BYTES ? size - offset : ZERO_BYTES;
		r = is_stopping(disk) ? -ECANCELED : write_all(fd, zeros, n, offset);
		if (r == 0)
			r = write_out(fd, offset, n);
	}
	(void)munmap(zeros, ZERO_BYTES);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	return r;
}

/* A quota is a lack of room, too. */
static int without_quota(int error)
{
	return error == -EDQUOT ? -ENOSPC : error;
}

static int execute_prepare(struct posix_disk *disk, const struct disk_job *job)
{
	char temporary[DISK_NAME_MAX + sizeof(DISK_TEMPORARY_SUFFIX)];
	(void)snprintf(temporary, sizeof(temporary), "%s" DISK_TEMPORARY_SUFFIX, job->name);
	int fd = openat(disk->directory, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r = fd < 0 ? -errno : fill_with_zeros(disk, fd, job->size);
	if (fd >= 0 && close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0 && renameat(disk->directory, temporary, disk->directory, job->name) < 0)
		r = -errno;
	if (r == 0) {
		change_generation(disk);
		return sync_directory(disk);
	}
	(void)unlinkat(disk->directory, temporary, 0); /* the error that matters is r */
	return without_quota(r);
}

/* Adds a piece to a growing file, and waits until it is on the disk: so at most one piece is dirty at any time, and a
 * sync of the log that has to commit the file system's journal finds nothing of ours to wait for. */
static int execute_stream(struct posix_disk *disk, struct lane *lane, const struct disk_job *job)
{
	struct stat info;
	if (job->offset > INT64_MAX - job->size)
		return -EFBIG;
	int fd = open_for_writing(disk, lane, job->name, job->offset == 0);
	if (fd == -ENOENT)
		return -ENOSPC; /* the piece that was to create it found no room */
	if (fd < 0)
		return fd;
	if (fstat(fd, &info) < 0)
		return -errno;
	if ((uint64_t)info.st_size < job->offset)
		return -ENOSPC; /* nor did the piece before this one */
	if ((uint64_t)info.st_size > job->offset && ftruncate(fd, (off_t)job->offset) < 0)
		return -errno;
	int r = write_all(fd, job->buf, job->size, job->offset);
	return r < 0 ? r : write_out(fd, job->offset, job->size);
}

static int execute_sync(struct posix_disk *disk, struct lane *lane, const struct disk_job *job)
{
	int fd = open_for_writing(disk, lane, job->name, false);
	if (fd < 0)
		return fd;
	return fsync(fd) < 0 ? -errno : 0;
}

int disk_posix_execute(struct posix_disk *disk, struct lane *lane, const struct disk_job *job)
{
	int r = 0;
	switch (job->type) {
	case DISK_JOB_WRITE:
		return execute_write(disk, lane, job);
	case DISK_JOB_PREPARE:
		return execute_prepare(disk, job);
	case DISK_JOB_RENAME:
		r = renameat(disk->directory, job->name, disk->directory, job->new_name);
		break;
	case DISK_JOB_REMOVE:
		r = disk_posix_remove(disk, job->name);
		if (r < 0)
			return r;
		if (strcmp(lane->fd_name, job->name) == 0)
			disk_posix_close_fd(&lane->fd); /* gives its room back */
		break;
	case DISK_JOB_STREAM:
		return without_quota(execute_stream(disk, lane, job));
	case DISK_JOB_SYNC:
		return without_quota(execute_sync(disk, lane, job));
	}
	if (r < 0)
		return -errno;
	change_generation(disk);
	return sync_directory(disk);
}
