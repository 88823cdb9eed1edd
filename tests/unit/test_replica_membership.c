/* Whole members that found a cluster, or come back with an empty directory. */
#include "tests/unit/replica_cluster.h"

#include <stdio.h>

static void start_empty(struct replica_cluster *cluster, unsigned id)
{
	struct node *node = cluster_node(cluster, id);
	cluster_kill(cluster, id);
	memory_disk_free(node->disk);
	node->disk = memory_disk_new();
	assert_int_equal(cluster_start(cluster, id), 0);
}

static void arrives(struct replica_cluster *cluster, struct wire_message message)
{
	cluster_arrives(cluster, message);
}

static void hello_arrives(struct replica_cluster *cluster, unsigned from, uint64_t incarnation, unsigned to)
{
	arrives(cluster,
		(struct wire_message){.type = WIRE_HELLO,
				      .from = from,
				      .from_incarnation = incarnation,
				      .to = to,
				      .hello = {.version_min = 1, .version_max = RAFT_LEVEL_MAX, .blank = true}});
}

static void answer_arrives(struct replica_cluster *cluster, unsigned from, uint64_t incarnation, unsigned to,
			   uint64_t term, uint64_t round)
{
	arrives(cluster, (struct wire_message){.type = WIRE_APPEND_REPLY,
					       .from = from,
					       .from_incarnation = incarnation,
					       .to = to,
					       .term = term,
					       .append_reply = {.rejected = true, .round = round}});
}

static void expect_voter(struct replica_cluster *cluster, unsigned leader, unsigned id, uint64_t incarnation)
{
	struct replicator_membership membership;
	replica_get_membership(cluster_node(cluster, leader)->replica, &membership);
	assert_true(membership.members[id - 1].incarnation == incarnation);
	assert_int_equal(membership.members[id - 1].role, REPLICATOR_VOTER);
}

/* It is down for a moment, and a hello from the directory that it had before arrives, with an answer of it to this leader, in
 * either order: the one that it has lacks nothing. */
static void old_frames_do_not_cost_the_vote(void **state)
{
	struct replica_cluster *cluster = cluster_new(3);
	(void)state;
	cluster_start_all(cluster);
	assert_int_equal(cluster_elect(cluster), 1);
	cluster_run_ms(cluster, 2000);
	uint64_t before = cluster_status(cluster, 3).incarnation;
	start_empty(cluster, 3);
	cluster_run_ms(cluster, 5000);
	uint64_t after = cluster_status(cluster, 3).incarnation;
	assert_true(before != after);
	for (unsigned killed = 0; killed < 2; killed++) {
		uint64_t term = cluster_status(cluster, 1).term;
		answer_arrives(cluster, 3, before, 1, term, 0);
		hello_arrives(cluster, 3, before, 1);
		answer_arrives(cluster, 3, before, 1, term, 0);
		cluster_run_ms(cluster, 5000);
		expect_voter(cluster, 1, 3, after);
		if (killed == 0) {
			cluster_kill(cluster, 3);
			cluster_run_ms(cluster, 5000);
		}
	}
	cluster_free(cluster);
}

static void hand_over(struct replica_cluster *cluster, unsigned from, unsigned to)
{
	assert_int_equal(replica_transfer(cluster_node(cluster, from)->replica, to, cluster->now_us), 0);
	cluster_run_ms(cluster, 1000);
	assert_int_equal(cluster_elect(cluster), to);
}

/* The directory did answer what was sent after its hello, in a term in which the same member led; but others have led since, and
 * another directory has taken its place. */
static void answers_of_an_earlier_leadership_do_not_cost_the_vote(void **state)
{
	struct replica_cluster *cluster = cluster_new(3);
	(void)state;
	cluster_start_all(cluster);
	assert_int_equal(cluster_elect(cluster), 1);
	cluster_run_ms(cluster, 2000);
	uint64_t there = cluster_status(cluster, 3).incarnation, gone = there + 1;
	uint64_t term = cluster_status(cluster, 1).term;
	hello_arrives(cluster, 3, gone, 1);
	cluster_run_ms(cluster, 100);
	hand_over(cluster, 1, 2);
	hand_over(cluster, 2, 1);
	cluster_kill(cluster, 3);
	cluster_run_ms(cluster, 5000);
	answer_arrives(cluster, 3, gone, 1, term, 1000);
	cluster_run_ms(cluster, 5000);
	expect_voter(cluster, 1, 3, there);
	cluster_free(cluster);
}

/* The directory said hello and answered what was sent after that, and was gone before the leader had not heard the other one for long
 * enough: that one has answered since. */
