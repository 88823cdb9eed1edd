/* See promise.h; README.md has the bytes. */
#include "promise.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define TEMPORARY_FILE PROMISE_FILE ".tmp"
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

static int read_file(int directory, uint64_t *ret_promise_us)
{
	uint8_t bytes[FILE_SIZE + 1];
	int fd = openat(directory, PROMISE_FILE, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT) {
		*ret_promise_us = 0;
		return 0;
	}
	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, bytes, sizeof bytes);
	int r = n < 0 ? -errno : 0;
	(void)close(fd); /* only read */
	if (r == 0 && (n != FILE_SIZE || !decode(bytes, ret_promise_us)))
		r = -EBADMSG;
	return r;
}

static int write_whole(int fd, uint64_t promise_us)
{
	uint8_t bytes[FILE_SIZE];
	encode(bytes, promise_us);
	ssize_t n = write(fd, bytes, sizeof bytes);
	if (n < 0)
		return -errno;
	if (n != FILE_SIZE)
		return -EIO;
	return fsync(fd) < 0 ? -errno : 0;
}

static int write_file(int directory, uint64_t promise_us)
{
	int fd = openat(directory, TEMPORARY_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	int r = write_whole(fd, promise_us);
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0 && renameat(directory, TEMPORARY_FILE, directory, PROMISE_FILE) < 0)
		r = -errno;
	if (r == 0 && fsync(directory) < 0)
		r = -errno;
	return r;
}

/* Opens the directory and says what its file says. Returns the descriptor or a negative errno. */
static int open_directory(const char *path, uint64_t *ret_promise_us)
{
	int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0)
		return -errno;
	int r = read_file(directory, ret_promise_us);
	if (r == 0)
		return directory;
	(void)close(directory); /* nothing was written */
	return r;
}

int promise_begin(const char *directory, uint64_t promise_us, uint64_t *ret_promised_us)
{
	uint64_t promised_us = 0;
	int fd = open_directory(directory, &promised_us);
	if (fd < 0)
		return fd;
	int r = promise_us > promised_us ? write_file(fd, promise_us) : 0;
	(void)close(fd); /* synced */
	if (r == 0)
		*ret_promised_us = promised_us;
	return r;
}

int promise_end(const char *directory, uint64_t promise_us)
{
	uint64_t promised_us = 0;
	int fd = open_directory(directory, &promised_us);
	if (fd < 0)
		return fd;
	int r = promised_us > promise_us ? write_file(fd, promise_us) : 0;
	(void)close(fd); /* synced */
	return r;
}
