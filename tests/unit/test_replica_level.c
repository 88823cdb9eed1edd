/*
 * The feature level of whole members of different versions: what raises it, what keeps it down, who is refused.
 */
#include "daemon/replicator/snapshot_meta.h"
#include "daemon/storage/snapshots.h"
#include "tests/unit/replica_cluster.h"

static unsigned level(struct replica_cluster *cluster, unsigned id)
{
	return cluster_status(cluster, id).level;
}

static void check_level(struct replica_cluster *cluster, unsigned expected)
{
	for (unsigned id = 1; id <= cluster->n; id++)
		if (cluster_node(cluster, id)->replica != NULL)
			assert_int_equal(level(cluster, id), expected);
}

static struct replica_cluster *start_at(unsigned n, unsigned level_max)
{
	struct replica_cluster *cluster = cluster_new(n);
	for (unsigned id = 1; id <= n; id++)
		cluster_node(cluster, id)->level_max = level_max;
	cluster_start_all(cluster);
	assert_true(cluster_elect(cluster) != 0);
	cluster_run_ms(cluster, 2000);
	return cluster;
}

/* Its process ends, and another program takes over its directory. */
static int replace(struct replica_cluster *cluster, unsigned id, unsigned level_max)
{
	cluster_kill(cluster, id);
	cluster_node(cluster, id)->level_max = level_max;
	return cluster_start(cluster, id);
}

static void settle(struct replica_cluster *cluster)
{
	cluster_run_ms(cluster, 4000);
	assert_true(cluster_leader(cluster) != 0);
}

static void new_cluster_is_founded_at_the_level_of_the_oldest(void **state)
{
	(void)state;
	struct replica_cluster *cluster = start_at(3, 3);
	check_level(cluster, 3);
	assert_true(cluster_journal_has(cluster, 2, "feature-level the cluster is at feature level 3"));
	cluster_free(cluster);

	cluster = cluster_new(3);
	for (unsigned id = 1; id <= 3; id++)
		cluster_node(cluster, id)->level_max = id == 2 ? 2 : 3;
	cluster_start_all(cluster);
	settle(cluster);
	check_level(cluster, 2);
	cluster_free(cluster);
}

static void level_rises_when_the_last_member_is_replaced(void **state)
{
	(void)state;
	struct replica_cluster *cluster = start_at(3, 1);
	cluster_write(cluster, cluster_leader(cluster), 10, 10);
	for (unsigned id = 1; id <= 3; id++) {
		check_level(cluster, 1);
		assert_int_equal(replace(cluster, id, 2), 0);
		settle(cluster);
		cluster_write(cluster, cluster_leader(cluster), 3, 10);
	}
	check_level(cluster, 2);
	assert_true(cluster_journal_has(cluster, cluster_leader(cluster), "raises-feature-level"));
	cluster_free(cluster);
}

/* The one that does not answer may be the one that knows the least. */
static void member_that_is_down_keeps_the_level_down(void **state)
{
	(void)state;
	struct replica_cluster *cluster = start_at(3, 1);
	assert_int_equal(replace(cluster, 1, 2), 0);
	assert_int_equal(replace(cluster, 2, 2), 0);
	cluster_kill(cluster, 3);
	settle(cluster);
	check_level(cluster, 1);
	cluster_node(cluster, 3)->level_max = 2;
	assert_int_equal(cluster_start(cluster, 3), 0);
	settle(cluster);
	check_level(cluster, 2);
	cluster_free(cluster);
}

static void going_back_works_before_the_level_rose_and_is_refused_after(void **state)
{
	(void)state;
	struct replica_cluster *cluster = start_at(3, 1);
	assert_int_equal(replace(cluster, 1, 2), 0);
	assert_int_equal(replace(cluster, 2, 2), 0);
	settle(cluster);
	assert_int_equal(replace(cluster, 1, 1), 0);
	assert_int_equal(replace(cluster, 3, 2), 0);
	settle(cluster);
	check_level(cluster, 1);
	assert_int_equal(replace(cluster, 1, 2), 0);
	settle(cluster);
	check_level(cluster, 2);
	cluster_write(cluster, cluster_leader(cluster), 3, 10);
	assert_int_equal(replace(cluster, 1, 1), REPLICATOR_E_LEVEL);
	assert_non_null(strstr(cluster_node(cluster, 1)->message, "feature level 2"));
	assert_non_null(strstr(cluster_node(cluster, 1)->message, "knows levels up to 1"));
	cluster_node(cluster, 1)->level_max = 2;
	assert_int_equal(cluster_start(cluster, 1), 0); /* and it lost nothing by the attempt */
	settle(cluster);
	check_level(cluster, 2);
	cluster_free(cluster);
}

