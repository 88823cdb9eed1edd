/* Whole members whose disks rot: who heals, who stops, and that nothing is lost. */
#include "tests/unit/replica_cluster.h"

#include <stdio.h>

/* Flips a byte of entry data in the middle of what the segment holds. The data of entries repeat one byte. */
static void rot(struct replica_cluster *cluster, unsigned id, const char *name, uint64_t offset)
{
	uint64_t size = 0;
	uint8_t *bytes = memory_disk_contents(cluster_node(cluster, id)->disk, name, &size);
	assert_non_null(bytes);
	assert_true(offset < size);
	bytes[offset] ^= 0x40;
	memory_disk_settle(cluster_node(cluster, id)->disk);
}

/* Three members that keep few entries in memory; one of them is away while the others write. */
static struct replica_cluster *one_lags(unsigned *ret_leader, unsigned *ret_lagging)
{
	struct replica_cluster *cluster = cluster_new(3);
	cluster->options.storage.cache_bytes_max = 4096;
	cluster_start_all(cluster);
	*ret_leader = cluster_elect(cluster);
	assert_int_not_equal(*ret_leader, 0);
	cluster_run_ms(cluster, 2000); /* all have been promoted */
	*ret_lagging = *ret_leader % 3 + 1;
	cluster_kill(cluster, *ret_lagging);
	for (unsigned k = 0; k < 20; k++)
		cluster_write(cluster, *ret_leader, 4, 500);
	return cluster;
}

static void all_equal(struct replica_cluster *cluster)
{
	for (unsigned id = 2; id <= cluster->n; id++)
		assert_true(cluster_node(cluster, id)->hash == cluster_node(cluster, 1)->hash);
}

static void leader_heals_its_own_log(void **state)
{
	unsigned leader = 0;
	unsigned lagging = 0;
	struct replica_cluster *cluster = one_lags(&leader, &lagging);
	(void)state;
	rot(cluster, leader, "segment-0000000000000001", 20000);
	assert_int_equal(cluster_start(cluster, lagging), 0);
	cluster_run_ms(cluster, 5000);
	assert_int_equal(cluster_node(cluster, leader)->result, 0);
	assert_true(cluster_journal_has(cluster, leader, "segment-0000000000000001 offset"));
	assert_true(cluster_status(cluster, leader).first_index > 80);
	assert_int_equal(cluster_status(cluster, lagging).installed, 1);
	cluster_write(cluster, cluster_elect(cluster), 1, 10);
	all_equal(cluster);
	/* The damaged segment is gone: started again, it finds nothing wrong. */
	cluster_kill(cluster, leader);
	assert_int_equal(cluster_start(cluster, leader), 0);
	cluster_write(cluster, cluster_elect(cluster), 1, 10);
	all_equal(cluster);
	cluster_free(cluster);
}

/* The same, and the leader has entries that only the lagging one can help to commit: the snapshot does not wait for them. */
static void leader_heals_its_log_without_a_quorum_for_its_end(void **state)
{
	unsigned leader = 0, lagging = 0;
	struct replica_cluster *cluster = one_lags(&leader, &lagging);
	(void)state;
	rot(cluster, leader, "segment-0000000000000001", 20000);
	cluster_kill(cluster, 6 - leader - lagging);
	assert_int_equal(cluster_propose(cluster, leader, 5, 10), 0);
	assert_int_equal(cluster_start(cluster, lagging), 0);
	cluster_run_ms(cluster, 5000);
	assert_int_equal(cluster_leader(cluster), leader);
	assert_int_equal(cluster_status(cluster, leader).commit, cluster_status(cluster, leader).last_index);
	assert_int_equal(cluster_status(cluster, lagging).installed, 1);
	assert_true(cluster_node(cluster, lagging)->hash == cluster_node(cluster, leader)->hash);
	/* The damaged segment goes, too, as soon as all of it is committed. */
	cluster_run_ms(cluster, 2000);
	cluster_kill(cluster, leader);
	assert_int_equal(cluster_start(cluster, leader), 0);
	assert_false(cluster_journal_has(cluster, leader, "2 damaged segment"));
	cluster_free(cluster);
}

