/* A leader's beats: what begins one, whose answers count for it, what is kept of them. Through raft.h only. */
#include "raft_cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct rc_cluster c;

static void begin(unsigned n_nodes, unsigned n_learners)
{
	struct rc_options options = {.n_nodes = n_nodes, .n_learners = n_learners, .seed = 23};

	rc_init(&c, &options);
}

static int end(void **state)
{
	(void)state;
	rc_fini(&c);
	return 0;
}

static const struct raft_beat *newest(uint64_t id)
{
	const struct raft_beat *found = NULL;
	const struct raft_beat *beat = raft_next_beat(c.nodes[id].core, 0);

	for (; beat != NULL; beat = raft_next_beat(c.nodes[id].core, beat->number))
		found = beat;
	return found;
}

/* The first answer of the member on its way to the leader arrives; all others of it are lost. */
static void answer(uint64_t from)
{
	struct raft_message append = {0};

	assert_true(rc_take(&c, 1, from, RAFT_MESSAGE_APPEND, &append));
	struct raft_message m = {.type = RAFT_MESSAGE_APPEND_REPLY, .from = from, .to = 1, .term = append.term};
	m.append_reply.round = append.append.round;
	m.append_reply.match = append.append.prev_index;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
}

static void test_an_idle_leader_beats_at_every_heartbeat_and_all_answer(void **state)
{
	(void)state;
	begin(3, 0);
	rc_start_all(&c);
	assert_true(rc_run_until_leader(&c, 5000 * RC_MS));
	uint64_t leader = rc_leader(&c);
	rc_run_us(&c, 10 * RC_HEARTBEAT_US);
	uint64_t first = newest(leader)->number;
	rc_run_us(&c, 10 * RC_HEARTBEAT_US);
	assert_in_range(newest(leader)->number - first, 9, 11);
	const struct raft_beat *beat = raft_next_beat(c.nodes[leader].core, first);
	const struct raft_beat before = *beat;
	beat = raft_next_beat(c.nodes[leader].core, beat->number);
	assert_int_equal(beat->number, before.number + 1);
	assert_int_equal(beat->began_us - before.began_us, RC_HEARTBEAT_US);
	assert_int_equal(before.n_answers, 2);
	assert_true(before.quorum && before.quorum_us == before.answers[0].after_us);
	assert_true(before.answers[0].id != before.answers[1].id && before.answers[0].id != leader);
	assert_true(before.answers[0].after_us <= before.answers[1].after_us);
	assert_int_equal(before.term, rc_status(&c, leader)->hard_state.term);
}

static void test_the_first_answer_of_a_member_counts_once_and_a_quorum_needs_voters(void **state)
{
	(void)state;
	begin(5, 1); /* members 1 to 4 vote */
	rc_elect(&c, 1);
	c.now_us += RC_HEARTBEAT_US;
	assert_int_equal(rc_tick(&c, 1), RAFT_OK);
	uint64_t number = newest(1)->number;
	assert_int_equal(newest(1)->n_answers, 0);
	c.now_us += 300;
	answer(5);
	c.now_us += 100;
	answer(2);
	assert_int_equal(newest(1)->n_answers, 2);
	assert_false(newest(1)->quorum); /* the leader and one voter of four; a learner does not count */
	c.now_us += 100;
	answer(4);
	const struct raft_beat *beat = newest(1);
	assert_int_equal(beat->number, number);
	assert_true(beat->quorum);
	assert_int_equal(beat->quorum_us, 500);
	assert_int_equal(beat->answers[0].id, 5);
	assert_int_equal(beat->answers[0].after_us, 300);
	assert_int_equal(beat->answers[1].id, 2);
	assert_int_equal(beat->answers[1].after_us, 400);
	/* The same one again. */
	struct raft_message m = {.type = RAFT_MESSAGE_APPEND_REPLY, .from = 4, .to = 1, .term = beat->term};
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(newest(1)->n_answers, 3);
}

static void test_entries_beat_as_well_but_not_more_often(void **state)
{
	(void)state;
	begin(3, 0);
	rc_start_all(&c);
	assert_true(rc_run_until_leader(&c, 5000 * RC_MS));
	uint64_t leader = rc_leader(&c);
	uint64_t first = newest(leader)->number;
	for (unsigned k = 0; k < 200; k++) {
		assert_int_equal(rc_propose(&c, leader, 1, 10), RAFT_OK);
		rc_run_us(&c, RC_HEARTBEAT_US / 20);
	}
	assert_in_range(newest(leader)->number - first, 8, 11);
}

static void test_nothing_beats_without_a_quorum_and_numbers_go_on_afterwards(void **state)
{
	(void)state;
	begin(3, 0);
	rc_start_all(&c);
	assert_true(rc_run_until_leader(&c, 5000 * RC_MS));
	uint64_t leader = rc_leader(&c);
	rc_isolate(&c, leader, true);
	rc_run_us(&c, 3 * RC_TIMEOUT_MAX_US);
	uint64_t last = newest(leader)->number;
	assert_false(newest(leader)->quorum);
	rc_run_us(&c, 3 * RC_TIMEOUT_MAX_US);
	assert_int_equal(newest(leader)->number, last);
	rc_heal(&c);
	rc_run_us(&c, 3 * RC_TIMEOUT_MAX_US);
	assert_int_equal(rc_transfer(&c, rc_leader(&c), leader), RAFT_OK);
	rc_run_us(&c, RC_TIMEOUT_MAX_US);
	assert_int_equal(rc_leader(&c), leader);
	assert_true(newest(leader)->number > last);
	assert_int_equal(newest(leader)->term, rc_status(&c, leader)->hard_state.term);
}

static void test_the_newest_are_kept(void **state)
{
	(void)state;
	begin(3, 0);
	rc_start_all(&c);
	assert_true(rc_run_until_leader(&c, 5000 * RC_MS));
	uint64_t leader = rc_leader(&c);
	const struct raft *core = c.nodes[leader].core;
	rc_run_us(&c, (RAFT_BEATS_KEPT + 20) * RC_HEARTBEAT_US);
	uint64_t last = newest(leader)->number;
	assert_true(last > RAFT_BEATS_KEPT);
	assert_int_equal(raft_next_beat(core, 0)->number, last - RAFT_BEATS_KEPT + 1);
	assert_int_equal(raft_next_beat(core, last - 1)->number, last);
	assert_null(raft_next_beat(core, last));
	assert_null(raft_next_beat(core, UINT64_MAX));
	assert_null(raft_next_beat(c.nodes[leader % 3 + 1].core, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_an_idle_leader_beats_at_every_heartbeat_and_all_answer, end),
		cmocka_unit_test_teardown(test_the_first_answer_of_a_member_counts_once_and_a_quorum_needs_voters, end),
		cmocka_unit_test_teardown(test_entries_beat_as_well_but_not_more_often, end),
		cmocka_unit_test_teardown(test_nothing_beats_without_a_quorum_and_numbers_go_on_afterwards, end),
		cmocka_unit_test_teardown(test_the_newest_are_kept, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