static void answers_from_before_the_other_directory_spoke_do_not_cost_the_vote(void **state)
{
	struct replica_cluster *cluster = cluster_new(3);
	(void)state;
	cluster_start_all(cluster);
	assert_int_equal(cluster_elect(cluster), 1);
	cluster_run_ms(cluster, 2000);
	uint64_t there = cluster_status(cluster, 3).incarnation, gone = there + 1;
	hello_arrives(cluster, 3, gone, 1);
	cluster_run_ms(cluster, 500);
	cluster_kill(cluster, 3);
	cluster_run_ms(cluster, 5000);
	answer_arrives(cluster, 3, gone, 1, cluster_status(cluster, 1).term, 1000);
	cluster_run_ms(cluster, 5000);
	expect_voter(cluster, 1, 3, there);
	cluster_free(cluster);
}

/* Its disk was not mounted, and then it was: an empty directory was the member's in between. The directory knows no better than that
 * it is the member's, follows, and does not say hello again. raised: a candidate's request that only it heard raised its term, before. campaigns: it asks for
 * votes all the time, because not all that its leader says arrives. */
static void come_back_with_the_first_directory(bool raised, bool campaigns)
{
	struct replica_cluster *cluster = cluster_new(3);
	struct node *node = cluster_node(cluster, 3);
	cluster_start_all(cluster);
	assert_int_equal(cluster_elect(cluster), 1);
	cluster_run_ms(cluster, 2000);
	uint64_t first = cluster_status(cluster, 3).incarnation;
	node->cut = true;
	if (raised)
		arrives(cluster,
			(struct wire_message){.type = WIRE_VOTE_REQUEST,
					      .from = 2,
					      .from_incarnation = cluster_status(cluster, 2).incarnation,
					      .to = 3,
					      .term = cluster_status(cluster, 2).term + 5,
					      .vote_request = {.last_index = 1, .last_term = 1, .transfer = true}});
	cluster_run_ms(cluster, 5);
	cluster_kill(cluster, 3);
	node->cut = false;
	struct memory_disk *disk = node->disk;
	node->disk = memory_disk_new();
	assert_int_equal(cluster_start(cluster, 3), 0);
	cluster_run_ms(cluster, 5000);
	expect_voter(cluster, 1, 3, cluster_status(cluster, 3).incarnation);
	cluster_kill(cluster, 3);
	memory_disk_free(node->disk);
	node->disk = disk;
	assert_int_equal(cluster_start(cluster, 3), 0);
	for (unsigned ms = 0; ms < 10000; ms += 100) {
		if (campaigns)
			arrives(cluster, (struct wire_message){.type = WIRE_VOTE_REQUEST,
							       .from = 3,
							       .from_incarnation = first,
							       .to = 1,
							       .term = cluster_status(cluster, 1).term,
							       .vote_request = {.pre_vote = true}});
		cluster_run_ms(cluster, 100);
	}
	assert_true(cluster_status(cluster, 3).incarnation == first);
	unsigned leader = cluster_elect(cluster);
	assert_int_not_equal(leader, 0);
	expect_voter(cluster, leader, 3, first);
	cluster_free(cluster);
}

static void the_first_directory_returns(void **state)
{
	(void)state;
	come_back_with_the_first_directory(false, false);
}

static void the_first_directory_returns_with_a_higher_term(void **state)
{
	(void)state;
	come_back_with_the_first_directory(true, false);
}

static void the_first_directory_returns_and_campaigns(void **state)
{
	(void)state;
	come_back_with_the_first_directory(false, true);
}

/* Member 2 leads, member 3 has just begun with an empty directory, and its file does not name member 2. A fourth place is free. */
static struct replica_cluster *third_is_wiped_and_does_not_know_its_leader(void)
{
	struct replica_cluster *cluster = cluster_new(4);
	for (unsigned id = 1; id <= 3; id++) {
		cluster_node(cluster, id)->file = id == 3 ? 1u << 1 | 1u << 3 : 1u << 1 | 1u << 2 | 1u << 3;
		assert_int_equal(cluster_start(cluster, id), 0);
	}
	assert_int_equal(cluster_elect(cluster), 1);
	cluster_run_ms(cluster, 2000);
	cluster_write(cluster, 1, 5, 10);
	assert_int_equal(replica_transfer(cluster_node(cluster, 1)->replica, 2, cluster->now_us), 0);
	cluster_run_ms(cluster, 100);
	assert_int_equal(cluster_elect(cluster), 2);
	start_empty(cluster, 3);
	return cluster;
}

