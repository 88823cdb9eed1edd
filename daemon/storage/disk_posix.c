/*
 * The disk interface over POSIX files: one thread per lane, completions through an eventfd, and one that removes large files.
 *
 * The threads share with the owner only the two queues below, under one mutex; files and descriptors belong to
 * whoever opened them.  What this must not know: what the bytes mean.
 */
#include "daemon/storage/disk_posix_internal.h"

#include "daemon/assert.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOCK_NAME "lock"
#define LANE_STACK ((size_t)256 * 1024)

static struct posix_disk *posix_of(struct disk *disk);

static uint64_t monotonic_us(void)
{
	struct timespec now;
	int r = clock_gettime(CLOCK_MONOTONIC, &now);
	raft_assert(r == 0);
	return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

void disk_posix_lock(struct posix_disk *disk)
{
	int r = pthread_mutex_lock(&disk->mutex);
	raft_assert(r == 0);
}

void disk_posix_unlock(struct posix_disk *disk)
{
	int r = pthread_mutex_unlock(&disk->mutex);
	raft_assert(r == 0);
}

/* A file that could not be made for lack of room, or since we are leaving, changes nothing for the others. */
static bool is_final(const struct disk_job *job, int error)
{
	bool makes_file = job->type == DISK_JOB_PREPARE || job->type == DISK_JOB_STREAM || job->type == DISK_JOB_SYNC;
	if (makes_file && error == -ENOSPC)
		return false;
	return error < 0 && !(job->type == DISK_JOB_PREPARE && error == -ECANCELED);
}

/* Executes a job unless the disk has failed, and remembers if it does now. Without the mutex held. */
static int execute_once(struct posix_disk *disk, struct lane *lane, const struct disk_job *job)
{
	disk_posix_lock(disk);
	int r = disk->error;
	disk_posix_unlock(disk);
	if (r < 0)
		return r;
	r = disk_posix_execute(disk, lane, job);
	if (is_final(job, r)) {
		disk_posix_lock(disk);
		if (disk->error == 0)
			disk->error = r;
		disk_posix_unlock(disk);
	}
	return r;
}

/* Lanes --------------------------------------------------------------------------------------------- */

static void announce(const struct posix_disk *disk)
{
	uint64_t one = 1;
	ssize_t n = 0;
	do {
		n = write(disk->event, &one, sizeof(one));
	} while (n < 0 && errno == EINTR);
	raft_assert(n == (ssize_t)sizeof(one)); /* the counter cannot overflow: take() resets it */
}

static void *lane_main(void *arg)
{
	struct lane *lane = arg;
	struct posix_disk *disk = lane->disk;
	disk_posix_lock(disk);
	for (;;) {
		while (lane->done == lane->submitted && !disk->stopping)
			pthread_cond_wait(&lane->wake, &disk->mutex);
		if (lane->done == lane->submitted)
			break;
		struct lane_job *slot = &lane->jobs[lane->done % DISK_JOBS_MAX];
		disk_posix_unlock(disk);
		uint64_t start = monotonic_us();
		int error = execute_once(disk, lane, &slot->job);
		uint64_t duration = monotonic_us() - start;
		disk_posix_lock(disk);
		slot->completion =
			(struct disk_completion){.ticket = slot->job.ticket, .error = error, .duration_us = duration};
		lane->done++;
		announce(disk);
	}
	disk_posix_unlock(disk);
	disk_posix_close_fd(&lane->fd);
	return NULL;
}

int disk_posix_start_thread(pthread_t *thread, void *(*main)(void *), void *arg, const char *name)
{
	pthread_attr_t attr;
	sigset_t all;
	sigset_t old;
	int r = pthread_attr_init(&attr);
	if (r != 0)
		return -r;
	(void)pthread_attr_setstacksize(&attr, LANE_STACK); /* the default does, too */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(thread, &attr, main, arg);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	(void)pthread_attr_destroy(&attr);
	if (r != 0)
		return -r;
	(void)pthread_setname_np(*thread, name); /* for top -H only */
	return 0;
}

static int start_lane(struct lane *lane, const char *name)
{
	int r = disk_posix_start_thread(&lane->thread, lane_main, lane, name);
	lane->started = r == 0;
	return r;
}

static int posix_submit(struct disk *base, const struct disk_job *job)
{
	struct posix_disk *disk = posix_of(base);
	struct lane *lane = &disk->lanes[job->lane];
	raft_assert(job->lane < DISK_LANES);
	raft_assert(memchr(job->name, '\0', sizeof(job->name)) && memchr(job->new_name, '\0', sizeof(job->new_name)));
	if (disk->read_only)
		return -EROFS;
	disk_posix_lock(disk);
	int r = disk->error;
	uint64_t outstanding = 0;
	for (unsigned i = 0; i < DISK_LANES; i++)
		outstanding += disk->lanes[i].submitted - disk->lanes[i].taken;
	if (r == 0 && outstanding >= DISK_JOBS_MAX)
		r = -EAGAIN;
	if (r == 0) {
		lane->jobs[lane->submitted % DISK_JOBS_MAX] =
			(struct lane_job){.job = *job, .submitted_us = monotonic_us()};
		lane->submitted++;
		(void)pthread_cond_signal(&lane->wake);
	}
	disk_posix_unlock(disk);
	return r;
}

static void close_read_files(struct posix_disk *disk)
{
	for (unsigned i = 0; i < READ_FILES; i++) {
		disk_posix_close_fd(&disk->read_files[i].fd);
		disk->read_files[i].used = 0;
	}
}

static size_t posix_take(struct disk *base, struct disk_completion *ret, size_t max)
{
	struct posix_disk *disk = posix_of(base);
	uint64_t count;
	if (disk->read_only)
		return 0;
	/* Reset first: whatever completes from here on announces itself again. */
	ssize_t got = read(disk->event, &count, sizeof(count));
	raft_assert(got == (ssize_t)sizeof(count) || errno == EAGAIN || errno == EINTR);
	size_t n = 0;
	bool more = false;
	disk_posix_lock(disk);
	for (unsigned i = 0; i < DISK_LANES; i++) {
		struct lane *lane = &disk->lanes[i];
		raft_assert(lane->taken <= lane->done && lane->done <= lane->submitted);
		for (; n < max && lane->taken < lane->done; lane->taken++)
			ret[n++] = lane->jobs[lane->taken % DISK_JOBS_MAX].completion;
		more = more || lane->taken < lane->done;
	}
	bool stale = disk->read_generation != disk->generation;
	disk->read_generation = disk->generation;
	disk_posix_unlock(disk);
	if (stale)
		close_read_files(disk); /* one of them may be the last thing that holds a removed file's room */
	if (more)
		announce(disk);
	return n;
}

static int posix_fd(struct disk *base)
{
	return posix_of(base)->event;
}

static uint64_t posix_oldest_job_age_us(struct disk *base)
{
	struct posix_disk *disk = posix_of(base);
	const struct lane *lane = &disk->lanes[DISK_LANE_LOG];
	uint64_t age = 0;
	disk_posix_lock(disk);
	if (lane->done < lane->submitted) {
		age = monotonic_us() - lane->jobs[lane->done % DISK_JOBS_MAX].submitted_us;
		age += age == 0; /* 0 means idle */
	}
	disk_posix_unlock(disk);
	return age;
}

/* Synchronous calls --------------------------------------------------------------------------------- */

static int posix_run(struct disk *base, const struct disk_job *job)
{
	struct posix_disk *disk = posix_of(base);
	struct lane here = {.disk = disk, .fd = -1};
	if (disk->read_only)
		return -EROFS;
	int r = execute_once(disk, &here, job);
	disk_posix_close_fd(&here.fd);
	return r;
}

static int posix_list(struct disk *base, void (*visit)(void *arg, const char *name, uint64_t size), void *arg)
{
	struct posix_disk *disk = posix_of(base);
	int fd = openat(disk->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	DIR *stream = fdopendir(fd);
	if (!stream) {
		int r = -errno;
		(void)close(fd);
		return r;
	}
	int r = 0;
	for (;;) {
		struct stat info;
		errno = 0;
		const struct dirent *item = readdir(stream);
		if (!item) {
			r = -errno;
			break;
		}
		if (strlen(item->d_name) > DISK_NAME_MAX)
			continue;
		if (fstatat(dirfd(stream), item->d_name, &info, AT_SYMLINK_NOFOLLOW) < 0) {
			if (errno == ENOENT)
				continue; /* removed meanwhile */
			r = -errno;	  /* to pass over it would be to forget what is in it */
			break;
		}
		visit(arg, item->d_name, S_ISREG(info.st_mode) ? (uint64_t)info.st_size : DISK_NO_FILE);
	}
	(void)closedir(stream);
	return r;
}

/* A descriptor for reading, kept among the few that were used last. */
static int open_for_reading(struct posix_disk *disk, const char *name)
{
	uint64_t generation = disk_posix_generation(disk);
	if (disk->read_generation != generation)
		close_read_files(disk);
	disk->read_generation = generation;
	struct read_file *oldest = &disk->read_files[0];
	for (unsigned i = 0; i < READ_FILES; i++) {
		struct read_file *file = &disk->read_files[i];
		if (file->fd >= 0 && strcmp(file->name, name) == 0) {
			file->used = ++disk->n_reads;
			return file->fd;
		}
		if (file->used < oldest->used)
			oldest = file;
	}
	disk_posix_close_fd(&oldest->fd);
	oldest->used = 0;
	oldest->fd = openat(disk->directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (oldest->fd < 0)
		return -errno;
	oldest->used = ++disk->n_reads;
	(void)snprintf(oldest->name, sizeof(oldest->name), "%s", name);
	return oldest->fd;
}

static int64_t posix_read(struct disk *base, const char *name, uint64_t offset, uint8_t *buf, size_t len)
{
	int fd = open_for_reading(posix_of(base), name);
	size_t done = 0;
	if (fd < 0)
		return fd;
	if (len > INT64_MAX || offset > INT64_MAX - len)
		return -EINVAL;
	while (done < len) {
		ssize_t n = pread(fd, buf + done, len - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	if (posix_of(base)->watch)
		posix_of(base)->watch(posix_of(base)->watch_arg, done);
	return (int64_t)done;
}

void disk_posix_watch_reads(struct disk *base, void (*watch)(void *arg, size_t bytes), void *arg)
{
	posix_of(base)->watch = watch;
	posix_of(base)->watch_arg = arg;
}

/* Opening and closing ------------------------------------------------------------------------------- */

/* What was submitted to the LOG lane is still executed; a file under preparation is given up. */
static void posix_close(struct disk *base)
{
	struct posix_disk *disk = posix_of(base);
	disk_posix_lock(disk);
	disk->stopping = true;
	for (unsigned i = 0; i < DISK_LANES; i++)
		(void)pthread_cond_signal(&disk->lanes[i].wake);
	disk_posix_unlock(disk);
	for (unsigned i = 0; i < DISK_LANES; i++) {
		struct lane *lane = &disk->lanes[i];
		if (lane->started)
			(void)pthread_join(lane->thread, NULL);
		raft_assert(!lane->started || lane->done == lane->submitted);
		(void)pthread_cond_destroy(&lane->wake);
	}
	disk_posix_end_graves(disk);
	(void)pthread_mutex_destroy(&disk->mutex);
	close_read_files(disk);
	disk_posix_close_fd(&disk->event);
	disk_posix_close_fd(&disk->directory);
	disk_posix_close_fd(&disk->lock); /* last: from here on another process may come in */
	free(disk);
}

static const struct disk_ops posix_ops = {
	.close = posix_close,
	.list = posix_list,
	.read = posix_read,
	.run = posix_run,
	.submit = posix_submit,
	.take = posix_take,
	.fd = posix_fd,
	.oldest_job_age_us = posix_oldest_job_age_us,
};

static struct posix_disk *posix_of(struct disk *disk)
{
	raft_assert(disk->ops == &posix_ops);
	return (struct posix_disk *)disk;
}

static int open_directory(const char *directory, bool read_only, struct posix_disk **ret_disk)
{
	struct posix_disk *disk = calloc(1, sizeof(*disk));
	if (!disk)
		return -ENOMEM;
	disk->disk.ops = &posix_ops;
	disk->read_only = read_only;
	disk->lock = -1;
	disk->event = -1;
	for (unsigned i = 0; i < READ_FILES; i++)
		disk->read_files[i].fd = -1;
	int r = pthread_mutex_init(&disk->mutex, NULL);
	raft_assert(r == 0); /* cannot fail for a plain mutex on Linux */
	for (unsigned i = 0; i < DISK_LANES; i++) {
		disk->lanes[i].disk = disk;
		disk->lanes[i].fd = -1;
		r = pthread_cond_init(&disk->lanes[i].wake, NULL);
		raft_assert(r == 0);
	}
	r = pthread_cond_init(&disk->graves.wake, NULL);
	raft_assert(r == 0);
	r = pthread_mutex_init(&disk->graves.digging, NULL);
	raft_assert(r == 0);
	disk->directory = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (disk->directory < 0) {
		r = -errno;
		posix_close(&disk->disk);
		return r;
	}
	*ret_disk = disk;
	return 0;
}

static int start(struct posix_disk *disk)
{
	disk->lock = openat(disk->directory, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (disk->lock < 0 || flock(disk->lock, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	disk->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (disk->event < 0)
		return -errno;
	int r = start_lane(&disk->lanes[DISK_LANE_LOG], "disk-log");
	if (r == 0)
		r = start_lane(&disk->lanes[DISK_LANE_BACKGROUND], "disk-spare");
	if (r == 0)
		r = disk_posix_start_graves(disk);
	return r;
}

int disk_posix_open(const char *directory, struct disk **ret_disk)
{
	struct posix_disk *disk = NULL;
	int r = open_directory(directory, false, &disk);
	if (r < 0)
		return r;
	r = start(disk);
	if (r < 0) {
		posix_close(&disk->disk);
		return r;
	}
	*ret_disk = &disk->disk;
	return 0;
}

int disk_posix_open_readonly(const char *directory, struct disk **ret_disk)
{
	struct posix_disk *disk = NULL;
	int r = open_directory(directory, true, &disk);
	if (r < 0)
		return r;
	*ret_disk = &disk->disk;
	return 0;
}
