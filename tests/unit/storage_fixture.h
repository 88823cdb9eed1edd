/*
 * A log over a disk in memory, with the model of what it must hold: what test_storage.c and test_storage_open.c share.
 */
#ifndef RAFT_KV_TESTS_STORAGE_FIXTURE_H
#define RAFT_KV_TESTS_STORAGE_FIXTURE_H

#include "tests/unit/log_fixture.h"
#include "tests/unit/memory_disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define SMALL_SEGMENT (32u * 1024u)

struct fixture {
	struct memory_disk *disk;
	struct storage *storage;
	struct storage_options options;
	struct storage_state found;
	struct log_model model;
	uint64_t seq;
	char message[STORAGE_MESSAGE_MAX];
};

static inline int open_log(struct fixture *f)
{
	return storage_open(memory_disk_open(f->disk), &f->options, &f->storage, &f->found, f->message);
}

static inline void reopen(struct fixture *f)
{
	f->storage = storage_free(f->storage);
	memory_disk_kill(f->disk);
	assert_int_equal(open_log(f), 0);
}

static inline int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	assert_non_null(f);
	f->disk = memory_disk_new();
	f->options = log_fixture_options(SMALL_SEGMENT);
	assert_int_equal(open_log(f), 0);
	*state = f;
	return 0;
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;
	storage_free(f->storage);
	memory_disk_free(f->disk);
	free(f);
	return 0;
}

/* Queues n entries of one size at the end. */
static inline int queue(struct fixture *f, uint64_t term, uint32_t n, uint32_t size)
{
	struct log_write write = {
		.seq = f->seq + 1, .term = term, .vote = 1, .n_entries = n, .size = size, .salt = f->seq + 1};
	int r = log_fixture_append(f->storage, &f->model, &write);
	f->seq += r == 0;
	return r;
}

static inline int queue_at(struct fixture *f, uint64_t term, uint64_t first, uint32_t n, uint32_t size)
{
	struct log_write write = {.seq = f->seq + 1,
				  .term = term,
				  .vote = 1,
				  .first_index = first,
				  .n_entries = n,
				  .size = size,
				  .salt = f->seq + 1};
	int r = log_fixture_append(f->storage, &f->model, &write);
	f->seq += r == 0;
	return r;
}

static inline int cut_from(struct fixture *f, uint64_t term, uint64_t from)
{
	struct log_write write = {.seq = f->seq + 1, .term = term, .truncate_from = from};
	int r = log_fixture_append(f->storage, &f->model, &write);
	f->seq += r == 0;
	return r;
}

static inline void drain(struct fixture *f)
{
	assert_int_equal(log_fixture_drain(f->storage, f->disk, 1), 0);
	assert_int_equal(storage_durable_seq(f->storage), f->seq);
}

static inline void check(struct fixture *f)
{
	int error = 0;
	assert_int_equal(log_fixture_compare(f->storage, &f->model, f->model.base + 1, f->model.last, 100, &error), 0);
	assert_int_equal(error, 0);
}

static inline void check_found(struct fixture *f)
{
	assert_false(f->found.blank);
	assert_int_equal(f->found.last_index, f->model.last);
	assert_int_equal(f->found.term, f->model.term);
	assert_int_equal(f->found.vote, f->model.vote);
	assert_int_equal(f->found.torn_bytes, 0);
	check(f);
}

static inline struct storage_stats stats(struct fixture *f)
{
	struct storage_stats s;
	storage_get_stats(f->storage, &s);
	return s;
}

static inline void fill_segments(struct fixture *f, uint64_t segments)
{
	while (stats(f).segments < segments) {
		assert_int_equal(queue(f, 3, 5, 400), 0);
		drain(f);
	}
}

static inline int open_again(struct fixture *f)
{
	f->storage = storage_free(f->storage);
	memory_disk_kill(f->disk);
	int r = open_log(f);
	if (r != 0)
		assert_true(f->message[0] != '\0');
	return r;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
