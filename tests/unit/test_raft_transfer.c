/*
 * Claims about leadership that leaves on purpose: transfer (dissertation, section 3.10) and the leader with a hung disk.
 * It knows the core only through raft.h.
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
	struct rc_options options = {.n_nodes = n_nodes, .n_learners = n_learners, .seed = 5};

	rc_init(&c, &options);
}

static int end(void **state)
{
	(void)state;
	rc_fini(&c);
	return 0;
}

static void test_transfer_moves_leadership_without_waiting_for_a_timeout(void **state)
{
	uint64_t before;

	(void)state;
	begin(5, 0);
	rc_elect(&c, 1);
	before = c.now_us;
	assert_int_equal(rc_transfer(&c, 1, 4), RAFT_OK);
	rc_settle(&c);
	assert_int_equal(rc_leader(&c), 4);
	assert_true(c.nodes[4].status.term_committed);
	assert_int_equal(c.now_us, before);
	assert_int_equal(c.nodes[4].traces[RAFT_TRACE_PRE_CANDIDATE], 0); /* all others hear a leader: no pre-vote */
	assert_int_equal(c.nodes[1].status.role, RAFT_FOLLOWER);
}

static void test_target_first_gets_all_entries_and_proposals_stop(void **state) /* trap A23 */
{
	struct raft_message m;

	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	assert_int_equal(rc_propose(&c, 1, 3, 0), RAFT_OK);
	assert_int_equal(rc_transfer(&c, 1, 2), RAFT_OK);
	assert_true(c.nodes[1].status.transferring);
	assert_int_equal(rc_count(&c, 1, 2, RAFT_MESSAGE_TIMEOUT_NOW), 0);
	assert_int_equal(rc_propose(&c, 1, 1, 0), RAFT_E_BUSY);
	assert_int_equal(rc_read(&c, 1), RAFT_OK); /* reads go on */
	while (rc_take(&c, 1, 2, RAFT_MESSAGE_APPEND, &m))
		;
	m = (struct raft_message){.type = RAFT_MESSAGE_APPEND_REPLY, .from = 2, .to = 1};
	m.term = c.nodes[1].status.hard_state.term;
	m.append_reply.match = 3;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(rc_count(&c, 1, 2, RAFT_MESSAGE_TIMEOUT_NOW), 0);
	m.append_reply.match = 4;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(rc_count(&c, 1, 2, RAFT_MESSAGE_TIMEOUT_NOW), 1);
}

static void test_target_writes_its_vote_before_it_asks(void **state)
{
	struct raft_message m = {.type = RAFT_MESSAGE_TIMEOUT_NOW, .from = 1, .to = 2};

	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	rc_lose(&c, 0, 0, 0);
	m.term = c.nodes[2].status.hard_state.term;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(c.nodes[2].status.role, RAFT_CANDIDATE);
	assert_int_equal(rc_count(&c, 2, 0, 0), 0);
	rc_persist(&c, 2);
	assert_int_equal(rc_count(&c, 2, 0, RAFT_MESSAGE_VOTE_REQUEST), 2);
	assert_true(rc_take(&c, 2, 3, RAFT_MESSAGE_VOTE_REQUEST, &m));
	assert_true(m.vote_request.transfer && !m.vote_request.pre_vote);
}

static void test_transfer_to_a_dead_member_is_given_up(void **state)
{
	uint64_t since;

	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	rc_crash(&c, 2, 0);
	assert_int_equal(rc_propose(&c, 1, 1, 0), RAFT_OK);
	assert_int_equal(rc_transfer(&c, 1, 2), RAFT_OK);
	since = c.now_us;
	while (c.nodes[1].status.transferring && c.now_us - since < 1000 * RC_MS)
		rc_run_us(&c, RC_MS);
	assert_in_range(c.now_us - since, RC_TIMEOUT_MIN_US, RC_TIMEOUT_MAX_US + RC_MS);
	assert_int_equal(c.nodes[1].status.role, RAFT_LEADER);
	assert_int_equal(c.nodes[1].traces[RAFT_TRACE_TRANSFER_ABORTED], 1);
	assert_int_equal(rc_propose(&c, 1, 1, 0), RAFT_OK);
}

