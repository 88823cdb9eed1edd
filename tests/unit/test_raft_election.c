/*
 * Claims about elections: terms, votes, PreVote, stickiness, CheckQuorum, and that nothing leaves before it is durable.
 * Each test says which part of the paper or which trap it stands for. It knows the core only through raft.h.
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
	struct rc_options options = {.n_nodes = n_nodes, .n_learners = n_learners, .seed = 7};

	rc_init(&c, &options);
}

static int end(void **state)
{
	(void)state;
	rc_fini(&c);
	return 0;
}

static struct raft_message vote_request(uint64_t from, uint64_t to, uint64_t term, uint64_t index, uint64_t last_term)
{
	struct raft_message m = {.type = RAFT_MESSAGE_VOTE_REQUEST, .from = from, .to = to, .term = term};

	m.vote_request.last_index = index;
	m.vote_request.last_term = last_term;
	return m;
}

static struct raft_message heartbeat(uint64_t from, uint64_t to, uint64_t term)
{
	return (struct raft_message){.type = RAFT_MESSAGE_APPEND, .from = from, .to = to, .term = term};
}

/* Delivers, makes durable, and returns the answer. */
static struct raft_message answer(const struct raft_message *message, int type)
{
	struct raft_message reply;

	rc_lose(&c, message->to, message->from, 0);
	assert_int_equal(rc_message(&c, message), RAFT_OK);
	rc_persist(&c, message->to);
	assert_true(rc_take(&c, message->to, message->from, type, &reply));
	return reply;
}

/* Member 1 campaigns in term 1: pre-votes are granted, its own vote is durable, requests are out. */
static void campaign_1(void)
{
	rc_start_all(&c);
	(void)rc_timeout(&c, 1);
	for (uint64_t id = 2; id <= c.n_nodes; id++) {
		struct raft_message m;

		if (!rc_take(&c, 1, id, RAFT_MESSAGE_VOTE_REQUEST, &m) || c.nodes[1].status.role == RAFT_CANDIDATE)
			continue;
		assert_true(m.vote_request.pre_vote);
		m = answer(&m, RAFT_MESSAGE_VOTE_REPLY);
		assert_true(m.vote_reply.granted && m.vote_reply.pre_vote);
		assert_int_equal(rc_message(&c, &m), RAFT_OK);
	}
	assert_int_equal(c.nodes[1].status.role, RAFT_CANDIDATE);
	rc_lose(&c, 1, 0, RAFT_MESSAGE_VOTE_REQUEST);
}

static void test_election_timeouts_are_random_and_within_bounds(void **state)
{
	uint64_t seen[16];

	(void)state;
	for (unsigned i = 0; i < 16; i++) {
		struct rc_options options = {.n_nodes = 3, .seed = i};

		rc_init(&c, &options);
		rc_start(&c, 1);
		seen[i] = c.nodes[1].deadline_us - c.now_us;
		assert_in_range(seen[i], RC_TIMEOUT_MIN_US, RC_TIMEOUT_MAX_US);
		if (i > 0)
			assert_int_not_equal(seen[i], seen[i - 1]);
		rc_fini(&c);
	}
	begin(1, 0);
}

static void test_pre_vote_changes_no_term_anywhere(void **state) /* dissertation 9.6, trap A19 */
{
	struct raft_message m;

	(void)state;
	begin(3, 0);
	rc_start_all(&c);
	(void)rc_timeout(&c, 1);
	assert_int_equal(c.nodes[1].status.role, RAFT_PRE_CANDIDATE);
	assert_int_equal(c.nodes[1].status.hard_state.term, 0);
	assert_false(c.nodes[1].last.write.needed);
	assert_true(rc_take(&c, 1, 2, RAFT_MESSAGE_VOTE_REQUEST, &m));
	assert_true(m.vote_request.pre_vote);
	assert_int_equal(m.term, 1);
	m = answer(&m, RAFT_MESSAGE_VOTE_REPLY);
	assert_true(m.vote_reply.granted);
	assert_int_equal(m.vote_reply.request_term, 1);
	assert_int_equal(c.nodes[2].status.hard_state.term, 0);
	assert_int_equal(c.nodes[2].n_writes, 0);
}

