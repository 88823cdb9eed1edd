/*
 * Claims about linearizable reads: ReadIndex and its rounds (dissertation, section 6.4). It knows the core only
 * through raft.h.
 */
#include "raft_cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

static const struct rc_read *read_of(uint64_t id, size_t i)
{
	return &c.nodes[id].reads[i];
}

static uint64_t round_of(uint64_t to)
{
	struct raft_message m = {0};

	assert_true(rc_take(&c, 1, to, RAFT_MESSAGE_APPEND, &m));
	return m.append.round;
}

/* Member from answers the leader with a round. */
static void confirm(uint64_t from, uint64_t round)
{
	struct raft_message m = {.type = RAFT_MESSAGE_APPEND_REPLY, .from = from, .to = 1};

	m.term = c.nodes[1].status.hard_state.term;
	m.append_reply.round = round;
	m.append_reply.match = 1;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
}

static void test_read_waits_for_a_quorum_that_was_asked_after_it(void **state) /* dissertation 6.4, trap A15 */
{
	uint64_t round;

	(void)state;
	begin(5, 0);
	rc_elect(&c, 1);
	assert_int_equal(rc_read(&c, 1), RAFT_OK);
	assert_int_equal(rc_count(&c, 1, 0, RAFT_MESSAGE_APPEND), 4); /* at once: nothing else was under way */
	round = round_of(2);
	assert_false(read_of(1, 0)->ready);
	confirm(2, round);
	assert_false(read_of(1, 0)->ready);
	confirm(2, round);
	assert_false(read_of(1, 0)->ready); /* the same member again is no quorum */
	confirm(3, round);
	assert_true(read_of(1, 0)->ready);
}

static void test_answers_to_an_older_round_confirm_nothing(void **state) /* etcd 20418 */
{
	uint64_t first, second;

	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	assert_int_equal(rc_read(&c, 1), RAFT_OK);
	first = round_of(2);
	confirm(2, first);
	assert_true(read_of(1, 0)->ready);
	rc_lose(&c, 1, 0, 0);
	assert_int_equal(rc_read(&c, 1), RAFT_OK);
	second = round_of(2);
	assert_true(second > first);
	confirm(3, first); /* was under way when the second read arrived */
	confirm(2, first);
	assert_false(read_of(1, 1)->ready);
	confirm(3, second);
	assert_true(read_of(1, 1)->ready);
}

static void test_reads_that_arrive_during_a_round_share_the_next_one(void **state)
{
	uint64_t first, second;

	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	assert_int_equal(rc_read(&c, 1), RAFT_OK);
	first = round_of(2);
	rc_lose(&c, 1, 0, 0);
	for (unsigned i = 0; i < 9; i++)
		assert_int_equal(rc_read(&c, 1), RAFT_OK);
	assert_int_equal(rc_count(&c, 1, 0, 0), 0);
	confirm(3, first);
	assert_true(read_of(1, 0)->ready);
	assert_false(read_of(1, 1)->ready);
	assert_int_equal(rc_count(&c, 1, 0, RAFT_MESSAGE_APPEND), 2);
	second = round_of(2);
	assert_true(second > first);
	confirm(3, second);
	for (unsigned i = 1; i <= 9; i++)
		assert_true(read_of(1, i)->ready);
	assert_int_equal(c.nodes[1].last.n_reads_ready, 9);
}

static void test_follower_answers_a_new_round_at_once_although_its_disk_is_busy(void **state)
{
	struct raft_message m;

	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	rc_lose(&c, 1, 3, 0);
	c.disk_frozen[2] = true;
	assert_int_equal(rc_propose(&c, 1, 2, 0), RAFT_OK);
	assert_int_equal(rc_read(&c, 1), RAFT_OK);
	rc_cut(&c, 1, 3, true);
	rc_settle(&c);
	assert_true(read_of(1, 0)->ready);
	assert_int_equal(c.nodes[1].status.peers[0].match, 1);
	c.disk_frozen[2] = false;
	rc_persist(&c, 2);
	assert_true(rc_take(&c, 2, 1, RAFT_MESSAGE_APPEND_REPLY, &m));
	assert_int_equal(m.append_reply.match, 3);
}

