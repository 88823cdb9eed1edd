/*
 * Whole members, and snapshots whose files are good and whose states are not: as if a bit had flipped in the memory of the member
 * that wrote them. Nobody stops for them, nobody forgets anything for them, and who wrote one begins with what it can load.
 */
#include "tests/unit/replica_cluster.h"

#include <errno.h>

/* Member id takes a snapshot of each of these kinds, one after the other: good or spoilt. The log goes up to the first. */
static void take_two(struct replica_cluster *cluster, unsigned id, bool first_spoilt, bool second_spoilt)
{
	struct node *node = cluster_node(cluster, id);
	for (unsigned k = 0; k < 2; k++) {
		node->spoils = k == 0 ? first_spoilt : second_spoilt;
		assert_int_equal(replica_snapshot(node->replica), 0);
		cluster_run_ms(cluster, 1000);
		if (cluster_leader(cluster) == id)
			cluster_write(cluster, id, 4, 500);
	}
	node->spoils = false;
}

/* One of three members is away while the leader lets go of the log that it needs. */
static struct replica_cluster *one_lags(bool first_spoilt, bool second_spoilt, unsigned *ret_leader,
					unsigned *ret_lagging)
{
	struct replica_cluster *cluster = cluster_new(3);
	cluster->options.storage.segment_size = 16384; /* so that they go, one by one */
	cluster_start_all(cluster);
	*ret_leader = cluster_elect(cluster);
	assert_int_not_equal(*ret_leader, 0);
	cluster_run_ms(cluster, 2000); /* all have been promoted */
	cluster_write(cluster, *ret_leader, 1, 10);
	*ret_lagging = *ret_leader % 3 + 1;
	cluster_kill(cluster, *ret_lagging);
	for (unsigned k = 0; k < 10; k++)
		cluster_write(cluster, *ret_leader, 4, 500);
	take_two(cluster, *ret_leader, first_spoilt, second_spoilt);
	return cluster;
}

static void all_equal(struct replica_cluster *cluster)
{
	cluster_write(cluster, cluster_elect(cluster), 1, 10);
	for (unsigned id = 2; id <= cluster->n; id++)
		assert_true(cluster_node(cluster, id)->hash == cluster_node(cluster, 1)->hash);
}

static unsigned count(const struct node *node, const char *text)
{
	unsigned n = 0;
	for (const char *at = node->journal; (at = strstr(at, text)) != NULL; at++)
		n++;
	return n;
}

static void restart(struct replica_cluster *cluster, unsigned id)
{
	cluster_kill(cluster, id);
	assert_int_equal(cluster_start(cluster, id), 0);
}

static void refused_snapshot_changes_nothing(void **state)
{
	unsigned leader = 0, lagging = 0;
	struct replica_cluster *cluster = one_lags(false, true, &leader, &lagging);
	struct node *node = cluster_node(cluster, lagging);
	(void)state;
	assert_int_equal(cluster_start(cluster, lagging), 0);
	struct replicator_status before = cluster_status(cluster, lagging);
	cluster_run_ms(cluster, 10000);
	assert_int_equal(node->result, 0);
	struct replicator_status after = cluster_status(cluster, lagging);
	assert_int_equal(after.installed, 0);
	assert_int_equal(after.last_index, before.last_index);
	assert_int_equal(after.first_index, before.first_index);
	assert_in_range(after.applied, 0, before.last_index);
	assert_int_equal(node->n_restored, 0);
	/* It says whom to restart. What it is offered meanwhile it takes after one second, two, and four. */
	assert_true(cluster_journal_has(cluster, lagging, "restart it"));
	assert_in_range(count(node, "snapshot-refused"), 3, 4);
	/* What it received does not keep it from starting, either, and it forgets nothing. */
	restart(cluster, lagging);
	assert_true(cluster_journal_has(cluster, lagging, "passed over a snapshot"));
	assert_int_equal(cluster_status(cluster, lagging).incarnation, before.incarnation);
	assert_int_equal(cluster_status(cluster, lagging).last_index, before.last_index);
	/* The leader is restarted. It begins with the snapshot before, and those two have what the third needs. */
	uint64_t incarnation = cluster_status(cluster, leader).incarnation, hash = cluster_node(cluster, leader)->hash;
	uint64_t last = cluster_status(cluster, leader).last_index;
	restart(cluster, leader);
	assert_true(cluster_journal_has(cluster, leader, "passed over a snapshot"));
	assert_true(cluster_journal_has(cluster, leader, "the state machine refuses the state in it"));
	assert_int_equal(cluster_status(cluster, leader).incarnation, incarnation);
	assert_int_equal(cluster_status(cluster, leader).last_index, last);
	assert_int_equal(cluster_node(cluster, leader)->n_restored, 1);
	cluster_run_ms(cluster, 5000);
	assert_true(cluster_node(cluster, leader)->hash == hash);
	all_equal(cluster);
	cluster_free(cluster);
}