/* Its configuration file does not name the member that leads now: it learns from the leader how to answer. */
static void wiped_member_finds_a_leader_that_its_file_does_not_name(void **state)
{
	struct replica_cluster *cluster = third_is_wiped_and_does_not_know_its_leader();
	(void)state;
	cluster_run_ms(cluster, 5000);
	assert_int_equal(cluster_leader(cluster), 2);
	cluster_write(cluster, 2, 1, 10);
	struct replicator_membership membership;
	replica_get_membership(cluster_node(cluster, 2)->replica, &membership);
	assert_int_equal(membership.members[2].role, REPLICATOR_VOTER);
	assert_true(membership.members[2].incarnation == cluster_status(cluster, 3).incarnation);
	assert_true(cluster_node(cluster, 3)->hash == cluster_node(cluster, 2)->hash);
	cluster_free(cluster);
}

/* Three members, led by the first; the third is down since before a fourth, which no file names, became a voter. */
static struct replica_cluster *fourth_joins_while_third_is_down(void)
{
	struct replica_cluster *cluster = cluster_new(4);
	const struct replicator_change add = {.type = REPLICATOR_ADD, .id = 4, .peer = "test:4", .client = ""};
	uint64_t index = 0;
	for (unsigned id = 1; id <= 3; id++) {
		cluster_node(cluster, id)->file = 1u << 1 | 1u << 2 | 1u << 3;
		assert_int_equal(cluster_start(cluster, id), 0);
	}
	assert_int_equal(cluster_elect(cluster), 1);
	cluster_run_ms(cluster, 2000);
	cluster_write(cluster, 1, 5, 10);
	cluster_kill(cluster, 3);
	assert_int_equal(cluster_start(cluster, 4), 0);
	assert_int_equal(replica_change(cluster_node(cluster, 1)->replica, &add, cluster->now_us, 0, &index), 0);
	cluster_run_ms(cluster, 5000);
	expect_voter(cluster, 1, 4, cluster_status(cluster, 4).incarnation);
	return cluster;
}

/* A member joined and became the leader while it was down, and its log is not needed any more where it ends: it learns from the leader
 * how to answer, and is sent a snapshot. */
static void member_that_was_away_finds_a_leader_that_it_does_not_know(void **state)
{
	struct replica_cluster *cluster = fourth_joins_while_third_is_down();
	(void)state;
	assert_int_equal(replica_transfer(cluster_node(cluster, 1)->replica, 4, cluster->now_us), 0);
	cluster_run_ms(cluster, 100);
	assert_int_equal(cluster_elect(cluster), 4);
	for (unsigned k = 0; k < 3; k++) { /* the log is kept back to the snapshot before the last */
		cluster_write(cluster, 4, 5, 10);
		assert_int_equal(replica_snapshot(cluster_node(cluster, 4)->replica), 0);
		cluster_run_ms(cluster, 1000);
	}
	assert_int_equal(cluster_start(cluster, 3), 0);
	cluster_run_ms(cluster, 5000);
	assert_int_equal(cluster_leader(cluster), 4);
	assert_true(cluster_journal_has(cluster, 3, "snapshot-installed"));
	assert_true(cluster_node(cluster, 3)->hash == cluster_node(cluster, 4)->hash);
	cluster_free(cluster);
}

/* A member joined while it was away, and now only that one can be elected, and not without its vote. */
static void member_that_was_away_votes_for_one_that_it_does_not_know(void **state)
{
	struct replica_cluster *cluster = fourth_joins_while_third_is_down();
	(void)state;
	cluster_write(cluster, 1, 5, 10);
	cluster_kill(cluster, 2);
	assert_int_equal(cluster_propose(cluster, 1, 1, 10), 0);
	uint64_t last = cluster_status(cluster, 1).last_index;
	cluster_run_ms(cluster, 100);
	assert_int_equal(cluster_status(cluster, 4).last_index, last);
	cluster_kill(cluster, 1);
	assert_int_equal(cluster_start(cluster, 2), 0);
	assert_int_equal(cluster_start(cluster, 3), 0);
	cluster_run_ms(cluster, 10000);
	assert_int_equal(cluster_leader(cluster), 4);
	assert_int_equal(cluster_status(cluster, 3).applied, cluster_status(cluster, 4).applied);
	cluster_free(cluster);
}

/* As the leader of a term that only member 3 hears: behind its entry prev, the no-op of the term and a change that adds a member. */
static void change_arrives(struct replica_cluster *cluster, unsigned from, uint64_t term, uint64_t prev,
			   uint64_t prev_term, unsigned added)
{
	struct raft *core = replica_core(cluster_node(cluster, 3)->replica);
	struct raft_config_member member = {.id = added, .role = RAFT_MEMBER_LEARNER};
	struct raft_entry entries[2] = {{.term = term, .type = RAFT_ENTRY_NOOP},
					{.term = term, .type = RAFT_ENTRY_CONFIG}};
	uint8_t bytes[RAFT_CONFIG_SIZE_MAX];
	uint64_t index = 0;
	struct raft_config config = *raft_config_at(core, prev, &index);
	struct wire_message append = {.type = WIRE_APPEND,
				      .from = from,
				      .from_incarnation = config.members[from - 1].incarnation,
				      .to = 3,
				      .term = term};
	(void)snprintf(member.peer_endpoint, sizeof member.peer_endpoint, "test:%u", added);
	assert_true(raft_config_set(&config, &member));
	entries[1].data = bytes;
	entries[1].size = (uint32_t)raft_config_encode(&config, bytes);
	append.append.prev_index = prev;
	append.append.prev_term = prev_term;
	append.append.n_entries = 2;
	append.append.entries = entries;
	arrives(cluster, append);
}

