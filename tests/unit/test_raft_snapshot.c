/*
 * Claims about the end of the log's reach: a follower that needs what is compacted away, and what an installed snapshot
 * does to a log (paper, section 7; traps A33 to A35). It knows the core only through raft.h.
 */
#include "raft_cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct rc_cluster c;

static void begin(unsigned n_nodes)
{
	struct rc_options options = {.n_nodes = n_nodes, .seed = 3};

	rc_init(&c, &options);
}

static int end(void **state)
{
	(void)state;
	rc_fini(&c);
	return 0;
}

/* Member 1 leads three, member 3 is cut off; entries, of which everything up to index 10 is compacted away. */
static void leave_behind(void)
{
	begin(3);
	rc_elect(&c, 1);
	rc_isolate(&c, 3, true);
	assert_int_equal(rc_propose(&c, 1, 15, 0), RAFT_OK);
	rc_settle(&c);
	(void)rc_timeout(&c, 1);
	rc_settle(&c);
	assert_int_equal(rc_propose(&c, 1, 1, 0), RAFT_OK); /* the disk hears of the commit index */
	rc_settle(&c);
	rc_compact(&c, 1, 10);
	assert_int_equal(c.nodes[1].status.base_index, 10);
	rc_heal(&c);
}

static void heartbeat(void)
{
	(void)rc_timeout(&c, 1);
	rc_settle(&c);
}

static void test_follower_behind_the_base_gets_heartbeats_and_no_entries(void **state)
{
	struct raft_message m;

	(void)state;
	leave_behind();
	assert_int_equal(c.nodes[3].status.last_index, 1);
	heartbeat();
	heartbeat();
	assert_int_equal(c.nodes[3].status.last_index, 1);
	assert_true(rc_progress(&c, 1, 3)->snapshot);
	assert_int_equal(c.nodes[1].last.n_snapshots, 1);
	assert_int_equal(c.nodes[1].last.snapshots[0], 3);
	assert_int_equal(c.nodes[1].traces[RAFT_TRACE_SNAPSHOT_NEEDED], 1);
	assert_int_equal(rc_propose(&c, 1, 1, 0), RAFT_OK);
	assert_false(rc_take(&c, 1, 3, RAFT_MESSAGE_APPEND, &m));
	rc_settle(&c);
	(void)rc_timeout(&c, 1);
	assert_true(rc_take(&c, 1, 3, RAFT_MESSAGE_APPEND, &m));
	assert_int_equal(m.append.n_entries, 0);
	assert_int_equal(m.append.prev_index, 10); /* what fits as soon as the snapshot is there */
	assert_int_equal(rc_count(&c, 1, 3, 0), 0);
}

static void test_leader_that_compacts_knows_at_once_who_needs_a_snapshot(void **state)
{
	(void)state;
	begin(3);
	rc_elect(&c, 1);
	rc_isolate(&c, 3, true);
	(void)rc_peer_down(&c, 1, 3); /* nothing more is sent to it */
	assert_int_equal(rc_propose(&c, 1, 5, 0), RAFT_OK);
	rc_settle(&c);
	assert_int_equal(rc_propose(&c, 1, 5, 0), RAFT_OK);
	rc_settle(&c);
	rc_compact(&c, 1, 5);
	assert_true(rc_progress(&c, 1, 3)->snapshot);
	(void)rc_tick(&c, 1);
	assert_int_equal(c.nodes[1].last.n_snapshots, 1);
}

static void test_acknowledged_only_when_the_new_beginning_is_durable(void **state) /* trap A33 */
{
	struct rc_snapshot snapshot;
	struct raft_message m;

	(void)state;
	leave_behind();
	heartbeat();
	rc_take_snapshot(&c, 1, 12, &snapshot);
	assert_int_equal(rc_install(&c, 3, &snapshot), RAFT_OK);
	assert_int_equal(c.nodes[3].last.write.reset_index, 12);
	assert_int_equal(c.nodes[3].last.write.reset_term, 1);
	assert_int_equal(c.nodes[3].status.commit, 12);
	assert_int_equal(rc_count(&c, 3, 1, 0), 0);
	(void)rc_timeout(&c, 1);
	assert_true(rc_take(&c, 1, 3, RAFT_MESSAGE_APPEND, &m));
	assert_int_equal(rc_message(&c, &m), RAFT_OK); /* a heartbeat meanwhile: answered, but for nothing */
	assert_true(rc_take(&c, 3, 1, RAFT_MESSAGE_APPEND_REPLY, &m));
	assert_int_equal(m.append_reply.match, 0);
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_true(rc_progress(&c, 1, 3)->snapshot);
	rc_persist(&c, 3);
	assert_true(rc_take(&c, 3, 1, RAFT_MESSAGE_APPEND_REPLY, &m));
	assert_int_equal(m.append_reply.match, 12);
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_false(rc_progress(&c, 1, 3)->snapshot);
	assert_int_equal(c.nodes[1].last.n_snapshots, 0);
	rc_settle(&c);
	heartbeat();
	assert_true(rc_converged(&c));
}