/* Another leader, whose memory is good, is not made to wait for what the first one sent. */
static void snapshot_of_another_leader_is_taken(void **state)
{
	unsigned leader = 0, lagging = 0;
	struct replica_cluster *cluster = one_lags(false, true, &leader, &lagging);
	(void)state;
	unsigned other = 6 - leader - lagging;
	assert_int_equal(cluster_start(cluster, lagging), 0);
	cluster_run_ms(cluster, 20000);
	assert_int_equal(cluster_status(cluster, lagging).installed, 0);
	assert_int_equal(replica_snapshot(cluster_node(cluster, other)->replica), 0);
	cluster_run_ms(cluster, 1000);
	assert_int_equal(replica_transfer(cluster_node(cluster, leader)->replica, other, cluster->now_us), 0);
	cluster_run_ms(cluster, 5000);
	assert_int_equal(cluster_leader(cluster), other);
	all_equal(cluster);
	cluster_free(cluster);
}

/* A newer one of the same leader is looked at, and installed if it is good. */
static void next_snapshot_is_taken(void **state)
{
	unsigned leader = 0, lagging = 0;
	struct replica_cluster *cluster = one_lags(false, true, &leader, &lagging);
	(void)state;
	assert_int_equal(cluster_start(cluster, lagging), 0);
	cluster_run_ms(cluster, 20000);
	assert_int_equal(cluster_status(cluster, lagging).installed, 0);
	assert_int_equal(replica_snapshot(cluster_node(cluster, leader)->replica), 0);
	cluster_run_ms(cluster, 3000);
	assert_int_equal(cluster_status(cluster, lagging).installed, 1);
	assert_int_equal(cluster_node(cluster, lagging)->n_restored, 1);
	all_equal(cluster);
	restart(cluster, lagging);
	all_equal(cluster);
	cluster_free(cluster);
}

/* There is nothing that it could begin with: as with any other damage, it comes back as another member, without a vote. */
static void nothing_to_begin_with_is_damage(void **state)
{
	unsigned leader = 0, lagging = 0;
	struct replica_cluster *cluster = one_lags(true, true, &leader, &lagging);
	(void)state;
	assert_int_equal(cluster_start(cluster, lagging), 0);
	uint64_t incarnation = cluster_status(cluster, leader).incarnation;
	cluster_kill(cluster, leader);
	assert_int_equal(cluster_start(cluster, leader), REPLICATOR_E_DAMAGED);
	assert_non_null(strstr(cluster_node(cluster, leader)->message, "the state machine refuses the state in it"));
	cluster->options.heal = true;
	assert_int_equal(cluster_start(cluster, leader), 0);
	assert_int_not_equal(cluster_status(cluster, leader).incarnation, incarnation);
	cluster_run_ms(cluster, 10000);
	all_equal(cluster);
	cluster_free(cluster);
}

/* The only copy lies here: nothing is given up. */
static void an_only_member_gives_up_nothing(void **state)
{
	struct replica_cluster *cluster = cluster_new(1);
	cluster->options.storage.segment_size = 16384;
	struct node *node = cluster_node(cluster, 1);
	(void)state;
	cluster->options.heal = true;
	cluster_start_all(cluster);
	assert_int_equal(cluster_elect(cluster), 1);
	for (unsigned k = 0; k < 10; k++)
		cluster_write(cluster, 1, 4, 500);
	take_two(cluster, 1, true, true);
	cluster_kill(cluster, 1);
	for (unsigned k = 0; k < 2; k++)
		assert_int_equal(cluster_start(cluster, 1), REPLICATOR_E_DAMAGED);
	assert_non_null(strstr(node->message, "the state machine refuses the state in it"));
	cluster_free(cluster);
}

