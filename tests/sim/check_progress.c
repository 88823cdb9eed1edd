/*
 * What a member owes: to those who asked it (every ticket that it took is answered, once), to messages (a higher term is taken
 * over, an order to campaign counts in its own term only, nothing is acknowledged that no append of the term has named, and what
 * another member has really said is never called impossible), and to the cluster when its disk hangs. All without looking into
 * it: from what it took, what it was handed, what it reports as bad, and what its disk does.
 */
#include "check.h"

#include "daemon/assert.h"
#include "daemon/transport/wire.h"

#include <inttypes.h>
#include <stdlib.h>

#define TERMS_KEPT 16u
#define FLUSHES_MAX 24u /* that may pass before any write that waits is durable: one write fills some records */

struct sim_progress {
	struct member_progress {
		uint64_t open;	     /* tickets that were taken and not answered */
		uint64_t open_hash;  /* sum of the hashes of those */
		uint64_t heard_from; /* who sent what it was handed last; 0: no member did */
		uint64_t heard_term; /* … and the term in it */
		uint64_t told_term;  /* highest in an answer that it was handed; such a term is taken over */
		bool ordered;	     /* to campaign, since its last turn … */
		uint64_t order_term; /* … in this term, the highest */
		struct {
			uint64_t term, index; /* the highest that an append of the term has named */
		} named[TERMS_KEPT];	      /* by term: what it did not believe may be of a higher one */
		uint64_t durable_seq;	      /* of its log … */
		uint64_t flushes;	      /* … and how many records had been written when it last rose */
	} members[SIM_MEMBERS_MAX];
};

void sim_progress_new(struct sim *sim)
{
	sim->progress = calloc(1, sizeof *sim->progress);
	raft_assert(sim->progress != NULL);
	sim_duties_new(sim);
	sim_returns_new(sim);
}

void sim_progress_free(struct sim *sim)
{
	free(sim->progress);
	sim->progress = NULL;
	sim_duties_free(sim);
	sim_returns_free(sim);
}

void sim_progress_started(struct sim *sim, unsigned number)
{
	sim->progress->members[number] = (struct member_progress){0};
	sim_duties_started(sim, number);
	sim_returns_started(sim, number);
}

/* Tickets ------------------------------------------------------------------------------------------------ */

static uint64_t ticket_hash(uint64_t ticket)
{
	return XXH3_64bits(&ticket, sizeof ticket);
}

void sim_progress_asked(struct sim *sim, unsigned number, uint64_t first_ticket, uint32_t n)
{
	struct member_progress *progress = &sim->progress->members[number];
	for (uint32_t k = 0; k < n; k++) {
		progress->open++;
		progress->open_hash += ticket_hash(first_ticket + k);
	}
}

void sim_progress_answered(struct sim *sim, unsigned number, uint64_t ticket)
{
	struct member_progress *progress = &sim->progress->members[number];
	if (progress->open == 0)
		sim_fail(sim, "member %u answers ticket %" PRIx64 ", which nobody waits for", number + 1, ticket);
	progress->open--;
	progress->open_hash -= ticket_hash(ticket);
	if (progress->open == 0 && progress->open_hash != 0)
		sim_fail(sim, "member %u answers ticket %" PRIx64 ", another one is never answered", number + 1,
			 ticket);
}

/* Who does not lead has answered everybody, but for reads that wait for what is committed to be applied. Not if its disk failed
 * in the middle of the turn: it stops, and whoever asked sees the connection end. */
static void check_tickets(struct sim *sim, unsigned number, const struct raft_status *status)
{
	const struct member_progress *progress = &sim->progress->members[number];
	struct replicator_status replicator;
	if (progress->open == 0 || status->role == RAFT_LEADER || !sim->members[number].goes_on)
		return;
	replica_get_status(sim->members[number].replica, &replicator);
	if (replicator.applied == status->commit)
		sim_fail(sim, "member %u leads no more and %" PRIu64 " requests that it took were not answered",
			 number + 1, progress->open);
}

