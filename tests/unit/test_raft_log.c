/*
 * Claims about the core's memory of the log (daemon/raft/log.h): it says the same as a plain array would, whatever is
 * appended, truncated and compacted.
 */
#include "daemon/raft/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define ENTRIES_MAX 20000u

static struct {
	uint64_t term;
	uint32_t size;
} model[ENTRIES_MAX + 1]; /* model[index] */

static uint64_t draw(uint64_t *random, uint64_t below)
{
	*random = *random * 6364136223846793005u + 1442695040888963407u;
	return (*random >> 33) % below;
}

static uint64_t model_fit(const struct raft_log *log, uint64_t first, uint64_t bytes_max, uint64_t n_max)
{
	uint64_t bytes = 0;
	uint64_t last = first;

	for (uint64_t i = first; i <= log->last_index && i - first < n_max; i++) {
		bytes += model[i].size + RAFT_LOG_ENTRY_OVERHEAD;
		if (bytes > bytes_max && i > first)
			break;
		last = i;
	}
	return last;
}

static void compare(const struct raft_log *log, uint64_t *random)
{
	uint64_t n = log->last_index - log->base_index;
	uint64_t bytes = 0;

	assert_int_equal(raft_log_term_at(log, log->last_index + 1), 0);
	assert_int_equal(raft_log_term_at(log, log->base_index), model[log->base_index].term);
	assert_int_equal(raft_log_last_term(log), model[log->last_index].term);
	if (log->base_index > 0)
		assert_int_equal(raft_log_term_at(log, log->base_index - 1), 0);
	if (n == 0)
		return;
	for (unsigned k = 0; k < 20; k++) {
		uint64_t index = log->base_index + 1 + draw(random, n);
		uint64_t first = index;
		uint64_t last = index;
		uint64_t bytes_max = draw(random, 2000);
		uint64_t n_max = 1 + draw(random, 50);

		assert_int_equal(raft_log_term_at(log, index), model[index].term);
		while (first - 1 > log->base_index && model[first - 1].term == model[index].term)
			first--;
		while (last < log->last_index && model[last + 1].term == model[index].term)
			last++;
		assert_int_equal(raft_log_run_first(log, index), first);
		assert_int_equal(raft_log_last_of_term(log, model[index].term), last);
		assert_int_equal(raft_log_fit(log, index, bytes_max, n_max), model_fit(log, index, bytes_max, n_max));
	}
	for (uint64_t i = log->base_index + 1; i <= log->last_index; i++)
		bytes += model[i].size + RAFT_LOG_ENTRY_OVERHEAD;
	assert_int_equal(raft_log_bytes(log, log->base_index, log->last_index), bytes);
}

static void test_log_says_what_a_plain_array_would(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 50; seed++) {
		struct raft_log log;
		uint64_t random = seed;
		uint64_t term = 1;

		raft_log_init(&log, 0, 0);
		model[0].term = 0;
		while (log.last_index < ENTRIES_MAX / 10) {
			uint64_t what = draw(&random, 100);
			uint64_t n = log.last_index - log.base_index;

			if (what < 80) {
				uint32_t count = 1 + (uint32_t)draw(&random, 60);

				assert_int_equal(raft_log_reserve(&log, count, 1), 0);
				while (count-- > 0) {
					uint64_t index = log.last_index + 1;

					model[index].term = term;
					model[index].size = (uint32_t)draw(&random, 100);
					raft_log_append(&log, term, model[index].size);
				}
			} else if (what < 88 && n > 0) {
				raft_log_truncate(&log, log.last_index - draw(&random, n < 80 ? n : 80));
			} else if (what < 94 && n > 0) {
				raft_log_compact(&log, log.base_index + 1 + draw(&random, n));
			} else {
				term += draw(&random, 3);
			}
			compare(&log, &random);
		}
		raft_log_fini(&log);
	}
}

static void test_term_of_the_base_survives_compaction_of_everything(void **state)
{
	struct raft_log log;

	(void)state;
	raft_log_init(&log, 10, 3);
	assert_int_equal(raft_log_term_at(&log, 10), 3);
	assert_int_equal(raft_log_term_at(&log, 9), 0);
	assert_int_equal(raft_log_last_of_term(&log, 3), 10);
	assert_int_equal(raft_log_reserve(&log, 2, 2), 0);
	raft_log_append(&log, 3, 1);
	raft_log_append(&log, 5, 1);
	assert_int_equal(raft_log_last_of_term(&log, 4), 0);
	raft_log_compact(&log, 12);
	assert_int_equal(raft_log_last_term(&log), 5);
	assert_int_equal(raft_log_last_of_term(&log, 5), 12);
	raft_log_fini(&log);
}

static void test_absurd_reservations_fail_cleanly(void **state)
{
	struct raft_log log;

	(void)state;
	raft_log_init(&log, 0, 0);
	assert_true(raft_log_reserve(&log, SIZE_MAX / 2, 1) < 0);
	assert_true(raft_log_reserve(&log, SIZE_MAX / 2, SIZE_MAX / 2) < 0);
	assert_int_equal(raft_log_reserve(&log, 1, 1), 0);
	raft_log_append(&log, 1, 0);
	raft_log_fini(&log);
}

static void test_log_that_begins_anew(void **state)
{
	struct raft_log log;

	(void)state;
	raft_log_init(&log, 0, 0);
	assert_int_equal(raft_log_reserve(&log, 10, 2), 0);
	for (unsigned i = 0; i < 10; i++)
		raft_log_append(&log, 1 + i / 5, 100);
	raft_log_compact(&log, 3);
	raft_log_reset(&log, 50, 7);
	assert_int_equal(log.base_index, 50);
	assert_int_equal(log.last_index, 50);
	assert_int_equal(raft_log_last_term(&log), 7);
	assert_int_equal(raft_log_term_at(&log, 50), 7);
	assert_int_equal(raft_log_term_at(&log, 49), 0);
	assert_int_equal(raft_log_last_of_term(&log, 2), 0);
	assert_int_equal(raft_log_reserve(&log, 2, 1), 0);
	raft_log_append(&log, 7, 100);
	raft_log_append(&log, 8, 100);
	assert_int_equal(raft_log_term_at(&log, 52), 8);
	assert_int_equal(raft_log_bytes(&log, 50, 52), 2 * (100 + RAFT_LOG_ENTRY_OVERHEAD));
	raft_log_fini(&log);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_log_says_what_a_plain_array_would),
		cmocka_unit_test(test_term_of_the_base_survives_compaction_of_everything),
		cmocka_unit_test(test_absurd_reservations_fail_cleanly),
		cmocka_unit_test(test_log_that_begins_anew),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