/* It had stored nothing of the new level when it went back: its disk does not refuse, the others tell it. */
static void member_that_went_back_while_cut_off_stops(void **state)
{
	(void)state;
	struct replica_cluster *cluster = start_at(3, 1);
	for (unsigned id = 1; id <= 3; id++)
		assert_int_equal(replace(cluster, id, 2), 0);
	cluster_node(cluster, 3)->cut = true; /* before it heard of it */
	cluster_run_ms(cluster, 1);
	if (level(cluster, 3) == 1) {
		assert_int_equal(replace(cluster, 3, 1), 0);
		cluster_node(cluster, 3)->cut = false;
		cluster_run_ms(cluster, 5000);
		if (level(cluster, 1) == 2) {
			assert_int_equal(cluster_node(cluster, 3)->result, REPLICATOR_E_LEVEL);
			assert_true(cluster_journal_has(cluster, 3, "too-old"));
		}
	}
	cluster_free(cluster);
}

static void learners_count(void **state)
{
	(void)state;
	struct replica_cluster *cluster = cluster_new(4);
	for (unsigned id = 1; id <= 4; id++) {
		cluster_node(cluster, id)->level_max = 1;
		cluster_node(cluster, id)->file = 1u << 1 | 1u << 2 | 1u << 3;
	}
	cluster_start_all(cluster);
	cluster_run_ms(cluster, 2000);
	unsigned leader = cluster_leader(cluster);
	uint64_t index;
	const struct replicator_change add = {
		.type = REPLICATOR_ADD, .id = 4, .stay_learner = true, .peer = "test:4", .client = ""};
	assert_int_equal(replica_change(cluster_node(cluster, leader)->replica, &add, cluster->now_us, 0, &index), 0);
	cluster_run_ms(cluster, 2000);
	for (unsigned id = 1; id <= 3; id++)
		assert_int_equal(replace(cluster, id, 2), 0);
	settle(cluster);
	check_level(cluster, 1);
	assert_int_equal(replace(cluster, 4, 2), 0);
	settle(cluster);
	check_level(cluster, 2);
	cluster_free(cluster);
}

/* It is added by its id, and nobody knows yet which program runs there. */
static void new_member_that_is_too_old_is_told_so_and_gets_nothing(void **state)
{
	(void)state;
	struct replica_cluster *cluster = cluster_new(4);
	for (unsigned id = 1; id <= 4; id++) {
		cluster_node(cluster, id)->level_max = id == 4 ? 1 : 2;
		cluster_node(cluster, id)->file = 1u << 1 | 1u << 2 | 1u << 3;
	}
	cluster_start_all(cluster);
	cluster_run_ms(cluster, 2000);
	unsigned leader = cluster_leader(cluster);
	uint64_t index;
	const struct replicator_change add = {.type = REPLICATOR_ADD, .id = 4, .peer = "test:4", .client = ""};
	assert_int_equal(replica_change(cluster_node(cluster, leader)->replica, &add, cluster->now_us, 0, &index), 0);
	cluster_run_ms(cluster, 2000);
	assert_int_equal(cluster_node(cluster, 4)->result, REPLICATOR_E_LEVEL);
	assert_true(cluster_journal_has(cluster, 4, "the cluster is at feature level 2"));
	assert_true(cluster_journal_has(cluster, leader, "member-too-old"));
	cluster_kill(cluster, 4);
	cluster_node(cluster, 4)->level_max = 2;
	assert_int_equal(cluster_start(cluster, 4), 0);
	cluster_run_ms(cluster, 3000);
	cluster_write(cluster, leader, 1, 10);
	check_level(cluster, 2);
	assert_true(cluster_node(cluster, 4)->hash == cluster_node(cluster, leader)->hash);
	cluster_free(cluster);
}

/* Its leader joined while it was away, and sends it a configuration that it does not understand: from somebody whom it does not know,
 * that is no reason to stop, but it says why it stays behind. */
