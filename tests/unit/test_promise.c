/* Claims about the file that says for how long a voter may have promised not to vote. */
#include "daemon/replicator/promise.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char directory[64];
static char path[96];
static char lock[96];
static struct disk *disk;

static int begin(void **state)
{
	(void)state;
	strcpy(directory, "/tmp/raft-kv-promise-XXXXXX");
	if (mkdtemp(directory) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/" PROMISE_FILE, directory);
	snprintf(lock, sizeof(lock), "%s/lock", directory);
	return disk_posix_open(directory, &disk);
}

static int end(void **state)
{
	(void)state;
	disk->ops->close(disk);
	(void)unlink(lock);
	(void)unlink(path);
	return rmdir(directory); /* nothing else is left there */
}

static uint64_t begin_with(uint64_t promise_us)
{
	uint64_t promised_us = 99;

	assert_int_equal(promise_begin(disk, promise_us, &promised_us), 0);
	return promised_us;
}

static void test_a_start_learns_the_longest_promise_before_it(void **state)
{
	(void)state;
	assert_int_equal(begin_with(0), 0);
	assert_int_equal(access(path, F_OK), -1); /* without leases there is no file */
	assert_int_equal(begin_with(150000), 0);
	assert_int_equal(begin_with(400000), 150000);
	assert_int_equal(begin_with(150000), 400000);
	assert_int_equal(begin_with(0), 400000); /* a crash meanwhile: nobody has said that they are over */
	assert_int_equal(promise_end(disk, 150000), 0);
	assert_int_equal(begin_with(0), 150000);
	assert_int_equal(promise_end(disk, 0), 0);
	assert_int_equal(begin_with(0), 0);
}

static void test_an_end_promises_nothing(void **state)
{
	(void)state;
	assert_int_equal(begin_with(150000), 0);
	assert_int_equal(promise_end(disk, 400000), 0);
	assert_int_equal(begin_with(150000), 150000);
}

static void test_the_file_has_its_documented_bytes(void **state)
{
	static const uint8_t golden[24] = {'R', 'A', 'F', 'T', 'K',  'V',  'P', 'M', 1, 0, 0, 0,
					   0,	0,   0,	  0,   0xf0, 0x49, 2,	0,   0, 0, 0, 0};
	uint8_t bytes[64];
	int fd;

	(void)state;
	assert_int_equal(begin_with(150000), 0);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(read(fd, bytes, sizeof(bytes)), 32);
	close(fd);
	assert_memory_equal(bytes, golden, sizeof(golden));
}

/* Any changed byte, and any other length: the member does not start, for it cannot know what it may do. */
static void test_a_damaged_file_is_no_answer(void **state)
{
	uint64_t promised_us = 99;
	uint8_t byte;
	int fd;

	(void)state;
	assert_int_equal(begin_with(150000), 0);
	fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	for (off_t at = 0; at < 32; at++) {
		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= 4;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		assert_int_equal(promise_begin(disk, 150000, &promised_us), -EBADMSG);
		byte ^= 4;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	}
	assert_int_equal(begin_with(150000), 150000);
	assert_int_equal(pwrite(fd, &byte, 1, 32), 1);
	assert_int_equal(promise_begin(disk, 150000, &promised_us), -EBADMSG);
	assert_int_equal(ftruncate(fd, 31), 0);
	assert_int_equal(promise_begin(disk, 0, &promised_us), -EBADMSG);
	assert_int_equal(promise_end(disk, 0), -EBADMSG);
	assert_int_equal(promised_us, 99);
	close(fd);
}

static void test_a_directory_that_cannot_be_written_is_an_error(void **state)
{
	uint64_t promised_us = 99;
	struct disk *readonly;

	(void)state;
	assert_int_equal(disk_posix_open_readonly(directory, &readonly), 0);
	assert_int_equal(promise_begin(readonly, 150000, &promised_us), -EROFS);
	assert_int_equal(promised_us, 99);
	assert_int_equal(begin_with(150000), 0);
	assert_int_equal(promise_end(readonly, 0), -EROFS);
	assert_int_equal(promise_begin(readonly, 150000, &promised_us), 0);
	assert_int_equal(promised_us, 150000);
	readonly->ops->close(readonly);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_start_learns_the_longest_promise_before_it, begin, end),
		cmocka_unit_test_setup_teardown(test_an_end_promises_nothing, begin, end),
		cmocka_unit_test_setup_teardown(test_the_file_has_its_documented_bytes, begin, end),
		cmocka_unit_test_setup_teardown(test_a_damaged_file_is_no_answer, begin, end),
		cmocka_unit_test_setup_teardown(test_a_directory_that_cannot_be_written_is_an_error, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
