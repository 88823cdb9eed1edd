/*
 * Claims about replication: what is appended, removed, acknowledged and committed, and how much is under way
 * (paper, section 5.3 and 5.4.2). It knows the core only through raft.h.
 */
#include "raft_cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct rc_cluster c;
static struct raft_entry entries[64];
static uint64_t values[64];

static void begin_with(const struct rc_options *options)
{
	rc_init(&c, options);
}

static void begin(unsigned n_nodes, unsigned n_learners)
{
	struct rc_options options = {.n_nodes = n_nodes, .n_learners = n_learners, .seed = 11};

	begin_with(&options);
}

static int end(void **state)
{
	(void)state;
	rc_fini(&c);
	return 0;
}

/* An append from member 1 to member 2 with n entries of one term; values as rc_seed_log makes them. */
static struct raft_message append(uint64_t term, uint64_t prev, uint64_t prev_term, unsigned n, uint64_t entry_term)
{
	struct raft_message m = {.type = RAFT_MESSAGE_APPEND, .from = 1, .to = 2, .term = term};

	for (unsigned i = 0; i < n; i++) {
		values[i] = entry_term << 32 | (prev + 1 + i);
		entries[i] = (struct raft_entry){.term = entry_term, .type = RAFT_ENTRY_COMMAND, .size = 10};
		entries[i].data = (const uint8_t *)&values[i];
	}
	m.append.prev_index = prev;
	m.append.prev_term = prev_term;
	m.append.n_entries = n;
	m.append.entries = entries;
	return m;
}

static bool take_reply(struct raft_message *ret_message)
{
	return rc_take(&c, 2, 1, RAFT_MESSAGE_APPEND_REPLY, ret_message);
}

static struct raft_message deliver(const struct raft_message *message)
{
	struct raft_message reply = {0};

	rc_lose(&c, 2, 0, 0);
	assert_int_equal(rc_message(&c, message), RAFT_OK);
	rc_persist(&c, 2);
	assert_true(take_reply(&reply));
	return reply;
}

static void test_acknowledgement_waits_for_disk(void **state) /* dissertation 3.8, trap A12 */
{
	struct raft_message m = append(3, 0, 0, 4, 2);

	(void)state;
	begin(3, 0);
	rc_start(&c, 2);
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_false(take_reply(&m));
	rc_persist(&c, 2);
	assert_true(take_reply(&m));
	assert_false(m.append_reply.rejected);
	assert_int_equal(m.append_reply.match, 4);
	assert_int_equal(rc_count(&c, 2, 0, 0), 0);
}

static void test_one_acknowledgement_for_all_that_a_sync_covers(void **state)
{
	struct raft_event event = {.type = RAFT_EVENT_PERSISTED};
	struct raft_message m;

	(void)state;
	begin(3, 0);
	rc_start(&c, 2);
	for (unsigned i = 0; i < 5; i++) {
		m = append(3, i * 4, i ? 2 : 0, 4, 2);
		assert_int_equal(rc_message(&c, &m), RAFT_OK);
	}
	assert_int_equal(rc_count(&c, 2, 0, 0), 0);
	event.persisted_seq = c.nodes[2].writes[3].seq;
	rc_persist_at_once(&c, 2);
	assert_int_equal(rc_count(&c, 2, 1, RAFT_MESSAGE_APPEND_REPLY), 1);
	assert_true(take_reply(&m));
	assert_int_equal(m.append_reply.match, 20);
	assert_int_equal(rc_step(&c, 2, &event), RAFT_OK); /* an old confirmation says nothing new */
	assert_int_equal(rc_count(&c, 2, 0, 0), 0);
}

static void test_heartbeat_is_answered_at_once_with_what_is_durable(void **state)
{
	struct raft_message m;

	(void)state;
	begin(3, 0);
	rc_start(&c, 2);
	m = append(3, 0, 0, 4, 2);
	(void)deliver(&m);
	m = append(3, 4, 2, 4, 2);
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	m = append(3, 8, 2, 0, 0);
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_true(take_reply(&m));
	assert_int_equal(m.append_reply.match, 4);
}