static void test_without_pre_vote_majority_nobody_campaigns(void **state)
{
	(void)state;
	begin(3, 0);
	rc_start(&c, 1);
	for (unsigned i = 0; i < 20; i++)
		(void)rc_timeout(&c, 1);
	assert_int_equal(c.nodes[1].status.role, RAFT_PRE_CANDIDATE);
	assert_int_equal(c.nodes[1].status.hard_state.term, 0);
}

static void test_vote_requests_wait_for_the_own_vote_to_be_durable(void **state) /* dissertation 3.8, trap A2 */
{
	(void)state;
	begin(3, 0);
	campaign_1();
	assert_int_equal(rc_count(&c, 1, 0, 0), 0);
	assert_true(c.nodes[1].n_writes > 0);
	rc_persist(&c, 1);
	assert_int_equal(rc_count(&c, 1, 0, RAFT_MESSAGE_VOTE_REQUEST), 2);
}

static void test_vote_waits_for_disk(void **state) /* paper figure 2, trap A1 */
{
	struct raft_message m = vote_request(1, 2, 1, 0, 0);

	(void)state;
	begin(3, 0);
	rc_start(&c, 2);
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(c.nodes[2].status.hard_state.vote, 1);
	assert_int_equal(rc_count(&c, 2, 0, 0), 0);
	rc_persist(&c, 2);
	assert_true(rc_take(&c, 2, 1, RAFT_MESSAGE_VOTE_REPLY, &m));
	assert_true(m.vote_reply.granted);
}

static void test_refusal_with_a_new_term_waits_for_disk(void **state)
{
	struct raft_message m = vote_request(1, 2, 5, 0, 0);

	(void)state;
	begin(3, 0);
	rc_seed_log(&c, 2, 3, 4); /* its log is newer: it refuses, but the term is news */
	rc_start(&c, 2);
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(rc_count(&c, 2, 0, 0), 0);
	rc_persist(&c, 2);
	assert_true(rc_take(&c, 2, 1, RAFT_MESSAGE_VOTE_REPLY, &m));
	assert_false(m.vote_reply.granted);
	assert_int_equal(m.term, 5);
}

static void test_one_vote_a_term_and_the_same_again(void **state) /* paper 5.2, trap A5 */
{
	struct raft_message m = vote_request(1, 2, 4, 0, 0);

	(void)state;
	begin(5, 0);
	rc_start(&c, 2);
	assert_true(answer(&m, RAFT_MESSAGE_VOTE_REPLY).vote_reply.granted);
	assert_true(answer(&m, RAFT_MESSAGE_VOTE_REPLY).vote_reply.granted);
	m.from = 3;
	assert_false(answer(&m, RAFT_MESSAGE_VOTE_REPLY).vote_reply.granted);
	rc_crash(&c, 2, 0);
	rc_start(&c, 2);
	assert_false(answer(&m, RAFT_MESSAGE_VOTE_REPLY).vote_reply.granted);
	m.from = 1;
	assert_true(answer(&m, RAFT_MESSAGE_VOTE_REPLY).vote_reply.granted);
}

static void test_vote_only_for_a_log_at_least_as_new(void **state) /* paper 5.4.1 */
{
	static const struct {
		uint64_t index, term;
		bool granted;
	} cases[] = {{5, 2, false}, {4, 3, false}, {5, 3, true}, {6, 3, true}, {1, 4, true}, {0, 0, false}};
	uint64_t term = 10;

	(void)state;
	begin(3, 0);
	rc_seed_log(&c, 2, 2, 2);
	rc_seed_log(&c, 2, 3, 3);
	rc_start(&c, 2);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct raft_message m = vote_request(1, 2, term++, cases[i].index, cases[i].term);

		m.vote_request.pre_vote = true;
		assert_int_equal(answer(&m, RAFT_MESSAGE_VOTE_REPLY).vote_reply.granted, cases[i].granted);
		m.vote_request.pre_vote = false;
		assert_int_equal(answer(&m, RAFT_MESSAGE_VOTE_REPLY).vote_reply.granted, cases[i].granted);
	}
}