/* What is not applied yet cannot be had from anywhere here. */
static void unapplied_damage_stops_the_member(void **state)
{
	struct replica_cluster *cluster = cluster_new(3);
	(void)state;
	cluster->options.storage.cache_bytes_max = 4096;
	cluster_start_all(cluster);
	unsigned leader = cluster_elect(cluster);
	cluster_run_ms(cluster, 2000);
	for (unsigned id = 1; id <= 3; id++)
		if (id != leader)
			cluster_node(cluster, id)->cut = true;
	/* Nobody answers, so nothing of this is committed; the leader still believes for a moment that it leads. */
	assert_int_equal(cluster_propose(cluster, leader, 60, 500), 0);
	cluster_run_ms(cluster, 20);
	rot(cluster, leader, "segment-0000000000000001", 20000);
	for (unsigned id = 1; id <= 3; id++)
		cluster_node(cluster, id)->cut = false;
	cluster_run_ms(cluster, 3000);
	assert_int_equal(cluster_node(cluster, leader)->result, REPLICATOR_E_DAMAGED);
	assert_true(cluster_journal_has(cluster, leader, "segment-0000000000000001 offset"));
	cluster_free(cluster);
}

/* Kills the member, damages its only segment early on and starts it again. */
static int start_damaged(struct replica_cluster *cluster, unsigned id)
{
	cluster_kill(cluster, id);
	rot(cluster, id, "segment-0000000000000001", 20000);
	return cluster_start(cluster, id);
}

static bool has_file(struct replica_cluster *cluster, unsigned id, const char *name)
{
	uint64_t size = 0;
	return memory_disk_contents(cluster_node(cluster, id)->disk, name, &size) != NULL;
}

static struct replica_cluster *three_with_data(bool heal)
{
	struct replica_cluster *cluster = cluster_new(3);
	cluster->options.heal = heal;
	cluster_start_all(cluster);
	unsigned leader = cluster_elect(cluster);
	assert_int_not_equal(leader, 0);
	cluster_run_ms(cluster, 2000);
	for (unsigned k = 0; k < 20; k++)
		cluster_write(cluster, leader, 4, 500);
	return cluster;
}

static void damaged_member_rejoins(void **state)
{
	struct replica_cluster *cluster = three_with_data(true);
	(void)state;
	for (unsigned id = 1; id <= 3; id++) { /* one after the other, whoever leads */
		uint64_t before = cluster_status(cluster, id).incarnation;
		assert_int_equal(start_damaged(cluster, id), 0);
		assert_true(cluster_journal_has(cluster, id, "2 damaged segment-0000000000000001 offset"));
		assert_true(has_file(cluster, id, "segment-0000000000000001.damaged-1"));
		cluster_run_ms(cluster, 5000);
		unsigned leader = cluster_elect(cluster);
		assert_int_not_equal(leader, 0);
		cluster_write(cluster, leader, 1, 10);
		assert_true(cluster_status(cluster, id).incarnation != before);
		struct replicator_membership membership;
		replica_get_membership(cluster_node(cluster, leader)->replica, &membership);
		assert_int_equal(membership.members[id - 1].role, REPLICATOR_VOTER);
		assert_true(membership.members[id - 1].incarnation == cluster_status(cluster, id).incarnation);
	}
	all_equal(cluster);
	assert_int_equal(cluster_node(cluster, 1)->n_applied, 83);
	cluster_free(cluster);
}

/* No empty cluster takes the place of one whose members have all given up their data. */
static void all_damaged_found_nothing(void **state)
{
	struct replica_cluster *cluster = three_with_data(true);
	(void)state;
	for (unsigned id = 1; id <= 3; id++) {
		cluster_kill(cluster, id);
		rot(cluster, id, "segment-0000000000000001", 20000);
	}
	for (unsigned id = 1; id <= 3; id++)
		assert_int_equal(cluster_start(cluster, id), 0);
	cluster_run_ms(cluster, 10000);
	assert_int_equal(cluster_leader(cluster), 0);
	for (unsigned id = 1; id <= 3; id++)
		assert_true(cluster_status(cluster, id).blank);
	cluster_free(cluster);
}