static void test_append_with_unknown_prev_is_refused_with_the_end_of_the_log(void **state) /* paper 5.3 */
{
	struct raft_message m = append(3, 9, 2, 2, 2);

	(void)state;
	begin(3, 0);
	rc_seed_log(&c, 2, 1, 4);
	rc_start(&c, 2);
	m = deliver(&m);
	assert_true(m.append_reply.rejected);
	assert_int_equal(m.append_reply.prev_index, 9);
	assert_int_equal(m.append_reply.conflict_index, 5);
	assert_int_equal(m.append_reply.conflict_term, 0);
	assert_int_equal(c.nodes[2].status.last_index, 4);
}

static void test_append_with_other_prev_term_is_refused_with_that_terms_start(void **state) /* paper 5.3 */
{
	struct raft_message m = append(5, 6, 4, 2, 4);

	(void)state;
	begin(3, 0);
	rc_seed_log(&c, 2, 1, 3);
	rc_seed_log(&c, 2, 2, 5);
	rc_start(&c, 2);
	m = deliver(&m);
	assert_true(m.append_reply.rejected);
	assert_int_equal(m.append_reply.conflict_index, 4);
	assert_int_equal(m.append_reply.conflict_term, 2);
	assert_int_equal(c.nodes[2].status.last_index, 8);
}

static void test_conflicting_suffix_goes_and_the_agreeing_part_stays(void **state) /* paper 5.3, figure 7 */
{
	struct raft_message m;

	(void)state;
	begin(3, 0);
	rc_seed_log(&c, 2, 1, 3);
	rc_seed_log(&c, 2, 2, 5);
	rc_start(&c, 2);
	m = append(5, 2, 1, 4, 1); /* 3 agrees; 4, 5, 6 are of term 1 where the follower has term 2 */
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(c.nodes[2].last.write.truncate_from, 4);
	assert_int_equal(c.nodes[2].last.write.first_index, 4);
	assert_int_equal(c.nodes[2].last.write.last_index, 6);
	assert_int_equal(c.nodes[2].last.write.skip, 1);
	assert_int_equal(c.nodes[2].traces[RAFT_TRACE_TRUNCATE], 1);
	assert_int_equal(raft_term_at(c.nodes[2].core, 3), 1);
	assert_int_equal(raft_term_at(c.nodes[2].core, 6), 1);
	assert_int_equal(raft_term_at(c.nodes[2].core, 7), 0);
}

static void test_old_append_that_was_overtaken_removes_nothing(void **state) /* trap A11 */
{
	struct raft_message m;

	(void)state;
	begin(3, 0);
	rc_start(&c, 2);
	m = append(3, 0, 0, 8, 2);
	(void)deliver(&m);
	m = append(3, 0, 0, 3, 2);
	m = deliver(&m);
	assert_int_equal(m.append_reply.match, 8);
	assert_false(c.nodes[2].last.write.needed);
	assert_int_equal(c.nodes[2].status.last_index, 8);
}

static void test_follower_commits_and_acknowledges_only_what_was_verified(void **state) /* trap A10: NuRaft 57 */
{
	struct raft_message m;

	(void)state;
	begin(3, 0);
	c.scripted = true;
	rc_seed_log(&c, 2, 1, 3);
	rc_seed_log(&c, 2, 2, 5); /* 4 .. 8 are not the new leader's */
	rc_start(&c, 2);
	m = append(5, 2, 1, 1, 1);
	m.append.commit = 8;
	m = deliver(&m);
	assert_int_equal(m.append_reply.match, 3); /* all eight are durable, three are the leader's */
	assert_int_equal(c.nodes[2].status.commit, 3);
	assert_int_equal(c.nodes[2].status.last_index, 8);
}