/* A change that no quorum holds is cut from its log, and in its place stands another one, at the same entry. */
static void connections_follow_another_change_at_the_same_entry(void **state)
{
	struct replica_cluster *cluster = cluster_new(5);
	(void)state;
	for (unsigned id = 1; id <= 3; id++) {
		cluster_node(cluster, id)->file = 1u << 1 | 1u << 2 | 1u << 3;
		assert_int_equal(cluster_start(cluster, id), 0);
	}
	assert_int_equal(cluster_elect(cluster), 1);
	cluster_run_ms(cluster, 2000);
	struct replicator_status before = cluster_status(cluster, 3);
	cluster_kill(cluster, 1);
	cluster_kill(cluster, 2);
	for (unsigned leader = 1; leader <= 2; leader++) {
		change_arrives(cluster, leader, before.term + leader, before.last_index, before.term, 3 + leader);
		cluster_run_ms(cluster, 10);
		assert_int_equal(cluster_status(cluster, 3).last_index, before.last_index + 2);
		assert_int_equal(cluster_node(cluster, 3)->connected >> (3 + leader), 1);
	}
	cluster_run_ms(cluster, 5000);
	assert_int_equal(cluster_node(cluster, 3)->connected, 1u << 1 | 1u << 2 | 1u << 5);
	cluster_free(cluster);
}

static void change(struct replica_cluster *cluster, unsigned leader, enum replicator_change_type type, unsigned id)
{
	struct replicator_change change = {.type = type, .id = id, .peer = "", .client = ""};
	char endpoint[16];
	uint64_t index = 0;
	(void)snprintf(endpoint, sizeof endpoint, "%s:%u", type == REPLICATOR_MOVE ? "moved" : "test", id);
	if (type != REPLICATOR_REMOVE)
		change.peer = endpoint;
	assert_int_equal(replica_change(cluster_node(cluster, leader)->replica, &change, cluster->now_us, 0, &index),
			 0);
}

/* It was removed while it was away, and asks now and then. Others that are no members either, in the file or not, ask all the time. */
static void strangers_do_not_keep_others_from_hearing_that_they_are_none(void **state)
{
	struct replica_cluster *cluster = cluster_new(5);
	(void)state;
	for (unsigned id = 1; id <= 4; id++) {
		cluster_node(cluster, id)->file = 1u << 1 | 1u << 2 | 1u << 3 | 1u << 4;
		assert_int_equal(cluster_start(cluster, id), 0);
	}
	assert_int_equal(cluster_elect(cluster), 1);
	cluster_run_ms(cluster, 2000);
	for (unsigned id = 3; id <= 4; id++) {
		cluster_kill(cluster, id);
		change(cluster, 1, REPLICATOR_REMOVE, id);
		cluster_run_ms(cluster, 5000);
	}
	assert_int_equal(cluster_start(cluster, 3), 0);
	for (unsigned ms = 0; ms < 10000; ms += 10) {
		for (unsigned to = 1; to <= 2; to++) {
			hello_arrives(cluster, 4, 77, to);
			hello_arrives(cluster, 5, 78, to);
		}
		cluster_run_ms(cluster, 10);
	}
	assert_int_equal(cluster_node(cluster, 3)->result, REPLICATOR_E_REMOVED);
	cluster_free(cluster);
}

/* One is removed, and another takes its place at once. */
static void replace_a_member(unsigned places)
{
	struct replica_cluster *cluster = cluster_new(4);
	for (unsigned id = 1; id <= 4; id++) {
		cluster_node(cluster, id)->places = places;
		cluster_node(cluster, id)->file = 1u << 1 | 1u << 2 | 1u << (id > 2 ? id : 1);
		assert_int_equal(cluster_start(cluster, id), 0);
	}
	cluster_run_ms(cluster, 5000);
	assert_int_equal(cluster_leader(cluster), 1);
	change(cluster, 1, REPLICATOR_ADD, 3);
	cluster_run_ms(cluster, 5000);
	expect_voter(cluster, 1, 3, cluster_status(cluster, 3).incarnation);
	change(cluster, 1, REPLICATOR_REMOVE, 3);
	cluster_run_ms(cluster, 200);
	change(cluster, 1, REPLICATOR_ADD, 4);
	cluster_run_ms(cluster, 10000);
	for (unsigned id = 1; id <= 2; id++)
		assert_int_equal(cluster_node(cluster, id)->connected, 1u << (3 - id) | 1u << 4);
	cluster_free(cluster);
}

