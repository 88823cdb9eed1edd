/*
 * Claims about members that leave, are removed while they lead, or come back with an empty disk (dissertation, section
 * 4.2; traps A3, A16, A28). It knows the core only through raft.h.
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

/* Leaving ---------------------------------------------------------------------------------------------- */

static void test_removed_leader_does_not_count_itself_and_steps_down(void **state) /* trap A28 */
{
	uint64_t before;

	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	rc_isolate(&c, 3, true);
	assert_int_equal(rc_set_role(&c, 1, 1, REMOVED), RAFT_OK);
	rc_settle(&c);
	assert_int_equal(c.nodes[1].status.role, RAFT_LEADER);
	assert_int_equal(c.nodes[1].status.commit, 1);	    /* itself and one of the two that remain: not enough */
	assert_int_equal(rc_propose(&c, 1, 1, 0), RAFT_OK); /* meanwhile it leads */
	rc_settle(&c);
	assert_int_equal(rc_set_role(&c, 1, 2, LEARNER), RAFT_E_CONFIG_PENDING);
	rc_heal(&c);
	(void)rc_peer_down(&c, 1, 3);
	(void)rc_timeout(&c, 1);
	before = c.now_us;
	rc_settle(&c);
	assert_int_equal(c.nodes[1].status.role, RAFT_LEARNER);
	assert_in_range(c.nodes[1].status.commit, 2, 4); /* the next leader may have told it of its own term's entry */
	assert_true(c.nodes[1].status.removed);
	assert_true(c.nodes[1].last.removed);
	assert_int_equal(rc_read(&c, 1), RAFT_E_NOT_LEADER); /* trap A16 */
	assert_int_equal(c.nodes[1].traces[RAFT_TRACE_TRANSFER], 1);
	assert_true(rc_leader(&c) == 2 || rc_leader(&c) == 3);
	assert_int_equal(c.now_us, before); /* nobody had to wait */
	rc_run_us(&c, 3000 * RC_MS);
	assert_int_equal(c.nodes[1].traces[RAFT_TRACE_PRE_CANDIDATE], 1); /* the one that made it leader */
}

static void test_reads_of_a_leaving_leader_need_the_others(void **state) /* trap A16 */
{
	(void)state;
	begin(2, 0);
	rc_elect(&c, 1);
	rc_isolate(&c, 2, true);
	assert_int_equal(rc_set_role(&c, 1, 1, REMOVED), RAFT_OK);
	assert_int_equal(rc_read(&c, 1), RAFT_OK);
	rc_settle(&c);
	assert_int_equal(c.nodes[1].last.n_reads_ready, 0); /* one voter, and that is not the leader */
	assert_int_equal(c.nodes[1].status.commit, 1);
	rc_run_us(&c, 2 * RC_TIMEOUT_MAX_US);
	assert_int_not_equal(c.nodes[1].status.role, RAFT_LEADER); /* nor does it count for CheckQuorum */
}

static void test_waiting_reads_are_answered_when_nobody_is_left_to_confirm(void **state)
{
	(void)state;
	begin(2, 0);
	rc_elect(&c, 1);
	assert_int_equal(rc_read(&c, 1), RAFT_OK);
	assert_int_equal(rc_read(&c, 1), RAFT_OK);
	rc_lose(&c, 0, 0, 0);
	assert_int_equal(rc_set_role(&c, 1, 2, REMOVED), RAFT_OK);
	assert_int_equal(c.nodes[1].last.n_reads_ready, 2);
	rc_settle(&c);
	assert_int_equal(c.nodes[1].status.commit, 2);
}