/* Leaves member id a snapshot and no entry: the only record of its log is cut like a torn one. */
static void leave_snapshot_only(struct replica_cluster *cluster, unsigned id, char name[64])
{
	uint64_t size = 0;
	assert_int_equal(replica_snapshot(cluster_node(cluster, id)->replica), 0);
	cluster_run_ms(cluster, 1000);
	(void)snprintf(name, 64, "snapshot-%016llx", (unsigned long long)cluster_status(cluster, id).snapshot_index);
	cluster_kill(cluster, id);
	uint8_t *segment = memory_disk_contents(cluster_node(cluster, id)->disk, "segment-0000000000000001", &size);
	assert_non_null(segment);
	memset(segment + 4096, 0, size - 4096);
}

/* Nothing but a snapshot that does not verify, and the disks of all others are new: nothing else says that there was a cluster. */
static void rotten_snapshot_founds_nothing(void **state)
{
	(void)state;
	for (unsigned id = 1; id <= 3; id++) {
		struct replica_cluster *cluster = three_with_data(true);
		char name[64];
		leave_snapshot_only(cluster, id, name);
		rot(cluster, id, name, NODE_STATE_SIZE / 2);
		for (unsigned k = 1; k <= 3; k++) {
			if (k != id) {
				cluster_kill(cluster, k);
				memory_disk_free(cluster_node(cluster, k)->disk);
				cluster_node(cluster, k)->disk = memory_disk_new();
			}
			assert_int_equal(cluster_start(cluster, k), 0);
		}
		assert_true(cluster_journal_has(cluster, id, "the log ends before it, at 0"));
		cluster_run_ms(cluster, 10000);
		assert_int_equal(cluster_leader(cluster), 0);
		cluster_free(cluster);
	}
}

/* It forgot what it promised: it is another member from then on, and the snapshot never comes back, even if it can be read again. */
static void rotten_snapshot_alone_is_given_up(void **state)
{
	struct replica_cluster *cluster = three_with_data(true);
	char name[64];
	char aside[96];
	(void)state;
	uint64_t before = cluster_status(cluster, 1).incarnation;
	leave_snapshot_only(cluster, 1, name);
	rot(cluster, 1, name, NODE_STATE_SIZE / 2);
	cluster->options.heal = false;
	assert_int_equal(cluster_start(cluster, 1), REPLICATOR_E_DAMAGED);
	assert_non_null(strstr(cluster_node(cluster, 1)->message, name));
	cluster->options.heal = true;
	assert_int_equal(cluster_start(cluster, 1), 0);
	(void)snprintf(aside, sizeof aside, "%s.damaged-1", name);
	assert_true(has_file(cluster, 1, aside));
	assert_true(cluster_status(cluster, 1).incarnation != before);
	cluster_run_ms(cluster, 10000);
	cluster_write(cluster, cluster_elect(cluster), 1, 10);
	all_equal(cluster);
	cluster_free(cluster);
}

/* One read of the start fails, and there is nothing but the snapshot: no start goes on without it. What would begin then would be
 * replaced by it when the disk reads again. */
static void no_start_goes_on_without_all_that_there_is(void **state)
{
	struct replica_cluster *cluster = three_with_data(true);
	struct node *one = cluster_node(cluster, 1);
	char name[64];
	bool failed = true;
	(void)state;
	leave_snapshot_only(cluster, 1, name);
	for (unsigned id = 2; id <= 3; id++)
		cluster_kill(cluster, id);
	memory_disk_settle(one->disk);
	struct memory_disk *image = memory_disk_clone(one->disk);
	for (unsigned n = 0; failed; n++) {
		memory_disk_free(one->disk);
		one->disk = memory_disk_clone(image);
		memory_disk_fail_read_at(one->disk, n);
		int r = cluster_start(cluster, 1);
		failed = memory_disk_read_failed(one->disk);
		assert_false(cluster_journal_has(cluster, 1, "passed over a snapshot: "));
		if (r == 0)
			cluster_kill(cluster, 1);
	}
	memory_disk_free(image);
	cluster_free(cluster);
}