static void remove_member(struct replica_cluster *cluster, unsigned leader, unsigned id)
{
	const struct replicator_change change = {.type = REPLICATOR_REMOVE, .id = id};
	uint64_t index = 0;
	assert_int_equal(replica_change(cluster_node(cluster, leader)->replica, &change, cluster->now_us,
					cluster->now_us / 1000, &index),
			 0);
	cluster_run_ms(cluster, 1000);
	cluster_kill(cluster, id);
}

/* Nor if only the refused snapshot says that it is the only one: in the file there are still three. */
static void the_membership_in_a_refused_snapshot_counts(void **state)
{
	struct replica_cluster *cluster = cluster_new(3);
	(void)state;
	cluster->options.storage.segment_size = 16384;
	cluster->options.heal = true;
	cluster_start_all(cluster);
	unsigned leader = cluster_elect(cluster);
	cluster_run_ms(cluster, 2000);
	for (unsigned id = 1; id <= 3; id++)
		if (id != leader)
			remove_member(cluster, leader, id);
	for (unsigned k = 0; k < 10; k++)
		cluster_write(cluster, leader, 4, 500);
	take_two(cluster, leader, true, true);
	cluster_kill(cluster, leader);
	assert_int_equal(cluster_start(cluster, leader), REPLICATOR_E_DAMAGED);
	cluster_free(cluster);
}

/* … but with the one before and the log it has everything. */
static void an_only_member_begins_with_the_one_before(void **state)
{
	struct replica_cluster *cluster = cluster_new(1);
	cluster->options.storage.segment_size = 16384;
	struct node *node = cluster_node(cluster, 1);
	(void)state;
	cluster_start_all(cluster);
	assert_int_equal(cluster_elect(cluster), 1);
	for (unsigned k = 0; k < 10; k++)
		cluster_write(cluster, 1, 4, 500);
	take_two(cluster, 1, false, true);
	uint64_t hash = node->hash;
	restart(cluster, 1);
	cluster_run_ms(cluster, 2000);
	assert_true(node->hash == hash);
	/* The next snapshot takes the place of the one that is refused. */
	cluster_write(cluster, 1, 1, 10);
	take_two(cluster, 1, false, false);
	hash = node->hash;
	node->journal[0] = '\0';
	restart(cluster, 1);
	cluster_run_ms(cluster, 2000);
	assert_true(node->hash == hash);
	assert_false(cluster_journal_has(cluster, 1, "passed over"));
	cluster_free(cluster);
}

/* That is no fault of the snapshot. */
static void no_memory_is_waited_for(void **state)
{
	unsigned leader = 0, lagging = 0;
	struct replica_cluster *cluster = one_lags(false, false, &leader, &lagging);
	struct node *node = cluster_node(cluster, lagging);
	(void)state;
	assert_int_equal(cluster_start(cluster, lagging), 0);
	node->restore_error = -ENOMEM;
	cluster_run_ms(cluster, 10000);
	assert_int_equal(node->result, 0);
	assert_int_equal(cluster_status(cluster, lagging).installed, 0);
	assert_in_range(count(node, "snapshot-refused"), 3, 4);
	assert_int_equal(count(node, "snapshot-receive"), 1);
	node->restore_error = 0;
	cluster_run_ms(cluster, 10000);
	assert_int_equal(cluster_status(cluster, lagging).installed, 1);
	all_equal(cluster);
	cluster_free(cluster);
}

/* An older program must not take what a newer one has written for damage. */
static void newer_state_sets_nothing_aside(void **state)
{
	unsigned leader = 0, lagging = 0;
	struct replica_cluster *cluster = one_lags(false, false, &leader, &lagging);
	struct node *node = cluster_node(cluster, lagging);
	(void)state;
	cluster->options.heal = true;
	assert_int_equal(cluster_start(cluster, lagging), 0);
	node->restore_error = -EPROTONOSUPPORT;
	cluster_run_ms(cluster, 5000);
	assert_int_equal(node->result, REPLICATOR_E_LEVEL);
	cluster_kill(cluster, lagging);
	assert_int_equal(cluster_start(cluster, lagging), REPLICATOR_E_LEVEL);
	assert_false(cluster_journal_has(cluster, lagging, "et aside"));
	node->restore_error = 0;
	assert_int_equal(cluster_start(cluster, lagging), 0);
	assert_int_equal(node->n_restored, 1);
	cluster_run_ms(cluster, 5000);
	all_equal(cluster);
	cluster_free(cluster);
}

