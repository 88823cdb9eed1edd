/*
 * What the disk can do on its own: overwrite blocks of a file that was written before, one fdatasync each, one after
 * another. That is the floor under every write that is synced before it is answered.
 */
#include "tests/bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_SIZE (16u * 1024u * 1024u)

/* Writes the whole file once, so that later syncs change no metadata. 0 or negative errno. */
static int prepare(int fd, const uint8_t *block, size_t size)
{
	for (size_t offset = 0; offset + size <= FILE_SIZE; offset += size)
		if (pwrite(fd, block, size, (off_t)offset) != (ssize_t)size)
			return errno != 0 ? -errno : -EIO;
	return fsync(fd) == 0 ? 0 : -errno;
}

static int measure(int fd, const uint8_t *block, const struct bench_options *options, struct bench_result *result)
{
	uint64_t start = bench_now_ns();
	uint64_t end = start + (uint64_t)(options->duration_s * 1e9);
	uint64_t now = start;
	size_t size = options->disk_block;
	size_t offset = 0;
	while (now < end) {
		if (pwrite(fd, block, size, (off_t)offset) != (ssize_t)size || fdatasync(fd) < 0)
			return errno != 0 ? -errno : -EIO;
		uint64_t done = bench_now_ns();
		histogram_record(&result->all_ns, done - now);
		now = done;
		offset += size;
		if (offset + size > FILE_SIZE)
			offset = 0;
	}
	result->seconds = (double)(now - start) / 1e9;
	return 0;
}

int bench_disk(const struct bench_options *options, struct bench_result *ret_result)
{
	char path[4096];
	if (snprintf(path, sizeof path, "%s/raft-bench-XXXXXX", options->disk) >= (int)sizeof path) {
		(void)fprintf(stderr, "raft-bench: the path is too long\n");
		return 1;
	}
	int r = -ENOMEM;
	uint8_t *block = malloc(options->disk_block);
	int fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		r = -errno;
	else
		(void)unlink(path); /* nobody else needs its name */
	if (fd >= 0 && block != NULL) {
		memset(block, 0x5a, options->disk_block);
		r = prepare(fd, block, options->disk_block);
		if (r == 0)
			r = measure(fd, block, options, ret_result);
	}
	if (r < 0)
		(void)fprintf(stderr, "raft-bench: %s: %s\n", options->disk, strerror(-r));
	if (fd >= 0)
		(void)close(fd);
	free(block);
	return r < 0 ? 1 : 0;
}
