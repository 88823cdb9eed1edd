/*
 * Claims about leases: reads without a round, and the promises that they rest on (dissertation, section 6.4.1; trap A17). It
 * knows the core only through raft.h.
 */
#include "raft_script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* What is left of a promise of 150 ms when two clocks may each drift by 10 %: 150000 / 1.1 µs are told, 0.9 of them used. */
#define DRIFT_PPM 100000u
#define TOLD_US 136363u
#define LEASE_US 122726u

static struct rc_cluster c;

static void begin(unsigned n_nodes)
{
	struct rc_options options = {.n_nodes = n_nodes, .seed = 29, .leases = true, .clock_drift_ppm = DRIFT_PPM};

	rc_init(&c, &options);
}

static int end(void **state)
{
	(void)state;
	rc_fini(&c);
	return 0;
}

static uint64_t lease_of(uint64_t id)
{
	(void)rc_tick(&c, id);
	return c.nodes[id].status.lease_us;
}

static bool read_at_once(uint64_t id)
{
	assert_int_equal(rc_read(&c, id), RAFT_OK);
	return c.nodes[id].reads[c.nodes[id].n_reads - 1].ready;
}

/* The leader's next heartbeat; both are at the same moment. Returns when. */
static uint64_t heartbeat(struct raft_message *to_2, struct raft_message *to_3)
{
	rc_lose(&c, 0, 0, 0);
	assert_int_equal(rc_timeout(&c, 1), RAFT_OK);
	assert_true(rc_take(&c, 1, 2, RAFT_MESSAGE_APPEND, to_2));
	assert_true(rc_take(&c, 1, 3, RAFT_MESSAGE_APPEND, to_3));
	return c.now_us;
}

static void deliver(const struct raft_message *message)
{
	assert_int_equal(rc_message(&c, message), RAFT_OK);
}

static struct raft_message answer(uint64_t from)
{
	struct raft_message reply = {0};

	assert_true(rc_take(&c, from, 1, RAFT_MESSAGE_APPEND_REPLY, &reply));
	return reply;
}

/* An answer that the test makes up: to the round of the append, with a promise. */
static void answer_with(const struct raft_message *append, uint64_t promise_us)
{
	struct raft_message reply = {.type = RAFT_MESSAGE_APPEND_REPLY, .from = append->to, .to = 1};

	reply.term = append->term;
	reply.append_reply.round = append->append.round;
	reply.append_reply.match = append->append.prev_index;
	reply.append_reply.promise_us = promise_us;
	deliver(&reply);
}

/* Would it help the candidate in this term? Its log ends as 1's does. */
static bool helps(uint64_t id, uint64_t candidate, uint64_t term, bool pre_vote)
{
	const struct raft_status *leader = &c.nodes[1].status;
	struct raft_message request = rc_vote_request(candidate, id, term, leader->last_index,
						      raft_term_at(c.nodes[1].core, leader->last_index));

	request.vote_request.pre_vote = pre_vote;
	return rc_is_granted(&c, &request);
}

static void test_a_read_under_a_lease_needs_no_message(void **state)
{
	(void)state;
	begin(3);
	rc_elect(&c, 1);
	assert_int_equal(lease_of(1), c.now_us + LEASE_US);
	rc_lose(&c, 0, 0, 0);
	assert_true(read_at_once(1));
	assert_int_equal(rc_count(&c, 0, 0, 0), 0);
}

/* A voter of level 1 may be restarted as a program that does not know what was promised. */
static void test_before_level_2_promises_give_no_lease(void **state)
{
	struct rc_options options = {.n_nodes = 3, .seed = 29, .leases = true, .clock_drift_ppm = DRIFT_PPM, .level = 1};

	(void)state;
	rc_init(&c, &options);
	rc_elect(&c, 1);
	assert_int_equal(lease_of(1), 0);
	rc_lose(&c, 0, 0, 0);
	assert_false(read_at_once(1));
}