static void test_late_confirmation_does_not_vouch_for_replaced_entries(void **state)
{
	struct raft_message m;

	(void)state;
	begin(3, 0);
	rc_start(&c, 2);
	m = append(3, 0, 0, 8, 2);
	assert_int_equal(rc_message(&c, &m), RAFT_OK); /* on its way to the disk */
	m = append(5, 2, 2, 3, 4);		       /* 3 .. 5 replaced by another leader's */
	m.from = 3;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	rc_persist_one(&c, 2); /* the old write */
	assert_int_equal(c.nodes[2].status.durable_index, 2);
	assert_int_equal(rc_count(&c, 2, 0, 0), 0); /* the new term is not durable yet */
	rc_persist_one(&c, 2);
	assert_int_equal(c.nodes[2].status.durable_index, 5);
	assert_true(rc_take(&c, 2, 3, RAFT_MESSAGE_APPEND_REPLY, &m));
	assert_int_equal(m.append_reply.match, 5);
}

static void test_contradicting_a_committed_entry_is_refused(void **state) /* Leader Completeness; rule 8 */
{
	struct raft_message m;

	(void)state;
	begin(3, 0);
	c.scripted = true;
	rc_start(&c, 2);
	m = append(3, 0, 0, 8, 2);
	m.append.commit = 6;
	(void)deliver(&m);
	m = append(9, 4, 2, 2, 3);
	assert_int_equal(rc_message(&c, &m), RAFT_E_INVALID);
	m = append(9, 5, 3, 2, 3);
	assert_int_equal(rc_message(&c, &m), RAFT_E_INVALID);
	m = append(9, 6, 2, 2, 3);
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
}

static void test_impossible_appends_are_refused(void **state)
{
	struct raft_message m;

	(void)state;
	begin(3, 0);
	rc_start(&c, 2);
	m = append(3, 0, 0, 4, 2);
	m.append.entries = NULL;
	assert_int_equal(rc_message(&c, &m), RAFT_E_INVALID);
	m = append(3, 0, 0, 4, 4); /* entries of a later term than the leader's */
	assert_int_equal(rc_message(&c, &m), RAFT_E_INVALID);
	m = append(3, 0, 0, 4, 2);
	entries[2].term = 1; /* terms go back */
	assert_int_equal(rc_message(&c, &m), RAFT_E_INVALID);
	m = append(3, 0, 0, 4, 2);
	entries[2].size = RAFT_ENTRY_SIZE_MAX + 1;
	assert_int_equal(rc_message(&c, &m), RAFT_E_INVALID);
	m = append(3, 0, 1, 0, 0);
	assert_int_equal(rc_message(&c, &m), RAFT_E_INVALID);
	m = append(3, UINT64_MAX, 1, 0, 0);
	assert_int_equal(rc_message(&c, &m), RAFT_E_INVALID);
	m = append(3, 0, 0, 4, 2);
	(void)deliver(&m);
	m.from = 3; /* a second leader in one term */
	assert_int_equal(rc_message(&c, &m), RAFT_E_INVALID);
}

static void test_new_leader_opens_its_term_with_a_noop(void **state) /* paper, section 8; trap A8 */
{
	(void)state;
	begin(3, 0);
	for (uint64_t id = 1; id <= 3; id++)
		rc_seed_log(&c, id, 1, 3);
	rc_start_all(&c);
	(void)rc_timeout(&c, 1);
	rc_settle(&c);
	assert_int_equal(c.nodes[1].status.role, RAFT_LEADER);
	assert_int_equal(c.nodes[1].status.last_index, 4);
	assert_int_equal(c.nodes[1].status.commit, 4); /* with it what the earlier leader had left */
	assert_int_equal(c.nodes[1].log.entries[3].value, 0);
}

static void test_entries_of_earlier_terms_are_not_committed_by_counting(void **state) /* paper 5.4.2, figure 8 */
{
	struct raft_message m = {.type = RAFT_MESSAGE_APPEND_REPLY, .from = 2, .to = 1};

	(void)state;
	begin(3, 0);
	for (uint64_t id = 1; id <= 3; id++)
		rc_seed_log(&c, id, 1, 3);
	rc_start_all(&c);
	(void)rc_timeout(&c, 1);
	while (c.nodes[1].status.role != RAFT_LEADER) {
		rc_persist(&c, 1);
		for (uint64_t id = 2; id <= 3; id++) {
			struct raft_message request;

			if (!rc_take(&c, 1, id, RAFT_MESSAGE_VOTE_REQUEST, &request))
				continue;
			assert_int_equal(rc_message(&c, &request), RAFT_OK);
			rc_persist(&c, id);
			assert_true(rc_take(&c, id, 1, RAFT_MESSAGE_VOTE_REPLY, &request));
			assert_int_equal(rc_message(&c, &request), RAFT_OK);
		}
	}
	rc_persist(&c, 1);
	m.term = c.nodes[1].status.hard_state.term;
	m.append_reply.match = 3; /* a majority holds entry 3, of term 1 */
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(c.nodes[1].status.peers[0].match, 3);
	assert_int_equal(c.nodes[1].status.commit, 0);
}

