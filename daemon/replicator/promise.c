/* See promise.h; README.md has the bytes. */
#include "promise.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <xxhash.h>

#define TEMPORARY_FILE PROMISE_FILE DISK_TEMPORARY_SUFFIX /* what a crash leaves of it is removed by the next start */
#define FILE_SIZE 32u
#define CHECKED_SIZE 24u

static const uint8_t head[16] = {'R', 'A', 'F', 'T', 'K', 'V', 'P', 'M', 1}; /* magic, version, zeros */

static void encode(uint8_t bytes[FILE_SIZE], uint64_t promise_us)
{
	uint64_t number = htole64(promise_us);
	memcpy(bytes, head, sizeof head);
	memcpy(bytes + sizeof head, &number, sizeof number);
	uint64_t checksum = htole64(XXH3_64bits(bytes, CHECKED_SIZE));
	memcpy(bytes + CHECKED_SIZE, &checksum, sizeof checksum);
}

static bool decode(const uint8_t bytes[FILE_SIZE], uint64_t *ret_promise_us)
{
	uint8_t expected[FILE_SIZE];
	uint64_t number;
	memcpy(&number, bytes + sizeof head, sizeof number);
	encode(expected, le64toh(number));
	if (memcmp(bytes, expected, FILE_SIZE) != 0)
		return false;
	*ret_promise_us = le64toh(number);
	return true;
}

static int read_file(struct disk *disk, uint64_t *ret_promise_us)
{
	uint8_t bytes[FILE_SIZE + 1];
	int64_t n = disk->ops->read(disk, PROMISE_FILE, 0, bytes, sizeof bytes);
	if (n == -ENOENT) {
		*ret_promise_us = 0;
		return 0;
	}
	if (n < 0)
		return (int)n;
	return n == FILE_SIZE && decode(bytes, ret_promise_us) ? 0 : -EBADMSG;
}

/* The file is replaced whole, and only by one that is on the disk. */
static int write_file(struct disk *disk, uint64_t promise_us)
{
	uint8_t bytes[FILE_SIZE];
	struct disk_job job = {.type = DISK_JOB_STREAM,
			       .lane = DISK_LANE_BACKGROUND,
			       .name = TEMPORARY_FILE,
			       .new_name = PROMISE_FILE,
			       .size = sizeof bytes,
			       .buf = bytes};
	encode(bytes, promise_us);
	int r = disk->ops->run(disk, &job);
	job.type = DISK_JOB_SYNC;
	if (r == 0)
		r = disk->ops->run(disk, &job);
	job.type = DISK_JOB_RENAME;
	if (r == 0)
		r = disk->ops->run(disk, &job);
	return r;
}

int promise_begin(struct disk *disk, uint64_t promise_us, uint64_t *ret_promised_us)
{
	uint64_t promised_us = 0;
	int r = read_file(disk, &promised_us);
	if (r == 0 && promise_us > promised_us)
		r = write_file(disk, promise_us);
	if (r == 0)
		*ret_promised_us = promised_us;
	return r;
}

int promise_end(struct disk *disk, uint64_t promise_us)
{
	uint64_t promised_us = 0;
	int r = read_file(disk, &promised_us);
	return r == 0 && promised_us > promise_us ? write_file(disk, promise_us) : r;
}
