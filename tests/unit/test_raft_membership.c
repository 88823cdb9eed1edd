/*
 * Claims about membership changes (dissertation, chapter 4, with the correction of 2015; traps A25 to A31): what may be
 * changed when, what is in force, who counts, how a cluster begins and how members join. It knows the core only through
 * raft.h.
 */
#include "raft_script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define VOTER RAFT_MEMBER_VOTER
#define LEARNER RAFT_MEMBER_LEARNER
#define JOINING RAFT_MEMBER_JOINING
#define REMOVED 0

static struct rc_cluster c;

static void begin(unsigned n_founders, unsigned n_blank)
{
	struct rc_options options = {.n_nodes = n_founders + n_blank, .n_blank = n_blank, .seed = 17};

	rc_init(&c, &options);
}

static int end(void **state)
{
	(void)state;
	rc_fini(&c);
	return 0;
}

static void heartbeat(uint64_t leader)
{
	(void)rc_timeout(&c, leader);
	rc_settle(&c);
}

/* Founding --------------------------------------------------------------------------------------------- */

static void test_blank_member_is_passive(void **state)
{
	struct raft_message m;

	(void)state;
	begin(1, 1);
	rc_start(&c, 2);
	assert_int_equal(c.nodes[2].status.role, RAFT_LEARNER);
	assert_int_equal(c.nodes[2].deadline_us, UINT64_MAX);
	assert_false(c.nodes[2].status.removed);
	m = rc_vote_request(1, 2, 7, 5, 5);
	assert_false(rc_is_granted(&c, &m));
	m.vote_request.pre_vote = true;
	m.term = 9;
	assert_false(rc_is_granted(&c, &m));
	c.scripted = true;
	rc_put_command(0, 7);
	m = rc_append(5, 2, 7, 0, 0, 1); /* whoever leads */
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	rc_persist(&c, 2);
	assert_true(rc_take(&c, 2, 5, RAFT_MESSAGE_APPEND_REPLY, &m));
	assert_int_equal(m.append_reply.match, 1);
	rc_run_us(&c, 3000 * RC_MS);
	assert_int_equal(c.nodes[2].status.role, RAFT_LEARNER);
	m = (struct raft_message){.type = RAFT_MESSAGE_TIMEOUT_NOW, .from = 5, .to = 2, .term = 7};
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(c.nodes[2].status.role, RAFT_LEARNER);
}

static void test_cluster_of_blank_members_is_founded_and_all_become_voters(void **state)
{
	uint64_t before;

	(void)state;
	begin(0, 5);
	rc_start_all(&c);
	before = c.now_us;
	assert_int_equal(rc_bootstrap(&c, 1), RAFT_OK);
	assert_int_equal(c.nodes[1].last.first_index, 1);
	assert_int_equal(c.nodes[1].last.write.term, 1);
	assert_int_equal(c.nodes[1].last.write.hard_state.vote, 1);
	assert_int_equal(c.nodes[1].status.role, RAFT_CANDIDATE);
	assert_int_equal(rc_count(&c, 0, 0, 0), 0); /* not before its disk has it */
	rc_settle(&c);
	assert_int_equal(rc_leader(&c), 1);
	assert_int_equal(c.nodes[1].status.hard_state.term, 1);
	assert_int_equal(c.nodes[1].status.n_voters, 5);
	assert_int_equal(c.nodes[1].traces[RAFT_TRACE_PROMOTE], 4);
	assert_int_equal(c.now_us, before); /* nobody waited for a clock */
	heartbeat(1);
	assert_true(rc_converged(&c));
	assert_int_equal(rc_bootstrap(&c, 1), RAFT_E_NOT_BLANK);
	assert_int_equal(rc_bootstrap(&c, 2), RAFT_E_NOT_BLANK);
	rc_crash(&c, 1, 0);
	assert_true(rc_run_until_leader(&c, 1000 * RC_MS));
}

static void test_founder_that_crashed_early_is_blank_or_leads(void **state)
{
	(void)state;
	for (size_t n_survive = 0; n_survive < 2; n_survive++) {
		begin(0, 1);
		rc_start(&c, 1);
		assert_int_equal(rc_bootstrap(&c, 1), RAFT_OK);
		rc_crash(&c, 1, n_survive);
		rc_start(&c, 1);
		assert_int_equal(c.nodes[1].status.member, n_survive == 1);
		assert_int_equal(rc_bootstrap(&c, 1), n_survive == 1 ? RAFT_E_NOT_BLANK : RAFT_OK);
		rc_settle(&c);
		assert_int_equal(rc_leader(&c), 1);
		rc_fini(&c);
	}
	begin(0, 1);
}