static void test_follower_of_a_live_leader_neither_votes_nor_takes_the_term(void **state) /* dissertation 4.2.3 */
{
	struct raft_message m = heartbeat(1, 2, 3);

	(void)state;
	begin(3, 0);
	rc_start(&c, 2);
	(void)answer(&m, RAFT_MESSAGE_APPEND_REPLY);
	c.now_us += RC_TIMEOUT_MIN_US - 1;
	m = vote_request(3, 2, 9, 0, 0);
	m = answer(&m, RAFT_MESSAGE_VOTE_REPLY);
	assert_false(m.vote_reply.granted);
	assert_int_equal(m.term, 3);
	assert_int_equal(c.nodes[2].status.hard_state.term, 3);
	m = vote_request(3, 2, 9, 0, 0);
	m.vote_request.pre_vote = true;
	assert_false(answer(&m, RAFT_MESSAGE_VOTE_REPLY).vote_reply.granted);
	/* The leader itself asked for this one: trap A23. */
	m.vote_request.pre_vote = false;
	m.vote_request.transfer = true;
	assert_true(answer(&m, RAFT_MESSAGE_VOTE_REPLY).vote_reply.granted);
}

static void test_stickiness_ends_with_the_shortest_election_timeout(void **state)
{
	struct raft_message m = heartbeat(1, 2, 3);

	(void)state;
	begin(3, 0);
	rc_start(&c, 2);
	(void)answer(&m, RAFT_MESSAGE_APPEND_REPLY);
	c.now_us += RC_TIMEOUT_MIN_US;
	m = vote_request(3, 2, 9, 0, 0);
	assert_true(answer(&m, RAFT_MESSAGE_VOTE_REPLY).vote_reply.granted);
}

static void test_closed_connection_ends_stickiness_and_starts_an_election_soon(void **state)
{
	struct raft_message m;

	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	rc_crash(&c, 1, 0);
	assert_int_equal(rc_peer_down(&c, 2, 1), RAFT_OK);
	assert_int_equal(rc_peer_down(&c, 3, 1), RAFT_OK);
	assert_in_range(c.nodes[2].deadline_us - c.now_us, 0, RC_HEARTBEAT_US / 4);
	(void)rc_timeout(&c, 2);
	assert_true(rc_take(&c, 2, 3, RAFT_MESSAGE_VOTE_REQUEST, &m));
	m = answer(&m, RAFT_MESSAGE_VOTE_REPLY);
	assert_true(m.vote_reply.granted);
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	rc_settle(&c);
	assert_int_equal(c.nodes[2].status.role, RAFT_LEADER);
}

static void test_false_hint_of_a_dead_leader_does_no_harm(void **state)
{
	uint64_t term;

	(void)state;
	begin(5, 0);
	rc_elect(&c, 1);
	term = c.nodes[1].status.hard_state.term;
	(void)rc_peer_down(&c, 2, 1);
	rc_run_us(&c, 2000 * RC_MS);
	assert_int_equal(c.nodes[2].traces[RAFT_TRACE_PRE_CANDIDATE], 1);
	assert_int_equal(rc_leader(&c), 1);
	assert_int_equal(c.nodes[1].status.hard_state.term, term);
}