static void test_transfer_ends_when_the_targets_connection_closes(void **state)
{
	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	rc_crash(&c, 2, 0);
	assert_int_equal(rc_transfer(&c, 1, 2), RAFT_OK);
	assert_int_equal(rc_peer_down(&c, 1, 2), RAFT_OK);
	assert_false(c.nodes[1].status.transferring);
	assert_int_equal(rc_propose(&c, 1, 1, 0), RAFT_OK);
}

static void test_lost_timeout_now_is_sent_again(void **state)
{
	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	assert_int_equal(rc_transfer(&c, 1, 2), RAFT_OK);
	assert_int_equal(rc_count(&c, 1, 2, RAFT_MESSAGE_TIMEOUT_NOW), 1);
	rc_lose(&c, 0, 0, 0);
	rc_run_us(&c, RC_HEARTBEAT_US + 20 * RC_MS);
	assert_int_equal(rc_leader(&c), 2);
}

static void test_transfer_checks_its_target(void **state)
{
	(void)state;
	begin(4, 1);
	rc_elect(&c, 1);
	assert_int_equal(rc_transfer(&c, 2, 1), RAFT_E_NOT_LEADER);
	assert_int_equal(rc_transfer(&c, 1, 1), RAFT_E_UNKNOWN_MEMBER);
	assert_int_equal(rc_transfer(&c, 1, 77), RAFT_E_UNKNOWN_MEMBER);
	assert_int_equal(rc_transfer(&c, 1, 4), RAFT_E_UNKNOWN_MEMBER); /* a learner */
	assert_int_equal(rc_transfer(&c, 1, 2), RAFT_OK);
	assert_int_equal(rc_transfer(&c, 1, 2), RAFT_OK);
	assert_int_equal(rc_transfer(&c, 1, 3), RAFT_E_BUSY);
}

static void test_transfer_to_anybody_takes_the_member_with_the_longest_log(void **state)
{
	(void)state;
	begin(5, 1);
	rc_elect(&c, 1);
	for (uint64_t id = 2; id <= 4; id++)
		c.disk_frozen[id] = id != 3;
	assert_int_equal(rc_propose(&c, 1, 3, 0), RAFT_OK);
	rc_settle(&c);
	assert_int_equal(rc_transfer(&c, 1, RAFT_NO_MEMBER), RAFT_OK);
	rc_heal(&c);
	rc_settle(&c);
	assert_int_equal(rc_leader(&c), 3);
}

static void test_lone_voter_has_nobody_to_hand_over_to(void **state)
{
	(void)state;
	begin(2, 1);
	rc_start_all(&c);
	rc_settle(&c);
	assert_int_equal(rc_transfer(&c, 1, RAFT_NO_MEMBER), RAFT_E_UNKNOWN_MEMBER);
}

static void test_timeout_now_of_an_older_term_is_ignored(void **state)
{
	struct raft_message m = {.type = RAFT_MESSAGE_TIMEOUT_NOW, .from = 1, .to = 3};

	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	m.term = c.nodes[1].status.hard_state.term;
	assert_int_equal(rc_transfer(&c, 1, 2), RAFT_OK);
	rc_settle(&c);
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(c.nodes[3].status.role, RAFT_FOLLOWER);
	assert_int_equal(c.nodes[3].status.leader, 2);
}

static void test_only_the_leader_may_ask_for_an_election(void **state)
{
	struct raft_message m = {.type = RAFT_MESSAGE_TIMEOUT_NOW, .from = 3, .to = 2};

	(void)state;
	begin(4, 1);
	rc_elect(&c, 1);
	m.term = c.nodes[1].status.hard_state.term;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(c.nodes[2].status.role, RAFT_FOLLOWER);
	m.from = 1;
	m.to = 4;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(c.nodes[4].status.role, RAFT_LEARNER);
}