static void test_only_the_founder_votes_at_first(void **state)
{
	struct raft_event event = {.type = RAFT_EVENT_BOOTSTRAP};
	struct raft_config config;

	(void)state;
	begin(3, 0);
	config = c.genesis;
	rc_fini(&c);
	begin(0, 3);
	rc_start(&c, 1);
	event.bootstrap = &config;
	assert_int_equal(rc_step(&c, 1, &event), RAFT_E_CONFIG_INVALID); /* three voters */
	for (unsigned i = 0; i < 2; i++)
		config.members[i].role = JOINING;
	assert_int_equal(rc_step(&c, 1, &event), RAFT_E_CONFIG_INVALID); /* another one */
	config.members[0].role = VOTER;
	config.members[2].role = JOINING;
	config.members[0].incarnation++;
	assert_int_equal(rc_step(&c, 1, &event), RAFT_E_CONFIG_INVALID);
	config.members[0].incarnation--;
	assert_int_equal(rc_step(&c, 1, &event), RAFT_OK);
}

static void test_member_that_heard_of_a_term_is_not_blank(void **state)
{
	struct raft_message m;

	(void)state;
	begin(0, 2);
	rc_start(&c, 1);
	m = rc_vote_request(2, 1, 3, 0, 0);
	(void)rc_is_granted(&c, &m);
	assert_int_equal(rc_bootstrap(&c, 1), RAFT_E_NOT_BLANK);
}

/* Proposing -------------------------------------------------------------------------------------------- */

static void test_no_change_before_an_entry_of_the_own_term_is_committed(void **state) /* trap A25: the bug of 2015 */
{
	(void)state;
	begin(3, 1);
	rc_start_all(&c);
	assert_int_equal(rc_set_role(&c, 1, 4, LEARNER), RAFT_E_NOT_LEADER);
	(void)rc_timeout(&c, 1);
	while (c.nodes[1].status.role != RAFT_LEADER) {
		struct raft_message m;

		rc_persist(&c, 1);
		if (rc_take(&c, 1, 2, 0, &m) || rc_take(&c, 2, 1, 0, &m))
			assert_int_equal(rc_message(&c, &m), RAFT_OK);
		rc_persist(&c, 2);
	}
	assert_false(c.nodes[1].status.term_committed);
	assert_int_equal(rc_set_role(&c, 1, 4, LEARNER), RAFT_E_NOT_READY);
	rc_settle(&c);
	assert_int_equal(rc_set_role(&c, 1, 4, LEARNER), RAFT_OK);
	assert_int_equal(c.nodes[1].last.first_index, 2);
	assert_non_null(c.nodes[1].last.write.config);
}

static void test_one_change_at_a_time_each_from_the_newest(void **state) /* traps A25, A31 */
{
	struct raft_event event = {.type = RAFT_EVENT_CONFIG};
	struct raft_config config;

	(void)state;
	begin(3, 2);
	rc_elect(&c, 1);
	config = rc_config_with(&c, 1, 4, LEARNER);
	assert_int_equal(rc_change(&c, 1, &config), RAFT_OK);
	assert_true(c.nodes[1].status.config_pending);
	assert_int_equal(rc_set_role(&c, 1, 5, LEARNER), RAFT_E_CONFIG_PENDING);
	rc_settle(&c);
	assert_false(c.nodes[1].status.config_pending);
	event.config.config = &config;
	assert_int_equal(rc_step(&c, 1, &event), RAFT_E_STALE); /* from the genesis, index 0 */
	assert_int_equal(rc_set_role(&c, 1, 5, LEARNER), RAFT_OK);
	rc_settle(&c);
	assert_int_equal(c.nodes[1].status.n_peers, 4);
	assert_int_equal(rc_transfer(&c, 1, 4), RAFT_E_UNKNOWN_MEMBER);
	assert_int_equal(rc_propose(&c, 1, 1, 0), RAFT_OK);
	assert_int_equal(rc_transfer(&c, 1, 2), RAFT_OK);
	assert_int_equal(rc_set_role(&c, 1, 5, REMOVED), RAFT_E_BUSY);
}