static void test_leader_counts_itself_by_its_disk(void **state) /* trap A9: etcd 14370 */
{
	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	c.disk_frozen[1] = true;
	rc_cut(&c, 1, 3, true);
	assert_int_equal(rc_propose(&c, 1, 3, 0), RAFT_OK);
	rc_settle(&c);
	assert_int_equal(c.nodes[1].status.peers[0].match, 4);
	assert_int_equal(c.nodes[1].status.commit, 1);
	rc_persist(&c, 1);
	assert_int_equal(c.nodes[1].status.commit, 4);
}

static void test_quorum_commits_without_the_leaders_disk(void **state) /* dissertation 10.2.1 */
{
	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	c.disk_frozen[1] = true;
	assert_int_equal(rc_propose(&c, 1, 3, 0), RAFT_OK);
	rc_settle(&c);
	assert_int_equal(c.nodes[1].status.commit, 4);
	assert_int_equal(c.nodes[1].status.durable_index, 1);
}

static void test_lone_voter_commits_only_what_is_durable(void **state) /* trap A9, B10 */
{
	(void)state;
	begin(2, 1);
	rc_start_all(&c);
	rc_settle(&c);
	assert_int_equal(c.nodes[1].status.commit, 1);
	assert_int_equal(rc_propose(&c, 1, 2, 0), RAFT_OK);
	assert_int_equal(c.nodes[1].status.commit, 1);
	rc_persist(&c, 1);
	assert_int_equal(c.nodes[1].status.commit, 3);
	rc_settle(&c);
	(void)rc_timeout(&c, 1);
	rc_settle(&c);
	assert_int_equal(c.nodes[2].status.commit, 3); /* the learner follows */
}

static void test_proposals_are_numbered_and_refused_elsewhere(void **state)
{
	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	assert_int_equal(rc_propose(&c, 1, 5, 0), RAFT_OK);
	assert_int_equal(c.nodes[1].last.first_index, 2);
	assert_int_equal(c.nodes[1].last.write.first_index, 2);
	assert_int_equal(c.nodes[1].last.write.last_index, 6);
	assert_int_equal(rc_propose(&c, 1, 1, 0), RAFT_OK);
	assert_int_equal(c.nodes[1].last.first_index, 7);
	assert_int_equal(rc_propose(&c, 2, 1, 0), RAFT_E_NOT_LEADER);
}

static void test_too_much_uncommitted_is_refused_until_it_commits(void **state)
{
	struct rc_options options = {.n_nodes = 3, .uncommitted_bytes_max = 10000, .seed = 1};

	(void)state;
	begin_with(&options);
	rc_elect(&c, 1);
	assert_int_equal(rc_propose(&c, 1, 1, 20000), RAFT_OK); /* one is always taken, or it could never be */
	assert_int_equal(rc_propose(&c, 1, 1, 1), RAFT_E_BUSY);
	rc_settle(&c);
	assert_int_equal(rc_propose(&c, 1, 9, 1000), RAFT_OK);
	assert_int_equal(rc_propose(&c, 1, 1, 1000), RAFT_E_BUSY);
}