static void entries_of_a_newer_level_from_a_stranger_are_named(void **state)
{
	struct replica_cluster *cluster = start_at(3, 2);
	uint8_t bytes[RAFT_CONFIG_SIZE_MAX];
	uint64_t index = 0;
	(void)state;
	struct replicator_status before = cluster_status(cluster, 3);
	struct raft_config config =
		*raft_config_at(replica_core(cluster_node(cluster, 3)->replica), before.last_index, &index);
	config.level = 3;
	struct raft_entry entry = {.term = before.term + 1,
				   .type = RAFT_ENTRY_CONFIG,
				   .data = bytes,
				   .size = (uint32_t)raft_config_encode(&config, bytes)};
	struct wire_message append = {
		.type = WIRE_APPEND,
		.from = 4,
		.from_incarnation = 77,
		.to = 3,
		.term = before.term + 1,
		.append = {
			.prev_index = before.last_index, .prev_term = before.term, .n_entries = 1, .entries = &entry}};
	struct node *node = cluster_node(cluster, 3);
	for (unsigned k = 0; k < 100; k++) {
		cluster_arrives(cluster, append);
		cluster_run_ms(cluster, 50);
	}
	assert_int_equal(node->result, 0);
	assert_int_equal(level(cluster, 3), 2);
	const char *line = strstr(node->journal, "4 too-old member 4");
	assert_non_null(line);
	assert_non_null(strstr(line, "feature level 3"));
	assert_null(strstr(line + strlen("4 too-old"), "too-old")); /* not for each of them */
	cluster_free(cluster);
}

/* Nothing but a snapshot tells a wiped member, and a start behind a snapshot. */
static void snapshots_carry_the_level(void **state)
{
	(void)state;
	struct replica_cluster *cluster = start_at(3, 2);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned k = 0; k < 6; k++)
			cluster_write(cluster, cluster_leader(cluster), 50, 1000);
		for (unsigned id = 1; id <= 3; id++)
			assert_int_equal(replica_snapshot(cluster_node(cluster, id)->replica), 0);
		cluster_run_ms(cluster, 2000);
	}
	assert_true(cluster_status(cluster, 1).first_index > 2);
	assert_int_equal(replace(cluster, 1, 2), 0);
	assert_int_equal(level(cluster, 1), 2);
	settle(cluster);
	cluster_kill(cluster, 2);
	struct node *node = cluster_node(cluster, 2);
	memory_disk_free(node->disk);
	node->disk = memory_disk_new();
	assert_int_equal(cluster_start(cluster, 2), 0);
	settle(cluster);
	assert_true(cluster_status(cluster, 2).installed > 0);
	check_level(cluster, 2);
	assert_int_equal(replace(cluster, 2, 1), REPLICATOR_E_LEVEL);
	cluster_free(cluster);
}

/* A snapshot whose header says less than the membership inside: no program of ours writes such a one. */
static void write_lying_snapshot(struct replica_cluster *cluster, unsigned id, unsigned level)
{
	struct memory_disk *disk = cluster_node(cluster, id)->disk;
	struct storage_options options = cluster->options.storage;
	struct storage_state state;
	struct storage *storage = NULL;
	char message[STORAGE_MESSAGE_MAX];
	uint8_t meta[SNAPSHOT_META_SIZE_MAX];
	struct raft_config config = cluster->options.founders;
	struct storage_snapshot_begin begin = {.index = 5, .term = 2, .config_index = 1, .config = meta};
	uint8_t payload[NODE_STATE_SIZE] = {0};
	size_t taken = 0;
	options.member_id = id;
	options.incarnation = 77;
	assert_int_equal(storage_open(memory_disk_open(disk), &options, &storage, &state, message), 0);
	config.level = level;
	for (unsigned k = 0; k < config.n_members; k++)
		config.members[k].role = RAFT_MEMBER_VOTER;
	begin.config_size = snapshot_meta_encode(1, &config, meta);
	assert_int_equal(storage_snapshot_begin(storage, &begin), 0);
	assert_int_equal(storage_snapshot_write(storage, payload, sizeof payload, &taken), 0);
	assert_int_equal(storage_snapshot_finish(storage), 0);
	for (unsigned k = 0; k < 20; k++) {
		memory_disk_run_all(disk, k);
		assert_int_equal(storage_process(storage, k), 0);
	}
	storage_free(storage);
	memory_disk_settle(disk);
}

