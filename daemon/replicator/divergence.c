/*
 * Do all copies agree? (DESIGN.md, rule 6.)
 *
 * Every member remembers the hash of its state at the last checkpoints, entries with a round index.  The leader asks the
 * others for theirs of its newest one.  When most voters have the same hash, whoever has another one is wrong: a
 * member is told, the leader knows by itself, and it stops.  When no hash is that of most voters, nobody can say who is
 * right: then the leader stops and so does everybody who differs from it.  A member that stops keeps its
 * directory: what went wrong is in there.
 *
 * A question that is ahead of what a member has applied waits until it is reached.  One round of questions is under way at
 * a time; what is lost is asked again with the next heartbeat.
 *
 * What this must not know: what the state is.
 */
#include "replica_internal.h"

#include "daemon/assert.h"

#include <inttypes.h>

#define CHECKPOINT_ENTRIES 1024u
#define ROUND_US 5000000u /* how long answers are waited for */

static uint64_t distance(const struct replica *replica)
{
	uint64_t entries = replica->options.checkpoint_entries;
	return entries > 0 ? entries : CHECKPOINT_ENTRIES;
}

/* The hash as of that entry; false: it is no longer, or not yet, known. */
static bool recall(const struct replica *replica, uint64_t index, uint64_t *ret_hash)
{
	const struct replica_checkpoint *checkpoint =
		&replica->divergence.ring[index / distance(replica) % REPLICA_CHECKPOINTS];
	if (index == 0 || checkpoint->index != index)
		return false;
	*ret_hash = checkpoint->hash;
	return true;
}

/* term: the leader's. */
static void send_checkpoint(struct replica *replica, uint64_t to, uint64_t term, uint64_t index, uint64_t hash)
{
	struct wire_message wire = replica_wire_message(replica, WIRE_CHECKPOINT, to);
	wire.term = term;
	wire.checkpoint.index = index;
	wire.checkpoint.hash = hash;
	replica_send_wire(replica, &wire);
}

/* Members ---------------------------------------------------------------------------------------------- */

/* Answers the question that waits, if it was reached. */
static void answer(struct replica *replica)
{
	struct replica_divergence *divergence = &replica->divergence;
	uint64_t hash;
	if (divergence->wanted == 0 || replica->applied < divergence->wanted)
		return;
	if (recall(replica, divergence->wanted, &hash))
		send_checkpoint(replica, divergence->wanted_by, divergence->wanted_term, divergence->wanted, hash);
	divergence->wanted = 0;
}

void replica_note_checkpoint(struct replica *replica)
{
	struct replica_divergence *divergence = &replica->divergence;
	uint64_t index = replica->applied;
	if (index % distance(replica) != 0 || replica->machine->state_hash == NULL)
		return;
	divergence->ring[index / distance(replica) % REPLICA_CHECKPOINTS] =
		(struct replica_checkpoint){.index = index, .hash = replica->machine->state_hash(replica->machine_arg)};
	if (index > divergence->newest)
		divergence->newest = index;
	answer(replica);
}

static void on_verdict(struct replica *replica, const struct wire_message *wire)
{
	uint64_t hash;
	if (!recall(replica, wire->checkpoint.index, &hash) || hash == wire->checkpoint.hash)
		return;
	replica_log(replica, 2, "diverged",
		    "the state as of entry %" PRIu64 " has hash %016" PRIx64 " here and %016" PRIx64 " %s. This member "
		    "stops and serves nothing. Keep a copy of its data directory to find out why, then empty it: it "
		    "rejoins as a new member",
		    wire->checkpoint.index, hash, wire->checkpoint.hash,
		    wire->checkpoint.majority ? "on most voters"
					      : "on the leader, and there is none that most voters have");
	replica->failed = REPLICATOR_E_DIVERGED;
}

