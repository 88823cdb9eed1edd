/*
 * How large files are given back to the file system: slowly.
 *
 * To unlink some hundred MiB keeps a file system busy for a tenth of a second, longest when it discards what becomes free, and each
 * sync of the log waits for it. So a removed file only gets another name at once, a number of ours, and a thread cuts it shorter
 * piece by piece, with pauses between. What a crash leaves of it is removed by the next start, like all temporary files.
 */
#include "daemon/storage/disk_posix_internal.h"

#include "daemon/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LARGE_BYTES ((off_t)8 * 1024 * 1024)
#define PIECE_BYTES ((off_t)4 * 1024 * 1024)
#define PAUSE_NS 4000000 /* about a GiB/s: nobody makes files faster than that */
#define GRAVE_PREFIX "removed-"

static void name_grave(char *ret_name, uint64_t number)
{
	(void)snprintf(ret_name, DISK_NAME_MAX + 1, GRAVE_PREFIX "%" PRIu64 DISK_TEMPORARY_SUFFIX, number);
}

static bool is_large(const struct posix_disk *disk, const char *name)
{
	struct stat info;
	return strncmp(name, GRAVE_PREFIX, strlen(GRAVE_PREFIX)) != 0 &&
	       fstatat(disk->directory, name, &info, AT_SYMLINK_NOFOLLOW) == 0 && info.st_size >= LARGE_BYTES;
}

int disk_posix_remove(struct posix_disk *disk, const char *name)
{
	char grave[DISK_NAME_MAX + 1];
	if (!is_large(disk, name))
		return unlinkat(disk->directory, name, 0) < 0 && errno != ENOENT ? -errno : 0;
	/* One at a time, since the thread takes the graves in order; and not under the mutex that the loop takes, since a rename may
	 * wait for the file system. */
	int locked = pthread_mutex_lock(&disk->graves.digging);
	raft_assert(locked == 0);
	name_grave(grave, disk->graves.dug + 1);
	int r = renameat(disk->directory, name, disk->directory, grave) < 0 ? -errno : 0;
	if (r == 0) {
		disk_posix_lock(disk);
		disk->graves.dug++;
		(void)pthread_cond_signal(&disk->graves.wake);
		disk_posix_unlock(disk);
	}
	(void)pthread_mutex_unlock(&disk->graves.digging);
	return r;
}

static bool is_ending(struct posix_disk *disk)
{
	disk_posix_lock(disk);
	bool ending = disk->graves.ending;
	disk_posix_unlock(disk);
	return ending;
}

static int cut_down(struct posix_disk *disk, int fd)
{
	static const struct timespec pause = {.tv_nsec = PAUSE_NS};
	struct stat info;
	if (fstat(fd, &info) < 0)
		return -errno;
	for (off_t size = info.st_size; size > PIECE_BYTES && !is_ending(disk);) {
		size -= PIECE_BYTES;
		if (ftruncate(fd, size) < 0)
			return -errno;
		(void)nanosleep(&pause, NULL); /* too short a pause does no harm */
	}
	return 0;
}

/* A file that somebody else has removed meanwhile is no loss. */
static int empty_grave(struct posix_disk *disk, uint64_t number)
{
	char grave[DISK_NAME_MAX + 1];
	name_grave(grave, number);
	int fd = openat(disk->directory, grave, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	int r = fd < 0 ? -errno : cut_down(disk, fd);
	disk_posix_close_fd(&fd);
	if (r == 0 && unlinkat(disk->directory, grave, 0) < 0)
		r = -errno;
	return r == -ENOENT ? 0 : r;
}

static void *graves_main(void *arg)
{
	struct posix_disk *disk = arg;
	disk_posix_lock(disk);
	for (uint64_t number = 1;; number++) {
		while (number > disk->graves.dug && !disk->graves.ending)
			(void)pthread_cond_wait(&disk->graves.wake, &disk->mutex);
		if (number > disk->graves.dug)
			break;
		disk_posix_unlock(disk);
		int r = empty_grave(disk, number);
		disk_posix_lock(disk);
		if (r < 0 && disk->error == 0)
			disk->error = r;
	}
	disk_posix_unlock(disk);
	return NULL;
}

int disk_posix_start_graves(struct posix_disk *disk)
{
	int r = disk_posix_start_thread(&disk->graves.thread, graves_main, disk, "disk-removal");
	disk->graves.started = r == 0;
	return r;
}

void disk_posix_end_graves(struct posix_disk *disk)
{
	disk_posix_lock(disk);
	disk->graves.ending = true;
	(void)pthread_cond_signal(&disk->graves.wake);
	disk_posix_unlock(disk);
	if (disk->graves.started)
		(void)pthread_join(disk->graves.thread, NULL);
	(void)pthread_cond_destroy(&disk->graves.wake);
	(void)pthread_mutex_destroy(&disk->graves.digging);
}