static void test_a_lease_counts_from_the_sending_of_what_was_answered(void **state)
{
	struct raft_message to_2, to_3, reply;
	uint64_t sent_us;

	(void)state;
	begin(3);
	rc_elect(&c, 1);
	sent_us = heartbeat(&to_2, &to_3);
	c.now_us += 30 * RC_MS;
	deliver(&to_2);
	reply = answer(2);
	assert_int_equal(reply.append_reply.promise_us, TOLD_US);
	c.now_us += 10 * RC_MS;
	deliver(&reply);
	assert_int_equal(lease_of(1), sent_us + LEASE_US);
}

static void test_a_lease_ends_to_the_microsecond(void **state)
{
	uint64_t until_us;

	(void)state;
	begin(3);
	rc_elect(&c, 1);
	until_us = lease_of(1);
	c.now_us = until_us - 1;
	assert_true(read_at_once(1));
	c.now_us = until_us;
	assert_false(read_at_once(1)); /* a round by itself … */
	rc_settle(&c);
	assert_true(c.nodes[1].reads[1].ready);
	assert_int_equal(lease_of(1), until_us + LEASE_US); /* … which also brings the next lease */
}

static void test_a_lease_needs_a_quorum(void **state)
{
	struct raft_message to_2, to_3;
	uint64_t before, sent_us;

	(void)state;
	begin(5);
	rc_elect(&c, 1);
	before = lease_of(1);
	sent_us = heartbeat(&to_2, &to_3);
	answer_with(&to_2, TOLD_US);
	assert_int_equal(lease_of(1), before);
	answer_with(&to_2, TOLD_US); /* the same again is no other */
	assert_int_equal(lease_of(1), before);
	answer_with(&to_3, TOLD_US);
	assert_int_equal(lease_of(1), sent_us + LEASE_US);
}

static void test_a_lease_is_as_long_as_the_promises(void **state) /* members with other files, or of an older release */
{
	struct raft_message to_2, to_3;
	uint64_t sent_us;

	(void)state;
	begin(3);
	c.scripted = true;
	rc_start_all(&c);
	(void)rc_timeout(&c, 1);
	while (rc_count(&c, 1, 0, RAFT_MESSAGE_APPEND) == 0) { /* the election, as it goes by itself */
		struct raft_message m;
		rc_persist(&c, 1);
		rc_persist(&c, 2);
		if (rc_take(&c, 1, 2, 0, &m) || rc_take(&c, 2, 1, 0, &m))
			deliver(&m);
	}
	assert_int_equal(c.nodes[1].status.role, RAFT_LEADER);
	sent_us = c.now_us;
	assert_true(rc_take(&c, 1, 2, RAFT_MESSAGE_APPEND, &to_2));
	rc_persist(&c, 1);
	to_2.append.prev_index = c.nodes[1].status.last_index; /* it has taken the no-op … */
	answer_with(&to_2, 0);				       /* … and promises nothing */
	assert_true(c.nodes[1].status.term_committed);
	assert_int_equal(lease_of(1), 0);
	answer_with(&to_2, 1000);
	assert_int_equal(lease_of(1), sent_us + 900);
	sent_us = heartbeat(&to_2, &to_3);
	answer_with(&to_3, 10 * TOLD_US); /* more than this member's own timeout is not made use of */
	assert_int_equal(lease_of(1), sent_us + RC_TIMEOUT_MIN_US / 10 * 9);
}

/* What an answer to a round is worth when so many have begun after it, in µs from the beginning of that round. */
static uint64_t worth_after(unsigned n_rounds)
{
	struct raft_message to_2, to_3, later;
	uint64_t sent_us, until_us;

	begin(3);
	rc_elect(&c, 1);
	sent_us = heartbeat(&to_2, &to_3);
	until_us = lease_of(1);
	c.now_us = until_us; /* from now on each read begins a round */
	for (unsigned i = 0; i < n_rounds; i++) {
		assert_false(read_at_once(1));
		assert_true(rc_take(&c, 1, 2, RAFT_MESSAGE_APPEND, &later));
		answer_with(&later, 1);
		rc_lose(&c, 0, 0, 0);
	}
	answer_with(&to_3, RC_TIMEOUT_MIN_US);
	until_us = lease_of(1);
	rc_fini(&c);
	return until_us - sent_us;
}