/* Nobody keeps the connection to the one that has left. */
static void connection_to_a_replaced_member_is_closed(void **state)
{
	(void)state;
	replace_a_member(0);
}

/* There is no place for the new one before the one that has left is disconnected. */
static void connection_that_failed_is_tried_again(void **state)
{
	(void)state;
	replace_a_member(2);
}

/* It holds the entry that removed it, and no longer knows that it is committed. */
static void removed_member_that_is_started_again_stops_again(void **state)
{
	struct replica_cluster *cluster = cluster_new(3);
	(void)state;
	cluster_start_all(cluster);
	assert_int_equal(cluster_elect(cluster), 1);
	cluster_run_ms(cluster, 2000);
	change(cluster, 1, REPLICATOR_REMOVE, 3);
	cluster_run_ms(cluster, 2000);
	assert_int_equal(cluster_node(cluster, 3)->result, REPLICATOR_E_REMOVED);
	cluster_kill(cluster, 3);
	assert_int_equal(cluster_start(cluster, 3), 0);
	cluster_run_ms(cluster, 5000);
	assert_int_equal(cluster_node(cluster, 3)->result, REPLICATOR_E_REMOVED);
	cluster_free(cluster);
}

/* It has got the beginning of the log, which does not name it; that a later configuration does not name it either is no news. */
static void member_that_is_about_to_join_is_not_removed(void **state)
{
	struct replica_cluster *cluster = cluster_new(4);
	struct raft_config config = {.n_members = 0, .level = RAFT_LEVEL_MIN};
	struct raft_entry entry = {.term = 1, .type = RAFT_ENTRY_CONFIG};
	uint8_t bytes[RAFT_CONFIG_SIZE_MAX];
	struct wire_message append = {.type = WIRE_APPEND, .from = 1, .from_incarnation = 77, .to = 4, .term = 1};
	struct wire_message told = {.type = WIRE_NOT_A_MEMBER, .from = 1, .from_incarnation = 77, .to = 4};
	const struct raft_config_member member = {
		.id = 1, .incarnation = 77, .role = RAFT_MEMBER_VOTER, .peer_endpoint = "test:1"};
	(void)state;
	assert_int_equal(cluster_start(cluster, 4), 0);
	assert_true(raft_config_set(&config, &member));
	entry.data = bytes;
	entry.size = (uint32_t)raft_config_encode(&config, bytes);
	append.append.n_entries = 1;
	append.append.entries = &entry;
	arrives(cluster, append);
	cluster_run_ms(cluster, 100);
	assert_int_equal(cluster_status(cluster, 4).last_index, 1);
	told.not_a_member.config_index = 2;
	arrives(cluster, told);
	cluster_run_ms(cluster, 100);
	assert_int_equal(cluster_node(cluster, 4)->result, 0);
	cluster_free(cluster);
}

/* Two members of three, the first of which moved to another endpoint while the third was away. */
static void member_that_was_away_finds_one_that_has_moved(void **state)
{
	struct replica_cluster *cluster = cluster_new(3);
	(void)state;
	cluster_start_all(cluster);
	assert_int_equal(cluster_elect(cluster), 1);
	cluster_run_ms(cluster, 2000);
	cluster_kill(cluster, 3);
	change(cluster, 1, REPLICATOR_MOVE, 1);
	cluster_run_ms(cluster, 100);
	cluster_node(cluster, 1)->moved = true;
	cluster_write(cluster, 1, 5, 10);
	cluster_kill(cluster, 2);
	assert_int_equal(cluster_start(cluster, 3), 0);
	cluster_run_ms(cluster, 10000);
	assert_int_equal(cluster_leader(cluster), 1);
	cluster_write(cluster, 1, 1, 10);
	assert_int_equal(cluster_status(cluster, 3).applied, cluster_status(cluster, 1).applied);
	cluster_free(cluster);
}