static void test_new_round_in_an_append_with_entries_is_answered_before_the_disk(void **state)
{
	static const uint64_t value = 1;
	struct raft_entry entry = {.term = 1, .type = RAFT_ENTRY_COMMAND, .size = 8, .data = (const uint8_t *)&value};
	struct raft_message m = {.type = RAFT_MESSAGE_APPEND, .from = 1, .to = 2};

	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	c.scripted = true;
	m.term = entry.term = c.nodes[1].status.hard_state.term;
	m.append.prev_index = 1;
	m.append.prev_term = m.term;
	m.append.n_entries = 1;
	m.append.entries = &entry;
	m.append.round = 3;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_true(rc_take(&c, 2, 1, RAFT_MESSAGE_APPEND_REPLY, &m));
	assert_int_equal(m.append_reply.round, 3);
	assert_int_equal(m.append_reply.match, 1);
	rc_persist(&c, 2);
	assert_true(rc_take(&c, 2, 1, RAFT_MESSAGE_APPEND_REPLY, &m));
	assert_int_equal(m.append_reply.match, 2);
}

static void test_no_read_before_the_terms_noop_is_committed(void **state) /* paper 8, trap A8: etcd 7331 */
{
	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	assert_int_equal(rc_propose(&c, 1, 5, 0), RAFT_OK);
	rc_settle(&c);
	c.disk_frozen[3] = true;
	assert_int_equal(rc_transfer(&c, 1, 2), RAFT_OK);
	while (c.nodes[2].status.role != RAFT_LEADER) {
		struct raft_message m;

		rc_persist(&c, 1);
		rc_persist(&c, 2);
		if (rc_take(&c, 1, 2, 0, &m) || rc_take(&c, 2, 1, 0, &m))
			assert_int_equal(rc_message(&c, &m), RAFT_OK);
		rc_lose(&c, 0, 3, 0);
	}
	/* It may not know yet that the five are committed. */
	assert_int_equal(rc_read(&c, 2), RAFT_E_NOT_READY);
	c.disk_frozen[3] = false;
	rc_settle(&c);
	assert_int_equal(rc_read(&c, 2), RAFT_OK);
	rc_settle(&c);
	assert_true(read_of(2, 0)->ready);
}

static void test_only_the_leader_takes_reads(void **state)
{
	(void)state;
	begin(3, 1);
	rc_elect(&c, 1);
	assert_int_equal(rc_read(&c, 2), RAFT_E_NOT_LEADER);
	assert_int_equal(rc_read(&c, 3), RAFT_E_NOT_LEADER);
}

static void test_deposed_leader_fails_its_reads_and_answers_none(void **state) /* trap A15, redisraft 19 */
{
	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	rc_isolate(&c, 1, true);
	rc_run_us(&c, RC_TIMEOUT_MIN_US - 10 * RC_MS); /* the others elect somebody soon; this one does not know */
	assert_int_equal(c.nodes[1].status.role, RAFT_LEADER);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(rc_read(&c, 1), RAFT_OK);
	rc_run_us(&c, 1000 * RC_MS);
	for (unsigned i = 0; i < 3; i++)
		assert_true(read_of(1, i)->failed && !read_of(1, i)->ready);
	assert_int_equal(rc_read(&c, 1), RAFT_E_NOT_LEADER);
}

static void test_leader_that_slept_through_an_election_serves_no_stale_read(void **state) /* SIGSTOP, SIGCONT */
{
	uint64_t leader;

	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	rc_isolate(&c, 1, true);
	c.nodes[1].deadline_us = UINT64_MAX; /* stopped: it is not called any more */
	rc_run_us(&c, 2000 * RC_MS);
	leader = rc_leader(&c);
	assert_int_not_equal(leader, 1);
	assert_int_equal(rc_propose(&c, leader, 3, 0), RAFT_OK);
	rc_run_us(&c, 100 * RC_MS);
	assert_int_equal(c.nodes[1].status.role, RAFT_LEADER); /* it still thinks so */
	rc_heal(&c);
	assert_int_equal(rc_read(&c, 1), RAFT_OK); /* before anything else reaches it */
	rc_run_us(&c, 1000 * RC_MS);
	assert_true(read_of(1, 0)->failed);
	assert_true(rc_converged(&c));
}

