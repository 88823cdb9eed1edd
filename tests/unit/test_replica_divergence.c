/* Whole members whose states are made to differ: who stops, and that the others go on. */
#include "tests/unit/replica_cluster.h"

static struct replica_cluster *running(unsigned n)
{
	struct replica_cluster *cluster = cluster_new(n);
	cluster->options.checkpoint_entries = 16;
	cluster_start_all(cluster);
	unsigned leader = cluster_elect(cluster);
	assert_int_not_equal(leader, 0);
	cluster_run_ms(cluster, 2000);
	cluster_write(cluster, leader, 40, 10);
	cluster_run_ms(cluster, 500);
	return cluster;
}

static void write_and_wait(struct replica_cluster *cluster)
{
	unsigned leader = cluster_elect(cluster);
	assert_int_not_equal(leader, 0);
	(void)cluster_propose(cluster, leader, 40, 10);
	cluster_run_ms(cluster, 1000);
}

static unsigned n_stopped(struct replica_cluster *cluster)
{
	unsigned n = 0;
	for (unsigned id = 1; id <= cluster->n; id++) {
		int result = cluster_node(cluster, id)->result;
		assert_true(result == 0 || result == REPLICATOR_E_DIVERGED);
		n += result != 0;
	}
	return n;
}

static void equal_states_disturb_nobody(void **state)
{
	struct replica_cluster *cluster = running(3);
	(void)state;
	for (unsigned k = 0; k < 5; k++)
		write_and_wait(cluster);
	assert_int_equal(n_stopped(cluster), 0);
	for (unsigned id = 1; id <= 3; id++)
		assert_false(cluster_journal_has(cluster, id, "diverged"));
	cluster_free(cluster);
}

static void a_follower_that_differs_stops(void **state)
{
	struct replica_cluster *cluster = running(3);
	unsigned wrong = cluster_leader(cluster) % 3 + 1;
	(void)state;
	cluster_node(cluster, wrong)->hash ^= 1u << 17;
	write_and_wait(cluster);
	assert_int_equal(n_stopped(cluster), 1);
	assert_int_equal(cluster_node(cluster, wrong)->result, REPLICATOR_E_DIVERGED);
	assert_true(cluster_journal_has(cluster, wrong, "2 diverged the state as of entry"));
	assert_true(cluster_journal_has(cluster, cluster_leader(cluster), "2 diverged the state of member"));
	write_and_wait(cluster); /* the others go on */
	assert_int_equal(n_stopped(cluster), 1);
	cluster_free(cluster);
}

static void a_leader_that_differs_stops(void **state)
{
	struct replica_cluster *cluster = running(3);
	unsigned wrong = cluster_leader(cluster);
	(void)state;
	cluster_node(cluster, wrong)->hash ^= 1u << 17;
	write_and_wait(cluster);
	assert_int_equal(n_stopped(cluster), 1);
	assert_int_equal(cluster_node(cluster, wrong)->result, REPLICATOR_E_DIVERGED);
	write_and_wait(cluster);
	assert_int_equal(n_stopped(cluster), 1);
	cluster_free(cluster);
}

static void without_a_majority_all_that_differ_stop(void **state)
{
	struct replica_cluster *cluster = running(3);
	(void)state;
	for (unsigned id = 1; id <= 3; id++)
		cluster_node(cluster, id)->hash ^= id;
	write_and_wait(cluster);
	assert_int_equal(n_stopped(cluster), 3);
	cluster_free(cluster);
}

/* Two of three are there and differ: nobody can say who is right, and the third may never come. */
static void two_that_differ_stop_in_the_end(void **state)
{
	struct replica_cluster *cluster = running(3);
	unsigned leader = cluster_leader(cluster);
	(void)state;
	cluster_kill(cluster, leader % 3 + 1);
	cluster_node(cluster, leader)->hash ^= 4;
	write_and_wait(cluster);
	assert_int_equal(n_stopped(cluster), 0); /* the third could still decide */
	cluster_run_ms(cluster, 6000);
	assert_int_equal(n_stopped(cluster), 2);
	cluster_free(cluster);
}