/* The first of five lost its directory, and moved, while the third was away. Then it leads. */
static void member_that_was_away_finds_a_leader_with_another_directory_and_place(void **state)
{
	struct replica_cluster *cluster = cluster_new(5);
	(void)state;
	cluster_start_all(cluster);
	assert_int_equal(cluster_elect(cluster), 1);
	cluster_run_ms(cluster, 2000);
	cluster_kill(cluster, 3);
	start_empty(cluster, 1);
	cluster_run_ms(cluster, 10000);
	unsigned leader = cluster_elect(cluster);
	expect_voter(cluster, leader, 1, cluster_status(cluster, 1).incarnation);
	change(cluster, leader, REPLICATOR_MOVE, 1);
	cluster_run_ms(cluster, 1000);
	cluster_node(cluster, 1)->moved = true;
	assert_int_equal(replica_transfer(cluster_node(cluster, leader)->replica, 1, cluster->now_us), 0);
	cluster_run_ms(cluster, 100);
	assert_int_equal(cluster_elect(cluster), 1);
	assert_int_equal(cluster_start(cluster, 3), 0);
	cluster_run_ms(cluster, 10000);
	assert_int_equal(cluster_leader(cluster), 1);
	assert_int_equal(cluster_status(cluster, 3).applied, cluster_status(cluster, 1).applied);
	cluster_free(cluster);
}

/* The second of three does not know yet that it is to move, and says where it was when nobody leads. The third knows better. */
static void member_that_knows_where_another_one_moves_to_is_not_misled(void **state)
{
	struct replica_cluster *cluster = cluster_new(3);
	(void)state;
	cluster_start_all(cluster);
	assert_int_equal(cluster_elect(cluster), 1);
	cluster_run_ms(cluster, 2000);
	cluster_node(cluster, 2)->cut = true;
	change(cluster, 1, REPLICATOR_MOVE, 2);
	cluster_run_ms(cluster, 100);
	assert_true(cluster_node(cluster, 3)->told_moved >> 2 & 1);
	cluster_kill(cluster, 1);
	cluster_node(cluster, 2)->cut = false;
	cluster_run_ms(cluster, 5000);
	assert_int_equal(cluster_leader(cluster), 3);
	assert_true(cluster_node(cluster, 3)->told_moved >> 2 & 1);
	cluster_free(cluster);
}

/* A leader that its file does not name can be answered, whoever else says meanwhile where he is. */
static void strangers_do_not_part_a_wiped_member_from_its_leader(void **state)
{
	(void)state;
	for (unsigned phase = 0; phase < 1000; phase += 333) {
		struct replica_cluster *cluster = third_is_wiped_and_does_not_know_its_leader();
		struct wire_message stranger = {
			.type = WIRE_ENDPOINT, .from = 4, .from_incarnation = 77, .to = 3, .term = 1};
		memcpy(stranger.endpoint.peer, "test:4", sizeof "test:4");
		cluster_run_ms(cluster, phase);
		for (unsigned k = 0; k < 500; k++) {
			arrives(cluster, stranger);
			cluster_run_ms(cluster, 20);
		}
		expect_voter(cluster, 2, 3, cluster_status(cluster, 3).incarnation);
		cluster_free(cluster);
	}
}

/* An operator founded while it was away. It starts empty, and what the others said when they were blank arrives now. */
static void old_hellos_found_no_second_cluster(void **state)
{
	struct replica_cluster *cluster = cluster_new(3);
	(void)state;
	assert_int_equal(cluster_start(cluster, 2), 0);
	assert_int_equal(cluster_start(cluster, 3), 0);
	cluster_run_ms(cluster, 1000);
	assert_int_equal(replica_bootstrap(cluster_node(cluster, 2)->replica, cluster->now_us, 1), 0);
	assert_int_equal(cluster_elect(cluster), 2);
	cluster_write(cluster, 2, 5, 10);
	cluster_node(cluster, 1)->cut = true;
	assert_int_equal(cluster_start(cluster, 1), 0);
	hello_arrives(cluster, 2, cluster_status(cluster, 2).incarnation, 1);
	hello_arrives(cluster, 3, cluster_status(cluster, 3).incarnation, 1);
	cluster_run_ms(cluster, 1000);
	assert_true(cluster_status(cluster, 1).blank);
	cluster_node(cluster, 1)->cut = false;
	cluster_run_ms(cluster, 5000);
	expect_voter(cluster, 2, 1, cluster_status(cluster, 1).incarnation);
	assert_false(cluster_journal_has(cluster, 1, "founds the cluster"));
	cluster_free(cluster);
}

struct snapshot_file {
	uint64_t index;
	uint64_t term;
	uint64_t size;
	uint8_t *bytes;
};

/* The newest one of a cluster that is gone afterwards. */
static struct snapshot_file make_snapshot(bool spoilt)
{
	struct replica_cluster *cluster = cluster_new(3);
	struct snapshot_file file;
	char name[64];
	cluster_start_all(cluster);
	assert_int_equal(cluster_elect(cluster), 1);
	cluster_write(cluster, 1, 5, 10);
	cluster_node(cluster, 1)->spoils = spoilt;
	assert_int_equal(replica_snapshot(cluster_node(cluster, 1)->replica), 0);
	cluster_run_ms(cluster, 1000);
	file.index = cluster_status(cluster, 1).snapshot_index;
	file.term = cluster_status(cluster, 1).term;
	(void)snprintf(name, sizeof name, "snapshot-%016llx", (unsigned long long)file.index);
	const uint8_t *bytes = memory_disk_contents(cluster_node(cluster, 1)->disk, name, &file.size);
	assert_non_null(bytes);
	file.bytes = malloc(file.size);
	assert_non_null(file.bytes);
	memcpy(file.bytes, bytes, file.size);
	cluster_free(cluster);
	return file;
}