static void test_removed_follower_is_told_and_then_left_alone(void **state)
{
	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	assert_int_equal(rc_set_role(&c, 1, 3, REMOVED), RAFT_OK);
	assert_null(rc_progress(&c, 1, 3));
	rc_settle(&c);
	rc_run_us(&c, 2 * RC_HEARTBEAT_US);
	assert_true(c.nodes[3].status.removed);
	assert_int_equal(c.nodes[3].status.role, RAFT_LEARNER);
	assert_int_equal(c.nodes[3].traces[RAFT_TRACE_REMOVED], 1);
	rc_run_us(&c, 2 * RC_TIMEOUT_MAX_US);
	assert_int_equal(rc_propose(&c, 1, 1, 0), RAFT_OK);
	assert_int_equal(rc_count(&c, 1, 3, 0), 0);
	rc_run_us(&c, 5000 * RC_MS);
	assert_int_equal(c.nodes[3].status.last_index, 2);
	assert_int_equal(c.nodes[3].traces[RAFT_TRACE_PRE_CANDIDATE], 0); /* hashicorp/raft#476 */
	assert_false(c.nodes[1].status.removed);
}

static void test_removal_goes_on_until_the_member_is_back_or_its_time_is_over(void **state)
{
	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	rc_isolate(&c, 3, true);
	assert_int_equal(rc_set_role(&c, 1, 3, REMOVED), RAFT_OK);
	rc_settle(&c);
	rc_run_us(&c, RC_TIMEOUT_MAX_US / 2);
	rc_heal(&c);
	rc_run_us(&c, RC_TIMEOUT_MAX_US / 2);
	assert_true(c.nodes[3].status.removed);
}

static void test_the_next_leader_tells_as_well(void **state)
{
	(void)state;
	begin(4, 0);
	rc_elect(&c, 1);
	rc_isolate(&c, 3, true);
	rc_isolate(&c, 4, true);
	assert_int_equal(rc_set_role(&c, 1, 3, REMOVED), RAFT_OK);
	rc_settle(&c);
	assert_int_equal(c.nodes[2].status.n_voters, 3);
	rc_crash(&c, 1, 0);
	rc_heal(&c);
	assert_true(rc_run_until_leader(&c, 3000 * RC_MS));
	rc_run_us(&c, RC_TIMEOUT_MAX_US);
	assert_int_equal(rc_leader(&c), 2);
	assert_true(c.nodes[3].status.removed);
}

/* It was in a configuration that never came to be. */
static void test_member_whose_joining_was_undone_was_not_removed(void **state)
{
	struct raft_config config;
	struct raft_message m;

	(void)state;
	begin(2, 1);
	c.scripted = true;
	rc_start(&c, 3);
	rc_put_config(0, 1, &c.genesis);
	config = rc_genesis_with(&c, 3, LEARNER);
	rc_put_config(1, 1, &config);
	m = rc_append(1, 3, 1, 0, 0, 2);
	m.append.commit = 1;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_true(c.nodes[3].status.member);
	rc_put_command(0, 2);
	m = rc_append(2, 3, 2, 1, 1, 1);
	m.append.commit = 2;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_false(c.nodes[3].status.member);
	assert_false(c.nodes[3].status.removed);
	rc_put_config(0, 2, &config);
	m = rc_append(2, 3, 2, 2, 2, 1);
	m.append.commit = 3;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	rc_put_config(0, 2, &c.genesis);
	m = rc_append(2, 3, 2, 3, 2, 1);
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_false(c.nodes[3].status.removed); /* not yet */
	m = rc_append(2, 3, 2, 4, 2, 0);
	m.append.commit = 4;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_true(c.nodes[3].status.removed);
}

/* A member that was never told keeps asking; leader stickiness keeps it from doing harm (dissertation, section 4.2.3). */
static void test_removed_member_in_the_dark_disturbs_nobody(void **state)
{
	uint64_t term;

	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	rc_isolate(&c, 3, true);
	assert_int_equal(rc_set_role(&c, 1, 3, REMOVED), RAFT_OK);
	rc_run_us(&c, 3 * RC_TIMEOUT_MAX_US);
	rc_heal(&c);
	term = c.nodes[1].status.hard_state.term;
	rc_run_us(&c, 3000 * RC_MS);
	assert_true(c.nodes[3].traces[RAFT_TRACE_PRE_CANDIDATE] > 3);
	assert_int_equal(rc_leader(&c), 1);
	assert_int_equal(c.nodes[1].status.hard_state.term, term);
}

