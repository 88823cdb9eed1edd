/*
 * Which member may be restarted next, and when (bridge/rolling.h).
 */
#include "bridge/rolling.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* n voters with ids from 1, all well: 1 leads in term 5, and all have applied 100. */
static struct rolling_view healthy(unsigned n)
{
	struct rolling_view view = {.n = n};
	for (unsigned k = 0; k < n; k++)
		view.members[k] = (struct rolling_member){.id = k + 1,
							  .voter = true,
							  .answered = true,
							  .leads = k == 0,
							  .leader = 1,
							  .term = 5,
							  .commit = 100,
							  .applied = 100};
	return view;
}

static bool spared(const struct rolling_view *view, uint64_t id)
{
	struct rolling_verdict verdict;
	rolling_judge(view, id, 100, &verdict);
	return verdict.can_be_spared;
}

static void a_majority_must_go_on_without_it(void **state)
{
	(void)state;
	struct rolling_view view = healthy(5);
	assert_true(spared(&view, 1));
	assert_true(spared(&view, 5));
	view.members[3].answered = false;
	assert_true(spared(&view, 5)); /* 1, 2 and 3 are three of five */
	view.members[2].answered = false;
	assert_false(spared(&view, 5));
	assert_false(spared(&view, 1));
	assert_true(spared(&view, 4)); /* it is down already */
}

static void three_voters_can_spare_one_only(void **state)
{
	(void)state;
	struct rolling_view view = healthy(3);
	assert_true(spared(&view, 2));
	view.members[2].answered = false;
	assert_false(spared(&view, 2));
	assert_true(spared(&view, 3));
}

static void one_that_lags_or_follows_another_does_not_count(void **state)
{
	(void)state;
	struct rolling_view view = healthy(3);
	view.members[2].applied = 99;
	assert_false(spared(&view, 2));
	view = healthy(3);
	view.members[2].leader = 2;
	assert_false(spared(&view, 2));
	view = healthy(3);
	view.members[2].leader = 0;
	assert_false(spared(&view, 2));
	view = healthy(3);
	view.members[2].term = 4;
	assert_false(spared(&view, 2));
}

static void nobody_is_spared_without_a_leader(void **state)
{
	struct rolling_verdict verdict;
	(void)state;
	struct rolling_view view = healthy(5);
	view.members[0].leads = false;
	rolling_judge(&view, 3, 100, &verdict);
	assert_false(verdict.led);
	assert_false(verdict.can_be_spared);
	view = healthy(5);
	view.members[4].term = 6; /* somebody knows of a newer term: who leads in 5 has been replaced */
	assert_null(rolling_find_leader(&view));
	assert_false(spared(&view, 3));
}

static void learners_do_not_count(void **state)
{
	struct rolling_verdict verdict;
	(void)state;
	struct rolling_view view = healthy(4);
	view.members[3].voter = false;
	rolling_judge(&view, 2, 100, &verdict);
	assert_int_equal(verdict.needed, 2);
	assert_int_equal(verdict.well, 2);
	view.members[2].answered = false;
	assert_false(spared(&view, 2)); /* the leader is one of three; the learner has no vote */
	assert_true(spared(&view, 4));	/* two of three voters remain */
}

static void small_clusters_cannot_keep_a_majority_and_are_restarted_all_the_same(void **state)
{
	struct rolling_verdict verdict;
	(void)state;
	struct rolling_view view = healthy(1);
	rolling_judge(&view, 1, 100, &verdict);
	assert_int_equal(verdict.needed, 0);
	assert_true(verdict.can_be_spared);
	view = healthy(2);
	assert_true(spared(&view, 1));
	view.members[1].answered = false;
	assert_false(spared(&view, 1)); /* the other one must be well first */
}

static void the_leader_comes_last(void **state)
{
	const uint64_t ids[] = {1, 2, 3};
	(void)state;
	struct rolling_view view = healthy(3);
	assert_int_equal(rolling_choose(&view, ids, 3), 1);
	assert_int_equal(rolling_choose(&view, ids, 1), 0); /* it alone is left */
	view.members[0].leads = false;
	assert_int_equal(rolling_choose(&view, ids, 3), 0);
}

static void one_that_is_back_follows_and_has_applied(void **state)
{
	(void)state;
	struct rolling_view view = healthy(3);
	assert_true(rolling_is_well(&view, 1, 100));
	assert_true(rolling_is_well(&view, 2, 100));
	assert_false(rolling_is_well(&view, 2, 101));
	assert_false(rolling_is_well(&view, 9, 0));
	view.members[1].answered = false;
	assert_false(rolling_is_well(&view, 2, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_majority_must_go_on_without_it),
		cmocka_unit_test(three_voters_can_spare_one_only),
		cmocka_unit_test(one_that_lags_or_follows_another_does_not_count),
		cmocka_unit_test(nobody_is_spared_without_a_leader),
		cmocka_unit_test(learners_do_not_count),
		cmocka_unit_test(small_clusters_cannot_keep_a_majority_and_are_restarted_all_the_same),
		cmocka_unit_test(the_leader_comes_last),
		cmocka_unit_test(one_that_is_back_follows_and_has_applied),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