static void damage_is_refused_without_others(void **state)
{
	struct replica_cluster *cluster = cluster_new(1);
	(void)state;
	cluster->options.heal = true;
	cluster_start_all(cluster);
	assert_int_equal(cluster_elect(cluster), 1);
	for (unsigned k = 0; k < 20; k++)
		cluster_write(cluster, 1, 4, 500);
	assert_int_equal(start_damaged(cluster, 1), REPLICATOR_E_DAMAGED);
	assert_non_null(strstr(cluster_node(cluster, 1)->message, "segment-0000000000000001 offset"));
	assert_true(has_file(cluster, 1, "segment-0000000000000001"));
	cluster_free(cluster);
}

/* What a snapshot covers was not lost: the member stays who it was, even alone. */
static void damage_before_a_snapshot_is_set_aside(void **state)
{
	struct replica_cluster *cluster = cluster_new(1);
	(void)state;
	cluster->options.heal = true;
	cluster_start_all(cluster);
	assert_int_equal(cluster_elect(cluster), 1);
	for (unsigned k = 0; k < 100; k++) /* into the second segment */
		cluster_write(cluster, 1, 4, 500);
	assert_int_equal(replica_snapshot(cluster_node(cluster, 1)->replica), 0);
	cluster_run_ms(cluster, 1000);
	cluster_write(cluster, 1, 1, 10);
	uint64_t before = cluster_status(cluster, 1).incarnation;
	uint64_t hash = cluster_node(cluster, 1)->hash;
	assert_int_equal(start_damaged(cluster, 1), 0);
	assert_true(has_file(cluster, 1, "segment-0000000000000001.damaged-1"));
	assert_int_equal(cluster_elect(cluster), 1);
	cluster_run_ms(cluster, 100);
	assert_true(cluster_status(cluster, 1).incarnation == before);
	assert_true(cluster_node(cluster, 1)->hash == hash);
	cluster_free(cluster);
}

/* The snapshot that the only member lagging behind needs has rotted where the leader keeps it, and nobody writes any more: the leader
 * must find out by itself, and make another one. */
static void heal_snapshot(uint64_t offset, bool unreadable)
{
	unsigned leader = 0;
	unsigned lagging = 0;
	char name[64];
	struct replica_cluster *cluster = one_lags(&leader, &lagging);
	for (unsigned k = 0; k < 2; k++) { /* with two of them the log before the older one goes */
		assert_int_equal(replica_snapshot(cluster_node(cluster, leader)->replica), 0);
		cluster_run_ms(cluster, 1000);
		cluster_write(cluster, leader, 1, 10);
	}
	assert_true(cluster_status(cluster, leader).first_index > 80);
	(void)snprintf(name, sizeof name, "snapshot-%016llx",
		       (unsigned long long)cluster_status(cluster, leader).snapshot_index);
	if (unreadable)
		memory_disk_fail_reads_of(cluster_node(cluster, leader)->disk, name);
	else
		rot(cluster, leader, name, offset);
	assert_int_equal(cluster_start(cluster, lagging), 0);
	cluster_run_ms(cluster, 10000);
	assert_true(cluster_journal_has(cluster, leader, name));
	assert_int_equal(cluster_status(cluster, lagging).installed, 1);
	cluster_write(cluster, cluster_elect(cluster), 1, 10);
	all_equal(cluster);
	cluster_free(cluster);
}

static void leader_heals_its_snapshot(void **state)
{
	(void)state;
	heal_snapshot(NODE_STATE_SIZE / 2, false);
}

static void leader_heals_the_header_of_its_snapshot(void **state)
{
	(void)state;
	heal_snapshot(40, false);
}

/* Disks, and file systems with checksums, report their damage so. */
static void leader_replaces_a_snapshot_that_cannot_be_read(void **state)
{
	(void)state;
	heal_snapshot(0, true);
}

/* What a member has received rots on its own disk before it looks at it again. The leader's is good, nobody writes any more, and so
 * there will not be another one for long: the member has to ask for the same once more. */