/* Voters in the newest configuration that the member has. */
static unsigned voters(const struct sim *sim, unsigned number)
{
	return (unsigned)__builtin_popcount(sim->members[number].view.voters);
}

/* Messages ----------------------------------------------------------------------------------------------- */

/* By the configuration that it has now: in this very turn another one may have come, which names another directory. */
static bool is_named(const struct sim *sim, unsigned number, const struct wire_message *message)
{
	const struct raft *core = replica_core(sim->members[number].replica);
	struct raft_status status;
	uint64_t index = 0;
	raft_get_own_status(core, &status);
	const struct raft_config *config = raft_config_at(core, status.last_index, &index);
	const struct raft_config_member *member = config != NULL ? raft_config_find(config, message->from) : NULL;
	return member != NULL && member->incarnation == message->from_incarnation;
}

/* The member has no reason to drop it: it knows the sender by this incarnation, and has room for a new term. */
bool sim_progress_believes(const struct sim *sim, unsigned number, const struct wire_message *message)
{
	const struct sim_member *member = &sim->members[number];
	return member->view.index > 0 && message->from >= 1 && message->from <= sim_members(sim) &&
	       message->to == member->id && message->from_incarnation != 0 &&
	       member->view.incarnations[message->from - 1] == message->from_incarnation &&
	       is_named(sim, number, message) && storage_has_room(replica_storage(member->replica));
}

static void hear_append(struct sim *sim, unsigned number, const struct wire_message *message)
{
	struct member_progress *progress = &sim->progress->members[number];
	uint64_t last = message->append.prev_index + message->append.n_entries;
	uint64_t *term = &progress->named[message->term % TERMS_KEPT].term;
	uint64_t *named = &progress->named[message->term % TERMS_KEPT].index;
	if (message->term > *term)
		*named = 0;
	if (message->term >= *term && last > *named)
		*named = last;
	if (message->term > *term)
		*term = message->term;
}

void sim_progress_heard(struct sim *sim, unsigned number, const uint8_t *frame, size_t len, bool forged)
{
	struct member_progress *progress = &sim->progress->members[number];
	struct wire_message message;
	progress->heard_from = 0;
	if (wire_decode(frame, len, sim->checks->scratch, WIRE_ENTRIES_MAX, &message) != WIRE_OK)
		return; /* it was damaged on its way */
	progress->heard_from = forged ? 0 : message.from;
	progress->heard_term = message.term;
	sim_duties_heard(sim, number, &message);
	sim_returns_heard(sim, number, &message);
	if (message.type == WIRE_TIMEOUT_NOW) {
		if (!progress->ordered || message.term > progress->order_term)
			progress->order_term = message.term;
		progress->ordered = true;
	} else if ((message.type == WIRE_APPEND_REPLY || message.type == WIRE_VOTE_REPLY) &&
		   message.term > progress->told_term && sim_progress_believes(sim, number, &message)) {
		progress->told_term = message.term;
	} else if (message.type == WIRE_APPEND) {
		hear_append(sim, number, &message);
	}
}

/* Members tell each other the truth, late or twice, but the truth: who finds that it cannot be believes something wrong, and will
 * go on to refuse what it needs. */
void sim_progress_refused(struct sim *sim, unsigned number)
{
	const struct member_progress *progress = &sim->progress->members[number];
	if (progress->heard_from != 0)
		sim_fail(sim, "member %u calls impossible what member %" PRIu64 " has said in term %" PRIu64,
			 number + 1, progress->heard_from, progress->heard_term);
}

void sim_progress_said(struct sim *sim, unsigned number, const struct wire_message *message)
{
	const struct member_progress *progress = &sim->progress->members[number];
	const struct sim_shadow *shadow = &sim->checks->members[number].shadow;
	uint64_t match = message->append_reply.match;
	if (message->type != WIRE_APPEND_REPLY || message->append_reply.rejected ||
	    match <= sim_snapshot_newest_good(shadow))
		return;
	uint64_t term = progress->named[message->term % TERMS_KEPT].term;
	if (term < message->term ||
	    (term == message->term && match > progress->named[message->term % TERMS_KEPT].index))
		sim_fail(sim,
			 "member %u acknowledges entry %" PRIu64 " in term %" PRIu64
			 ", and no append of that term has named it",
			 number + 1, match, message->term);
}

