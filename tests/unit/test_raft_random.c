/*
 * Random faults from a seed: messages lost, doubled, late, out of order; partitions, also one-way; crashes that lose what
 * is not durable; slow and hung disks; true and false hints of dead connections; transfers; compaction; members added,
 * removed, promoted and demoted; disks that are lost; snapshots that arrive at once, late or twice. What must hold all the time raft_cluster.c checks after each step: Election Safety, Log Matching, Leader Completeness, State
 * Machine Safety, durable before sent, linearizable reads. In the end everything is healed, and the
 * cluster has to become useful again.
 *
 *     test_raft_random [FIRST_SEED [N]]     other seeds, or one that failed
 */
#include "raft_cluster.h"
#include "daemon/assert.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define RANDOM_SEEDS 1000u
#define RANDOM_ACTIONS 400u

static struct {
	uint64_t first;
	uint64_t n;
} seeds = {1, RANDOM_SEEDS};

static uint64_t n_wipes, n_changes, n_installs, late_since;

static uint64_t any(struct rc_cluster *c)
{
	return 1 + rc_random(c, c->n_nodes);
}

static void crash_or_start(struct rc_cluster *c, uint64_t id)
{
	unsigned down = 0;

	/* Mostly a majority lives: where nothing can happen, nothing can go wrong. */
	for (uint64_t other = 1; other <= c->n_nodes; other++)
		down += !c->nodes[other].core;
	if (c->nodes[id].core && down * 2 + 2 > c->n_nodes && rc_chance(c, 80))
		return;
	if (down > 0 && rc_chance(c, 60))
		for (id = 1; c->nodes[id].core;)
			id++;
	if (!c->nodes[id].core) {
		rc_start(c, id);
		return;
	}
	rc_crash(c, id, rc_random(c, c->nodes[id].n_writes + 1));
	/* The kernel closes the connections of the dead; not everybody hears of it. */
	for (uint64_t other = 1; other <= c->n_nodes; other++)
		if (c->nodes[other].core && rc_chance(c, 50))
			(void)rc_peer_down(c, other, id);
}

static void partition(struct rc_cluster *c)
{
	unsigned kind = (unsigned)rc_random(c, 6);

	memset(c->cut, 0, sizeof(c->cut));
	if (kind == 0 || kind > 3)
		return;
	if (kind == 1) {
		rc_isolate(c, any(c), true);
		return;
	}
	for (uint64_t a = 1; a <= c->n_nodes; a++)
		for (uint64_t b = 1; b <= c->n_nodes; b++)
			c->cut[a][b] = a != b && rc_chance(c, kind == 2 ? 20 : 40); /* one-way as well */
}

static void compact(struct rc_cluster *c, uint64_t id)
{
	const struct rc_node *node = &c->nodes[id];

	if (node->core && node->commit > node->base)
		rc_compact(c, id, node->base + 1 + rc_random(c, node->commit - node->base));
}

/* Is everybody who votes there with the disk that it voted with? Then one disk may be lost: with two gone at once, or one
 * of two, acknowledged entries may be gone as well, and no protocol brings them back. */
static bool may_wipe(struct rc_cluster *c, uint64_t id)
{
	uint64_t leader = rc_leader(c);
	const struct raft_status *s = &c->nodes[leader].status;

	if (!leader || id == leader || !s->term_committed || s->config_pending || s->n_voters < 3)
		return false;
	for (unsigned i = 0; i < s->n_peers; i++)
		if (s->peers[i].role != RAFT_MEMBER_LEARNER &&
		    (!s->peers[i].voter || s->peers[i].incarnation != c->nodes[s->peers[i].id].incarnation))
			return false;
	return true;
}

static void wipe(struct rc_cluster *c, uint64_t id)
{
	if (!may_wipe(c, id))
		return;
	if (c->nodes[id].core)
		rc_crash(c, id, rc_random(c, c->nodes[id].n_writes + 1));
	rc_wipe(c, id);
	rc_start(c, id);
	n_wipes++;
}