static void received_snapshot_that_rots_is_received_again(void **state)
{
	unsigned leader = 0, lagging = 0;
	char name[64];
	struct replica_cluster *cluster = one_lags(&leader, &lagging);
	struct node *node = cluster_node(cluster, lagging);
	uint64_t size = 0;
	(void)state;
	for (unsigned k = 0; k < 2; k++) {
		assert_int_equal(replica_snapshot(cluster_node(cluster, leader)->replica), 0);
		cluster_run_ms(cluster, 1000);
		cluster_write(cluster, leader, 1, 10);
	}
	(void)snprintf(name, sizeof name, "snapshot-%016llx.part",
		       (unsigned long long)cluster_status(cluster, leader).snapshot_index);
	node->background_hangs = true;
	assert_int_equal(cluster_start(cluster, lagging), 0);
	cluster_run_ms(cluster, 1000);
	while (memory_disk_contents(node->disk, name, &size) == NULL || size == 0)
		assert_true(memory_disk_step(node->disk, DISK_LANE_BACKGROUND));
	rot(cluster, lagging, name, 40);
	node->background_hangs = false;
	cluster_run_ms(cluster, 10000);
	assert_true(cluster_journal_has(cluster, lagging, "snapshot-refused"));
	assert_int_equal(cluster_status(cluster, lagging).installed, 1);
	cluster_write(cluster, cluster_elect(cluster), 1, 10);
	all_equal(cluster);
	cluster_free(cluster);
}

/* Two members may have taken the snapshot of the same entry, and their files have different sizes: who leads now has the longer one. */
static void snapshot_of_the_next_leader_may_be_longer(void **state)
{
	unsigned leader = 0, lagging = 0;
	struct replica_cluster *cluster = one_lags(&leader, &lagging);
	(void)state;
	for (unsigned k = 0; k < 2; k++) {
		assert_int_equal(replica_snapshot(cluster_node(cluster, leader)->replica), 0);
		cluster_run_ms(cluster, 1000);
		cluster_write(cluster, leader, 1, 10);
	}
	struct replicator_status status = cluster_status(cluster, leader);
	uint64_t other = 6 - leader - lagging;
	cluster_node(cluster, leader)->cut = true;
	assert_int_equal(cluster_start(cluster, lagging), 0);
	cluster_arrives(cluster,
			(struct wire_message){
				.type = WIRE_SNAPSHOT_OFFER,
				.from = other,
				.from_incarnation = cluster_status(cluster, (unsigned)other).incarnation,
				.to = lagging,
				.term = status.term,
				.snapshot_offer = {.index = status.snapshot_index, .term = status.term, .size = 100}});
	cluster_run_ms(cluster, 1);
	cluster_node(cluster, leader)->cut = false;
	assert_true(cluster_journal_has(cluster, lagging, "snapshot-receive"));
	cluster_run_ms(cluster, 10000);
	assert_int_equal(cluster_status(cluster, lagging).installed, 1);
	cluster_write(cluster, cluster_elect(cluster), 1, 10);
	all_equal(cluster);
	cluster_free(cluster);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(leader_heals_its_own_log),
		cmocka_unit_test(leader_heals_its_snapshot),
		cmocka_unit_test(leader_heals_its_log_without_a_quorum_for_its_end),
		cmocka_unit_test(leader_heals_the_header_of_its_snapshot),
		cmocka_unit_test(leader_replaces_a_snapshot_that_cannot_be_read),
		cmocka_unit_test(received_snapshot_that_rots_is_received_again),
		cmocka_unit_test(snapshot_of_the_next_leader_may_be_longer),
		cmocka_unit_test(unapplied_damage_stops_the_member),
		cmocka_unit_test(damaged_member_rejoins),
		cmocka_unit_test(all_damaged_found_nothing),
		cmocka_unit_test(rotten_snapshot_founds_nothing),
		cmocka_unit_test(rotten_snapshot_alone_is_given_up),
		cmocka_unit_test(no_start_goes_on_without_all_that_there_is),
		cmocka_unit_test(damage_is_refused_without_others),
		cmocka_unit_test(damage_before_a_snapshot_is_set_aside),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