static void test_what_waits_for_the_own_disk_is_bounded_although_the_others_commit(void **state)
{
	struct rc_options options = {.n_nodes = 3, .uncommitted_bytes_max = 10000, .seed = 1};
	unsigned taken = 0;

	(void)state;
	begin_with(&options);
	rc_elect(&c, 1);
	c.disk_frozen[1] = true;
	while (taken < 100 && rc_propose(&c, 1, 1, 1000) == RAFT_OK) {
		rc_run_us(&c, 20000);
		taken++;
		assert_int_equal(c.nodes[1].status.commit, 1 + taken);
		assert_int_equal(c.nodes[1].status.durable_index, 1);
	}
	assert_int_equal(taken, 9);
	assert_int_equal(rc_propose(&c, 1, 1, 1000), RAFT_E_BUSY);
	c.disk_frozen[1] = false;
	rc_persist(&c, 1);
	assert_int_equal(rc_propose(&c, 1, 1, 1000), RAFT_OK);
}

static void test_streaming_is_bounded_by_batch_and_window(void **state) /* trap A13 */
{
	struct rc_options options = {.n_nodes = 3, .batch_bytes_max = 1100, .window_bytes_max = 4400, .seed = 1};
	struct raft_message m;
	uint64_t next = 2;
	unsigned n = 0;

	(void)state;
	begin_with(&options);
	rc_elect(&c, 1);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(rc_propose(&c, 1, 10, 500), RAFT_OK);
	while (rc_take(&c, 1, 2, RAFT_MESSAGE_APPEND, &m)) {
		assert_int_equal(m.append.prev_index + 1, next); /* without gap or repetition */
		assert_int_equal(m.append.n_entries, 2);
		next += m.append.n_entries;
		n++;
	}
	assert_int_equal(n, 4);
	assert_in_range(c.nodes[1].status.peers[0].inflight_bytes, 4000, 4400);
	m = (struct raft_message){.type = RAFT_MESSAGE_APPEND_REPLY, .from = 2, .to = 1, .term = m.term};
	m.append_reply.match = 5; /* four entries acknowledged: two messages more */
	m.append_reply.round = 0;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(rc_count(&c, 1, 2, RAFT_MESSAGE_APPEND), 2);
}

static void test_entry_larger_than_batch_and_window_still_goes(void **state)
{
	struct rc_options options = {.n_nodes = 3, .batch_bytes_max = 100, .window_bytes_max = 200, .seed = 1};

	(void)state;
	begin_with(&options);
	rc_elect(&c, 1);
	assert_int_equal(rc_propose(&c, 1, 3, 100000), RAFT_OK);
	rc_settle(&c);
	assert_int_equal(c.nodes[1].status.commit, 4);
}

static void test_lost_append_shows_at_the_next_heartbeat(void **state) /* trap A14 */
{
	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	assert_int_equal(rc_propose(&c, 1, 3, 0), RAFT_OK);
	rc_lose(&c, 1, 2, 0);
	rc_settle(&c);
	assert_int_equal(c.nodes[2].status.last_index, 1);
	(void)rc_timeout(&c, 1);
	rc_settle(&c);
	assert_int_equal(c.nodes[2].status.last_index, 4);
	assert_false(c.nodes[1].status.peers[0].probing);
}

/* Member 2 refuses a probe and then installs what it had of a snapshot from the leader before. */
static void test_an_answer_from_before_the_probe_does_not_end_it(void **state) /* trap A14 */
{
	struct raft_message m = {.type = RAFT_MESSAGE_APPEND_REPLY, .from = 2, .to = 1};

	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	m.term = c.nodes[1].status.hard_state.term;
	assert_int_equal(rc_propose(&c, 1, 20, 100), RAFT_OK);
	rc_lose(&c, 1, 2, 0);
	m.append_reply.rejected = true;
	m.append_reply.prev_index = 21;
	m.append_reply.conflict_index = 15;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(rc_count(&c, 1, 2, RAFT_MESSAGE_APPEND), 1);
	rc_lose(&c, 1, 2, 0);
	m.append_reply.rejected = false;
	m.append_reply.match = 5;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(c.nodes[1].status.peers[0].match, 5);
	assert_true(c.nodes[1].status.peers[0].probing);
	assert_int_equal(rc_count(&c, 1, 2, RAFT_MESSAGE_APPEND), 0);
	m.append_reply.rejected = true; /* the probe's own answer */
	m.append_reply.prev_index = 14;
	m.append_reply.conflict_index = 6;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_true(rc_take(&c, 1, 2, RAFT_MESSAGE_APPEND, &m));
	assert_int_equal(m.append.prev_index, 5);
	m = (struct raft_message){.type = RAFT_MESSAGE_APPEND_REPLY, .from = 2, .to = 1, .term = m.term};
	m.append_reply.match = 5;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_false(c.nodes[1].status.peers[0].probing);
}