static void test_answers_to_ancient_rounds_give_no_lease(void **state)
{
	(void)state;
	assert_int_equal(worth_after(63), RC_TIMEOUT_MIN_US / 10 * 9);
	assert_int_equal(worth_after(64), LEASE_US - RC_HEARTBEAT_US); /* what it had: that of the round before */
}

static void test_no_lease_before_an_entry_of_the_term_is_committed(void **state) /* paper, section 8; trap A8 */
{
	struct raft_message m;

	(void)state;
	begin(3);
	rc_start_all(&c);
	(void)rc_timeout(&c, 1);
	for (unsigned i = 0; i < 20 && c.nodes[1].status.role != RAFT_LEADER; i++) {
		rc_persist(&c, 1);
		rc_persist(&c, 2);
		if (rc_take(&c, 1, 2, 0, &m) || rc_take(&c, 2, 1, 0, &m))
			deliver(&m);
	}
	assert_int_equal(c.nodes[1].status.role, RAFT_LEADER);
	assert_true(rc_take(&c, 1, 2, RAFT_MESSAGE_APPEND, &m));
	m.append.n_entries = 0; /* a heartbeat of the same round */
	answer_with(&m, TOLD_US);
	assert_false(c.nodes[1].status.term_committed);
	assert_int_equal(lease_of(1), 0);
	assert_int_equal(rc_read(&c, 1), RAFT_E_NOT_READY);
}

/* Promises --------------------------------------------------------------------------------------------- */

static void test_a_promise_is_kept_to_the_microsecond(void **state)
{
	struct raft_message to_2, to_3;
	uint64_t heard_us, term;

	(void)state;
	begin(3);
	rc_elect(&c, 1);
	term = c.nodes[1].status.hard_state.term;
	(void)heartbeat(&to_2, &to_3);
	c.now_us += 5 * RC_MS;
	heard_us = c.now_us;
	deliver(&to_2);
	raft_settle_promise(c.nodes[2].core, heard_us);
	assert_int_equal(rc_peer_down(&c, 2, 1), RAFT_OK); /* a hint that must not end it */
	c.now_us = heard_us + RC_TIMEOUT_MIN_US - 1;
	assert_false(helps(2, 3, term + 1, true));
	assert_false(helps(2, 3, term + 1, false));
	assert_int_equal(c.nodes[2].status.hard_state.term, term);
	c.now_us++;
	assert_true(helps(2, 3, term + 1, true));
	assert_true(helps(2, 3, term + 1, false));
}

static void test_a_promise_outlives_its_term(void **state)
{
	struct raft_message m = {.type = RAFT_MESSAGE_VOTE_REPLY, .from = 3, .to = 2};
	uint64_t heard_us, term;

	(void)state;
	begin(3);
	rc_elect(&c, 1);
	term = c.nodes[1].status.hard_state.term;
	heard_us = c.now_us;
	raft_settle_promise(c.nodes[2].core, heard_us);
	m.term = term + 5; /* the late answer of a member that campaigned alone */
	m.vote_reply.request_term = 1;
	deliver(&m);
	assert_int_equal(c.nodes[2].status.hard_state.term, term + 5);
	assert_false(helps(2, 3, term + 5, false));
	assert_int_equal(lease_of(1), c.now_us + LEASE_US); /* this rests on it */
	c.now_us = heard_us + RC_TIMEOUT_MIN_US;
	assert_true(helps(2, 3, term + 5, false));
}

