/* Whole members on full disks: refused cleanly, nothing stops, and all goes on when there is room. */
#include "tests/unit/replica_cluster.h"

#include "daemon/storage/snapshots.h"

#define SEGMENT (128u * 1024u)

static struct replica_cluster *founded(unsigned n)
{
	struct replica_cluster *cluster = cluster_new(n);
	cluster_start_all(cluster);
	assert_int_not_equal(cluster_elect(cluster), 0);
	return cluster;
}

static void fill(struct replica_cluster *cluster, unsigned id)
{
	memory_disk_set_capacity(cluster_node(cluster, id)->disk, 0);
}

static void make_room(struct replica_cluster *cluster, unsigned id)
{
	memory_disk_set_capacity(cluster_node(cluster, id)->disk, UINT64_MAX);
}

static void nobody_stopped(struct replica_cluster *cluster)
{
	for (unsigned id = 1; id <= cluster->n; id++)
		assert_int_equal(cluster_node(cluster, id)->result, 0);
}

static bool has_room(struct replica_cluster *cluster, unsigned id)
{
	return storage_has_room(replica_storage(cluster_node(cluster, id)->replica));
}

/* Writes at whoever leads until the disk of member id is full. */
static void write_until_full(struct replica_cluster *cluster, unsigned id)
{
	for (unsigned k = 0; k < 2000 && has_room(cluster, id); k++) {
		unsigned leader = cluster_leader(cluster);
		if (leader != 0)
			(void)cluster_propose(cluster, leader, 4, 1000);
		cluster_run_ms(cluster, 5);
	}
	assert_false(has_room(cluster, id));
}

static void elects_and_reads_with_all_disks_full(void **state)
{
	struct replica_cluster *cluster = founded(3);
	(void)state;
	for (unsigned id = 1; id <= 3; id++)
		fill(cluster, id);
	unsigned leader = cluster_leader(cluster);
	for (unsigned k = 0; k < 400 && cluster_propose(cluster, leader, 4, 1000) != REPLICATOR_E_DISK_FULL; k++)
		cluster_run_ms(cluster, 5);
	assert_int_equal(cluster_propose(cluster, leader, 1, 10), REPLICATOR_E_DISK_FULL);
	/* Its leader dies again and again: each election writes terms, votes and a no-op, until not even they have room. */
	for (unsigned k = 0; k < 60; k++) {
		leader = cluster_leader(cluster);
		if (leader != 0) {
			cluster_node(cluster, leader)->cut = true;
			cluster_run_ms(cluster, 4000);
			cluster_node(cluster, leader)->cut = false;
		}
		cluster_run_ms(cluster, 4000);
		nobody_stopped(cluster);
		if (k == 1) {
			leader = cluster_leader(cluster);
			assert_int_not_equal(leader, 0);
			struct node *node = cluster_node(cluster, leader);
			uint64_t before = node->n_readable;
			assert_int_equal(replica_read(node->replica, 1, cluster->now_us), 0);
			cluster_run_ms(cluster, 300);
			assert_int_equal(node->n_readable, before + 1);
		}
	}
	for (unsigned id = 1; id <= 3; id++)
		make_room(cluster, id);
	cluster_run_ms(cluster, 3000);
	leader = cluster_elect(cluster);
	assert_int_not_equal(leader, 0);
	cluster_write(cluster, leader, 10, 1000);
	assert_int_equal(cluster_node(cluster, 1)->hash, cluster_node(cluster, 2)->hash);
	assert_int_equal(cluster_node(cluster, 1)->hash, cluster_node(cluster, 3)->hash);
	cluster_free(cluster);
}