/* While a large state is loaded another member leads, and sends the log instead: that is applied, and the state dropped. */
static void log_that_catches_up_is_applied(void **state)
{
	unsigned leader = 0, lagging = 0;
	struct replica_cluster *cluster = one_lags(false, false, &leader, &lagging);
	struct node *node = cluster_node(cluster, lagging);
	unsigned other = 6 - leader - lagging;
	(void)state;
	cluster->filling = 40u << 20;
	assert_int_equal(replica_snapshot(cluster_node(cluster, leader)->replica), 0);
	cluster_run_ms(cluster, 3000);
	assert_int_equal(cluster_start(cluster, lagging), 0);
	uint64_t last = cluster_status(cluster, lagging).last_index;
	for (unsigned ms = 0; ms < 10000 && node->n_loads == 0; ms++)
		cluster_run_ms(cluster, 1);
	assert_int_equal(node->n_loads, 1);
	assert_int_equal(cluster_status(cluster, lagging).last_index, last); /* its log is as it was */
	cluster->turn_by_turn = true;
	assert_int_equal(replica_transfer(cluster_node(cluster, leader)->replica, other, cluster->now_us), 0);
	cluster_run_ms(cluster, 100);
	assert_true(cluster_status(cluster, lagging).last_index > last);
	cluster->turn_by_turn = false;
	all_equal(cluster);
	assert_int_equal(cluster_leader(cluster), other);
	assert_int_equal(node->n_loads, 1);
	assert_int_equal(node->n_restored, 0);
	assert_int_equal(cluster_status(cluster, lagging).installed, 0);
	/* Its file is there: the next start begins with it. */
	restart(cluster, lagging);
	assert_int_equal(node->n_restored, 1);
	all_equal(cluster);
	cluster_free(cluster);
}

/* It begins to receive the snapshot of the next entry, and then the log brings that entry. Its own snapshot needs no other's end. */
static void snapshot_that_the_log_outran_keeps_none_back(void **state)
{
	struct replica_cluster *cluster = cluster_new(3);
	(void)state;
	cluster_start_all(cluster);
	unsigned leader = cluster_elect(cluster), behind = leader % 3 + 1;
	struct node *node = cluster_node(cluster, behind);
	cluster_run_ms(cluster, 2000); /* all have been promoted */
	cluster_write(cluster, leader, 1, 10);
	struct replicator_status status = cluster_status(cluster, leader);
	cluster_arrives(cluster, (struct wire_message){.type = WIRE_SNAPSHOT_OFFER,
						       .from = leader,
						       .from_incarnation = status.incarnation,
						       .to = behind,
						       .term = status.term,
						       .snapshot_offer = {.index = status.last_index + 1,
									  .term = status.term,
									  .size = 100000}});
	cluster_run_ms(cluster, 100);
	assert_int_equal(count(node, "snapshot-receive"), 1);
	cluster_write(cluster, leader, 1, 10);
	assert_int_equal(cluster_status(cluster, behind).applied, status.last_index + 1);
	assert_int_equal(replica_snapshot(node->replica), 0);
	cluster_run_ms(cluster, 5000);
	assert_int_equal(count(node, "snapshot-durable"), 1);
	assert_int_equal(count(node, "snapshot-refused"), 0);
	all_equal(cluster);
	cluster_free(cluster);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refused_snapshot_changes_nothing),
		cmocka_unit_test(snapshot_of_another_leader_is_taken),
		cmocka_unit_test(next_snapshot_is_taken),
		cmocka_unit_test(nothing_to_begin_with_is_damage),
		cmocka_unit_test(an_only_member_gives_up_nothing),
		cmocka_unit_test(the_membership_in_a_refused_snapshot_counts),
		cmocka_unit_test(an_only_member_begins_with_the_one_before),
		cmocka_unit_test(log_that_catches_up_is_applied),
		cmocka_unit_test(snapshot_that_the_log_outran_keeps_none_back),
		cmocka_unit_test(no_memory_is_waited_for),
		cmocka_unit_test(newer_state_sets_nothing_aside),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