/* All of the snapshot from there on; nothing is taken unless that is what is wanted next. */
static void chunk_arrives(struct replica_cluster *cluster, unsigned to, const struct snapshot_file *file,
			  uint64_t offset)
{
	arrives(cluster, (struct wire_message){.type = WIRE_SNAPSHOT_CHUNK,
					       .from = 2,
					       .from_incarnation = 77,
					       .to = to,
					       .snapshot_chunk = {.index = file->index,
								  .term = file->term,
								  .total = file->size,
								  .offset = offset,
								  .size = (uint32_t)(file->size - offset),
								  .data = file->bytes + offset}});
}

/* It is there but for its name, and the disk hangs. */
static void receive_all_but_the_name(struct replica_cluster *cluster, unsigned to, const struct snapshot_file *file)
{
	arrives(cluster, (struct wire_message){
				 .type = WIRE_SNAPSHOT_OFFER,
				 .from = 2,
				 .from_incarnation = 77,
				 .to = to,
				 .term = file->term,
				 .snapshot_offer = {.index = file->index, .term = file->term, .size = file->size}});
	cluster_run_ms(cluster, 10);
	chunk_arrives(cluster, to, file, 0); /* of which the header is taken */
	cluster_run_ms(cluster, 10);
	cluster_node(cluster, to)->background_hangs = true;
	for (uint64_t offset = 1; offset < file->size; offset++)
		chunk_arrives(cluster, to, file, offset);
	cluster_run_ms(cluster, 10);
}

/* The last leader was sending its snapshot to an empty directory when all that it had was lost. Until that is installed the directory
 * has no log and no term, and is not blank all the same. */
static void a_received_snapshot_is_not_blank(void **state)
{
	struct snapshot_file file = make_snapshot(false);
	(void)state;
	for (unsigned to = 1; to <= 3; to += 2) {
		struct replica_cluster *cluster = cluster_new(3);
		assert_int_equal(cluster_start(cluster, to), 0);
		receive_all_but_the_name(cluster, to, &file);
		assert_int_equal(replica_bootstrap(cluster_node(cluster, to)->replica, cluster->now_us, 1),
				 REPLICATOR_E_MEMBERSHIP);
		for (unsigned id = 1; id <= 3; id++)
			if (id != to)
				assert_int_equal(cluster_start(cluster, id), 0);
		cluster_run_ms(cluster, 10000);
		assert_int_equal(cluster_leader(cluster), 0);
		cluster_node(cluster, to)->background_hangs = false;
		cluster_run_ms(cluster, 10000);
		assert_int_equal(cluster_status(cluster, to).applied, file.index);
		assert_int_equal(cluster_leader(cluster), 0);
		cluster_free(cluster);
	}
	free(file.bytes);
}

/* Nor if the member cannot load it: it is of some cluster all the same. */
static void a_refused_snapshot_is_not_blank(void **state)
{
	struct snapshot_file file = make_snapshot(true);
	struct replica_cluster *cluster = cluster_new(3);
	(void)state;
	assert_int_equal(cluster_start(cluster, 3), 0);
	receive_all_but_the_name(cluster, 3, &file);
	cluster_node(cluster, 3)->background_hangs = false;
	cluster_run_ms(cluster, 1000);
	assert_true(cluster_journal_has(cluster, 3, "restart it"));
	for (unsigned k = 0; k < 2; k++) {
		struct replica *replica = cluster_node(cluster, 3)->replica;
		assert_int_equal(replica_bootstrap(replica, cluster->now_us, 1), REPLICATOR_E_MEMBERSHIP);
		cluster_kill(cluster, 3);
		assert_int_equal(cluster_start(cluster, 3), 0);
		assert_true(cluster_journal_has(cluster, 3, "passed over a snapshot"));
		cluster_run_ms(cluster, 1000);
	}
	assert_int_equal(cluster_start(cluster, 1), 0);
	assert_int_equal(cluster_start(cluster, 2), 0);
	cluster_run_ms(cluster, 10000);
	assert_int_equal(cluster_leader(cluster), 0);
	cluster_free(cluster);
	free(file.bytes);
}