static void full_leader_hands_over(void **state)
{
	struct replica_cluster *cluster = founded(3);
	unsigned leader = cluster_leader(cluster);
	(void)state;
	fill(cluster, leader);
	write_until_full(cluster, leader);
	cluster_run_ms(cluster, 12000);
	nobody_stopped(cluster);
	unsigned next = cluster_leader(cluster);
	assert_int_not_equal(next, 0);
	assert_int_not_equal(next, leader);
	/* And it stays with the other one, also when that dies for a moment: there is a third with room. */
	assert_int_equal(cluster_propose(cluster, next, 10, 1000), 0);
	cluster_run_ms(cluster, 100);
	assert_int_equal(cluster_status(cluster, next).commit, cluster_status(cluster, next).last_index);
	cluster_node(cluster, next)->cut = true;
	cluster_run_ms(cluster, 3000);
	unsigned third = cluster_leader(cluster);
	assert_int_equal(third, 6 - leader - next);
	cluster_node(cluster, next)->cut = false;
	make_room(cluster, leader);
	cluster_run_ms(cluster, 1000);
	cluster_write(cluster, cluster_elect(cluster), 1, 10);
	assert_int_equal(cluster_node(cluster, leader)->hash, cluster_node(cluster, next)->hash);
	assert_true(cluster_journal_has(cluster, leader, "disk-has-room"));
	cluster_free(cluster);
}

static uint64_t queued_bytes(struct replica_cluster *cluster, unsigned id)
{
	struct storage_stats stats;
	storage_get_stats(replica_storage(cluster_node(cluster, id)->replica), &stats);
	return stats.queued_bytes;
}

/* Its log comes to the end of its file, and no other is prepared. The others commit without it: it must not take ever more, and
 * when it takes nothing any more, not lead. */
static void leader_without_another_file_hands_over(void **state)
{
	struct replica_cluster *cluster = founded(3);
	unsigned leader = cluster_leader(cluster);
	uint64_t queue_max = cluster->options.raft.uncommitted_bytes_max + SEGMENT;
	int r = 0;
	(void)state;
	cluster_node(cluster, leader)->background_hangs = true;
	for (unsigned k = 0; k < 2000 && r == 0; k++) {
		r = cluster_propose(cluster, leader, 4, 1000);
		cluster_run_ms(cluster, 5);
		assert_in_range(queued_bytes(cluster, leader), 0, queue_max);
	}
	assert_int_equal(r, REPLICATOR_E_BUSY);
	assert_int_equal(cluster_status(cluster, leader).commit, cluster_status(cluster, leader).last_index);
	cluster_run_ms(cluster, 1000);
	unsigned next = cluster_leader(cluster);
	assert_int_not_equal(next, 0);
	assert_int_not_equal(next, leader);
	for (unsigned k = 0; k < 500; k++) {
		assert_int_equal(cluster_propose(cluster, next, 4, 1000), 0);
		cluster_run_ms(cluster, 5);
		assert_in_range(queued_bytes(cluster, leader), 0, queue_max);
	}
	nobody_stopped(cluster);
	cluster_node(cluster, leader)->background_hangs = false;
	cluster_write(cluster, cluster_elect(cluster), 1, 10);
	assert_int_equal(cluster_node(cluster, leader)->hash, cluster_node(cluster, next)->hash);
	cluster_free(cluster);
}

/* … and not to one whose disk hangs as well: who lags behind what is committed is asked last. */
static void leader_without_another_file_passes_over_one_that_hangs_too(void **state)
{
	struct replica_cluster *cluster = founded(5);
	unsigned leader = cluster_leader(cluster), waits_ms = 0;
	(void)state;
	cluster_node(cluster, leader)->background_hangs = true;
	cluster_node(cluster, leader == 1 ? 2 : 1)->background_hangs = true;
	for (unsigned k = 0; k < 2000 && cluster_leader(cluster) == leader; k++) {
		bool refused = cluster_propose(cluster, leader, 4, 1000) != 0;
		waits_ms = refused ? waits_ms + 5 : 0;
		assert_in_range(waits_ms, 0, 2000);
		cluster_run_ms(cluster, 5);
	}
	cluster_run_ms(cluster, 100);
	unsigned next = cluster_elect(cluster);
	assert_int_not_equal(next, leader);
	assert_false(cluster_node(cluster, next)->background_hangs);
	cluster_free(cluster);
}

