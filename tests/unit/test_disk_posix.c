/*
 * The disk over POSIX files, in a directory of its own under $TMPDIR.
 */
#include "daemon/storage/disk.h"
#include "tests/unit/log_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>
#include <cmocka.h>

#define DEADLINE_MS 10000

struct fixture {
	char directory[256];
	struct disk *disk;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const char *base = getenv("TMPDIR");
	assert_non_null(f);
	(void)snprintf(f->directory, sizeof(f->directory), "%s/raft-disk-XXXXXX", base ? base : "/tmp");
	assert_non_null(mkdtemp(f->directory));
	assert_int_equal(disk_posix_open(f->directory, &f->disk), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	if (f->disk)
		f->disk->ops->close(f->disk);
	DIR *stream = opendir(f->directory);
	assert_non_null(stream);
	for (struct dirent *item = readdir(stream); item; item = readdir(stream))
		(void)unlinkat(dirfd(stream), item->d_name, 0); /* fails for . and .. */
	(void)closedir(stream);
	assert_int_equal(rmdir(f->directory), 0);
	free(f);
	return 0;
}

static struct disk_job make_job(enum disk_job_type type, enum disk_lane lane, const char *name)
{
	struct disk_job job = {.type = type, .lane = lane};
	(void)snprintf(job.name, sizeof(job.name), "%s", name);
	return job;
}

static void prepare(struct fixture *f, const char *name, uint64_t size)
{
	struct disk_job job = make_job(DISK_JOB_PREPARE, DISK_LANE_BACKGROUND, name);
	job.size = size;
	assert_int_equal(f->disk->ops->run(f->disk, &job), 0);
}

/* Waits through the descriptor, as the loop does. */
static struct disk_completion wait_for_one(struct fixture *f)
{
	struct disk_completion done;
	while (f->disk->ops->take(f->disk, &done, 1) == 0) {
		struct pollfd ready = {.fd = f->disk->ops->fd(f->disk), .events = POLLIN};
		assert_int_equal(poll(&ready, 1, DEADLINE_MS), 1);
	}
	return done;
}

static bool exists(struct fixture *f, const char *name)
{
	char path[400];
	(void)snprintf(path, sizeof(path), "%s/%s", f->directory, name);
	return access(path, F_OK) == 0;
}

static void a_directory_is_never_created(void **state)
{
	struct fixture *f = *state;
	char path[300];
	struct disk *disk = NULL;
	(void)snprintf(path, sizeof(path), "%s/missing", f->directory);
	assert_int_equal(disk_posix_open(path, &disk), -ENOENT);
	assert_int_equal(disk_posix_open_readonly(path, &disk), -ENOENT);
	assert_null(disk);
}

static void a_directory_belongs_to_one_process(void **state)
{
	struct fixture *f = *state;
	struct disk *disk = NULL;
	assert_int_equal(disk_posix_open(f->directory, &disk), -EWOULDBLOCK);
	f->disk->ops->close(f->disk);
	f->disk = NULL;
	assert_int_equal(disk_posix_open(f->directory, &f->disk), 0);
}

static void prepared_file_is_written_out_and_zero(void **state)
{
	struct fixture *f = *state;
	uint64_t size = 3 * 1024 * 1024 + 4096;
	struct disk_job job = make_job(DISK_JOB_PREPARE, DISK_LANE_BACKGROUND, "spare-0");
	job.size = size;
	job.ticket = 7;
	assert_int_equal(f->disk->ops->submit(f->disk, &job), 0);
	struct disk_completion done = wait_for_one(f);
	assert_int_equal(done.ticket, 7);
	assert_int_equal(done.error, 0);
	assert_false(exists(f, "spare-0" DISK_TEMPORARY_SUFFIX));
	uint8_t *bytes = malloc(size + 1);
	assert_non_null(bytes);
	assert_int_equal(f->disk->ops->read(f->disk, "spare-0", 0, bytes, size + 1), size);
	for (uint64_t i = 0; i < size; i++)
		assert_int_equal(bytes[i], 0);
	free(bytes);
	char path[400];
	struct stat info;
	(void)snprintf(path, sizeof(path), "%s/spare-0", f->directory);
	assert_int_equal(stat(path, &info), 0);
	assert_true((uint64_t)info.st_blocks * 512 >= size); /* no holes */
}

/* A limit on the size of files stands in for a full disk's other face, a write that fails half-way. */
static void failed_preparation_leaves_nothing_behind(void **state)
{
	struct fixture *f = *state;
	struct rlimit old;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	struct rlimit small = {.rlim_cur = 100000, .rlim_max = old.rlim_max};
	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	struct disk_job job = make_job(DISK_JOB_PREPARE, DISK_LANE_BACKGROUND, "spare-0");
	job.size = 1000000;
	int r = f->disk->ops->run(f->disk, &job);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(r, -EFBIG);
	assert_false(exists(f, "spare-0"));
	assert_false(exists(f, "spare-0" DISK_TEMPORARY_SUFFIX));
}

static void lane_executes_in_order_and_reads_see_it(void **state)
{
	struct fixture *f = *state;
	uint8_t bufs[4][512];
	prepare(f, "a", 8192);
	for (unsigned i = 0; i < 4; i++) {
		memset(bufs[i], (int)i + 1, sizeof(bufs[i]));
		struct disk_job job = make_job(DISK_JOB_WRITE, DISK_LANE_LOG, "a");
		job.offset = 4096 + i * 256;
		job.size = 512;
		job.buf = bufs[i];
		job.ticket = i;
		assert_int_equal(f->disk->ops->submit(f->disk, &job), 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		struct disk_completion done = wait_for_one(f);
		assert_int_equal(done.ticket, i);
		assert_int_equal(done.error, 0);
	}
	assert_int_equal(f->disk->ops->oldest_job_age_us(f->disk), 0);
	uint8_t back[512 + 3 * 256];
	assert_int_equal(f->disk->ops->read(f->disk, "a", 4096, back, sizeof(back)), sizeof(back));
	for (size_t i = 0; i < sizeof(back); i++)
		assert_int_equal(back[i], i / 256 + 1 > 4 ? 4 : i / 256 + 1);
	assert_int_equal(f->disk->ops->read(f->disk, "a", 8000, back, sizeof(back)), 192);
	assert_int_equal(f->disk->ops->read(f->disk, "a", 9000, back, sizeof(back)), 0);
	assert_int_equal(f->disk->ops->read(f->disk, "b", 0, back, sizeof(back)), -ENOENT);
}

/* Descriptors are kept open: after a rename they must not lead to the old file. */
static void names_are_followed_after_a_rename(void **state)
{
	struct fixture *f = *state;
	uint8_t buf[512];
	uint8_t back = 0;
	for (unsigned round = 1; round < 5; round++) {
		prepare(f, "spare", 4096);
		memset(buf, (int)round, sizeof(buf));
		struct disk_job job = make_job(DISK_JOB_WRITE, DISK_LANE_LOG, "spare");
		job.size = sizeof(buf);
		job.buf = buf;
		assert_int_equal(f->disk->ops->submit(f->disk, &job), 0);
		job.type = DISK_JOB_RENAME;
		(void)snprintf(job.new_name, sizeof(job.new_name), "segment");
		assert_int_equal(f->disk->ops->submit(f->disk, &job), 0);
		assert_int_equal(wait_for_one(f).error, 0);
		assert_int_equal(wait_for_one(f).error, 0);
		assert_int_equal(f->disk->ops->read(f->disk, "segment", 0, &back, 1), 1);
		assert_int_equal(back, round);
		assert_int_equal(f->disk->ops->read(f->disk, "spare", 0, &back, 1), -ENOENT);
	}
	struct disk_job job = make_job(DISK_JOB_RENAME, DISK_LANE_LOG, "segment");
	memcpy(job.new_name, job.name, sizeof(job.name));
	assert_int_equal(f->disk->ops->run(f->disk, &job), 0); /* onto itself: still there */
	job.type = DISK_JOB_REMOVE;
	assert_int_equal(f->disk->ops->run(f->disk, &job), 0);
	assert_int_equal(f->disk->ops->read(f->disk, "segment", 0, &back, 1), -ENOENT);
}

static int stream(struct fixture *f, const char *name, uint64_t offset, const uint8_t *buf, uint64_t size)
{
	struct disk_job job = make_job(DISK_JOB_STREAM, DISK_LANE_BACKGROUND, name);
	job.offset = offset;
	job.size = size;
	job.buf = buf;
	assert_int_equal(f->disk->ops->submit(f->disk, &job), 0);
	return wait_for_one(f).error;
}

static void streamed_file_grows_and_is_cut(void **state)
{
	struct fixture *f = *state;
	uint8_t back[32];
	assert_int_equal(stream(f, "s", 0, (const uint8_t *)"0123456789", 10), 0);
	assert_int_equal(stream(f, "s", 10, (const uint8_t *)"abcdef", 6), 0);
	assert_int_equal(f->disk->ops->read(f->disk, "s", 0, back, sizeof(back)), 16);
	assert_memory_equal(back, "0123456789abcdef", 16);
	assert_int_equal(stream(f, "s", 4, (const uint8_t *)"XY", 2), 0);
	assert_int_equal(f->disk->ops->read(f->disk, "s", 0, back, sizeof(back)), 6);
	assert_memory_equal(back, "0123XY", 6);
	struct disk_job job = make_job(DISK_JOB_SYNC, DISK_LANE_BACKGROUND, "s");
	assert_int_equal(f->disk->ops->run(f->disk, &job), 0);
	job = make_job(DISK_JOB_RENAME, DISK_LANE_BACKGROUND, "s");
	(void)snprintf(job.new_name, sizeof(job.new_name), "t");
	assert_int_equal(f->disk->ops->run(f->disk, &job), 0);
	assert_int_equal(stream(f, "s", 0, (const uint8_t *)"new", 3), 0); /* another file */
	assert_int_equal(f->disk->ops->read(f->disk, "t", 0, back, sizeof(back)), 6);
	assert_int_equal(f->disk->ops->read(f->disk, "s", 0, back, sizeof(back)), 3);
	assert_int_equal(stream(f, "s", 0, NULL, 0), 0); /* begun again */
	assert_int_equal(f->disk->ops->read(f->disk, "s", 0, back, sizeof(back)), 0);
}

static int stream_refused(struct fixture *f)
{
	struct disk_job job = make_job(DISK_JOB_STREAM, DISK_LANE_BACKGROUND, "s");
	return f->disk->ops->submit(f->disk, &job);
}

/* After a piece that found no room, those behind it fail alike, and the disk goes on. */
static void piece_without_the_one_before_finds_no_room(void **state)
{
	struct fixture *f = *state;
	uint8_t byte = 7;
	assert_int_equal(stream(f, "s", 5, &byte, 1), -ENOSPC);
	assert_false(exists(f, "s"));
	assert_int_equal(stream(f, "s", 0, &byte, 1), 0);
	assert_int_equal(stream(f, "s", 2, &byte, 1), -ENOSPC);
	struct disk_job job = make_job(DISK_JOB_REMOVE, DISK_LANE_BACKGROUND, "s");
	assert_int_equal(f->disk->ops->run(f->disk, &job), 0);
	assert_int_equal(f->disk->ops->run(f->disk, &job), 0); /* not there: nothing to do */
	job = make_job(DISK_JOB_SYNC, DISK_LANE_BACKGROUND, "s");
	assert_int_equal(f->disk->ops->run(f->disk, &job), -ENOENT); /* that is final */
	assert_int_equal(stream_refused(f), -ENOENT);
}

static unsigned deleted_files_held(void)
{
	unsigned n = 0;
	DIR *stream = opendir("/proc/self/fd");
	assert_non_null(stream);
	for (const struct dirent *item = readdir(stream); item; item = readdir(stream)) {
		char target[400] = "";
		if (readlinkat(dirfd(stream), item->d_name, target, sizeof(target) - 1) > 0 && strstr(target, "raft") &&
		    strstr(target, " (deleted)"))
			n++;
	}
	(void)closedir(stream);
	return n;
}

/* Neither the lane that wrote it nor the owner that read it keeps a removed file's room. */
static void removed_file_gives_its_room_back(void **state)
{
	struct fixture *f = *state;
	uint8_t byte = 7;
	assert_int_equal(stream(f, "s", 0, &byte, 1), 0);
	assert_int_equal(f->disk->ops->read(f->disk, "s", 0, &byte, 1), 1);
	unsigned before = deleted_files_held();
	struct disk_job job = make_job(DISK_JOB_REMOVE, DISK_LANE_BACKGROUND, "s");
	assert_int_equal(f->disk->ops->submit(f->disk, &job), 0);
	assert_int_equal(wait_for_one(f).error, 0);
	assert_int_equal(deleted_files_held(), before);
}

static unsigned removed_files(const struct fixture *f)
{
	unsigned n = 0;
	DIR *stream = opendir(f->directory);
	assert_non_null(stream);
	for (const struct dirent *item = readdir(stream); item; item = readdir(stream))
		n += strncmp(item->d_name, "removed-", 8) == 0;
	(void)closedir(stream);
	return n;
}

static void remove_large(struct fixture *f, const char *name, enum disk_lane lane)
{
	prepare(f, name, (uint64_t)40 << 20);
	struct disk_job job = make_job(DISK_JOB_REMOVE, lane, name);
	assert_int_equal(f->disk->ops->submit(f->disk, &job), 0);
	assert_int_equal(wait_for_one(f).error, 0);
	assert_false(exists(f, name));
}

/* It has no name any more at once, whatever becomes of its bytes, and the same name can be given again. */
static void large_file_is_removed_bit_by_bit(void **state)
{
	struct fixture *f = *state;
	remove_large(f, "large", DISK_LANE_BACKGROUND);
	remove_large(f, "large", DISK_LANE_LOG);
	assert_true(removed_files(f) > 0);
	for (int left_ms = DEADLINE_MS; removed_files(f) > 0 && left_ms > 0; left_ms--)
		(void)poll(NULL, 0, 1);
	assert_int_equal(removed_files(f), 0);
	uint8_t byte = 7;
	assert_int_equal(stream(f, "s", 0, &byte, 1), 0); /* the disk is well */
}

static void closing_does_not_wait_for_large_files(void **state)
{
	struct fixture *f = *state;
	remove_large(f, "one", DISK_LANE_BACKGROUND);
	remove_large(f, "two", DISK_LANE_BACKGROUND);
	f->disk->ops->close(f->disk);
	f->disk = NULL;
	assert_int_equal(removed_files(f), 0);
}

/* What a crash left of one has the name that the next one is to get. */
static void old_grave_is_in_nobodys_way(void **state)
{
	struct fixture *f = *state;
	prepare(f, "removed-1.tmp", (uint64_t)40 << 20);
	remove_large(f, "large", DISK_LANE_BACKGROUND);
	prepare(f, "removed-7.tmp", (uint64_t)40 << 20);
	struct disk_job job = make_job(DISK_JOB_REMOVE, DISK_LANE_BACKGROUND, "removed-7.tmp");
	assert_int_equal(f->disk->ops->run(f->disk, &job), 0);
	f->disk->ops->close(f->disk);
	f->disk = NULL;
	assert_int_equal(removed_files(f), 0);
}

static void failure_is_final_for_both_lanes(void **state)
{
	struct fixture *f = *state;
	uint8_t buf[512] = {0};
	prepare(f, "a", 4096);
	struct disk_job job = make_job(DISK_JOB_WRITE, DISK_LANE_LOG, "missing");
	job.size = sizeof(buf);
	job.buf = buf;
	assert_int_equal(f->disk->ops->submit(f->disk, &job), 0);
	assert_int_equal(wait_for_one(f).error, -ENOENT);
	job = make_job(DISK_JOB_PREPARE, DISK_LANE_BACKGROUND, "b");
	job.size = 4096;
	assert_int_equal(f->disk->ops->submit(f->disk, &job), -ENOENT);
	assert_int_equal(f->disk->ops->run(f->disk, &job), -ENOENT);
	assert_false(exists(f, "b"));
	job = make_job(DISK_JOB_WRITE, DISK_LANE_LOG, "a");
	assert_int_equal(f->disk->ops->submit(f->disk, &job), -ENOENT);
}

static void jobs_are_bounded(void **state)
{
	struct fixture *f = *state;
	uint8_t buf[512] = {0};
	prepare(f, "a", 4096);
	struct disk_job job = make_job(DISK_JOB_WRITE, DISK_LANE_LOG, "a");
	job.size = sizeof(buf);
	job.buf = buf;
	for (unsigned i = 0; i < DISK_JOBS_MAX; i++)
		assert_int_equal(f->disk->ops->submit(f->disk, &job), 0);
	assert_int_equal(f->disk->ops->submit(f->disk, &job), -EAGAIN);
	for (unsigned i = 0; i < DISK_JOBS_MAX; i++)
		assert_int_equal(wait_for_one(f).error, 0);
	assert_int_equal(f->disk->ops->submit(f->disk, &job), 0);
}

/* A pipe in the place of a file: opening it blocks until somebody reads, as a hung disk would. */
static void hung_job_shows_its_age(void **state)
{
	struct fixture *f = *state;
	uint8_t buf[512] = {0};
	char path[400];
	(void)snprintf(path, sizeof(path), "%s/hung", f->directory);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(f->disk->ops->oldest_job_age_us(f->disk), 0);
	struct disk_job job = make_job(DISK_JOB_WRITE, DISK_LANE_LOG, "hung");
	job.size = sizeof(buf);
	job.buf = buf;
	assert_int_equal(f->disk->ops->submit(f->disk, &job), 0);
	uint64_t first = f->disk->ops->oldest_job_age_us(f->disk);
	assert_true(first > 0);
	while (f->disk->ops->oldest_job_age_us(f->disk) < first + 2000)
		;
	int reader = open(path, O_RDONLY | O_NONBLOCK);
	assert_true(reader >= 0);
	struct disk_completion done = wait_for_one(f);
	assert_int_equal(done.error, -ESPIPE);
	assert_true(done.duration_us > 0);
	assert_int_equal(f->disk->ops->oldest_job_age_us(f->disk), 0);
	(void)close(reader);
}

static void readonly_disk_refuses_changes(void **state)
{
	struct fixture *f = *state;
	struct disk *disk = NULL;
	uint8_t byte = 9;
	prepare(f, "a", 4096);
	assert_int_equal(disk_posix_open_readonly(f->directory, &disk), 0);
	struct disk_job job = make_job(DISK_JOB_REMOVE, DISK_LANE_LOG, "a");
	assert_int_equal(disk->ops->run(disk, &job), -EROFS);
	assert_int_equal(disk->ops->submit(disk, &job), -EROFS);
	assert_int_equal(disk->ops->read(disk, "a", 0, &byte, 1), 1);
	assert_int_equal(byte, 0);
	disk->ops->close(disk);
}

static void count_file(void *arg, const char *name, uint64_t size)
{
	unsigned *counts = arg;
	if (strcmp(name, "a") == 0 && size == 4096)
		counts[0]++;
	else if (strcmp(name, "lock") != 0 && size != DISK_NO_FILE)
		counts[1]++;
}

static void count_others(void *arg, const char *name, uint64_t size)
{
	unsigned *counts = arg;
	if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && size == DISK_NO_FILE) {
		assert_string_equal(name, "folder");
		counts[1]++;
	}
}

static void listing_tells_files_from_others(void **state)
{
	struct fixture *f = *state;
	char path[400];
	unsigned counts[2] = {0};
	prepare(f, "a", 4096);
	(void)snprintf(path, sizeof(path), "%s/folder", f->directory);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(f->disk->ops->list(f->disk, count_file, counts), 0);
	assert_int_equal(counts[0], 1);
	assert_int_equal(counts[1], 0);
	assert_int_equal(f->disk->ops->list(f->disk, count_others, counts), 0);
	assert_int_equal(counts[1], 1);
	assert_int_equal(rmdir(path), 0);
}

/* Stands in for libc's, which all of this program calls: one file cannot be looked at. */
static const char *hidden_name;
static int hidden_error;

int fstatat(int directory, const char *name, struct stat *ret_info, int flags)
{
	if (hidden_name && strcmp(name, hidden_name) == 0) {
		errno = hidden_error;
		return -1;
	}
	return (int)syscall(SYS_newfstatat, directory, name, ret_info, flags);
}

static void file_that_cannot_be_looked_at_is_not_missing(void **state)
{
	struct fixture *f = *state;
	unsigned counts[2] = {0};
	prepare(f, "a", 4096);
	prepare(f, "b", 4096);
	hidden_name = "b";
	hidden_error = EIO;
	assert_int_equal(f->disk->ops->list(f->disk, count_file, counts), -EIO);
	hidden_error = EACCES;
	assert_int_equal(f->disk->ops->list(f->disk, count_file, counts), -EACCES);
	hidden_error = ENOENT; /* removed meanwhile */
	memset(counts, 0, sizeof(counts));
	assert_int_equal(f->disk->ops->list(f->disk, count_file, counts), 0);
	hidden_name = NULL;
	assert_int_equal(counts[0], 1);
	assert_int_equal(counts[1], 0);
}

/* The whole log over real files --------------------------------------------------------------------------- */

static void drain(struct storage *storage, uint64_t seq)
{
	assert_int_equal(storage_process(storage, 1), 0);
	while (storage_durable_seq(storage) < seq) {
		struct pollfd ready = {.fd = storage_fd(storage), .events = POLLIN};
		assert_int_equal(poll(&ready, 1, DEADLINE_MS), 1);
		assert_int_equal(storage_process(storage, 1), 0);
	}
}

static void wait_for_snapshot(struct storage *storage, uint64_t index)
{
	struct storage_snapshot_info info = {.index = 0};
	while (!storage_snapshot_newest(storage, &info) || info.index < index) {
		struct pollfd ready = {.fd = storage_fd(storage), .events = POLLIN};
		assert_int_equal(poll(&ready, 1, DEADLINE_MS), 1);
		assert_int_equal(storage_process(storage, 1), 0);
	}
}

static void log_survives_reopening_on_real_files(void **state)
{
	struct fixture *f = *state;
	struct log_model *model = calloc(1, sizeof(*model));
	struct storage_options options = log_fixture_options(64 * 1024);
	options.cache_bytes_max = 10000;
	char message[STORAGE_MESSAGE_MAX];
	assert_non_null(model);
	uint64_t seq = 0;
	for (unsigned round = 0; round < 4; round++) {
		struct storage *storage = NULL;
		struct storage_state found;
		int error = 0;
		assert_int_equal(storage_open(f->disk, &options, &storage, &found, message), 0);
		assert_int_equal(found.last_index, model->last);
		seq = 0;
		for (unsigned i = 0; i < 40; i++) {
			struct log_write write = {
				.seq = seq + 1, .term = round + 1, .n_entries = 10, .size = 300, .salt = seq + 1};
			seq++;
			if (i % 10 == 9)
				write.first_index = model->last - 15;
			assert_int_equal(log_fixture_append(storage, model, &write), 0);
			assert_int_equal(storage_process(storage, 1), 0);
		}
		drain(storage, seq);
		assert_int_equal(log_fixture_compare(storage, model, model->base + 1, model->last, 64, &error), 0);
		uint64_t index = model->last - 100;
		struct storage_snapshot_begin begin = {.index = index, .term = model->entries[index].term};
		assert_int_equal(storage_snapshot_begin(storage, &begin), 0);
		assert_int_equal(storage_snapshot_finish(storage), 0);
		wait_for_snapshot(storage, index);
		assert_int_equal(storage_compact(storage, index, begin.term), 0);
		model->base = model->last - 100;
		drain(storage, seq);
		storage_free(storage);
		assert_int_equal(disk_posix_open(f->directory, &f->disk), 0);
	}
	free(model);
}

/* A process that dies by SIGKILL while it writes leaves a log that opens. */
static void log_survives_sigkill(void **state)
{
	struct fixture *f = *state;
	struct storage_options options = log_fixture_options(64 * 1024);
	char message[STORAGE_MESSAGE_MAX];
	struct storage *storage = NULL;
	struct storage_state found;
	int fds[2];
	f->disk->ops->close(f->disk);
	f->disk = NULL;
	assert_int_equal(pipe(fds), 0);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct log_model *model = calloc(1, sizeof(*model));
		if (!model || disk_posix_open(f->directory, &f->disk) != 0 ||
		    storage_open(f->disk, &options, &storage, &found, message) != 0)
			_exit(1);
		for (uint64_t seq = 1;; seq++) {
			struct log_write next = {.seq = seq, .term = 1, .n_entries = 1, .size = 700, .salt = 1};
			if (log_fixture_append(storage, model, &next) != 0)
				_exit(1);
			drain(storage, seq);
			if (write(fds[1], &seq, sizeof(seq)) != (ssize_t)sizeof(seq))
				_exit(1);
		}
	}
	uint64_t durable = 0;
	while (durable < 200)
		assert_int_equal(read(fds[0], &durable, sizeof(durable)), sizeof(durable));
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	(void)close(fds[1]);
	while (read(fds[0], &durable, sizeof(durable)) == (ssize_t)sizeof(durable))
		;
	(void)close(fds[0]);
	assert_int_equal(disk_posix_open(f->directory, &f->disk), 0);
	assert_int_equal(storage_open(f->disk, &options, &storage, &found, message), 0);
	assert_true(found.last_index >= durable);
	assert_true(found.last_index <= durable + 1);
	storage_free(storage);
	f->disk = NULL;
}