static void test_a_restarted_voter_keeps_what_it_may_have_promised(void **state)
{
	uint64_t started_us, term;

	(void)state;
	begin(3);
	rc_elect(&c, 1);
	term = c.nodes[1].status.hard_state.term;
	c.now_us += 10 * RC_MS;
	started_us = c.now_us;
	rc_crash(&c, 2, 0);
	rc_start(&c, 2);
	c.now_us = started_us + RC_TIMEOUT_MIN_US - 1;
	assert_false(helps(2, 3, term + 1, false));
	c.now_us++;
	assert_true(helps(2, 3, term + 1, false));
}

static void test_who_has_promised_does_not_campaign(void **state)
{
	struct raft_message to_2, to_3;
	uint64_t heard_us;

	(void)state;
	begin(3);
	rc_elect(&c, 1);
	heard_us = heartbeat(&to_2, &to_3);
	deliver(&to_2);
	raft_settle_promise(c.nodes[2].core, heard_us);
	assert_int_equal(rc_peer_down(&c, 2, 1), RAFT_OK);
	assert_int_equal(rc_timeout(&c, 2), RAFT_OK); /* soon after the hint */
	assert_true(c.now_us < heard_us + RC_TIMEOUT_MIN_US);
	assert_int_equal(c.nodes[2].status.role, RAFT_FOLLOWER);
	assert_int_equal(rc_timeout(&c, 2), RAFT_OK);
	assert_in_range(c.now_us, heard_us + RC_TIMEOUT_MIN_US, heard_us + RC_TIMEOUT_MIN_US + RC_HEARTBEAT_US / 4);
	assert_int_equal(c.nodes[2].status.role, RAFT_PRE_CANDIDATE);
}

/* A member that was stopped between reading its clock and taking a message from its queue handles one that is younger than its
 * time. */
static void test_a_promise_begins_when_the_clock_is_read_next(void **state)
{
	struct raft_message to_2, to_3;
	uint64_t heard_us, woken_us, term;

	(void)state;
	begin(3);
	rc_elect(&c, 1);
	term = c.nodes[1].status.hard_state.term;
	heard_us = heartbeat(&to_2, &to_3);
	deliver(&to_2);
	deliver(&to_3);
	woken_us = c.now_us += 400 * RC_MS;
	raft_settle_promise(c.nodes[2].core, woken_us);
	raft_settle_promise(c.nodes[2].core, woken_us + 1); /* nothing was promised since: no longer than that */
	assert_int_equal(rc_tick(&c, 3), RAFT_OK);	    /* nobody told this one before its next step */
	assert_int_equal(c.nodes[3].status.promise_us, woken_us + RC_TIMEOUT_MIN_US);
	assert_true(heard_us + RC_TIMEOUT_MIN_US < woken_us);
	c.now_us = woken_us + RC_TIMEOUT_MIN_US - 1;
	assert_false(helps(2, 3, term + 1, false));
	c.now_us++;
	assert_true(helps(2, 3, term + 1, false));
}

/* Hand-overs ------------------------------------------------------------------------------------------- */

static void test_a_hand_over_ends_the_lease_for_the_term(void **state) /* trap A17 */
{
	(void)state;
	begin(3);
	rc_elect(&c, 1);
	assert_true(lease_of(1) > c.now_us);
	rc_isolate(&c, 2, true);
	assert_int_equal(rc_transfer(&c, 1, 2), RAFT_OK);
	assert_int_equal(rc_count(&c, 1, 2, RAFT_MESSAGE_TIMEOUT_NOW), 1); /* it may arrive at any time from now on */
	assert_int_equal(lease_of(1), 0);
	rc_run_us(&c, RC_TIMEOUT_MAX_US + RC_HEARTBEAT_US);
	assert_int_equal(c.nodes[1].traces[RAFT_TRACE_TRANSFER_ABORTED], 1);
	assert_int_equal(c.nodes[1].status.role, RAFT_LEADER);
	assert_int_equal(lease_of(1), 0);
	assert_false(read_at_once(1));
	rc_run_us(&c, RC_HEARTBEAT_US);
	assert_true(c.nodes[1].reads[0].ready); /* a round always does */
}