static void test_lone_voter_answers_at_once(void **state)
{
	(void)state;
	begin(2, 1);
	rc_start_all(&c);
	rc_settle(&c);
	assert_int_equal(rc_read(&c, 1), RAFT_OK);
	assert_true(read_of(1, 0)->ready);
	assert_int_equal(rc_count(&c, 1, 0, 0), 0);
}

static void test_lost_round_is_asked_again_by_the_heartbeat(void **state)
{
	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	assert_int_equal(rc_read(&c, 1), RAFT_OK);
	rc_lose(&c, 1, 0, 0);
	(void)rc_timeout(&c, 1);
	rc_settle(&c);
	assert_true(read_of(1, 0)->ready);
}

static void test_lost_answer_to_a_round_is_made_up_for(void **state)
{
	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	assert_int_equal(rc_read(&c, 1), RAFT_OK);
	c.cut[2][1] = c.cut[3][1] = true;
	rc_settle(&c);
	assert_false(read_of(1, 0)->ready);
	rc_heal(&c);
	(void)rc_timeout(&c, 1);
	rc_settle(&c);
	assert_true(read_of(1, 0)->ready);
}

static void test_learners_confirm_nothing(void **state)
{
	uint64_t round;

	(void)state;
	begin(5, 2);
	rc_elect(&c, 1);
	assert_int_equal(rc_read(&c, 1), RAFT_OK);
	round = round_of(2);
	confirm(4, round);
	confirm(5, round);
	assert_false(read_of(1, 0)->ready);
	confirm(2, round);
	assert_true(read_of(1, 0)->ready);
}

static void test_a_round_that_nobody_started_is_refused(void **state)
{
	struct raft_message m = {.type = RAFT_MESSAGE_APPEND_REPLY, .from = 2, .to = 1};

	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	m.term = c.nodes[1].status.hard_state.term;
	m.append_reply.round = 1000;
	assert_int_equal(rc_message(&c, &m), RAFT_E_INVALID);
}

static void test_many_batches_may_wait(void **state)
{
	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(rc_read(&c, 1), RAFT_OK);
	rc_settle(&c);
	for (unsigned i = 0; i < 1000; i++)
		assert_true(read_of(1, i)->ready);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_read_waits_for_a_quorum_that_was_asked_after_it, end),
		cmocka_unit_test_teardown(test_answers_to_an_older_round_confirm_nothing, end),
		cmocka_unit_test_teardown(test_reads_that_arrive_during_a_round_share_the_next_one, end),
		cmocka_unit_test_teardown(test_follower_answers_a_new_round_at_once_although_its_disk_is_busy, end),
		cmocka_unit_test_teardown(test_new_round_in_an_append_with_entries_is_answered_before_the_disk, end),
		cmocka_unit_test_teardown(test_no_read_before_the_terms_noop_is_committed, end),
		cmocka_unit_test_teardown(test_only_the_leader_takes_reads, end),
		cmocka_unit_test_teardown(test_deposed_leader_fails_its_reads_and_answers_none, end),
		cmocka_unit_test_teardown(test_leader_that_slept_through_an_election_serves_no_stale_read, end),
		cmocka_unit_test_teardown(test_lone_voter_answers_at_once, end),
		cmocka_unit_test_teardown(test_lost_round_is_asked_again_by_the_heartbeat, end),
		cmocka_unit_test_teardown(test_lost_answer_to_a_round_is_made_up_for, end),
		cmocka_unit_test_teardown(test_learners_confirm_nothing, end),
		cmocka_unit_test_teardown(test_a_round_that_nobody_started_is_refused, end),
		cmocka_unit_test_teardown(test_many_batches_may_wait, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