static bool give_up(void *arg, const uint8_t *config, uint32_t size, bool in_snapshot)
{
	(void)config, (void)size, (void)in_snapshot;
	++*(unsigned *)arg;
	return true;
}

/* Somebody moved a large file to another disk, and put a link in its place. Whoever passes over it finds a shorter log. */
static void file_that_is_elsewhere_is_not_missing(void **state)
{
	static const char *const names[] = {"segment-0000000000000002", "snapshot-0000000000000005",
					    "segment-0000000000000001"};
	struct fixture *f = *state;
	struct storage *storage = NULL;
	struct storage_state found;
	char message[STORAGE_MESSAGE_MAX], path[400];
	unsigned asked = 0;
	const struct storage_heal heal = {.may_give_up = give_up, .arg = &asked};
	struct storage_options options = {
		.cluster_id = 1, .member_id = 1, .incarnation = 1, .segment_size = 1 << 20, .heal = &heal};
	assert_int_equal(storage_open(f->disk, &options, &storage, &found, message), 0);
	storage_free(storage);
	for (unsigned k = 0; k < 3; k++) {
		(void)snprintf(path, sizeof(path), "%s/%s", f->directory, names[k]);
		(void)unlink(path); /* the last one is there */
		assert_int_equal(k == 1 ? mkdir(path, 0700) : symlink("/elsewhere", path), 0);
		assert_int_equal(disk_posix_open(f->directory, &f->disk), 0);
		assert_int_equal(storage_open(f->disk, &options, &storage, &found, message), STORAGE_E_CORRUPT);
		assert_non_null(strstr(message, names[k]));
		assert_non_null(strstr(message, "no regular file"));
		f->disk->ops->close(f->disk);
		f->disk = NULL;
		assert_int_equal(remove(path), 0);
	}
	assert_int_equal(asked, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_directory_is_never_created),
		TEST(a_directory_belongs_to_one_process),
		TEST(prepared_file_is_written_out_and_zero),
		TEST(failed_preparation_leaves_nothing_behind),
		TEST(lane_executes_in_order_and_reads_see_it),
		TEST(names_are_followed_after_a_rename),
		TEST(streamed_file_grows_and_is_cut),
		TEST(piece_without_the_one_before_finds_no_room),
		TEST(removed_file_gives_its_room_back),
		TEST(large_file_is_removed_bit_by_bit),
		TEST(closing_does_not_wait_for_large_files),
		TEST(old_grave_is_in_nobodys_way),
		TEST(failure_is_final_for_both_lanes),
		TEST(jobs_are_bounded),
		TEST(hung_job_shows_its_age),
		TEST(readonly_disk_refuses_changes),
		TEST(listing_tells_files_from_others),
		TEST(file_that_cannot_be_looked_at_is_not_missing),
		TEST(file_that_is_elsewhere_is_not_missing),
		TEST(log_survives_reopening_on_real_files),
		TEST(log_survives_sigkill),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