/* Dissertation, figure 4.6: only the member that is being removed has the change, and it has the longest log. */
static void test_member_being_removed_may_have_to_lead(void **state)
{
	struct raft_message m;

	(void)state;
	begin(4, 0);
	rc_elect(&c, 1);
	assert_int_equal(rc_set_role(&c, 1, 2, REMOVED), RAFT_OK);
	assert_true(rc_take(&c, 1, 2, RAFT_MESSAGE_APPEND, &m));
	rc_lose(&c, 0, 0, 0);
	c.scripted = false;
	/* Member 2 gets it, members 3 and 4 do not, and the leader dies. */
	rc_crash(&c, 1, 0);
	rc_put_config(0, 1, &c.configs[0]->config);
	m.append.entries = rc_script_entries;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	rc_persist(&c, 2);
	assert_false(c.nodes[2].status.self_voter);
	assert_int_equal(c.nodes[2].status.role, RAFT_FOLLOWER);
	assert_true(rc_run_until_leader(&c, 3000 * RC_MS));
	rc_run_us(&c, 2000 * RC_MS);
	assert_true(rc_leader(&c) == 3 || rc_leader(&c) == 4);
	assert_int_equal(c.nodes[2].traces[RAFT_TRACE_LEADER], 1); /* it led, and saw its own end through */
	assert_true(c.nodes[2].status.removed);
	assert_int_equal(c.nodes[rc_leader(&c)].status.n_voters, 3);
}

static void test_being_removed_it_does_not_count_its_own_vote(void **state)
{
	struct raft_config config;
	struct raft_message m;

	(void)state;
	begin(3, 0);
	c.scripted = true;
	rc_start(&c, 2);
	config = rc_genesis_with(&c, 2, REMOVED);
	rc_put_config(0, 2, &config);
	m = rc_append(1, 2, 2, 0, 0, 1);
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	rc_persist(&c, 2);
	(void)rc_timeout(&c, 2);
	assert_int_equal(c.nodes[2].status.role, RAFT_PRE_CANDIDATE);
	m = (struct raft_message){.type = RAFT_MESSAGE_VOTE_REPLY, .from = 3, .to = 2, .term = 2};
	m.vote_reply.granted = true;
	m.vote_reply.pre_vote = true;
	m.vote_reply.request_term = 3;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(c.nodes[2].status.role, RAFT_PRE_CANDIDATE); /* one of two */
	m.from = 1;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	assert_int_equal(c.nodes[2].status.role, RAFT_CANDIDATE);
}

static void test_candidates_that_are_strangers_are_judged_like_others(void **state) /* trap A28 */
{
	struct raft_message m;

	(void)state;
	begin(3, 1);
	rc_start(&c, 2);
	m = rc_vote_request(4, 2, 5, 3, 4);
	assert_true(rc_is_granted(&c, &m));
	assert_int_equal(c.nodes[2].status.hard_state.vote, 4);
	rc_fini(&c);
	begin(3, 1);
	rc_elect(&c, 1);
	m = rc_vote_request(4, 2, 5, 3, 4);
	assert_false(rc_is_granted(&c, &m)); /* a leader is known */
	assert_int_equal(c.nodes[2].status.hard_state.term, 1);
}

static void test_many_strangers_push_no_member_out(void **state)
{
	struct raft_message m;

	(void)state;
	begin(3, 0);
	c.scripted = true;
	rc_elect(&c, 1);
	for (uint64_t id = 100; id < 200; id++) {
		m = (struct raft_message){.type = RAFT_MESSAGE_APPEND_REPLY, .from = id, .to = 1, .term = 1};
		m.append_reply.match = 1;
		assert_int_equal(rc_message(&c, &m), RAFT_OK);
	}
	assert_int_equal(c.nodes[1].status.n_peers, 2);
	assert_int_equal(rc_propose(&c, 1, 1, 0), RAFT_OK);
	rc_settle(&c);
	assert_int_equal(c.nodes[1].status.commit, 2);
}

/* Lost disks ------------------------------------------------------------------------------------------- */