static void test_without_the_leaders_word_the_next_heartbeat_acknowledges(void **state)
{
	struct rc_snapshot snapshot;

	(void)state;
	leave_behind();
	heartbeat();
	rc_take_snapshot(&c, 1, 12, &snapshot);
	snapshot.leader_term = 0;
	assert_int_equal(rc_install(&c, 3, &snapshot), RAFT_OK);
	rc_persist(&c, 3);
	assert_int_equal(rc_count(&c, 3, 1, 0), 0);
	heartbeat();
	heartbeat();
	assert_true(rc_converged(&c));
}

static void test_crash_before_that_brings_the_old_log_back(void **state)
{
	struct rc_snapshot snapshot;

	(void)state;
	leave_behind();
	heartbeat();
	rc_take_snapshot(&c, 1, 12, &snapshot);
	assert_int_equal(rc_install(&c, 3, &snapshot), RAFT_OK);
	rc_crash(&c, 3, 0);
	rc_start(&c, 3);
	assert_int_equal(c.nodes[3].status.last_index, 1);
	heartbeat();
	assert_true(rc_progress(&c, 1, 3)->snapshot);
	rc_serve_snapshots(&c, 1);
	rc_crash(&c, 3, 1);
	rc_start(&c, 3);
	assert_int_equal(c.nodes[3].status.base_index, 17);
	heartbeat();
	heartbeat();
	assert_true(rc_converged(&c));
}

static void test_nothing_at_or_below_the_commit_index_is_installed(void **state) /* trap A33 */
{
	struct rc_snapshot snapshot;

	(void)state;
	begin(3);
	rc_elect(&c, 1);
	assert_int_equal(rc_propose(&c, 1, 5, 0), RAFT_OK);
	rc_settle(&c);
	heartbeat();
	rc_take_snapshot(&c, 1, c.nodes[3].status.commit, &snapshot);
	assert_int_equal(rc_install(&c, 3, &snapshot), RAFT_E_STALE);
	snapshot.index--;
	assert_int_equal(rc_install(&c, 3, &snapshot), RAFT_E_STALE);
	assert_int_equal(rc_install(&c, 1, &snapshot), RAFT_E_STALE);
}

static void test_suffix_is_kept_when_it_has_the_last_entry(void **state) /* trap A33 */
{
	struct rc_snapshot snapshot = {.index = 6, .term = 2, .leader_term = 3};

	(void)state;
	begin(3);
	c.scripted = true;
	rc_seed_log(&c, 2, 2, 9);
	rc_start(&c, 2);
	snapshot.config = c.genesis;
	assert_int_equal(rc_install(&c, 2, &snapshot), RAFT_OK);
	assert_int_equal(c.nodes[2].last.write.reset_index, 0);
	assert_int_equal(c.nodes[2].status.last_index, 9);
	assert_int_equal(c.nodes[2].status.commit, 6);
	assert_int_equal(c.nodes[2].status.hard_state.term, 3);
}

static void test_whole_log_goes_when_it_differs(void **state) /* trap A33 */
{
	struct rc_snapshot snapshot = {.index = 6, .term = 3, .leader_term = 3};

	(void)state;
	begin(3);
	c.scripted = true;
	rc_seed_log(&c, 2, 2, 9);
	rc_start(&c, 2);
	snapshot.config = c.genesis;
	assert_int_equal(rc_install(&c, 2, &snapshot), RAFT_OK);
	assert_int_equal(c.nodes[2].last.write.reset_index, 6);
	assert_int_equal(c.nodes[2].status.last_index, 6);
	assert_int_equal(c.nodes[2].status.base_index, 6);
	assert_int_equal(c.nodes[2].status.durable_index, 6);
	assert_int_equal(raft_term_at(c.nodes[2].core, 6), 3);
}