static void test_a_hand_over_that_nobody_heard_of_only_suspends_the_lease(void **state)
{
	(void)state;
	begin(3);
	rc_elect(&c, 1);
	rc_isolate(&c, 2, true);
	assert_int_equal(rc_propose(&c, 1, 1, 0), RAFT_OK); /* 2 lacks this, so it is not told to campaign */
	assert_int_equal(rc_transfer(&c, 1, 2), RAFT_OK);
	assert_int_equal(lease_of(1), 0);
	rc_run_us(&c, RC_TIMEOUT_MAX_US + RC_HEARTBEAT_US);
	assert_int_equal(c.nodes[1].traces[RAFT_TRACE_TRANSFER_ABORTED], 1);
	assert_true(lease_of(1) > c.now_us);
}

static void test_who_was_asked_by_the_leader_is_helped_in_spite_of_promises(void **state)
{
	(void)state;
	begin(3);
	rc_elect(&c, 1);
	assert_int_equal(rc_transfer(&c, 1, 2), RAFT_OK);
	rc_settle(&c);
	assert_int_equal(c.nodes[2].status.role, RAFT_LEADER);
	assert_int_equal(lease_of(2), c.now_us + LEASE_US);
	assert_int_equal(lease_of(1), 0);
}

/* Time ------------------------------------------------------------------------------------------------- */

static void test_an_idle_leader_keeps_its_lease(void **state)
{
	(void)state;
	begin(5);
	rc_elect(&c, 1);
	for (unsigned i = 0; i < 1000; i++) {
		rc_run_us(&c, RC_MS);
		assert_true(c.nodes[1].status.lease_us > c.now_us);
	}
	rc_isolate(&c, 1, true);
	rc_run_us(&c, LEASE_US);
	assert_true(c.nodes[1].status.lease_us <= c.now_us);
}

static void test_writing_does_not_keep_a_lease_from_being_renewed(void **state)
{
	(void)state;
	begin(3);
	rc_elect(&c, 1);
	for (unsigned i = 0; i < 400; i++) {
		assert_int_equal(rc_propose(&c, 1, 1, 10), RAFT_OK); /* no heartbeat is ever due */
		rc_run_us(&c, RC_MS);
		assert_true(c.nodes[1].status.lease_us > c.now_us);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_a_read_under_a_lease_needs_no_message, end),
		cmocka_unit_test_teardown(test_before_level_2_promises_give_no_lease, end),
		cmocka_unit_test_teardown(test_a_lease_counts_from_the_sending_of_what_was_answered, end),
		cmocka_unit_test_teardown(test_a_lease_ends_to_the_microsecond, end),
		cmocka_unit_test_teardown(test_a_lease_needs_a_quorum, end),
		cmocka_unit_test_teardown(test_a_lease_is_as_long_as_the_promises, end),
		cmocka_unit_test(test_answers_to_ancient_rounds_give_no_lease),
		cmocka_unit_test_teardown(test_no_lease_before_an_entry_of_the_term_is_committed, end),
		cmocka_unit_test_teardown(test_a_promise_is_kept_to_the_microsecond, end),
		cmocka_unit_test_teardown(test_a_promise_outlives_its_term, end),
		cmocka_unit_test_teardown(test_a_restarted_voter_keeps_what_it_may_have_promised, end),
		cmocka_unit_test_teardown(test_who_has_promised_does_not_campaign, end),
		cmocka_unit_test_teardown(test_a_promise_begins_when_the_clock_is_read_next, end),
		cmocka_unit_test_teardown(test_a_hand_over_ends_the_lease_for_the_term, end),
		cmocka_unit_test_teardown(test_a_hand_over_that_nobody_heard_of_only_suspends_the_lease, end),
		cmocka_unit_test_teardown(test_who_was_asked_by_the_leader_is_helped_in_spite_of_promises, end),
		cmocka_unit_test_teardown(test_an_idle_leader_keeps_its_lease, end),
		cmocka_unit_test_teardown(test_writing_does_not_keep_a_lease_from_being_renewed, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