static void test_invalid_changes_are_refused(void **state)
{
	struct raft_config config;

	(void)state;
	begin(3, 2);
	rc_elect(&c, 1);
	config = rc_config_with(&c, 1, 2, REMOVED);
	assert_true(raft_config_remove(&config, 3));
	assert_int_equal(rc_change(&c, 1, &config), RAFT_E_CONFIG_INVALID);    /* two voters fewer */
	assert_int_equal(rc_set_role(&c, 1, 4, VOTER), RAFT_E_CONFIG_INVALID); /* never a learner: trap A27 */
	config = rc_config_with(&c, 1, 4, JOINING);
	config.members[3].id = 3;
	assert_int_equal(rc_change(&c, 1, &config), RAFT_E_CONFIG_INVALID);
	config = rc_config_with(&c, 1, 1, VOTER);
	config.members[0].incarnation++;
	config.members[0].role = LEARNER; /* the leader knows better which directory it has */
	assert_int_equal(rc_change(&c, 1, &config), RAFT_E_CONFIG_INVALID);
	rc_fini(&c);
	begin(1, 0);
	rc_start(&c, 1);
	rc_settle(&c);
	assert_int_equal(rc_set_role(&c, 1, 1, REMOVED), RAFT_E_CONFIG_INVALID); /* the last voter */
	assert_int_equal(rc_set_role(&c, 1, 1, LEARNER), RAFT_E_CONFIG_INVALID);
}

static void test_change_that_could_not_be_committed_is_refused(void **state) /* trap A27 */
{
	(void)state;
	begin(3, 1);
	rc_elect(&c, 1);
	rc_crash(&c, 3, 0);
	rc_run_us(&c, 2 * RC_TIMEOUT_MAX_US);
	assert_int_equal(rc_leader(&c), 1);
	assert_int_equal(rc_set_role(&c, 1, 2, REMOVED), RAFT_E_NO_QUORUM); /* the living one of two */
	assert_int_equal(rc_set_role(&c, 1, 3, REMOVED), RAFT_OK);	    /* the dead one */
	rc_settle(&c);
	assert_false(c.nodes[1].status.config_pending);
}

/* What is in force ------------------------------------------------------------------------------------- */

static void test_change_is_in_force_when_it_is_appended(void **state) /* trap A25 */
{
	(void)state;
	begin(4, 0);
	rc_elect(&c, 1);
	rc_isolate(&c, 3, true);
	assert_int_equal(rc_set_role(&c, 1, 4, REMOVED), RAFT_OK);
	assert_int_equal(c.nodes[1].status.n_voters, 3);
	rc_isolate(&c, 4, true);
	rc_settle(&c);
	assert_int_equal(c.nodes[1].status.commit, 2); /* two of three; of four it would not do */
	assert_int_equal(c.nodes[2].status.n_voters, 3);
}

static void test_change_adds_its_member_to_the_quorum_at_once(void **state)
{
	(void)state;
	begin(1, 1);
	rc_start_all(&c);
	rc_settle(&c);
	assert_int_equal(rc_set_role(&c, 1, 2, LEARNER), RAFT_OK);
	rc_settle(&c);
	(void)rc_peer_down(&c, 1, 2); /* as if its connection had been broken: the heartbeat probes */
	heartbeat(1);
	assert_true(rc_progress(&c, 1, 2)->caught_up);
	rc_isolate(&c, 2, true);
	assert_int_equal(rc_set_role(&c, 1, 2, VOTER), RAFT_OK); /* caught up, heard a moment ago */
	rc_settle(&c);
	assert_int_equal(c.nodes[1].status.commit, 2);
	assert_int_equal(rc_read(&c, 1), RAFT_OK);
	assert_int_equal(c.nodes[1].last.n_reads_ready, 0); /* no longer alone */
	rc_heal(&c);
	(void)rc_peer_down(&c, 1, 2);
	heartbeat(1);
	heartbeat(1);
	assert_int_equal(c.nodes[1].status.commit, 3);
}

static void test_truncation_brings_the_one_before_back(void **state) /* trap A25 */
{
	struct raft_config first, second;
	struct raft_message m;

	(void)state;
	begin(4, 0);
	c.scripted = true;
	rc_start(&c, 2);
	first = rc_genesis_with(&c, 4, LEARNER);
	second = first;
	assert_true(raft_config_remove(&second, 3));
	rc_put_command(0, 2);
	rc_put_config(1, 2, &first);
	rc_put_command(2, 2);
	rc_put_config(3, 2, &second);
	m = rc_append(1, 2, 2, 0, 0, 4);
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(c.nodes[2].status.config_index, 4);
	assert_int_equal(c.nodes[2].status.n_voters, 2);
	rc_put_command(0, 3);
	m = rc_append(4, 2, 3, 3, 2, 1);
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(c.nodes[2].status.config_index, 2); /* though nobody said that it is committed */
	assert_int_equal(c.nodes[2].status.n_voters, 3);
	m = rc_append(3, 2, 4, 1, 2, 1);
	rc_put_command(0, 4);
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(c.nodes[2].status.config_index, 0);
	assert_int_equal(c.nodes[2].status.n_voters, 4);
}