/* Writes of the old log that are confirmed later say nothing about the new one. */
static void test_late_confirmations_do_not_vouch_for_the_new_log(void **state)
{
	static const uint64_t value = 1;
	struct raft_entry entry = {.term = 2, .type = RAFT_ENTRY_COMMAND, .size = 8, .data = (const uint8_t *)&value};
	struct rc_snapshot snapshot = {.index = 3, .term = 1, .leader_term = 2};
	struct raft_message m = {.type = RAFT_MESSAGE_APPEND, .from = 1, .to = 2, .term = 1};
	struct raft_entry old[5];

	(void)state;
	begin(3);
	c.scripted = true;
	rc_start(&c, 2);
	for (unsigned i = 0; i < 5; i++) {
		old[i] = entry;
		old[i].term = i < 2 ? 1 : 2;
	}
	m.term = 2;
	m.append.n_entries = 5;
	m.append.entries = old;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	snapshot.config = c.genesis;
	snapshot.term = 3;
	snapshot.leader_term = 3;
	assert_int_equal(rc_install(&c, 2, &snapshot), RAFT_OK); /* entries 4 and 5 are gone */
	m.term = 3;
	m.append.prev_index = 3;
	m.append.prev_term = 3;
	entry.term = 3;
	m.append.n_entries = 1;
	m.append.entries = &entry;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(c.nodes[2].status.last_index, 4);
	rc_persist_one(&c, 2);
	assert_int_equal(c.nodes[2].status.durable_index, 3);
	rc_lose(&c, 2, 0, 0);
	rc_persist_one(&c, 2);
	assert_int_equal(c.nodes[2].status.durable_index, 3);
	assert_true(rc_take(&c, 2, 1, RAFT_MESSAGE_APPEND_REPLY, &m));
	assert_int_equal(m.append_reply.match, 3);
	rc_persist_one(&c, 2);
	assert_true(rc_take(&c, 2, 1, RAFT_MESSAGE_APPEND_REPLY, &m));
	assert_int_equal(m.append_reply.match, 4);
}

/* A restart between installing and beginning anew: the disk's log is the old one until the write that was queued again is done. */
static void test_restart_before_the_reset_answers_when_it_is_durable(void **state)
{
	const struct raft_options options = {.id = 2,
					     .heartbeat_us = RC_HEARTBEAT_US,
					     .election_timeout_min_us = RC_TIMEOUT_MIN_US,
					     .election_timeout_max_us = RC_TIMEOUT_MAX_US,
					     .batch_bytes_max = 1000,
					     .window_bytes_max = 1000,
					     .uncommitted_bytes_max = 1000};
	struct raft_recovered recovered = {
		.hard_state.term = 3, .base_index = 6, .base_term = 3, .commit = 6, .resetting = true};
	const struct raft_message m = {.type = RAFT_MESSAGE_APPEND,
				       .from = 1,
				       .to = 2,
				       .term = 3,
				       .append = {.prev_index = 6, .prev_term = 3, .commit = 6, .round = 1}};
	struct raft_event event = {.type = RAFT_EVENT_MESSAGE, .message = &m};
	struct raft_update update;

	(void)state;
	begin(3);
	recovered.config = c.genesis;
	struct raft *core = raft_new(&options, &recovered, 0);
	assert_non_null(core);
	raft_start(core, 0);
	raft_check_invariants(core);
	assert_int_equal(raft_step(core, &event, &update), RAFT_OK);
	assert_int_equal(update.n_messages, 0);
	event = (struct raft_event){.type = RAFT_EVENT_PERSISTED, .persisted_seq = 1};
	assert_int_equal(raft_step(core, &event, &update), RAFT_OK);
	assert_int_equal(update.n_messages, 1);
	assert_int_equal(update.messages[0].type, RAFT_MESSAGE_APPEND_REPLY);
	assert_int_equal(update.messages[0].append_reply.match, 6);
	raft_free(core);
}

static void test_leader_that_compacts_further_keeps_the_peer_waiting(void **state) /* trap A35 */
{
	struct rc_snapshot snapshot;

	(void)state;
	leave_behind();
	heartbeat();
	rc_take_snapshot(&c, 1, 12, &snapshot);
	rc_compact(&c, 1, 15);
	assert_int_equal(rc_install(&c, 3, &snapshot), RAFT_OK);
	rc_settle(&c);
	heartbeat();
	assert_true(rc_progress(&c, 1, 3)->snapshot);
	assert_int_equal(c.nodes[3].status.last_index, 12);
	rc_serve_snapshots(&c, 1);
	rc_settle(&c);
	heartbeat();
	assert_true(rc_converged(&c));
}

static void test_configuration_comes_with_the_snapshot(void **state) /* trap A29 */
{
	uint64_t config_index = 0;

	(void)state;
	leave_behind();
	assert_int_equal(rc_set_role(&c, 1, 4, RAFT_MEMBER_LEARNER), RAFT_OK);
	rc_settle(&c);
	heartbeat();
	rc_serve_snapshots(&c, 1);
	rc_settle(&c);
	assert_int_equal(c.nodes[3].status.config_index, 18);
	assert_int_equal(c.nodes[3].status.n_peers, 3);
	assert_non_null(raft_config_at(c.nodes[3].core, c.nodes[3].status.base_index, &config_index));
	assert_int_equal(config_index, 18);
	rc_crash(&c, 3, 0);
	rc_start(&c, 3);
	assert_int_equal(c.nodes[3].status.config_index, 18);
}