static void test_refused_pre_vote_brings_the_higher_term(void **state) /* trap A20: etcd 8243, canonical/raft 279 */
{
	(void)state;
	begin(3, 0);
	rc_seed_log(&c, 1, 2, 5); /* newer log, lower term */
	rc_seed_log(&c, 2, 1, 2); /* older log, higher term */
	rc_seed_hard_state(&c, 2, 8, RAFT_NO_MEMBER);
	rc_start(&c, 1);
	rc_start(&c, 2);
	assert_true(rc_run_until_leader(&c, 3000 * RC_MS));
	assert_int_equal(rc_leader(&c), 1);
	assert_true(c.nodes[1].status.hard_state.term > 8);
}

static void test_leader_of_an_older_term_is_told_and_steps_down(void **state) /* trap A22 */
{
	struct raft_message m;

	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	rc_crash(&c, 3, 0);
	rc_seed_hard_state(&c, 3, 7, RAFT_NO_MEMBER);
	rc_start(&c, 3);
	m = heartbeat(1, 3, c.nodes[1].status.hard_state.term);
	m.append.prev_index = m.append.prev_term = 1;
	m = answer(&m, RAFT_MESSAGE_APPEND_REPLY);
	assert_int_equal(m.term, 7);
	assert_int_equal(c.nodes[3].status.hard_state.term, 7);
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(c.nodes[1].status.role, RAFT_FOLLOWER);
	assert_int_equal(c.nodes[1].status.hard_state.term, 7);
	rc_run_us(&c, 2000 * RC_MS);
	assert_true(rc_converged(&c));
}

static void test_leader_without_quorum_steps_down_in_its_term(void **state) /* dissertation 6.2, trap A21 */
{
	uint64_t term, since;

	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	term = c.nodes[1].status.hard_state.term;
	rc_isolate(&c, 1, true);
	since = c.now_us;
	while (c.nodes[1].status.role == RAFT_LEADER && c.now_us - since < 1000 * RC_MS)
		rc_run_us(&c, RC_MS);
	assert_in_range(c.now_us - since, RC_TIMEOUT_MIN_US, RC_TIMEOUT_MAX_US + RC_HEARTBEAT_US);
	assert_int_equal(c.nodes[1].status.hard_state.term, term);
	assert_int_equal(c.nodes[1].status.leader, RAFT_NO_MEMBER);
}

static void test_leader_that_is_heard_but_hears_no_answers_steps_down(void **state) /* one-way partition */
{
	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	c.cut[2][1] = c.cut[3][1] = true; /* heartbeats arrive, so the others stay followers: only CheckQuorum helps */
	rc_run_us(&c, 3000 * RC_MS);
	assert_int_not_equal(rc_leader(&c), 1);
	assert_true(rc_leader(&c) != 0);
}

static void
test_asking_for_votes_is_no_answer_to_the_leader(void **state) /* its appends are lost, not their requests */
{
	uint64_t since;

	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	since = c.now_us;
	while (c.nodes[1].status.role == RAFT_LEADER && c.now_us - since < 1000 * RC_MS) {
		struct raft_message m = vote_request(2, 1, c.nodes[1].status.hard_state.term + 1, 1, 1);

		m.vote_request.pre_vote = true;
		rc_lose(&c, 0, 0, 0);
		assert_int_equal(rc_message(&c, &m), RAFT_OK);
		m.from = 3;
		assert_int_equal(rc_message(&c, &m), RAFT_OK);
		(void)rc_timeout(&c, 1);
	}
	assert_in_range(c.now_us - since, RC_TIMEOUT_MIN_US, RC_TIMEOUT_MAX_US + RC_HEARTBEAT_US);
}

static void test_partly_cut_off_member_does_not_disturb(void **state) /* trap A21, Cloudflare 2020 */
{
	uint64_t term;

	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	term = c.nodes[1].status.hard_state.term;
	rc_cut(&c, 1, 3, true); /* 3 hears only 2, which hears the leader */
	rc_run_us(&c, 5000 * RC_MS);
	assert_int_equal(rc_leader(&c), 1);
	assert_int_equal(c.nodes[1].status.hard_state.term, term);
	assert_true(c.nodes[3].traces[RAFT_TRACE_PRE_CANDIDATE] > 5);
}