static void snapshot_that_hides_its_level_is_refused_at_the_start(void **state)
{
	(void)state;
	struct replica_cluster *cluster = cluster_new(1);
	write_lying_snapshot(cluster, 1, 3);
	cluster_node(cluster, 1)->level_max = 2;
	assert_int_equal(cluster_start(cluster, 1), REPLICATOR_E_LEVEL);
	cluster_node(cluster, 1)->level_max = 3;
	assert_int_equal(cluster_start(cluster, 1), 0);
	assert_int_equal(level(cluster, 1), 3);
	cluster_free(cluster);
}

static unsigned role(struct replica_cluster *cluster, unsigned leader, unsigned id)
{
	struct replicator_membership membership;
	replica_get_membership(cluster_node(cluster, leader)->replica, &membership);
	return membership.members[id - 1].role;
}

/* The first of five loses its directory, and moves, and leads again. The third, away meanwhile, knows neither. */
static void first_is_another_one_elsewhere(struct replica_cluster *cluster)
{
	const struct replicator_change move = {.type = REPLICATOR_MOVE, .id = 1, .peer = "moved:1", .client = ""};
	struct node *first = cluster_node(cluster, 1);
	uint64_t index = 0;
	cluster_kill(cluster, 3);
	cluster_kill(cluster, 1);
	memory_disk_free(first->disk);
	first->disk = memory_disk_new();
	assert_int_equal(cluster_start(cluster, 1), 0);
	cluster_run_ms(cluster, 10000);
	struct node *leader = cluster_node(cluster, cluster_elect(cluster));
	assert_int_equal(role(cluster, leader->id, 1), REPLICATOR_VOTER);
	assert_int_equal(replica_change(leader->replica, &move, cluster->now_us, 0, &index), 0);
	cluster_run_ms(cluster, 1000);
	first->moved = true;
	assert_int_equal(replica_transfer(leader->replica, 1, cluster->now_us), 0);
	cluster_run_ms(cluster, 100);
	assert_int_equal(cluster_elect(cluster), 1);
}

/* An old hello says that it is too old: the leader sends it nothing before it says otherwise, and it does not know where to say so. */
static void old_hello_does_not_keep_a_member_from_a_leader_that_moved(void **state)
{
	struct replica_cluster *cluster = start_at(5, RAFT_LEVEL_MAX);
	struct wire_message hello = {.type = WIRE_HELLO,
				     .from = 3,
				     .from_incarnation = cluster_status(cluster, 3).incarnation,
				     .to = 1,
				     .hello = {.version_min = 1, .version_max = 1}};
	(void)state;
	first_is_another_one_elsewhere(cluster);
	cluster_node(cluster, 3)->cut = true;
	assert_int_equal(cluster_start(cluster, 3), 0);
	cluster_arrives(cluster, hello);
	cluster_run_ms(cluster, 20);
	assert_true(cluster_journal_has(cluster, 1, "member-too-old"));
	cluster_node(cluster, 3)->cut = false;
	cluster_run_ms(cluster, 10000);
	assert_int_equal(cluster_leader(cluster), 1);
	assert_int_equal(cluster_status(cluster, 3).applied, cluster_status(cluster, 1).applied);
	cluster_free(cluster);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(new_cluster_is_founded_at_the_level_of_the_oldest),
		cmocka_unit_test(level_rises_when_the_last_member_is_replaced),
		cmocka_unit_test(member_that_is_down_keeps_the_level_down),
		cmocka_unit_test(going_back_works_before_the_level_rose_and_is_refused_after),
		cmocka_unit_test(member_that_went_back_while_cut_off_stops),
		cmocka_unit_test(learners_count),
		cmocka_unit_test(new_member_that_is_too_old_is_told_so_and_gets_nothing),
		cmocka_unit_test(entries_of_a_newer_level_from_a_stranger_are_named),
		cmocka_unit_test(snapshots_carry_the_level),
		cmocka_unit_test(snapshot_that_hides_its_level_is_refused_at_the_start),
		cmocka_unit_test(old_hello_does_not_keep_a_member_from_a_leader_that_moved),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