/* While a voter has lost its disk it must be replaced before another one goes. */
static bool is_whole(struct rc_cluster *c, uint64_t leader)
{
	const struct raft_status *s = &c->nodes[leader].status;

	for (unsigned i = 0; i < s->n_peers; i++)
		if (s->peers[i].incarnation != c->nodes[s->peers[i].id].incarnation)
			return false;
	return true;
}

static void change(struct rc_cluster *c)
{
	static const int roles[] = {0, RAFT_MEMBER_VOTER, RAFT_MEMBER_LEARNER, RAFT_MEMBER_JOINING,
				    RAFT_MEMBER_JOINING};
	uint64_t leader = rc_leader(c);
	uint64_t id = any(c);
	int role = roles[rc_random(c, 5)];
	int r;

	if (!leader || !is_whole(c, leader))
		return;
	/* Also what the core has to refuse: the last voter, a voter that is none of the learners, the same again. */
	r = rc_set_role(c, leader, id, role);
	raft_assert(r >= 0 && r != RAFT_E_UNKNOWN_MEMBER);
	n_changes += r == RAFT_OK;
}

/* What the callers of the cores do all the time, more or less quickly. */
static void serve(struct rc_cluster *c)
{
	uint64_t leader = rc_leader(c);

	/* The founder may have crashed before its disk had anything: it is blank as before, and founds again. */
	if (c->genesis.n_members == 0 && c->nodes[1].core && c->committed.n == 0)
		(void)rc_bootstrap(c, 1);
	if (!leader)
		return;
	(void)rc_heal_members(c, leader);
	rc_serve_snapshots(c, leader);
}

/* A snapshot may arrive long after it was made: the transfer began again and again, or other things were faster. */
static void late_snapshot(struct rc_cluster *c, uint64_t id)
{
	const struct rc_node *node = &c->nodes[id];
	static struct rc_snapshot snapshot;

	if (c->n_steps < late_since) /* of another run */
		snapshot.index = 0;
	late_since = c->n_steps;
	if (snapshot.index == 0 || rc_chance(c, 30)) {
		if (node->status.config_pending || node->status.n_voters == 0 || node->commit == 0)
			return;
		rc_take_snapshot(c, id, node->commit, &snapshot);
		if (rc_chance(c, 30))
			snapshot.leader_term = 0;
		return;
	}
	if (rc_install(c, id, &snapshot) == RAFT_OK)
		n_installs++;
}

static void network(struct rc_cluster *c)
{
	c->drop_percent = (unsigned)rc_random(c, 3) * 10;
	c->duplicate_percent = (unsigned)rc_random(c, 3) * 10;
	c->delay_max_us = rc_chance(c, 30) ? 120 * RC_MS : 2 * RC_MS;
	c->disk_max_us = rc_chance(c, 30) ? 80 * RC_MS : RC_MS;
}

static void disk(struct rc_cluster *c, uint64_t id)
{
	c->disk_frozen[id] = !c->disk_frozen[id] && rc_chance(c, 50);
	if (c->disk_frozen[id] && c->nodes[id].core && c->nodes[id].n_writes > 0 && rc_chance(c, 50))
		(void)rc_disk_stalled(c, id);
}

static void act(struct rc_cluster *c)
{
	uint64_t id = rc_chance(c, 50) && rc_leader(c) ? rc_leader(c) : any(c);
	uint64_t what = rc_random(c, 110);
	bool up = c->nodes[id].core;

	if (what < 40 && up)
		(void)rc_propose(c, id, 1 + (unsigned)rc_random(c, 20), 0);
	else if (what < 65 && up)
		(void)rc_read(c, id);
	else if (what < 72)
		crash_or_start(c, id);
	else if (what < 77)
		partition(c);
	else if (what < 80)
		network(c);
	else if (what < 84)
		disk(c, id);
	else if (what < 88 && up && c->n_nodes > 1) /* perhaps a false hint */
		(void)rc_peer_down(c, id, 1 + (id + rc_random(c, c->n_nodes - 1)) % c->n_nodes);
	else if (what < 92 && up)
		(void)rc_transfer(c, id, rc_chance(c, 50) ? RAFT_NO_MEMBER : any(c));
	else if (what < 94)
		compact(c, any(c));
	else if (what < 100)
		change(c);
	else if (what < 101)
		wipe(c, any(c));
	else if (what < 106)
		serve(c);
	else if (what < 108 && up)
		late_snapshot(c, id);
}