static void test_silent_member_is_not_flooded(void **state)
{
	size_t n;

	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	rc_crash(&c, 2, 0);
	(void)rc_peer_down(&c, 1, 2);
	assert_true(c.nodes[1].status.peers[0].probing);
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(rc_propose(&c, 1, 10, 0), RAFT_OK);
	n = rc_count(&c, 1, 2, RAFT_MESSAGE_APPEND);
	assert_int_equal(n, 0);
	rc_settle(&c);
	rc_start(&c, 2);
	(void)rc_timeout(&c, 1);
	rc_settle(&c);
	assert_int_equal(c.nodes[2].status.last_index, 501);
}

/* Paper, figure 7: the leader of term 8 and six followers that each lack or have too much in their own way. */
static void test_every_follower_of_figure_7_is_repaired_in_few_rounds(void **state)
{
	static const uint8_t logs[7][13] = {
		{1, 1, 1, 4, 4, 5, 5, 6, 6, 6},	   {1, 1, 1, 4, 4, 5, 5, 6, 6},		 {1, 1, 1, 4},
		{1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6}, {1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7}, {1, 1, 1, 4, 4, 4, 4},
		{1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3},
	};

	(void)state;
	begin(7, 0);
	for (uint64_t id = 1; id <= 7; id++) {
		for (unsigned i = 0; logs[id - 1][i]; i++)
			rc_seed_log(&c, id, logs[id - 1][i], 1);
		rc_seed_hard_state(&c, id, 7, RAFT_NO_MEMBER);
	}
	rc_elect(&c, 1);
	assert_int_equal(rc_leader(&c), 1);
	assert_true(rc_converged(&c));
	assert_int_equal(c.nodes[7].status.last_index, 11);
	assert_in_range(c.n_rejects, 4, 10); /* six followers; one entry at a time it would be more than 20 */
}

static void test_backing_up_skips_whole_terms(void **state) /* paper, end of 5.3 */
{
	(void)state;
	begin(2, 0);
	rc_seed_log(&c, 1, 1, 10);
	rc_seed_log(&c, 1, 9, 2000);
	rc_seed_log(&c, 2, 1, 10);
	rc_seed_log(&c, 2, 2, 500);
	rc_seed_log(&c, 2, 3, 1000);
	rc_elect(&c, 1);
	assert_int_equal(c.nodes[2].status.last_index, 2011);
	assert_in_range(c.n_rejects, 1, 4);
}

static void test_log_can_begin_above_one(void **state)
{
	struct raft_message m;

	(void)state;
	begin(3, 0);
	for (uint64_t id = 1; id <= 3; id++) {
		rc_seed_log(&c, id, 1, 5);
		rc_seed_log(&c, id, 2, 5);
		c.nodes[id].disk_commit = 8;
		c.nodes[id].disk_base = 7;
	}
	rc_elect(&c, 1);
	assert_int_equal(c.nodes[1].status.base_index, 7);
	assert_int_equal(c.nodes[1].status.commit, 11);
	assert_int_equal(raft_term_at(c.nodes[1].core, 7), 2);
	assert_int_equal(raft_term_at(c.nodes[1].core, 6), 0);
	m = append(c.nodes[1].status.hard_state.term, 2, 1, 6, 2); /* begins before the base of member 2 */
	entries[0].term = entries[1].term = entries[2].term = 1;
	rc_lose(&c, 0, 0, 0);
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_true(take_reply(&m));
	assert_false(m.append_reply.rejected);
}