static void check_messages(struct sim *sim, unsigned number, const struct raft_status *before,
			   const struct raft_status *after)
{
	struct member_progress *progress = &sim->progress->members[number];
	bool asked = before->role == RAFT_PRE_CANDIDATE || before->role == RAFT_CANDIDATE;
	bool campaigns = after->role == RAFT_CANDIDATE && after->hard_state.term > before->hard_state.term;
	uint64_t term = after->hard_state.term;
	if (term < progress->told_term)
		sim_fail(sim, "member %u is in term %" PRIu64 " and was told of term %" PRIu64, number + 1, term,
			 progress->told_term);
	if (campaigns && !asked && voters(sim, number) > 1 && (!progress->ordered || progress->order_term + 1 < term))
		sim_fail(sim, "member %u campaigns in term %" PRIu64 " and has asked nobody, nor did its leader say so",
			 number + 1, term);
	progress->ordered = false;
}

/* The disk ----------------------------------------------------------------------------------------------- */

static void check_disk(struct sim *sim, unsigned number, const struct raft_status *status)
{
	struct member_progress *progress = &sim->progress->members[number];
	const struct raft_options options = sim_raft_options(sim, number);
	struct disk *disk = sim->members[number].disk_files;
	struct storage *storage = replica_storage(sim->members[number].replica);
	struct storage_stats stats;
	uint64_t limit_us = options.election_timeout_max_us + 2 * options.heartbeat_us;
	uint64_t durable_seq = storage_durable_seq(storage);
	storage_get_stats(storage, &stats);
	if (sim->members[number].goes_on && status->role == RAFT_LEADER && status->n_peers > 0 &&
	    disk->ops->oldest_job_age_us(disk) > limit_us)
		sim_fail(sim, "member %u leads, and its disk has not answered for %" PRIu64 " us", number + 1,
			 disk->ops->oldest_job_age_us(disk));
	if (durable_seq != progress->durable_seq || stats.flushes == 0) {
		progress->durable_seq = durable_seq;
		progress->flushes = stats.flushes;
	}
	if (stats.flushes - progress->flushes > FLUSHES_MAX)
		sim_fail(sim, "member %u writes to its disk, and nothing that waits becomes durable", number + 1);
}

/* A leader says of another member that it has lost what it had acknowledged: only of those that did. It remembers what it found out
 * when it led before, also of the one that has another's place now. Of a directory that is gone nobody knows any more; what it had sent may still be on its way. */
static void check_losses(const struct sim *sim, unsigned number, const struct raft_status *before,
			 const struct raft_status *after)
{
	bool led = before->role == RAFT_LEADER && before->hard_state.term == after->hard_state.term;
	for (unsigned k = 0; led && k < after->n_peers; k++) {
		const struct raft_progress *peer = &after->peers[k];
		for (unsigned i = 0; i < before->n_peers; i++)
			if (before->peers[i].id == peer->id && before->peers[i].losses < peer->losses &&
			    before->peers[i].incarnation == peer->incarnation &&
			    peer->incarnation == sim->members[peer->id - 1].incarnation &&
			    sim->checks->members[peer->id - 1].forgotten == 0)
				sim_fail(sim, "member %u says that member %" PRIu64 " has lost entries, and it has not",
					 number + 1, peer->id);
	}
}

void sim_progress_turn(struct sim *sim, unsigned number, const struct raft_status *before,
		       const struct raft_status *after)
{
	check_losses(sim, number, before, after);
	check_messages(sim, number, before, after);
	check_tickets(sim, number, after);
	check_disk(sim, number, after);
	sim_duties_turn(sim, number, after);
	sim_returns_turn(sim, number, after);
}