/* After all that: quiet, everybody up, and the cluster works. */
static void check_recovery(struct rc_cluster *c)
{
	uint64_t before = c->committed.n;
	uint64_t leader;
	unsigned limit = 100;

	rc_heal(c);
	c->delay_max_us = 2 * RC_MS;
	c->disk_max_us = RC_MS;
	rc_start_all(c);
	rc_run_us(c, RC_TIMEOUT_MAX_US); /* a transfer under way succeeds or is given up */
	for (; limit > 0 && !rc_converged(c); limit--) {
		rc_run_us(c, 100 * RC_MS);
		serve(c);
	}
	raft_assert(limit > 0);
	leader = rc_leader(c);
	raft_assert(rc_propose(c, leader, 5, 0) == RAFT_OK);
	raft_assert(rc_read(c, leader) == RAFT_OK);
	rc_run_us(c, 200 * RC_MS);
	raft_assert(rc_converged(c));
	raft_assert(c->committed.n >= before + 5);
	raft_assert(c->nodes[leader].reads[c->nodes[leader].n_reads - 1].ready);
}

struct tally {
	uint64_t committed, elections, transfers, truncations, ready, failed, steps;
	uint64_t promotions, resets, removals;
};

static void count(const struct rc_cluster *c, struct tally *tally)
{
	tally->committed += c->committed.n;
	tally->steps += c->n_steps;
	tally->ready += c->n_reads_ready;
	tally->failed += c->n_reads_failed;
	for (uint64_t id = 1; id <= c->n_nodes; id++) {
		tally->elections += c->nodes[id].traces[RAFT_TRACE_LEADER];
		tally->transfers += c->nodes[id].traces[RAFT_TRACE_TRANSFER];
		tally->truncations += c->nodes[id].traces[RAFT_TRACE_TRUNCATE];
		tally->promotions += c->nodes[id].traces[RAFT_TRACE_PROMOTE];
		tally->resets += c->nodes[id].traces[RAFT_TRACE_RESET];
		tally->removals += c->nodes[id].traces[RAFT_TRACE_REMOVED];
	}
}

static void run_seed(uint64_t seed, struct tally *tally)
{
	static const unsigned sizes[] = {3, 5, 4, 2, 1, 3, 5, 7};
	struct rc_options options = {.n_nodes = sizes[seed % 8], .seed = seed};
	struct rc_cluster c;

	options.leases = seed % 2 == 1;
	if (seed % 3 == 0 && options.n_nodes > 1)
		options.n_learners = 1;
	if (seed % 4 == 0) {
		options.batch_bytes_max = 300;
		options.window_bytes_max = 900;
	}
	if (seed % 5 == 0)
		options.uncommitted_bytes_max = 5000;
	if (seed % 7 == 0) {
		options.n_learners = 0;
		options.n_blank = options.n_nodes;
	} else if (seed % 2 == 0) {
		options.n_blank = 2;
		options.n_nodes += options.n_nodes + 2 <= RC_NODES_MAX ? 2 : 0;
		options.n_blank = options.n_nodes > 2 + options.n_learners ? 2 : 0;
	}
	rc_init(&c, &options);
	late_since = UINT64_MAX;
	rc_start_all(&c);
	if (options.n_blank == options.n_nodes)
		raft_assert(rc_bootstrap(&c, 1) == RAFT_OK);
	for (unsigned i = 0; i < RANDOM_ACTIONS; i++) {
		act(&c);
		rc_run_us(&c, rc_random(&c, rc_chance(&c, 10) ? 400 * RC_MS : 15 * RC_MS));
		if (i % 50 == 0)
			rc_check_logs(&c);
	}
	check_recovery(&c);
	count(&c, tally);
	rc_fini(&c);
}

