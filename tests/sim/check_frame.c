/*
 * Nothing promised before it is durable: every frame that a member sends is read as its receiver would, and what it says is
 * looked up on the sender's platter (dissertation, section 3.8).
 *
 * A leader may send entries before its own sync has returned; its term is durable even so.
 */
#include "check.h"
#include "durable.h"

#include "daemon/assert.h"
#include "daemon/transport/wire.h"

#include <inttypes.h>
#include <stdio.h>

/* What it told others: a later life must not know less. */
static void note_sent(struct sim_watch *watch, uint64_t term)
{
	if (term > watch->sent_term)
		watch->sent_term = term;
}

static void check_vote_request(struct sim *sim, unsigned from, const struct wire_message *message)
{
	struct sim_watch *watch = &sim->checks->members[from];
	const struct sim_shadow *shadow = &watch->shadow;
	uint64_t last = message->vote_request.last_index;
	if (message->vote_request.pre_vote) {
		if (message->term != shadow->term + 1)
			sim_fail(sim, "member %u asks about term %" PRIu64 ", its platter holds term %" PRIu64,
				 from + 1, message->term, shadow->term);
		return;
	}
	if (shadow->term != message->term || shadow->vote != from + 1)
		sim_fail(sim,
			 "member %u campaigns in term %" PRIu64 ", its platter holds term %" PRIu64
			 " and vote %" PRIu64,
			 from + 1, message->term, shadow->term, shadow->vote);
	if (last > shadow->log.last ||
	    (last > 0 && sim->checks->entries[sim_log_at(&shadow->log, last)].term != message->vote_request.last_term))
		sim_fail(sim, "member %u campaigns with entry %" PRIu64 ", which its platter does not hold", from + 1,
			 last);
	watch->sent_vote_term = message->term;
	watch->sent_vote = from + 1;
}

static void check_vote_reply(struct sim *sim, unsigned from, unsigned to, const struct wire_message *message)
{
	struct sim_watch *watch = &sim->checks->members[from];
	const struct sim_shadow *shadow = &watch->shadow;
	if (!message->vote_reply.granted || message->vote_reply.pre_vote)
		return;
	if (message->vote_reply.request_term != message->term || shadow->term != message->term ||
	    shadow->vote != to + 1)
		sim_fail(sim,
			 "member %u grants member %u its vote in term %" PRIu64 ", its platter holds term %" PRIu64
			 " and vote %" PRIu64,
			 from + 1, to + 1, message->vote_reply.request_term, shadow->term, shadow->vote);
	watch->sent_vote_term = message->term;
	watch->sent_vote = to + 1;
}

static void check_append(struct sim *sim, unsigned from, const struct wire_message *message)
{
	struct sim_checks *checks = sim->checks;
	uint64_t prev = message->append.prev_index;
	uint32_t before = prev > 0 ? sim_entry_find(checks, prev, message->append.prev_term) : 0;
	char where[32];
	sim_check_leads(sim, from, message->term);
	sim_check_commit_now(sim, from, message->append.commit);
	if (prev > 0 && before == 0)
		sim_fail(sim,
			 "member %u sends what follows entry %" PRIu64 " of term %" PRIu64 ", there is no such entry",
			 from + 1, prev, message->append.prev_term);
	(void)snprintf(where, sizeof where, "append of member %u", from + 1);
	for (uint32_t k = 0; k < message->append.n_entries; k++)
		before = sim_entry_note(sim, before, &message->append.entries[k], where);
}

/* The follower's entry at the index, which its platter holds, is the leader's. */
static bool is_leaders(const struct sim *sim, uint64_t term, uint64_t index, uint32_t entry)
{
	const struct sim_checks *checks = sim->checks;
	if (checks->entries[entry].term == term)
		return true; /* only that leader made entries of this term */
	const struct sim_term *slot = term < checks->terms_capacity ? &checks->terms[term] : NULL;
	if (slot == NULL || slot->leader == 0 || slot->first_entry == 0)
		return false;
	const struct sim_watch *leader = &checks->members[slot->leader - 1];
	bool leads = leader->before.role == RAFT_LEADER && leader->before.hard_state.term == term;
	uint32_t leaders =
		leads ? sim_log_at(&leader->log, index) : sim_entry_ancestor(checks, slot->first_entry, index);
	return leaders == entry;
}

static void check_append_reply(struct sim *sim, unsigned from, const struct wire_message *message)
{
	const struct sim_shadow *shadow = &sim->checks->members[from].shadow;
	uint64_t match = message->append_reply.match;
	if (message->append_reply.rejected || match == 0)
		return;
	uint32_t entry = sim_log_at(&shadow->log, match);
	if (entry == 0)
		sim_fail(sim, "member %u acknowledges entries up to %" PRIu64 ", its platter holds them up to %" PRIu64,
			 from + 1, match, shadow->log.last);
	if (!is_leaders(sim, message->term, match, entry))
		sim_fail(sim,
			 "member %u acknowledges entry %" PRIu64 " in term %" PRIu64
			 ", its platter holds another than the leader",
			 from + 1, match, message->term);
}

void sim_check_frame(struct sim *sim, unsigned from, unsigned to, const uint8_t *frame, size_t len)
{
	struct sim_watch *watch = &sim->checks->members[from];
	struct wire_message message;
	int r = wire_decode(frame, len, sim->checks->scratch, WIRE_ENTRIES_MAX, &message);
	if (r != WIRE_OK || message.from != from + 1 || message.to != to + 1)
		sim_fail(sim, "member %u sends a frame to member %u that cannot be read: %s", from + 1, to + 1,
			 wire_result_name(r));
	bool pre_vote = message.type == WIRE_VOTE_REQUEST && message.vote_request.pre_vote;
	if (!pre_vote && message.term > watch->shadow.term)
		sim_fail(sim, "member %u tells member %u of term %" PRIu64 ", its platter holds term %" PRIu64,
			 from + 1, to + 1, message.term, watch->shadow.term);
	if (!pre_vote)
		note_sent(watch, message.term);
	switch ((enum wire_type)message.type) {
	case WIRE_VOTE_REQUEST:
		check_vote_request(sim, from, &message);
		break;
	case WIRE_VOTE_REPLY:
		check_vote_reply(sim, from, to, &message);
		break;
	case WIRE_APPEND:
		check_append(sim, from, &message);
		break;
	case WIRE_APPEND_REPLY:
		check_append_reply(sim, from, &message);
		break;
	case WIRE_TIMEOUT_NOW:
		sim_check_leads(sim, from, message.term);
		break;
	case WIRE_HELLO:
		break;
	}
}