static void test_member_back_from_isolation_does_not_disturb(void **state) /* dissertation 9.6 */
{
	uint64_t term;

	(void)state;
	begin(5, 0);
	rc_elect(&c, 1);
	term = c.nodes[1].status.hard_state.term;
	rc_isolate(&c, 4, true);
	rc_run_us(&c, 5000 * RC_MS);
	rc_heal(&c);
	rc_run_us(&c, 1000 * RC_MS);
	assert_int_equal(rc_leader(&c), 1);
	assert_int_equal(c.nodes[1].status.hard_state.term, term);
	assert_true(rc_converged(&c));
}

static void test_lone_voter_leads_at_once(void **state)
{
	(void)state;
	begin(1, 0);
	rc_start(&c, 1);
	assert_int_equal(c.nodes[1].status.role, RAFT_CANDIDATE);
	assert_int_equal(c.now_us, 1000000);
	rc_persist_one(&c, 1);
	assert_int_equal(c.nodes[1].status.role, RAFT_LEADER);
	assert_false(c.nodes[1].status.term_committed);
	rc_persist(&c, 1);
	assert_true(c.nodes[1].status.term_committed);
	assert_int_equal(c.nodes[1].deadline_us, UINT64_MAX);
}

static void test_learners_never_campaign_or_count(void **state)
{
	(void)state;
	begin(3, 1);
	rc_start_all(&c);
	assert_int_equal(c.nodes[3].status.role, RAFT_LEARNER);
	assert_int_equal(c.nodes[3].deadline_us, UINT64_MAX);
	rc_crash(&c, 2, 0);
	rc_run_us(&c, 3000 * RC_MS); /* one voter of two and a learner: no quorum */
	assert_int_equal(rc_leader(&c), 0);
	rc_start(&c, 2);
	rc_run_us(&c, 2000 * RC_MS);
	assert_true(rc_converged(&c));
	assert_int_equal(c.nodes[3].status.role, RAFT_LEARNER);
	rc_crash(&c, rc_leader(&c), 0);
	rc_run_us(&c, 2000 * RC_MS);
	assert_int_equal(c.nodes[3].status.leader, RAFT_NO_MEMBER);
}

static void test_learners_do_not_keep_a_leader_in_office(void **state)
{
	(void)state;
	begin(3, 1);
	rc_elect(&c, 1);
	rc_cut(&c, 1, 2, true);
	rc_run_us(&c, RC_TIMEOUT_MAX_US + RC_HEARTBEAT_US);
	assert_int_not_equal(c.nodes[1].status.role, RAFT_LEADER);
}

static void test_recovery_keeps_the_term_that_was_promised(void **state)
{
	struct raft_message m = vote_request(1, 2, 6, 0, 0);

	(void)state;
	begin(3, 0);
	rc_start(&c, 2);
	assert_true(answer(&m, RAFT_MESSAGE_VOTE_REPLY).vote_reply.granted);
	rc_crash(&c, 2, 0);
	rc_start(&c, 2);
	assert_int_equal(c.nodes[2].status.hard_state.term, 6);
	assert_int_equal(c.nodes[2].status.hard_state.vote, 1);
	m = vote_request(3, 2, 5, 0, 0);
	m = answer(&m, RAFT_MESSAGE_VOTE_REPLY);
	assert_false(m.vote_reply.granted);
	assert_int_equal(m.term, 6);
}

static void test_answers_of_other_elections_do_not_count(void **state)
{
	struct raft_message m = {.type = RAFT_MESSAGE_VOTE_REPLY, .from = 2, .to = 1, .term = 1};

	(void)state;
	begin(5, 0);
	campaign_1();
	rc_persist(&c, 1);
	m.vote_reply.granted = true;
	m.vote_reply.request_term = 1;
	m.vote_reply.pre_vote = true; /* a late pre-vote is no vote */
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	m.from = 3;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	m.vote_reply.pre_vote = false;
	m.vote_reply.request_term = 7;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	m.vote_reply.request_term = 1;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(rc_message(&c, &m), RAFT_OK); /* the same member again is still one vote */
	assert_int_equal(c.nodes[1].status.role, RAFT_CANDIDATE);
	m.from = 4;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(c.nodes[1].status.role, RAFT_LEADER);
}