static void test_random_faults_break_no_promise(void **state)
{
	struct tally t = {0};

	(void)state;
	for (uint64_t seed = seeds.first; seed < seeds.first + seeds.n; seed++) {
		fprintf(stderr, "\rseed %" PRIu64 " ", seed);
		run_seed(seed, &t);
	}
	fprintf(stderr,
		"\n%" PRIu64 " steps, %" PRIu64 " entries committed, %" PRIu64 " elections, %" PRIu64
		" transfers, %" PRIu64 " truncations, reads: %" PRIu64 " answered, %" PRIu64 " failed\n",
		t.steps, t.committed, t.elections, t.transfers, t.truncations, t.ready, t.failed);
	fprintf(stderr,
		"%" PRIu64 " changes, %" PRIu64 " promotions, %" PRIu64 " removals noticed, %" PRIu64
		" disks lost, %" PRIu64 " logs begun anew, %" PRIu64 " late snapshots\n",
		n_changes, t.promotions, t.removals, n_wipes, t.resets, n_installs);
	/* A run in which nothing happens proves nothing. */
	assert_true(t.committed > seeds.n * 100 && t.elections > seeds.n * 2);
	assert_true(t.ready > seeds.n * 10 && t.failed > 0 && t.truncations > 0);
	assert_true(n_changes > seeds.n && t.promotions > seeds.n / 2 && t.removals > 0);
	assert_true(n_wipes > 0 && t.resets > 0 && n_installs > 0);
}

/* Near what the member knows, so that much of it passes the first checks. */
static uint64_t near(struct rc_cluster *c, uint64_t value)
{
	uint64_t any_value = value + rc_random(c, 7);

	if (rc_chance(c, 2))
		return UINT64_MAX - rc_random(c, 3);
	return any_value < 3 ? 0 : any_value - 3;
}

/* Some change of the configuration that the member knows; now and then bytes that are none. */
static void hostile_config(struct rc_cluster *c, struct raft_entry *entry)
{
	static uint8_t bytes[8][RAFT_CONFIG_SIZE_MAX];
	static unsigned next;
	static const int roles[] = {0, RAFT_MEMBER_VOTER, RAFT_MEMBER_LEARNER, RAFT_MEMBER_JOINING};
	struct raft_config config = rc_config_with(c, 1, 1 + rc_random(c, 7), roles[rc_random(c, 4)]);
	uint8_t *at = bytes[next++ % 8];

	if (raft_config_problem(&config))
		return;
	if (rc_chance(c, 10))
		config.members[rc_random(c, config.n_members)].incarnation = 1 + rc_random(c, 3);
	entry->type = RAFT_ENTRY_CONFIG;
	entry->size = (uint32_t)raft_config_encode(&config, at);
	entry->data = at;
	if (rc_chance(c, 10))
		at[rc_random(c, entry->size)] = (uint8_t)rc_random(c, 256);
}

static void hostile_snapshot(struct rc_cluster *c)
{
	const struct raft_status *s = &c->nodes[1].status;
	struct rc_snapshot snapshot = {.index = near(c, s->last_index), .term = near(c, s->hard_state.term)};

	snapshot.leader_term = rc_chance(c, 50) ? s->hard_state.term : near(c, s->hard_state.term + 1);
	snapshot.config_index = near(c, s->commit);
	snapshot.config = rc_config_with(c, 1, 1 + rc_random(c, 7), rc_chance(c, 50) ? 0 : RAFT_MEMBER_LEARNER);
	if (snapshot.index < s->last_index + 100)
		(void)rc_install(c, 1, &snapshot);
}