static void test_leader_with_a_hung_disk_hands_over_and_falls_silent(void **state) /* trap A24: hashicorp 503 */
{
	uint64_t term;

	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	term = c.nodes[1].status.hard_state.term;
	c.disk_frozen[1] = true;
	assert_int_equal(rc_propose(&c, 1, 3, 0), RAFT_OK);
	assert_int_equal(rc_read(&c, 1), RAFT_OK);
	rc_cut(&c, 1, 3, true);
	for (unsigned i = 0; i < 4; i++)
		rc_run_us(&c, RC_MS);
	rc_cut(&c, 1, 3, false);
	assert_int_equal(rc_disk_stalled(&c, 1), RAFT_OK);
	assert_int_equal(c.nodes[1].status.role, RAFT_FOLLOWER);
	assert_int_equal(c.nodes[1].status.leader, RAFT_NO_MEMBER);
	assert_int_equal(c.nodes[1].status.hard_state.term, term);
	assert_int_equal(rc_count(&c, 1, 2, RAFT_MESSAGE_TIMEOUT_NOW), 1); /* 2 has the entries, 3 has not */
	assert_int_equal(c.nodes[1].status.last_index, 4); /* its entries stay: they may yet be committed */
	rc_run_us(&c, 20 * RC_MS);
	assert_int_equal(rc_leader(&c), 2);
	assert_int_equal(c.nodes[2].status.commit, 5);
	rc_run_us(&c, 2000 * RC_MS);
	assert_int_equal(rc_leader(&c), 2);
	c.disk_frozen[1] = false;
	rc_run_us(&c, 500 * RC_MS);
	assert_true(rc_converged(&c));
}

static void test_graceful_stop_under_load_loses_nothing(void **state)
{
	(void)state;
	begin(3, 0);
	rc_start_all(&c);
	assert_true(rc_run_until_leader(&c, 2000 * RC_MS));
	for (unsigned i = 0; i < 20; i++) {
		uint64_t leader = rc_leader(&c);

		for (unsigned k = 0; k < 10; k++) {
			assert_int_equal(rc_propose(&c, leader, 20, 0), RAFT_OK);
			rc_run_us(&c, 100);
		}
		assert_int_equal(rc_transfer(&c, leader, RAFT_NO_MEMBER), RAFT_OK);
		rc_run_us(&c, 30 * RC_MS); /* far below an election timeout */
		assert_int_not_equal(rc_leader(&c), leader);
		assert_true(c.nodes[rc_leader(&c)].status.term_committed);
	}
	rc_run_us(&c, 200 * RC_MS);
	assert_true(rc_converged(&c));
	assert_true(c.committed.n >= 20 * 200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_transfer_moves_leadership_without_waiting_for_a_timeout, end),
		cmocka_unit_test_teardown(test_target_first_gets_all_entries_and_proposals_stop, end),
		cmocka_unit_test_teardown(test_target_writes_its_vote_before_it_asks, end),
		cmocka_unit_test_teardown(test_transfer_to_a_dead_member_is_given_up, end),
		cmocka_unit_test_teardown(test_transfer_ends_when_the_targets_connection_closes, end),
		cmocka_unit_test_teardown(test_lost_timeout_now_is_sent_again, end),
		cmocka_unit_test_teardown(test_transfer_checks_its_target, end),
		cmocka_unit_test_teardown(test_transfer_to_anybody_takes_the_member_with_the_longest_log, end),
		cmocka_unit_test_teardown(test_lone_voter_has_nobody_to_hand_over_to, end),
		cmocka_unit_test_teardown(test_timeout_now_of_an_older_term_is_ignored, end),
		cmocka_unit_test_teardown(test_only_the_leader_may_ask_for_an_election, end),
		cmocka_unit_test_teardown(test_leader_with_a_hung_disk_hands_over_and_falls_silent, end),
		cmocka_unit_test_teardown(test_graceful_stop_under_load_loses_nothing, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