/* From the leader that this member follows. */
static void on_question(struct replica *replica, const struct wire_message *wire)
{
	struct replica_divergence *divergence = &replica->divergence;
	if (wire->checkpoint.index % distance(replica) != 0)
		return; /* of a leader with another distance */
	if (divergence->wanted > replica->applied && divergence->wanted_term == wire->term)
		return; /* the first one first: under load the newest would never be reached */
	divergence->wanted = wire->checkpoint.index;
	divergence->wanted_by = wire->from;
	divergence->wanted_term = wire->term;
	answer(replica);
}

/* The leader ------------------------------------------------------------------------------------------- */

/* The answer of a member in this round; NULL: none yet. */
static const uint64_t *answer_of(struct replica *replica, uint64_t id)
{
	const struct replica_peer *peer = replica_find_peer(replica, id);
	return peer != NULL && peer->checkpoint.index == replica->divergence.asked ? &peer->checkpoint.hash : NULL;
}

struct tally {
	unsigned answers; /* of voters, this one included */
	unsigned most;	  /* voters that agree on … */
	uint64_t hash;
	bool differs; /* somebody does, voter or not */
	bool all;     /* every member has answered as this one did */
};

/* Voters that have this hash. */
static unsigned count(struct replica *replica, const struct raft_status *status, uint64_t hash)
{
	unsigned n = status->self_voter && replica->divergence.asked_hash == hash;
	for (unsigned k = 0; k < status->n_peers; k++) {
		const uint64_t *other = answer_of(replica, status->peers[k].id);
		n += status->peers[k].voter && other != NULL && *other == hash;
	}
	return n;
}

static struct tally tally(struct replica *replica, const struct raft_status *status)
{
	uint64_t own = replica->divergence.asked_hash;
	struct tally tally = {.answers = status->self_voter, .all = true, .hash = own};
	tally.most = count(replica, status, own);
	for (unsigned k = 0; k < status->n_peers; k++) {
		const uint64_t *hash = answer_of(replica, status->peers[k].id);
		tally.all &= hash != NULL && *hash == own;
		if (hash == NULL)
			continue;
		tally.answers += status->peers[k].voter;
		tally.differs |= *hash != own;
		unsigned n = count(replica, status, *hash);
		if (n > tally.most) {
			tally.most = n;
			tally.hash = *hash;
		}
	}
	return tally;
}

static void tell(struct replica *replica, const struct raft_status *status, const struct tally *tally, bool majority)
{
	for (unsigned k = 0; k < status->n_peers; k++) {
		const uint64_t *hash = answer_of(replica, status->peers[k].id);
		if (hash == NULL || *hash == tally->hash)
			continue;
		struct wire_message wire = replica_wire_message(replica, WIRE_CHECKPOINT, status->peers[k].id);
		wire.term = replica->divergence.asked_term;
		wire.checkpoint.index = replica->divergence.asked;
		wire.checkpoint.hash = tally->hash;
		wire.checkpoint.majority = majority;
		wire.checkpoint.undecided = !majority;
		if (replica->divergence.reported != replica->divergence.asked)
			replica_log(replica, 2, "diverged",
				    "the state of member %" PRIu64 " as of entry %" PRIu64 " has hash %016" PRIx64
				    " instead of %016" PRIx64,
				    status->peers[k].id, wire.checkpoint.index, *hash, tally->hash);
		replica_send_wire(replica, &wire);
	}
	replica->divergence.reported = replica->divergence.asked;
}

/* What the answers so far mean. */
static void judge(struct replica *replica, const struct raft_status *status, const struct tally *tally)
{
	struct replica_divergence *divergence = &replica->divergence;
	bool majority = tally->most > status->n_voters / 2;
	bool last = tally->answers == status->n_voters || replica->now_us >= divergence->asked_us + ROUND_US;
	if (!tally->differs || (!majority && !last))
		return;
	struct tally verdict = *tally;
	if (!majority)
		verdict.hash = divergence->asked_hash;
	tell(replica, status, &verdict, majority);
	if (majority && tally->hash == divergence->asked_hash)
		return;
	replica_log(replica, 2, "diverged",
		    "this leader's state as of entry %" PRIu64 " has hash %016" PRIx64 "; %s%016" PRIx64
		    ". It stops and serves nothing. Keep a copy of the data directory to find out why",
		    divergence->asked, divergence->asked_hash,
		    majority ? "most voters have " : "no hash is that of most voters; the most frequent is ",
		    tally->hash);
	replica->failed = REPLICATOR_E_DIVERGED;
}