static void test_member_with_an_empty_disk_comes_back_as_a_new_one(void **state) /* trap A3, DESIGN.md rule 3 */
{
	(void)state;
	begin(3, 0);
	rc_elect(&c, 1);
	assert_int_equal(rc_propose(&c, 1, 5, 0), RAFT_OK);
	rc_settle(&c);
	heartbeat(1);
	assert_int_equal(rc_progress(&c, 1, 3)->match, 6);
	rc_crash(&c, 3, 0);
	rc_wipe(&c, 3);
	rc_start(&c, 3);
	heartbeat(1);
	assert_int_equal(c.nodes[3].status.role, RAFT_LEARNER);
	assert_int_equal(rc_progress(&c, 1, 3)->match, 6); /* nobody told the leader yet */
	assert_int_equal(rc_heal_members(&c, 1), RAFT_OK);
	assert_int_equal(rc_progress(&c, 1, 3)->match, 0);
	assert_int_equal(c.nodes[1].status.n_voters, 2);
	rc_settle(&c);
	heartbeat(1);
	heartbeat(1);
	assert_int_equal(c.nodes[1].status.n_voters, 3);
	heartbeat(1);
	assert_true(rc_converged(&c));
	assert_true(c.nodes[3].status.self_voter);
}

/* The log that it is sent still says that it is a voter; that was another data directory. */
static void test_empty_disk_is_no_voter_whatever_old_entries_say(void **state)
{
	struct raft_message m;

	(void)state;
	begin(3, 0);
	c.scripted = true;
	rc_wipe(&c, 2);
	rc_start(&c, 2);
	rc_put_config(0, 2, &c.genesis);
	m = rc_append(1, 2, 2, 0, 0, 1);
	m.append.commit = 1;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	rc_persist(&c, 2);
	assert_int_equal(c.nodes[2].status.n_voters, 3);
	assert_false(c.nodes[2].status.member);
	assert_false(c.nodes[2].status.self_voter);
	assert_false(c.nodes[2].status.removed); /* it never was a member */
	c.now_us += 10 * RC_TIMEOUT_MAX_US;
	(void)rc_tick(&c, 2);
	assert_int_equal(c.nodes[2].status.role, RAFT_LEARNER);
	m = rc_vote_request(3, 2, 3, 9, 2);
	assert_false(rc_is_granted(&c, &m));
}

/* It reads in the log how its predecessors were added, heard, and replaced: no member was removed by that. */
static void test_empty_disk_is_not_removed_by_the_past_of_its_id(void **state)
{
	struct raft_config named, heard, without;
	struct raft_message m;

	(void)state;
	begin(3, 0);
	c.scripted = true;
	rc_wipe(&c, 2);
	rc_start(&c, 2);
	named = heard = without = c.genesis;
	named.members[1].incarnation = 0;
	assert_true(raft_config_remove(&without, 2));
	rc_put_config(0, 2, &named);
	rc_put_config(1, 2, &heard);
	m = rc_append(1, 2, 2, 0, 0, 2);
	m.append.commit = 2;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	rc_persist(&c, 2);
	assert_int_equal(c.nodes[2].status.commit, 2);
	assert_false(c.nodes[2].status.member);
	assert_false(c.nodes[2].status.removed);
	rc_put_config(0, 2, &without);
	m = rc_append(1, 2, 2, 2, 2, 1);
	m.append.commit = 3;
	assert_int_equal(rc_message(&c, &m), RAFT_OK);
	rc_persist(&c, 2);
	assert_int_equal(c.nodes[2].status.commit, 3);
	assert_true(c.nodes[2].status.removed); /* and ids are never used again */
}

static void test_incarnation_that_becomes_known_changes_nothing_else(void **state)
{
	struct raft_config config;

	(void)state;
	begin(3, 0);
	c.genesis.members[1].incarnation = 0;
	rc_elect(&c, 1);
	assert_int_equal(rc_progress(&c, 1, 2)->match, 1);
	config = rc_config_with(&c, 1, 2, VOTER);
	assert_int_equal(config.members[1].incarnation, 2000);
	assert_int_equal(rc_change(&c, 1, &config), RAFT_OK);
	assert_int_equal(rc_progress(&c, 1, 2)->match, 1);
	rc_settle(&c);
	heartbeat(1);
	assert_true(rc_converged(&c));
	config.members[1].incarnation = 0;
	assert_int_equal(rc_change(&c, 1, &config), RAFT_E_CONFIG_INVALID);
}