static void test_vote_that_the_candidates_disk_lacks_does_not_win(void **state) /* trap A2 */
{
	struct raft_message m = {.type = RAFT_MESSAGE_VOTE_REPLY, .from = 2, .to = 1, .term = 1};

	(void)state;
	begin(3, 0);
	campaign_1();
	m.vote_reply.granted = true;
	m.vote_reply.request_term = 1;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(c.nodes[1].status.role, RAFT_CANDIDATE);
}

static void test_member_with_a_hung_disk_does_not_campaign(void **state)
{
	struct raft_message m = vote_request(1, 2, 3, 0, 0);

	(void)state;
	begin(3, 0);
	rc_start(&c, 2);
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(rc_disk_stalled(&c, 2), RAFT_OK);
	for (unsigned i = 0; i < 10; i++)
		(void)rc_timeout(&c, 2);
	assert_int_equal(c.nodes[2].status.role, RAFT_FOLLOWER);
	assert_int_equal(rc_count(&c, 2, 0, 0), 0);
	rc_persist(&c, 2);
	(void)rc_timeout(&c, 2);
	assert_int_equal(c.nodes[2].status.role, RAFT_PRE_CANDIDATE);
}

static void test_impossible_messages_are_refused(void **state) /* DESIGN.md, rule 8 */
{
	struct raft_message good = vote_request(1, 2, 3, 4, 2);
	struct raft_message m = good;

	(void)state;
	begin(3, 0);
	rc_start(&c, 2);
	m.from = RAFT_NO_MEMBER;
	assert_int_equal(rc_message(&c, &m), RAFT_E_INVALID);
	m.from = 2;
	assert_int_equal(rc_message(&c, &m), RAFT_E_INVALID);
	m = good;
	m.term = 0;
	assert_int_equal(rc_message(&c, &m), RAFT_E_INVALID);
	m.term = UINT64_MAX;
	assert_int_equal(rc_message(&c, &m), RAFT_E_INVALID);
	m = good;
	m.vote_request.last_term = 3; /* a log from the future */
	assert_int_equal(rc_message(&c, &m), RAFT_E_INVALID);
	m = good;
	m.vote_request.last_index = UINT64_MAX;
	assert_int_equal(rc_message(&c, &m), RAFT_E_INVALID);
	m = good;
	m.type = (enum raft_message_type)77;
	assert_int_equal(rc_message(&c, &m), RAFT_E_INVALID);
	assert_int_equal(rc_message(&c, &good), RAFT_OK);
}

static void test_granting_a_pre_vote_gives_the_asker_a_moment_but_not_for_ever(void **state)
{
	struct raft_message m = vote_request(1, 2, 1, 0, 0);
	uint64_t since;

	(void)state;
	begin(3, 0);
	rc_start(&c, 2);
	c.now_us = c.nodes[2].deadline_us - 1;
	m.vote_request.pre_vote = true;
	assert_true(answer(&m, RAFT_MESSAGE_VOTE_REPLY).vote_reply.granted);
	assert_in_range(c.nodes[2].deadline_us - c.now_us, RC_HEARTBEAT_US / 2, RC_HEARTBEAT_US);
	since = c.now_us; /* asks at every shortest timeout and never wins */
	while (c.nodes[2].status.role == RAFT_FOLLOWER && c.now_us - since < 1000 * RC_MS) {
		c.now_us += RC_TIMEOUT_MIN_US;
		(void)rc_tick(&c, 2);
	}
	assert_int_equal(c.nodes[2].status.role, RAFT_PRE_CANDIDATE);
	assert_in_range(c.now_us - since, 1, RC_TIMEOUT_MIN_US);
}