static void test_truncation_after_compaction_brings_it_back_as_well(void **state) /* canonical/raft#250 */
{
	struct raft_config config;
	struct raft_message m;
	uint64_t index = 0;

	(void)state;
	begin(3, 0);
	c.scripted = true;
	rc_start(&c, 2);
	config = rc_genesis_with(&c, 3, LEARNER);
	rc_put_config(0, 2, &config);
	rc_put_command(1, 2);
	rc_put_command(2, 2);
	m = rc_append(1, 2, 2, 0, 0, 3);
	m.append.commit = 3;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	rc_persist(&c, 2);
	rc_compact(&c, 2, 3);
	assert_int_equal(c.nodes[2].status.base_index, 3);
	config = rc_genesis_with(&c, 3, VOTER);
	rc_put_config(0, 2, &config);
	m = rc_append(1, 2, 2, 3, 2, 1);
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(c.nodes[2].status.n_voters, 3);
	rc_put_command(0, 3);
	m = rc_append(1, 2, 3, 3, 2, 1);
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(c.nodes[2].status.n_voters, 2);
	assert_int_equal(c.nodes[2].status.config_index, 1);
	assert_int_equal(raft_config_at(c.nodes[2].core, 3, &index)->members[2].role, LEARNER);
	assert_int_equal(index, 1);
}

static void test_restart_finds_the_configuration_in_the_log(void **state)
{
	(void)state;
	begin(3, 1);
	rc_elect(&c, 1);
	assert_int_equal(rc_set_role(&c, 1, 4, LEARNER), RAFT_OK);
	rc_settle(&c);
	rc_isolate(&c, 1, true);
	assert_int_equal(rc_set_role(&c, 1, 2, REMOVED), RAFT_OK);
	rc_settle(&c);
	rc_crash(&c, 1, 0);
	rc_start(&c, 1);
	assert_int_equal(c.nodes[1].status.config_index, 3); /* in force, committed or not */
	assert_int_equal(c.nodes[1].status.n_voters, 2);
	assert_true(c.nodes[1].status.config_pending);
	rc_heal(&c);
	assert_true(rc_run_until_leader(&c, 2000 * RC_MS));
	rc_run_us(&c, 1000 * RC_MS);
	assert_int_equal(c.nodes[1].status.n_voters, c.nodes[3].status.n_voters); /* committed, or gone everywhere */
}

static void test_damaged_configurations_are_refused(void **state) /* DESIGN.md, rule 8 */
{
	struct raft_config config;
	struct raft_message m;

	(void)state;
	begin(3, 0);
	rc_start(&c, 2);
	c.scripted = true;
	config = rc_genesis_with(&c, 3, LEARNER);
	rc_put_config(0, 2, &config);
	rc_script_entries[0].size--;
	m = rc_append(1, 2, 2, 0, 0, 1);
	assert_int_equal(rc_message(&c, &m), RAFT_E_INVALID);
	assert_true(raft_config_remove(&config, 2));
	rc_put_config(0, 2, &config); /* two voters fewer than the genesis */
	assert_int_equal(rc_message(&c, &m), RAFT_E_INVALID);
	config = rc_genesis_with(&c, 3, LEARNER);
	rc_put_config(0, 2, &config);
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(c.nodes[2].status.n_voters, 2);
}

/* Joining ---------------------------------------------------------------------------------------------- */

