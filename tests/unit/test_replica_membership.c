/* Whole members that come back with an empty directory. */
#include "tests/unit/replica_cluster.h"

/* Its configuration file does not name the member that leads now: it learns from the leader how to answer. */
static void wiped_member_finds_a_leader_that_its_file_does_not_name(void **state)
{
	struct replica_cluster *cluster = cluster_new(3);
	(void)state;
	cluster_node(cluster, 3)->file = 1u << 1 | 1u << 3;
	cluster_start_all(cluster);
	assert_int_equal(cluster_elect(cluster), 1);
	cluster_run_ms(cluster, 2000);
	cluster_write(cluster, 1, 5, 10);
	assert_int_equal(replica_transfer(cluster_node(cluster, 1)->replica, 2, cluster->now_us), 0);
	cluster_run_ms(cluster, 100);
	assert_int_equal(cluster_elect(cluster), 2);
	cluster_kill(cluster, 3);
	struct node *node = cluster_node(cluster, 3);
	memory_disk_free(node->disk);
	node->disk = memory_disk_new();
	assert_int_equal(cluster_start(cluster, 3), 0);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wiped_member_finds_a_leader_that_its_file_does_not_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
