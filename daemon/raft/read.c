/*
 * Linearizable reads without a log entry: ReadIndex (dissertation, section 6.4).
 *
 * A read may be answered from commit index i when a quorum has said, after the read arrived, that it still follows this
 * leader. Such a round is a number in every append; rounds are never reused in a term, and a read waits for a round
 * that STARTED after it arrived: the answers to an older one may have been under way before a newer leader was
 * elected. All reads that arrive during a round share the next one. While a lease holds (lease.c) there is nothing to
 * wait for.
 *
 * Must not know: what is read, and when it is applied.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

#define READS_CAPACITY_MIN 64u

/* Room for one more read, so that taking it cannot fail. */
int raft_reads_reserve(struct raft *core)
{
	struct raft_reads *reads = &core->reads;
	size_t capacity = reads->capacity ? reads->capacity * 2 : READS_CAPACITY_MIN;
	struct raft_read *pending;
	uint64_t *failed;

	raft_assert(reads->n_done == 0 && reads->n <= reads->capacity);
	if (reads->n < reads->capacity)
		return 0;
	if (capacity > SIZE_MAX / 2 / sizeof(*pending))
		return -ENOMEM;
	pending = realloc(reads->pending, capacity * sizeof(*pending));
	if (!pending)
		return -ENOMEM;
	reads->pending = pending;
	failed = realloc(reads->failed, capacity * sizeof(*failed));
	if (!failed)
		return -ENOMEM;
	reads->failed = failed;
	reads->capacity = capacity;
	return 0;
}

/* The reads that the last update handed out are the caller's no longer. */
void raft_reads_begin_step(struct raft *core)
{
	struct raft_reads *reads = &core->reads;

	raft_assert(reads->n_done <= reads->n);
	if (reads->n_done == 0)
		return;
	memmove(reads->pending, reads->pending + reads->n_done, (reads->n - reads->n_done) * sizeof(*reads->pending));
	reads->n -= reads->n_done;
	reads->n_done = 0;
}

static void start_round(struct raft *core)
{
	struct raft_reads *reads = &core->reads;

	raft_assert(reads->n_in_flight == 0 && reads->n > reads->n_done);
	raft_begin_round(core);
	reads->round_wanted = reads->round;
	reads->n_in_flight = reads->n - reads->n_done;
}

static void hand_out(struct raft *core, size_t n)
{
	struct raft_reads *reads = &core->reads;

	raft_assert(n <= reads->n - reads->n_done);
	raft_assert(core->out->n_reads_ready == reads->n_done);
	reads->n_done += n;
	core->out->reads_ready = reads->pending;
	core->out->n_reads_ready = reads->n_done;
}

static uint64_t get_round(const struct raft_peer *peer)
{
	return peer->round;
}

/* Nobody else can have been elected since the reads came that wait: none has to wait any longer. */
static void hand_out_all(struct raft *core)
{
	hand_out(core, core->reads.n - core->reads.n_done);
	core->reads.n_in_flight = 0;
}

/* A quorum may have answered the round that is wanted, or given a lease. A change of the configuration may have made this
 * leader the only voter: then the next round is confirmed as soon as it begins, with nobody left to answer it. */
void raft_reads_advance(struct raft *core)
{
	struct raft_reads *reads = &core->reads;

	raft_assert(core->role == RAFT_LEADER);
	while (reads->n_in_flight > 0 && raft_quorum_value(core, reads->round, get_round) >= reads->round_wanted) {
		hand_out(core, reads->n_in_flight);
		reads->n_in_flight = 0;
		if (reads->n > reads->n_done)
			start_round(core);
	}
	if (reads->n > reads->n_done && raft_lease_holds(core, core->now_us))
		hand_out_all(core);
}

/* The leader has committed an entry of its term, hence its commit index covers all that was ever answered. */
void raft_on_read(struct raft *core, uint64_t read_id)
{
	struct raft_reads *reads = &core->reads;
	bool leased = raft_lease_holds(core, core->now_us);

	raft_assert(core->role == RAFT_LEADER && core->commit >= core->term_start);
	raft_assert(reads->n < reads->capacity);
	reads->pending[reads->n++] =
		(struct raft_read){.read_id = read_id, .read_index = core->commit, .leased = leased};
	if (raft_leads_alone(core) || leased)
		hand_out_all(core);
	else if (reads->n_in_flight == 0)
		start_round(core);
}

void raft_reads_fail(struct raft *core)
{
	struct raft_reads *reads = &core->reads;
	size_t n = reads->n - reads->n_done;

	raft_assert(reads->n_in_flight <= n);
	raft_assert(core->out->n_reads_failed == 0);
	for (size_t i = 0; i < n; i++)
		reads->failed[i] = reads->pending[reads->n_done + i].read_id;
	core->out->reads_failed = reads->failed;
	core->out->n_reads_failed = n;
	reads->n = reads->n_done;
	reads->n_in_flight = 0;
}