/* One proposal is many records of a slow disk, and durable with the last of them: there is no other disk to hope for as long as this
 * one gets on. */
static void leader_whose_disk_gets_on_slowly_stays(void **state)
{
	struct replica_cluster *cluster = founded(3);
	unsigned leader = cluster_leader(cluster);
	(void)state;
	cluster_node(cluster, leader)->log_step_ms = 50;
	assert_int_equal(cluster_propose(cluster, leader, 64, 32 * 1024), 0);
	uint64_t last = cluster_status(cluster, leader).last_index;
	unsigned waits_ms = 0;
	for (; cluster_status(cluster, leader).durable_index < last; waits_ms++) {
		if (cluster_propose(cluster, leader, 1, 10) == 0)
			last = cluster_status(cluster, leader).last_index;
		cluster_run_ms(cluster, 1);
		assert_int_equal(cluster_leader(cluster), leader);
		assert_in_range(waits_ms, 0, 20000);
	}
	assert_in_range(waits_ms, 1000, 20000);
	cluster_free(cluster);
}

/* A follower that was away long enough to need a snapshot, which its disk does not write: it hangs, or is full. What it cannot take it
 * does not ask for all the time. */
static void follower_does_not_ask_for_what_it_cannot_take(void **state)
{
	(void)state;
	for (unsigned full = 0; full < 2; full++) {
		struct replica_cluster *cluster = founded(3);
		unsigned leader = cluster_leader(cluster), away = leader == 1 ? 2 : 1;
		struct node *node = cluster_node(cluster, away);
		cluster_kill(cluster, away);
		for (unsigned k = 0; k < 3; k++) { /* the log is kept back to the snapshot before the last */
			cluster_write(cluster, leader, 5, 10);
			assert_int_equal(replica_snapshot(cluster_node(cluster, leader)->replica), 0);
			cluster_run_ms(cluster, 1000);
		}
		node->background_hangs = full == 0;
		if (full != 0)
			memory_disk_set_capacity(node->disk, 0);
		assert_int_equal(cluster_start(cluster, away), 0);
		cluster_run_ms(cluster, 100);
		assert_true(cluster_journal_has(cluster, away, "snapshot-receive"));
		unsigned begun = node->sent;
		cluster_run_ms(cluster, 2000);
		assert_in_range(node->sent - begun, 1, 60); /* 40 heartbeats are answered */
		assert_false(cluster_journal_has(cluster, away, "snapshot-installed"));
		node->background_hangs = false;
		memory_disk_set_capacity(node->disk, UINT64_MAX);
		cluster_run_ms(cluster, 3000);
		assert_true(cluster_journal_has(cluster, away, "snapshot-installed"));
		assert_int_equal(node->hash, cluster_node(cluster, leader)->hash);
		nobody_stopped(cluster);
		cluster_free(cluster);
	}
}

/* A batch that is larger than all the room that is left is dropped, not fatal. */
static void full_follower_gets_large_batches(void **state)
{
	struct replica_cluster *cluster = founded(3);
	unsigned leader = cluster_leader(cluster);
	unsigned follower = leader % 3 + 1;
	(void)state;
	fill(cluster, follower);
	for (unsigned k = 0; k < 40; k++) {
		assert_int_equal(cluster_propose(cluster, leader, 16, 3000), 0);
		cluster_run_ms(cluster, 50);
		nobody_stopped(cluster);
	}
	assert_true(cluster_status(cluster, follower).last_index < cluster_status(cluster, leader).commit);
	make_room(cluster, follower);
	cluster_write(cluster, leader, 1, 10);
	assert_int_equal(cluster_node(cluster, follower)->hash, cluster_node(cluster, leader)->hash);
	cluster_free(cluster);
}