/* Whoever was blank some time ago need not be now. */
static void only_those_who_are_there_found(void **state)
{
	struct replica_cluster *cluster = cluster_new(3);
	(void)state;
	assert_int_equal(cluster_start(cluster, 1), 0);
	assert_int_equal(cluster_start(cluster, 2), 0);
	cluster_run_ms(cluster, 1000);
	cluster_kill(cluster, 2);
	cluster_run_ms(cluster, 5000);
	assert_int_equal(cluster_start(cluster, 3), 0);
	cluster_run_ms(cluster, 5000);
	assert_true(cluster_status(cluster, 1).blank);
	assert_int_equal(cluster_start(cluster, 2), 0);
	assert_int_equal(cluster_elect(cluster), 1);
	cluster_free(cluster);
}

/* Lines that an operator sees: info and above. */
static unsigned count_lines(const char *journal)
{
	unsigned n = 0;
	for (const char *line = journal; *line != '\0'; line = strchr(line, '\n') + 1)
		n += *line <= '6';
	return n;
}

/* A founding of five is four changes of the membership, which every member sees: who is not concerned says nothing. */
static void founding_is_told_once(void **state)
{
	struct replica_cluster *cluster = cluster_new(5);
	(void)state;
	cluster_start_all(cluster);
	assert_int_equal(cluster_elect(cluster), 1);
	cluster_run_ms(cluster, 3000);
	for (unsigned id = 2; id <= 5; id++) {
		/* Starts empty, follows, has a vote. */
		assert_true(cluster_journal_has(cluster, id, "5 voter has a vote, as of entry"));
		if (count_lines(cluster_node(cluster, id)->journal) != 3)
			fail_msg("member %u says:\n%s", id, cluster_node(cluster, id)->journal);
	}
	/* Starts empty, founds, is a candidate, leads, makes four others voters. */
	if (count_lines(cluster_node(cluster, 1)->journal) != 8)
		fail_msg("member 1 says:\n%s", cluster_node(cluster, 1)->journal);
	cluster_run_ms(cluster, 10000);
	assert_int_equal(count_lines(cluster_node(cluster, 1)->journal), 8);
	cluster_free(cluster);
}

/* Whoever is cut off asks for votes for ever, and says so once. */
static void a_lost_leader_is_told_once(void **state)
{
	struct replica_cluster *cluster = cluster_new(3);
	(void)state;
	cluster_start_all(cluster);
	assert_int_equal(cluster_elect(cluster), 1);
	cluster_run_ms(cluster, 1000);
	unsigned before = count_lines(cluster_node(cluster, 3)->journal);
	cluster_kill(cluster, 1);
	cluster_kill(cluster, 2);
	cluster_run_ms(cluster, 10000);
	assert_true(cluster_journal_has(cluster, 3, "6 pre-candidate hears of no leader"));
	unsigned lost = count_lines(cluster_node(cluster, 3)->journal) - before;
	if (lost != 1)
		fail_msg("%u lines:\n%s", lost, cluster_node(cluster, 3)->journal);
	cluster_free(cluster);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(founding_is_told_once),
		cmocka_unit_test(old_hellos_found_no_second_cluster),
		cmocka_unit_test(a_received_snapshot_is_not_blank),
		cmocka_unit_test(a_refused_snapshot_is_not_blank),
		cmocka_unit_test(only_those_who_are_there_found),
		cmocka_unit_test(a_lost_leader_is_told_once),
		cmocka_unit_test(old_frames_do_not_cost_the_vote),
		cmocka_unit_test(answers_of_an_earlier_leadership_do_not_cost_the_vote),
		cmocka_unit_test(answers_from_before_the_other_directory_spoke_do_not_cost_the_vote),
		cmocka_unit_test(the_first_directory_returns),
		cmocka_unit_test(the_first_directory_returns_with_a_higher_term),
		cmocka_unit_test(the_first_directory_returns_and_campaigns),
		cmocka_unit_test(wiped_member_finds_a_leader_that_its_file_does_not_name),
		cmocka_unit_test(member_that_was_away_finds_a_leader_that_it_does_not_know),
		cmocka_unit_test(member_that_was_away_votes_for_one_that_it_does_not_know),
		cmocka_unit_test(connection_to_a_replaced_member_is_closed),
		cmocka_unit_test(connection_that_failed_is_tried_again),
		cmocka_unit_test(connections_follow_another_change_at_the_same_entry),
		cmocka_unit_test(removed_member_that_is_started_again_stops_again),
		cmocka_unit_test(member_that_is_about_to_join_is_not_removed),
		cmocka_unit_test(member_that_was_away_finds_one_that_has_moved),
		cmocka_unit_test(strangers_do_not_keep_others_from_hearing_that_they_are_none),
		cmocka_unit_test(member_that_was_away_finds_a_leader_with_another_directory_and_place),
		cmocka_unit_test(member_that_knows_where_another_one_moves_to_is_not_misled),
		cmocka_unit_test(strangers_do_not_part_a_wiped_member_from_its_leader),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