static void ask(struct replica *replica, const struct raft_status *status)
{
	const struct replica_divergence *divergence = &replica->divergence;
	for (unsigned k = 0; k < status->n_peers; k++)
		if (answer_of(replica, status->peers[k].id) == NULL)
			send_checkpoint(replica, status->peers[k].id, divergence->asked_term, divergence->asked,
					divergence->asked_hash);
}

/* The round is over, or there never was one in this term: the next begins when there is a newer checkpoint. */
static void begin_round(struct replica *replica, const struct raft_status *status)
{
	struct replica_divergence *divergence = &replica->divergence;
	uint64_t hash;
	if (divergence->newest <= divergence->asked || !recall(replica, divergence->newest, &hash))
		return;
	divergence->asked = divergence->newest;
	divergence->asked_hash = hash;
	divergence->asked_us = replica->now_us;
	divergence->asked_term = status->hard_state.term;
	divergence->open = true;
	/* It may be the entry of an earlier term's round: who answered then may have started again since. */
	for (unsigned k = 0; k < 2 * RAFT_MEMBERS_MAX; k++)
		replica->peers[k].checkpoint = (struct replica_checkpoint){0};
}

void replica_tend_divergence(struct replica *replica)
{
	struct replica_divergence *divergence = &replica->divergence;
	struct raft_status status;
	if (replica->now_us < divergence->again_us || divergence->newest == 0)
		return;
	divergence->again_us = replica->now_us + replica->options.raft.heartbeat_us;
	raft_get_status(replica->core, &status);
	if (status.role != RAFT_LEADER)
		return;
	if (divergence->asked_term != status.hard_state.term) {
		divergence->open = false;
		divergence->asked = 0; /* asked in an earlier term: once more */
	}
	if (!divergence->open)
		begin_round(replica, &status);
	if (!divergence->open)
		return;
	struct tally now = tally(replica, &status);
	judge(replica, &status, &now);
	if (now.all || replica->now_us >= divergence->asked_us + ROUND_US)
		divergence->open = false;
	else
		ask(replica, &status);
}

static void on_answer(struct replica *replica, const struct raft_status *status, const struct wire_message *wire)
{
	struct replica_peer *peer = replica_find_peer(replica, wire->from);
	if (peer == NULL || !replica->divergence.open || wire->checkpoint.index != replica->divergence.asked ||
	    replica->divergence.asked_term != status->hard_state.term)
		return;
	peer->checkpoint.index = wire->checkpoint.index;
	peer->checkpoint.hash = wire->checkpoint.hash;
	struct tally now = tally(replica, status);
	judge(replica, status, &now);
}

void replica_on_checkpoint(struct replica *replica, const struct wire_message *wire)
{
	struct raft_status status;
	raft_get_status(replica->core, &status);
	if (replica_is_foreign(replica, wire) || wire->term != status.hard_state.term)
		return;
	bool verdict = wire->checkpoint.majority || wire->checkpoint.undecided;
	/* Those may be the last words of a leader that stops: its connection can be seen to close before they arrive. */
	bool gone = status.leader == RAFT_NO_MEMBER;
	if (status.role == RAFT_LEADER && !verdict)
		on_answer(replica, &status, wire);
	else if ((status.leader == wire->from || gone) && verdict)
		on_verdict(replica, wire);
	else if (status.leader == wire->from)
		on_question(replica, wire);
}