static void test_candidate_with_another_log_gives_up(void **state)
{
	struct rc_snapshot snapshot = {.index = 20, .term = 3, .leader_term = 3};

	(void)state;
	begin(3);
	c.scripted = true;
	rc_seed_log(&c, 2, 4, 12);
	rc_start(&c, 2);
	(void)rc_timeout(&c, 2);
	assert_int_equal(c.nodes[2].status.role, RAFT_PRE_CANDIDATE);
	snapshot.config = c.genesis;
	assert_int_equal(rc_install(&c, 2, &snapshot), RAFT_OK);
	assert_int_equal(c.nodes[2].status.role, RAFT_FOLLOWER);
	assert_int_equal(c.nodes[2].status.hard_state.term, 4);
}

static void test_leader_follows_when_a_newer_one_sent_it(void **state)
{
	struct rc_snapshot snapshot = {.index = 20, .term = 1, .leader_term = 1};

	(void)state;
	begin(3);
	rc_elect(&c, 1);
	c.scripted = true;
	snapshot.config = c.genesis;
	assert_int_equal(rc_install(&c, 1, &snapshot), RAFT_E_STALE); /* not beyond what a leader has */
	snapshot.leader_term = 2;
	assert_int_equal(rc_install(&c, 1, &snapshot), RAFT_OK);
	assert_int_equal(c.nodes[1].status.role, RAFT_FOLLOWER);
	assert_int_equal(c.nodes[1].status.hard_state.term, 2);
	assert_int_equal(c.nodes[1].status.base_index, 20);
	rc_fini(&c);
	begin(3);
	rc_elect(&c, 1);
	c.scripted = true;
	snapshot.leader_term = 0;
	snapshot.term = 2; /* somebody led that term */
	assert_int_equal(rc_install(&c, 1, &snapshot), RAFT_OK);
	assert_int_equal(c.nodes[1].status.role, RAFT_FOLLOWER);
}

static void test_impossible_snapshots_are_refused(void **state) /* DESIGN.md, rule 8 */
{
	struct rc_snapshot good = {.index = 20, .term = 3, .leader_term = 3, .config_index = 20};
	struct rc_snapshot bad;

	(void)state;
	begin(3);
	c.scripted = true;
	rc_start(&c, 2);
	good.config = c.genesis;
	for (unsigned i = 0; i < 7; i++) {
		bad = good;
		bad.index = i == 0 ? 0 : i == 1 ? UINT64_MAX : bad.index;
		bad.term = i == 2 ? 0 : i == 3 ? UINT64_MAX : bad.term;
		bad.leader_term = i == 4 ? 2 : bad.leader_term;
		bad.config_index = i == 5 ? 21 : bad.config_index;
		bad.config.n_members = i == 6 ? 0 : bad.config.n_members;
		assert_int_equal(rc_install(&c, 2, &bad), RAFT_E_INVALID);
	}
	assert_int_equal(rc_install(&c, 2, &good), RAFT_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_follower_behind_the_base_gets_heartbeats_and_no_entries, end),
		cmocka_unit_test_teardown(test_leader_that_compacts_knows_at_once_who_needs_a_snapshot, end),
		cmocka_unit_test_teardown(test_acknowledged_only_when_the_new_beginning_is_durable, end),
		cmocka_unit_test_teardown(test_without_the_leaders_word_the_next_heartbeat_acknowledges, end),
		cmocka_unit_test_teardown(test_crash_before_that_brings_the_old_log_back, end),
		cmocka_unit_test_teardown(test_nothing_at_or_below_the_commit_index_is_installed, end),
		cmocka_unit_test_teardown(test_suffix_is_kept_when_it_has_the_last_entry, end),
		cmocka_unit_test_teardown(test_whole_log_goes_when_it_differs, end),
		cmocka_unit_test_teardown(test_late_confirmations_do_not_vouch_for_the_new_log, end),
		cmocka_unit_test_teardown(test_restart_before_the_reset_answers_when_it_is_durable, end),
		cmocka_unit_test_teardown(test_leader_that_compacts_further_keeps_the_peer_waiting, end),
		cmocka_unit_test_teardown(test_configuration_comes_with_the_snapshot, end),
		cmocka_unit_test_teardown(test_candidate_with_another_log_gives_up, end),
		cmocka_unit_test_teardown(test_leader_follows_when_a_newer_one_sent_it, end),
		cmocka_unit_test_teardown(test_impossible_snapshots_are_refused, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