static void test_split_vote_is_resolved_soon(void **state) /* paper 5.2 */
{
	(void)state;
	begin(2, 0);
	rc_start_all(&c);
	c.delay_min_us = c.delay_max_us = 1000;
	c.now_us += RC_TIMEOUT_MAX_US; /* both ask before either hears the other */
	(void)rc_tick(&c, 1);
	(void)rc_tick(&c, 2);
	rc_run_us(&c, 5 * RC_MS);
	assert_int_equal(c.nodes[1].status.role, RAFT_CANDIDATE);
	assert_int_equal(c.nodes[2].status.role, RAFT_CANDIDATE);
	assert_int_equal(c.nodes[1].status.hard_state.term, c.nodes[2].status.hard_state.term);
	assert_true(rc_run_until_leader(&c, RC_TIMEOUT_MIN_US)); /* a refusal tells: no whole timeout */
	rc_run_us(&c, 500 * RC_MS);
	assert_true(rc_converged(&c));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_election_timeouts_are_random_and_within_bounds, end),
		cmocka_unit_test_teardown(test_pre_vote_changes_no_term_anywhere, end),
		cmocka_unit_test_teardown(test_without_pre_vote_majority_nobody_campaigns, end),
		cmocka_unit_test_teardown(test_vote_requests_wait_for_the_own_vote_to_be_durable, end),
		cmocka_unit_test_teardown(test_vote_waits_for_disk, end),
		cmocka_unit_test_teardown(test_refusal_with_a_new_term_waits_for_disk, end),
		cmocka_unit_test_teardown(test_one_vote_a_term_and_the_same_again, end),
		cmocka_unit_test_teardown(test_vote_only_for_a_log_at_least_as_new, end),
		cmocka_unit_test_teardown(test_follower_of_a_live_leader_neither_votes_nor_takes_the_term, end),
		cmocka_unit_test_teardown(test_stickiness_ends_with_the_shortest_election_timeout, end),
		cmocka_unit_test_teardown(test_closed_connection_ends_stickiness_and_starts_an_election_soon, end),
		cmocka_unit_test_teardown(test_false_hint_of_a_dead_leader_does_no_harm, end),
		cmocka_unit_test_teardown(test_refused_pre_vote_brings_the_higher_term, end),
		cmocka_unit_test_teardown(test_leader_of_an_older_term_is_told_and_steps_down, end),
		cmocka_unit_test_teardown(test_leader_without_quorum_steps_down_in_its_term, end),
		cmocka_unit_test_teardown(test_leader_that_is_heard_but_hears_no_answers_steps_down, end),
		cmocka_unit_test_teardown(test_asking_for_votes_is_no_answer_to_the_leader, end),
		cmocka_unit_test_teardown(test_partly_cut_off_member_does_not_disturb, end),
		cmocka_unit_test_teardown(test_member_back_from_isolation_does_not_disturb, end),
		cmocka_unit_test_teardown(test_lone_voter_leads_at_once, end),
		cmocka_unit_test_teardown(test_learners_never_campaign_or_count, end),
		cmocka_unit_test_teardown(test_learners_do_not_keep_a_leader_in_office, end),
		cmocka_unit_test_teardown(test_recovery_keeps_the_term_that_was_promised, end),
		cmocka_unit_test_teardown(test_answers_of_other_elections_do_not_count, end),
		cmocka_unit_test_teardown(test_vote_that_the_candidates_disk_lacks_does_not_win, end),
		cmocka_unit_test_teardown(test_member_with_a_hung_disk_does_not_campaign, end),
		cmocka_unit_test_teardown(test_impossible_messages_are_refused, end),
		cmocka_unit_test_teardown(test_granting_a_pre_vote_gives_the_asker_a_moment_but_not_for_ever, end),
		cmocka_unit_test_teardown(test_split_vote_is_resolved_soon, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