/* Before it was known anybody may have answered in its name: a directory that is gone by now, too. */
static void test_learner_whose_directory_becomes_known_proves_anew_what_it_has(void **state)
{
	struct raft_config config;

	(void)state;
	begin(3, 0);
	c.genesis.members[1].incarnation = 0;
	c.genesis.members[1].role = RAFT_MEMBER_JOINING;
	rc_elect(&c, 1);
	rc_run_us(&c, 2 * RC_TIMEOUT_MAX_US);
	assert_true(rc_progress(&c, 1, 2)->match > 0);
	assert_true(rc_progress(&c, 1, 2)->caught_up);
	config = rc_config_with(&c, 1, 2, RAFT_MEMBER_JOINING);
	assert_int_equal(config.members[1].incarnation, 2000);
	assert_int_equal(rc_change(&c, 1, &config), RAFT_OK);
	assert_int_equal(rc_progress(&c, 1, 2)->match, 0);
	assert_false(rc_progress(&c, 1, 2)->caught_up);
	rc_settle(&c);
	rc_run_us(&c, 2 * RC_TIMEOUT_MAX_US);
	assert_true(rc_converged(&c));
	assert_int_equal(c.nodes[1].status.n_voters, 3);
}

/* Its configuration is older than its leader's incarnation; only from the leader can it learn the newer one. */
static void test_member_that_was_away_follows_a_leader_that_came_back_empty(void **state)
{
	(void)state;
	begin(4, 0);
	rc_elect(&c, 1);
	rc_isolate(&c, 3, true);
	rc_crash(&c, 2, 0);
	rc_wipe(&c, 2);
	rc_start(&c, 2);
	assert_int_equal(rc_heal_members(&c, 1), RAFT_OK);
	rc_run_us(&c, 1000 * RC_MS);
	assert_true(c.nodes[2].status.self_voter);
	assert_int_equal(rc_transfer(&c, 1, 2), RAFT_OK);
	rc_run_us(&c, 1000 * RC_MS);
	assert_int_equal(rc_leader(&c), 2);
	rc_heal(&c);
	rc_run_us(&c, 2000 * RC_MS);
	assert_true(rc_converged(&c));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_removed_leader_does_not_count_itself_and_steps_down, end),
		cmocka_unit_test_teardown(test_reads_of_a_leaving_leader_need_the_others, end),
		cmocka_unit_test_teardown(test_waiting_reads_are_answered_when_nobody_is_left_to_confirm, end),
		cmocka_unit_test_teardown(test_removed_follower_is_told_and_then_left_alone, end),
		cmocka_unit_test_teardown(test_removal_goes_on_until_the_member_is_back_or_its_time_is_over, end),
		cmocka_unit_test_teardown(test_the_next_leader_tells_as_well, end),
		cmocka_unit_test_teardown(test_member_whose_joining_was_undone_was_not_removed, end),
		cmocka_unit_test_teardown(test_removed_member_in_the_dark_disturbs_nobody, end),
		cmocka_unit_test_teardown(test_member_being_removed_may_have_to_lead, end),
		cmocka_unit_test_teardown(test_being_removed_it_does_not_count_its_own_vote, end),
		cmocka_unit_test_teardown(test_candidates_that_are_strangers_are_judged_like_others, end),
		cmocka_unit_test_teardown(test_many_strangers_push_no_member_out, end),
		cmocka_unit_test_teardown(test_member_with_an_empty_disk_comes_back_as_a_new_one, end),
		cmocka_unit_test_teardown(test_empty_disk_is_no_voter_whatever_old_entries_say, end),
		cmocka_unit_test_teardown(test_empty_disk_is_not_removed_by_the_past_of_its_id, end),
		cmocka_unit_test_teardown(test_incarnation_that_becomes_known_changes_nothing_else, end),
		cmocka_unit_test_teardown(test_learner_whose_directory_becomes_known_proves_anew_what_it_has, end),
		cmocka_unit_test_teardown(test_member_that_was_away_follows_a_leader_that_came_back_empty, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