static void hostile_message(struct rc_cluster *c, struct raft_entry *entries, unsigned n_entries)
{
	static const uint64_t value;
	const struct raft_status *s = &c->nodes[1].status;
	struct raft_message m = {.type = (enum raft_message_type)(1 + rc_random(c, 5)), .to = 1};

	m.from = rc_chance(c, 95) ? 2 + rc_random(c, 4) : rc_random(c, 9);
	if ((s->role == RAFT_CANDIDATE || s->role == RAFT_PRE_CANDIDATE) && rc_chance(c, 60))
		m.type = RAFT_MESSAGE_VOTE_REPLY; /* let it win now and then */
	m.term = rc_chance(c, 90) ? s->hard_state.term : near(c, s->hard_state.term + 1);
	if (m.type == RAFT_MESSAGE_VOTE_REQUEST) {
		m.vote_request.last_index = near(c, s->last_index + 1);
		m.vote_request.last_term = near(c, s->hard_state.term);
		m.vote_request.pre_vote = rc_chance(c, 50);
		m.vote_request.transfer = rc_chance(c, 30);
	} else if (m.type == RAFT_MESSAGE_VOTE_REPLY) {
		m.vote_reply.granted = rc_chance(c, 80);
		m.vote_reply.pre_vote = s->role == RAFT_PRE_CANDIDATE || rc_chance(c, 20);
		m.vote_reply.request_term = s->hard_state.term + m.vote_reply.pre_vote;
	} else if (m.type == RAFT_MESSAGE_APPEND) {
		m.append.prev_index = near(c, rc_chance(c, 50) ? s->last_index : s->commit);
		m.append.prev_term = rc_chance(c, 70) ? raft_term_at(c->nodes[1].core, m.append.prev_index)
						      : near(c, s->hard_state.term);
		m.append.commit = near(c, s->commit + 1);
		m.append.round = near(c, 3);
		m.append.n_entries = (uint32_t)rc_random(c, n_entries);
		m.append.entries = entries;
		for (unsigned i = 0; i < m.append.n_entries; i++) {
			entries[i] = (struct raft_entry){.type = RAFT_ENTRY_COMMAND, .data = (const uint8_t *)&value};
			entries[i].term = rc_chance(c, 90) ? m.term : near(c, m.term);
			entries[i].size = rc_chance(c, 1) ? UINT32_MAX : 10;
			if (rc_chance(c, 20))
				hostile_config(c, &entries[i]);
		}
	} else if (m.type == RAFT_MESSAGE_APPEND_REPLY) {
		m.append_reply.rejected = rc_chance(c, 40);
		m.append_reply.match = near(c, s->last_index);
		m.append_reply.round = rc_random(c, 3);
		m.append_reply.prev_index = near(c, s->last_index);
		m.append_reply.conflict_index = near(c, s->last_index);
		m.append_reply.conflict_term = near(c, s->hard_state.term);
	}
	(void)rc_message(c, &m);
}

/* DESIGN.md, rule 8: members that lie may do harm, but they crash nobody. */
static void test_lies_of_other_members_crash_nobody(void **state)
{
	unsigned led = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct rc_options options = {.n_nodes = 5, .n_learners = seed % 2 ? 1 : 0, .seed = seed};
		struct raft_entry entries[8];
		struct rc_cluster c;

		rc_init(&c, &options);
		c.scripted = true;
		rc_start(&c, 1);
		for (unsigned i = 0; i < 3000; i++) {
			uint64_t what = rc_random(&c, 100);

			if (what < 70)
				hostile_message(&c, entries, 8);
			else if (what < 80 && c.nodes[1].n_writes > 0)
				rc_persist_one(&c, 1);
			else if (what < 85)
				(void)rc_timeout(&c, 1);
			else if (what < 90)
				(void)rc_propose(&c, 1, 1 + (unsigned)rc_random(&c, 3), 0);
			else if (what < 95)
				(void)rc_read(&c, 1);
			else if (what < 97)
				(void)rc_transfer(&c, 1, RAFT_NO_MEMBER);
			else if (what < 98)
				hostile_snapshot(&c);
			else if (what < 99)
				(void)rc_set_role(&c, 1, 1 + rc_random(&c, 7), (int)rc_random(&c, 4));
			else if (c.nodes[1].n_writes > 0)
				(void)rc_disk_stalled(&c, 1);
			rc_lose(&c, 0, 0, 0);
		}
		led += c.nodes[1].traces[RAFT_TRACE_LEADER];
		rc_fini(&c);
	}
	assert_true(led > 200);
}

static void test_same_seed_same_run(void **state)
{
	struct tally t[2] = {{0}, {0}};

	(void)state;
	for (unsigned i = 0; i < 2; i++)
		run_seed(4711, &t[i]);
	assert_memory_equal(&t[0], &t[1], sizeof(t[0]));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_faults_break_no_promise),
		cmocka_unit_test(test_lies_of_other_members_crash_nobody),
		cmocka_unit_test(test_same_seed_same_run),
	};

	if (argc > 1) {
		seeds.first = strtoull(argv[1], NULL, 10);
		seeds.n = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
