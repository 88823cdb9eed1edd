/*
 * Comparing members by what was seen of them (bridge/compare.h).
 */
#include "bridge/compare.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const unsigned all[] = {0, 1, 2};

static void members_are_compared_where_they_were_seen_at_the_same_index(void **state)
{
	struct compare compare = {0};
	uint64_t index = 0;
	(void)state;
	assert_int_equal(compare_two(&compare, 0, 1, &index), COMPARE_UNKNOWN);
	compare_add(&compare, 0, 5, 50);
	compare_add(&compare, 1, 6, 60);
	assert_int_equal(compare_two(&compare, 0, 1, &index), COMPARE_UNKNOWN);
	compare_add(&compare, 0, 6, 60);
	assert_int_equal(compare_two(&compare, 0, 1, &index), COMPARE_SAME);
	assert_int_equal(index, 6);
	compare_add(&compare, 1, 5, 51);
	assert_int_equal(compare_two(&compare, 0, 1, &index), COMPARE_DIFFERENT);
	assert_int_equal(index, 5);
}

static void sameness_passes_from_member_to_member(void **state)
{
	struct compare compare = {0};
	(void)state;
	assert_int_equal(compare_all(&compare, all, 0), COMPARE_SAME);
	assert_int_equal(compare_all(&compare, all, 1), COMPARE_SAME);
	compare_add(&compare, 0, 5, 50);
	compare_add(&compare, 2, 5, 50);
	assert_int_equal(compare_all(&compare, all, 3), COMPARE_UNKNOWN);
	compare_add(&compare, 2, 9, 90);
	compare_add(&compare, 1, 9, 90);
	assert_int_equal(compare_all(&compare, all, 3), COMPARE_SAME);
	compare_add(&compare, 0, 9, 91);
	assert_int_equal(compare_all(&compare, all, 3), COMPARE_DIFFERENT);
}

static void old_samples_give_way_and_none_is_no_sample(void **state)
{
	struct compare compare = {0};
	uint64_t index = 0;
	(void)state;
	compare_add(&compare, 0, 0, 1);
	compare_add(&compare, 1, 0, 2);
	assert_int_equal(compare_two(&compare, 0, 1, &index), COMPARE_UNKNOWN);
	compare_add(&compare, 1, 1, 10);
	for (uint64_t k = 1; k <= COMPARE_SAMPLES; k++)
		for (unsigned again = 0; again < 2; again++)
			compare_add(&compare, 0, k, 10 * k);
	assert_int_equal(compare_two(&compare, 0, 1, &index), COMPARE_SAME);
	compare_add(&compare, 0, 1000, 1);
	assert_int_equal(compare_two(&compare, 0, 1, &index), COMPARE_UNKNOWN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(members_are_compared_where_they_were_seen_at_the_same_index),
		cmocka_unit_test(sameness_passes_from_member_to_member),
		cmocka_unit_test(old_samples_give_way_and_none_is_no_sample),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