static void test_compaction_forgets_and_replication_goes_on(void **state)
{
	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	for (unsigned round = 0; round < 50; round++) {
		for (unsigned i = 0; i < 20; i++)
			assert_int_equal(rc_propose(&c, 1, 100, 0), RAFT_OK);
		rc_settle(&c);
		(void)rc_timeout(&c, 1);
		rc_settle(&c);
		for (uint64_t id = 1; id <= 3; id++) {
			raft_compact(c.nodes[id].core, rc_status(&c, id)->commit - round % 2);
			(void)rc_status(&c, id);
			raft_check_invariants(c.nodes[id].core);
		}
	}
	assert_int_equal(c.nodes[3].status.commit, 100001);
}

static void test_member_behind_the_leaders_base_is_asked_at_heartbeats_only(void **state)
{
	size_t before;

	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	rc_crash(&c, 3, 0);
	assert_int_equal(rc_propose(&c, 1, 100, 0), RAFT_OK);
	rc_settle(&c);
	raft_compact(c.nodes[1].core, 90);
	(void)rc_status(&c, 1);
	rc_start(&c, 3);
	before = c.n_steps;
	rc_run_us(&c, 1000 * RC_MS);
	assert_in_range(c.n_steps - before, 20, 200);
	assert_int_equal(rc_leader(&c), 1);
}

static void test_idle_leader_wakes_once_per_heartbeat(void **state)
{
	uint64_t before;

	(void)state;
	begin(5, 0);
	rc_elect(&c, 1);
	rc_run_us(&c, 1000 * RC_MS);
	before = c.n_steps;
	rc_run_us(&c, 1000 * RC_MS);
	/* A second: 20 heartbeats, each one step here, four there, four answers; nothing besides. */
	assert_in_range(c.n_steps - before, 19 * 9, 21 * 9);
}

static void test_writes_under_way_may_outnumber_the_ring(void **state)
{
	struct raft_message m;

	(void)state;
	begin(3, 0);
	rc_start(&c, 2);
	for (unsigned i = 0; i < 500; i++) {
		m = append(3, i, i ? 2 : 0, 1, 2);
		assert_int_equal(rc_message(&c, &m), RAFT_OK);
	}
	while (c.nodes[2].n_writes > 0)
		rc_persist_one(&c, 2);
	assert_int_equal(c.nodes[2].status.durable_index, 500);
}

/* Its newest record rotted while it was down, and looked like a torn tail. Without a read nothing else tells an overtaken refusal
 * from one of a member that has lost what it acknowledged. */
static void test_follower_that_lost_what_it_acknowledged_gets_it_again(void **state)
{
	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	assert_int_equal(rc_propose(&c, 1, 5, 0), RAFT_OK);
	rc_settle(&c);
	(void)rc_timeout(&c, 1);
	rc_settle(&c);
	assert_int_equal(rc_progress(&c, 1, 2)->match, 6);
	rc_crash(&c, 2, 0);
	c.nodes[2].disk.n -= 3;
	c.nodes[2].disk_commit = 0;
	rc_start(&c, 2);
	for (unsigned i = 0; i < 4; i++) {
		(void)rc_timeout(&c, 1);
		rc_settle(&c);
	}
	assert_int_equal(c.nodes[2].status.last_index, 6);
	assert_int_equal(rc_progress(&c, 1, 2)->match, 6);
	assert_int_equal(rc_progress(&c, 1, 2)->losses, 1);
	assert_int_equal(c.nodes[1].traces[RAFT_TRACE_LOST], 1);
}

/* Nobody can refuse what comes before the first entry: so a member says its term to whoever led an earlier one, in round 0. Whatever
 * else it says, that is no answer to this leader. */
static void test_refusal_of_the_beginning_is_no_answer(void **state)
{
	struct raft_message m = {.type = RAFT_MESSAGE_APPEND_REPLY, .from = 2, .to = 1};

	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	rc_settle(&c);
	assert_int_equal(rc_read(&c, 1), RAFT_OK);
	m.term = c.nodes[1].status.hard_state.term;
	m.append_reply.rejected = true;
	for (unsigned round = 0; round < 2; round++) {
		m.append_reply.round = round;
		assert_int_equal(rc_message(&c, &m), RAFT_OK);
		assert_int_equal(rc_progress(&c, 1, 2)->match, 1);
		assert_int_equal(rc_progress(&c, 1, 2)->losses, 0);
	}
}