/* A member that joins cannot be promoted while the leader has no room; nothing stops. */
static void no_promotion_without_room(void **state)
{
	struct replica_cluster *cluster = cluster_new(3);
	(void)state;
	cluster_start_all(cluster);
	unsigned leader = cluster_elect(cluster);
	unsigned lost = leader % 3 + 1;
	cluster_kill(cluster, lost);
	for (unsigned id = 1; id <= 3; id++)
		if (id != lost)
			fill(cluster, id);
	write_until_full(cluster, leader);
	struct node *node = cluster_node(cluster, lost);
	memory_disk_free(node->disk);
	node->disk = memory_disk_new();
	assert_int_equal(cluster_start(cluster, lost), 0);
	cluster_run_ms(cluster, 20000);
	nobody_stopped(cluster);
	for (unsigned id = 1; id <= 3; id++)
		make_room(cluster, id);
	cluster_run_ms(cluster, 3000);
	leader = cluster_elect(cluster);
	assert_int_not_equal(leader, 0);
	cluster_write(cluster, leader, 1, 10);
	assert_int_equal(cluster_status(cluster, lost).role == RAFT_FOLLOWER || lost == leader, true);
	cluster_free(cluster);
}

/* The only voter starts while its disk is full: it waits for room to vote for itself, and stops nothing. */
static void single_member_waits_for_room(void **state)
{
	struct replica_cluster *cluster = founded(1);
	(void)state;
	fill(cluster, 1);
	write_until_full(cluster, 1);
	for (unsigned k = 0; k < 120; k++) { /* each start is an election */
		cluster_kill(cluster, 1);
		assert_int_equal(cluster_start(cluster, 1), 0);
		cluster_run_ms(cluster, 3000);
		nobody_stopped(cluster);
	}
	assert_int_equal(cluster_leader(cluster), 0);
	make_room(cluster, 1);
	cluster_run_ms(cluster, 4000);
	assert_int_equal(cluster_leader(cluster), 1);
	cluster_write(cluster, 1, 1, 10);
	cluster_free(cluster);
}

/* There is room for a frame of another member in the last segment, and not for all that is proposed at once. */
static void more_than_a_frame_is_refused_on_a_full_disk(void **state)
{
	struct replica_cluster *cluster = cluster_new(1);
	(void)state;
	cluster->options.storage.segment_size = 32u * 1024u * 1024u;
	cluster_start_all(cluster);
	assert_int_equal(cluster_elect(cluster), 1);
	cluster_run_ms(cluster, 1000);
	fill(cluster, 1);
	for (unsigned k = 0; k < 6; k++) /* the second segment is begun, and there can be no third */
		cluster_write(cluster, 1, 6, 1024 * 1024);
	cluster_run_ms(cluster, 1000);
	struct storage_stats stats;
	storage_get_stats(replica_storage(cluster_node(cluster, 1)->replica), &stats);
	assert_int_equal(stats.segments, 2);
	assert_true(stats.full && has_room(cluster, 1));
	assert_int_equal(cluster_propose(cluster, 1, 60, 1024 * 1024), REPLICATOR_E_DISK_FULL);
	cluster_write(cluster, 1, 6, 1024 * 1024);
	nobody_stopped(cluster);
	cluster_free(cluster);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(elects_and_reads_with_all_disks_full),
		cmocka_unit_test(full_leader_hands_over),
		cmocka_unit_test(full_follower_gets_large_batches),
		cmocka_unit_test(no_promotion_without_room),
		cmocka_unit_test(single_member_waits_for_room),
		cmocka_unit_test(leader_without_another_file_hands_over),
		cmocka_unit_test(leader_whose_disk_gets_on_slowly_stays),
		cmocka_unit_test(leader_without_another_file_passes_over_one_that_hangs_too),
		cmocka_unit_test(more_than_a_frame_is_refused_on_a_full_disk),
		cmocka_unit_test(follower_does_not_ask_for_what_it_cannot_take),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