static void test_joining_member_is_promoted_when_it_has_caught_up(void **state) /* trap A27 */
{
	(void)state;
	begin(3, 2);
	rc_elect(&c, 1);
	rc_start_all(&c);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(rc_propose(&c, 1, 20, 0), RAFT_OK);
	rc_settle(&c);
	rc_isolate(&c, 5, true);
	assert_int_equal(rc_set_role(&c, 1, 5, JOINING), RAFT_OK);
	rc_settle(&c);
	heartbeat(1);
	assert_int_equal(c.nodes[1].status.n_voters, 3); /* not yet */
	assert_int_equal(rc_set_role(&c, 1, 5, VOTER), RAFT_E_NOT_READY);
	assert_int_equal(rc_set_role(&c, 1, 4, LEARNER), RAFT_OK);
	rc_settle(&c);
	heartbeat(1);
	heartbeat(1);
	assert_int_equal(c.nodes[1].status.n_voters, 3); /* a learner stays one */
	assert_true(rc_progress(&c, 1, 4)->caught_up);
	rc_heal(&c);
	(void)rc_peer_down(&c, 1, 5);
	heartbeat(1);
	heartbeat(1);
	assert_int_equal(c.nodes[1].status.n_voters, 4);
	assert_int_equal(c.nodes[1].traces[RAFT_TRACE_PROMOTE], 1);
	assert_true(c.nodes[5].status.self_voter);
	assert_int_equal(c.nodes[5].status.role, RAFT_FOLLOWER);
	assert_int_equal(rc_set_role(&c, 1, 4, VOTER), RAFT_OK);
}

static void test_member_that_fell_silent_is_not_promoted(void **state)
{
	(void)state;
	begin(3, 1);
	rc_elect(&c, 1);
	rc_start_all(&c);
	assert_int_equal(rc_set_role(&c, 1, 4, LEARNER), RAFT_OK);
	rc_settle(&c);
	heartbeat(1);
	assert_true(rc_progress(&c, 1, 4)->caught_up);
	rc_isolate(&c, 4, true);
	rc_run_us(&c, RC_TIMEOUT_MIN_US + RC_HEARTBEAT_US);
	assert_int_equal(rc_set_role(&c, 1, 4, JOINING), RAFT_OK);
	rc_run_us(&c, 1000 * RC_MS);
	assert_int_equal(c.nodes[1].status.n_voters, 3);
	assert_int_equal(rc_leader(&c), 1);
}

/* etcd-io/raft: a learner that is promoted and does not know it yet must vote, or the candidate that needs it never wins. */
static void test_learner_asked_for_its_vote_votes(void **state)
{
	struct raft_config config;
	struct raft_message m;

	(void)state;
	begin(2, 0);
	c.scripted = true;
	rc_start(&c, 2);
	config = rc_genesis_with(&c, 2, LEARNER);
	rc_put_config(0, 2, &config);
	m = rc_append(1, 2, 2, 0, 0, 1);
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	rc_persist(&c, 2);
	assert_int_equal(c.nodes[2].status.commit, 0);
	m = rc_append(1, 2, 2, 1, 2, 0);
	m.append.commit = 1;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(c.nodes[2].status.role, RAFT_LEARNER);
	c.now_us += 10 * RC_TIMEOUT_MAX_US;
	m = rc_vote_request(1, 2, 3, 2, 2);
	assert_true(rc_is_granted(&c, &m));
	assert_int_equal(c.nodes[2].status.role, RAFT_LEARNER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_blank_member_is_passive, end),
		cmocka_unit_test_teardown(test_cluster_of_blank_members_is_founded_and_all_become_voters, end),
		cmocka_unit_test_teardown(test_founder_that_crashed_early_is_blank_or_leads, end),
		cmocka_unit_test_teardown(test_only_the_founder_votes_at_first, end),
		cmocka_unit_test_teardown(test_member_that_heard_of_a_term_is_not_blank, end),
		cmocka_unit_test_teardown(test_no_change_before_an_entry_of_the_own_term_is_committed, end),
		cmocka_unit_test_teardown(test_one_change_at_a_time_each_from_the_newest, end),
		cmocka_unit_test_teardown(test_invalid_changes_are_refused, end),
		cmocka_unit_test_teardown(test_change_that_could_not_be_committed_is_refused, end),
		cmocka_unit_test_teardown(test_change_is_in_force_when_it_is_appended, end),
		cmocka_unit_test_teardown(test_change_adds_its_member_to_the_quorum_at_once, end),
		cmocka_unit_test_teardown(test_truncation_brings_the_one_before_back, end),
		cmocka_unit_test_teardown(test_truncation_after_compaction_brings_it_back_as_well, end),
		cmocka_unit_test_teardown(test_restart_finds_the_configuration_in_the_log, end),
		cmocka_unit_test_teardown(test_damaged_configurations_are_refused, end),
		cmocka_unit_test_teardown(test_joining_member_is_promoted_when_it_has_caught_up, end),
		cmocka_unit_test_teardown(test_member_that_fell_silent_is_not_promoted, end),
		cmocka_unit_test_teardown(test_learner_asked_for_its_vote_votes, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