static void test_refusal_that_was_overtaken_changes_nothing(void **state)
{
	struct raft_message m = {.type = RAFT_MESSAGE_APPEND_REPLY, .from = 2, .to = 1};

	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	assert_int_equal(rc_propose(&c, 1, 5, 0), RAFT_OK);
	rc_settle(&c);
	m.term = c.nodes[1].status.hard_state.term;
	m.append_reply.rejected = true;
	m.append_reply.prev_index = 3;
	m.append_reply.conflict_index = 2;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(rc_message(&c, &m), RAFT_OK);
		rc_settle(&c);
	}
	assert_int_equal(rc_progress(&c, 1, 2)->match, 6);
	assert_int_equal(rc_progress(&c, 1, 2)->losses, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_acknowledgement_waits_for_disk, end),
		cmocka_unit_test_teardown(test_one_acknowledgement_for_all_that_a_sync_covers, end),
		cmocka_unit_test_teardown(test_heartbeat_is_answered_at_once_with_what_is_durable, end),
		cmocka_unit_test_teardown(test_append_with_unknown_prev_is_refused_with_the_end_of_the_log, end),
		cmocka_unit_test_teardown(test_append_with_other_prev_term_is_refused_with_that_terms_start, end),
		cmocka_unit_test_teardown(test_conflicting_suffix_goes_and_the_agreeing_part_stays, end),
		cmocka_unit_test_teardown(test_old_append_that_was_overtaken_removes_nothing, end),
		cmocka_unit_test_teardown(test_follower_commits_and_acknowledges_only_what_was_verified, end),
		cmocka_unit_test_teardown(test_late_confirmation_does_not_vouch_for_replaced_entries, end),
		cmocka_unit_test_teardown(test_contradicting_a_committed_entry_is_refused, end),
		cmocka_unit_test_teardown(test_impossible_appends_are_refused, end),
		cmocka_unit_test_teardown(test_new_leader_opens_its_term_with_a_noop, end),
		cmocka_unit_test_teardown(test_entries_of_earlier_terms_are_not_committed_by_counting, end),
		cmocka_unit_test_teardown(test_leader_counts_itself_by_its_disk, end),
		cmocka_unit_test_teardown(test_quorum_commits_without_the_leaders_disk, end),
		cmocka_unit_test_teardown(test_lone_voter_commits_only_what_is_durable, end),
		cmocka_unit_test_teardown(test_proposals_are_numbered_and_refused_elsewhere, end),
		cmocka_unit_test_teardown(test_too_much_uncommitted_is_refused_until_it_commits, end),
		cmocka_unit_test_teardown(test_what_waits_for_the_own_disk_is_bounded_although_the_others_commit, end),
		cmocka_unit_test_teardown(test_streaming_is_bounded_by_batch_and_window, end),
		cmocka_unit_test_teardown(test_entry_larger_than_batch_and_window_still_goes, end),
		cmocka_unit_test_teardown(test_lost_append_shows_at_the_next_heartbeat, end),
		cmocka_unit_test_teardown(test_an_answer_from_before_the_probe_does_not_end_it, end),
		cmocka_unit_test_teardown(test_silent_member_is_not_flooded, end),
		cmocka_unit_test_teardown(test_every_follower_of_figure_7_is_repaired_in_few_rounds, end),
		cmocka_unit_test_teardown(test_backing_up_skips_whole_terms, end),
		cmocka_unit_test_teardown(test_log_can_begin_above_one, end),
		cmocka_unit_test_teardown(test_compaction_forgets_and_replication_goes_on, end),
		cmocka_unit_test_teardown(test_member_behind_the_leaders_base_is_asked_at_heartbeats_only, end),
		cmocka_unit_test_teardown(test_idle_leader_wakes_once_per_heartbeat, end),
		cmocka_unit_test_teardown(test_writes_under_way_may_outnumber_the_ring, end),
		cmocka_unit_test_teardown(test_follower_that_lost_what_it_acknowledged_gets_it_again, end),
		cmocka_unit_test_teardown(test_refusal_of_the_beginning_is_no_answer, end),
		cmocka_unit_test_teardown(test_refusal_that_was_overtaken_changes_nothing, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