/* The last word of a leader that stops is heard by one that has just seen its connection close, or waited for it in vain. */
static void a_verdict_counts_when_its_leader_is_gone(void **state)
{
	struct replica_cluster *cluster = running(3);
	unsigned leader = cluster_leader(cluster);
	struct node *last = cluster_node(cluster, leader % 3 + 1), *wrong = cluster_node(cluster, (leader + 1) % 3 + 1);
	(void)state;
	for (unsigned id = 1; id <= 3; id++)
		cluster_node(cluster, id)->hash ^= id;
	assert_int_equal(cluster_propose(cluster, leader, 40, 10), 0);
	last->deaf = true;
	cluster_run_ms(cluster, 120);
	assert_int_equal(n_stopped(cluster), 0); /* the last answer could still decide */
	wrong->deaf = true;
	last->deaf = false;
	for (unsigned ms = 0; ms < 10 && cluster_node(cluster, leader)->result == 0; ms++)
		cluster_run_ms(cluster, 1);
	assert_int_equal(cluster_node(cluster, leader)->result, REPLICATOR_E_DIVERGED);
	cluster_run_ms(cluster, 500);
	assert_int_equal(wrong->result, 0);
	assert_int_equal(cluster_status(cluster, wrong->id).leader, 0);
	wrong->deaf = false;
	cluster_run_ms(cluster, 10);
	assert_int_equal(wrong->result, REPLICATOR_E_DIVERGED);
	cluster_free(cluster);
}

/* One that lags is asked about an entry that it has not reached. */
static void a_question_waits_until_it_is_reached(void **state)
{
	struct replica_cluster *cluster = running(3);
	unsigned leader = cluster_leader(cluster);
	unsigned wrong = leader % 3 + 1;
	(void)state;
	cluster_node(cluster, wrong)->cut = true;
	for (unsigned k = 0; k < 10; k++)
		assert_int_equal(cluster_propose(cluster, leader, 40, 1000), 0);
	cluster_run_ms(cluster, 10);
	cluster_node(cluster, wrong)->hash ^= 1;
	cluster_node(cluster, wrong)->cut = false;
	cluster_run_ms(cluster, 3000);
	assert_int_equal(cluster_node(cluster, wrong)->result, REPLICATOR_E_DIVERGED);
	assert_int_equal(n_stopped(cluster), 1);
	cluster_free(cluster);
}

/* What a member said in an earlier term may hold no longer: it was started again, and its memory is good now. */
static void answers_of_an_earlier_term_do_not_count(void **state)
{
	struct replica_cluster *cluster = running(3);
	unsigned leader = cluster_leader(cluster);
	unsigned wrong = leader % 3 + 1;
	(void)state;
	cluster_kill(cluster, wrong % 3 + 1);
	cluster_node(cluster, wrong)->hash ^= 1;
	unsigned missing = 16 - (unsigned)(cluster_status(cluster, leader).last_index % 16);
	cluster_write(cluster, leader, missing, 10); /* up to a checkpoint; the next one stays far */
	cluster_run_ms(cluster, 500);

	cluster_node(cluster, leader)->cut = true;
	assert_int_equal(cluster_propose(cluster, leader, 1, 10), 0); /* only this one can be elected again */
	cluster_run_ms(cluster, 1000);
	assert_int_not_equal(cluster_status(cluster, leader).role, RAFT_LEADER);
	cluster_kill(cluster, wrong);
	assert_int_equal(cluster_start(cluster, wrong), 0);
	cluster_node(cluster, leader)->cut = false;

	assert_int_equal(cluster_elect(cluster), leader);
	cluster_run_ms(cluster, 7000);
	assert_int_equal(n_stopped(cluster), 0);
	assert_false(cluster_journal_has(cluster, leader, "diverged"));
	cluster_free(cluster);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equal_states_disturb_nobody),
		cmocka_unit_test(a_follower_that_differs_stops),
		cmocka_unit_test(a_leader_that_differs_stops),
		cmocka_unit_test(without_a_majority_all_that_differ_stop),
		cmocka_unit_test(two_that_differ_stop_in_the_end),
		cmocka_unit_test(a_verdict_counts_when_its_leader_is_gone),
		cmocka_unit_test(a_question_waits_until_it_is_reached),
		cmocka_unit_test(answers_of_an_earlier_term_do_not_count),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
