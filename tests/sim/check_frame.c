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
	    (last > 0 && sim_entry(sim->checks, sim_log_at(sim->checks, &shadow->log, last))->term !=
				 message->vote_request.last_term))
		sim_fail(sim, "member %u campaigns with entry %" PRIu64 ", which its platter does not hold", from + 1,
			 last);
	watch->sent_vote_term = message->term;
	watch->sent_vote = from + 1;
}

/* Voters do, and a learner does when it is asked: it may not have seen yet what made it a voter. Nobody else: a blank directory,
 * or another one than the configuration means, has forgotten what a voter must remember. The last but one configuration counts as
 * long as the last one may be undone. */
static bool may_vote(const struct sim *sim, unsigned number)
{
	const struct sim_checks *checks = sim->checks;
	const struct sim_watch *watch = &checks->members[number];
	const struct sim_config *config = sim_config_of(checks, sim_log_last(checks, &watch->log));
	const struct sim_config *durable = sim_config_of(checks, sim_log_last(checks, &watch->shadow.log));
	if (config == NULL)
		return false;
	return sim_config_names(sim, config, number) ||
	       (config->before > 0 && sim_config_names(sim, &checks->configs[config->before], number)) ||
	       (durable != NULL && sim_config_names(sim, durable, number));
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
	if (!may_vote(sim, from))
		sim_fail(sim, "member %u votes in term %" PRIu64 ", and no configuration of its log names it", from + 1,
			 message->term);
	watch->sent_vote_term = message->term;
	watch->sent_vote = to + 1;
}

static void check_append(struct sim *sim, unsigned from, unsigned to, const struct wire_message *message)
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
	if (message->append.n_entries > 0)
		sim_level_sent(sim, from, to, before);
}

bool sim_leader_lacks(const struct sim *sim, uint64_t term, uint64_t index, uint32_t entry)
{
	const struct sim_checks *checks = sim->checks;
	const struct sim_term *slot = term < checks->terms_capacity ? &checks->terms[term] : NULL;
	bool known = slot != NULL && slot->first_entry != 0 && sim_entry_known(checks, slot->first_entry);
	if (!known || sim_entry(checks, entry)->term == term)
		return !known;
	return index >= sim_entry(checks, slot->first_entry)->index ||
	       sim_entry_ancestor(checks, slot->first_entry, index) != entry;
}

/* The follower's entry at the index, which its platter holds, is the leader's. */
static bool is_leaders(const struct sim *sim, uint64_t term, uint64_t index, uint32_t entry)
{
	const struct sim_checks *checks = sim->checks;
	if (sim_entry(checks, entry)->term == term)
		return true; /* only that leader made entries of this term */
	if (sim_check_committed_at(checks, index) == entry && sim_committed(checks, index)->term <= term)
		return true; /* every later leader has it: sim_check_elected */
	const struct sim_term *slot = term < checks->terms_capacity ? &checks->terms[term] : NULL;
	if (slot == NULL || slot->leader == 0 || slot->first_entry == 0)
		return false;
	if (!sim_entry_known(checks, slot->first_entry))
		return true; /* of long ago */
	const struct sim_watch *leader = &checks->members[slot->leader - 1];
	bool leads = leader->before.role == RAFT_LEADER && leader->before.hard_state.term == term;
	uint32_t leaders =
		leads ? sim_log_at(checks, &leader->log, index) : sim_entry_ancestor(checks, slot->first_entry, index);
	return leaders == entry;
}

static void check_append_reply(struct sim *sim, unsigned from, const struct wire_message *message)
{
	const struct sim_shadow *shadow = &sim->checks->members[from].shadow;
	uint64_t match = message->append_reply.match;
	if (message->append_reply.rejected || match == 0)
		return;
	if (match < sim->checks->floor && match <= shadow->log.last)
		return; /* committed long ago */
	uint32_t entry = sim_log_at(sim->checks, &shadow->log, match);
	if (entry == 0)
		sim_fail(sim, "member %u acknowledges entries up to %" PRIu64 ", its platter holds them up to %" PRIu64,
			 from + 1, match, shadow->log.last);
	if (!is_leaders(sim, message->term, match, entry))
		sim_fail(sim,
			 "member %u acknowledges entry %" PRIu64 " in term %" PRIu64
			 ", its platter holds another than the leader",
			 from + 1, match, message->term);
}

static void check_hello(struct sim *sim, unsigned from, const struct wire_message *message)
{
	const struct sim_watch *watch = &sim->checks->members[from];
	const struct sim_shadow *shadow = &watch->shadow;
	if (message->hello.version_max != sim_level_of_program(sim, from))
		sim_fail(sim, "member %u says that it knows level %u, and its program knows %u", from + 1,
			 (unsigned)message->hello.version_max, sim_level_of_program(sim, from));
	if (message->hello.blank && (shadow->term > 0 || shadow->log.last > 0 || shadow->n_snapshots > 0))
		sim_fail(sim, "member %u calls itself blank, its platter holds term %" PRIu64 " and entry %" PRIu64,
			 from + 1, shadow->term, shadow->log.last);
}

/* Whoever speaks of a snapshot has it. */
static void check_snapshot(struct sim *sim, unsigned from, uint64_t index, uint64_t term, uint64_t size)
{
	const struct sim_snapshot *snapshot = sim_snapshot_find(&sim->checks->members[from].shadow, index);
	if (snapshot == NULL || snapshot->term != term || snapshot->size != size)
		sim_fail(sim,
			 "member %u speaks of a snapshot of entry %" PRIu64 " of term %" PRIu64
			 ", which is not on its platter",
			 from + 1, index, term);
}

static void check_not_a_member(struct sim *sim, unsigned from, unsigned to, const struct wire_message *message)
{
	const struct sim_checks *checks = sim->checks;
	uint64_t index = message->not_a_member.config_index;
	sim_check_commit_now(sim, from, index);
	uint32_t number = checks->n_configs;
	while (number > 0 && !(checks->configs[number].index == index && sim_config_committed(checks, number)))
		number--;
	if (number == 0 || (checks->configs[number].members >> to & 1) != 0)
		sim_fail(sim, "member %u tells member %u that entry %" PRIu64 " made it a stranger", from + 1, to + 1,
			 index);
}

/* Others go by the term in it: not that of a pre-vote, which may never begin, nor those in which it means nothing. */
static bool promises_term(const struct wire_message *message)
{
	switch ((enum wire_type)message->type) {
	case WIRE_VOTE_REQUEST:
		return !message->vote_request.pre_vote;
	case WIRE_VOTE_REPLY:
	case WIRE_APPEND:
	case WIRE_APPEND_REPLY:
	case WIRE_TIMEOUT_NOW:
	case WIRE_SNAPSHOT_OFFER:
	case WIRE_SNAPSHOT_CHUNK:
		return true;
	case WIRE_HELLO:
	case WIRE_SNAPSHOT_REQUEST:
	case WIRE_NOT_A_MEMBER:
	case WIRE_CHECKPOINT:
	case WIRE_ENDPOINT:
		return false;
	}
	return true;
}

void sim_check_frame(struct sim *sim, unsigned from, unsigned to, const uint8_t *frame, size_t len)
{
	struct sim_watch *watch = &sim->checks->members[from];
	struct wire_message message;
	if (watch->retired)
		return;
	int r = wire_decode(frame, len, sim->checks->scratch, WIRE_ENTRIES_MAX, &message);
	if (r != WIRE_OK || message.from != from + 1 || message.to != to + 1)
		sim_fail(sim, "member %u sends a frame to member %u that cannot be read: %s", from + 1, to + 1,
			 wire_result_name(r));
	if (message.from_incarnation != watch->shadow.identity.incarnation)
		sim_fail(sim, "member %u sends a frame under another incarnation than its platter's", from + 1);
	bool promises = promises_term(&message);
	sim_duties_said(sim, from, to, &message);
	sim_check_asks(sim, from, &message);
	sim_offers_said(sim, from, &message);
	if (promises)
		sim_progress_said(sim, from, &message);
	if (promises && message.term > watch->shadow.term)
		sim_fail(sim, "member %u tells member %u of term %" PRIu64 ", its platter holds term %" PRIu64,
			 from + 1, to + 1, message.term, watch->shadow.term);
	if (promises)
		note_sent(watch, message.term);
	sim_leases_sent(sim, from, to, &message);
	switch ((enum wire_type)message.type) {
	case WIRE_VOTE_REQUEST:
		check_vote_request(sim, from, &message);
		break;
	case WIRE_VOTE_REPLY:
		check_vote_reply(sim, from, to, &message);
		break;
	case WIRE_APPEND:
		check_append(sim, from, to, &message);
		sim_returns_said(sim, from, to, &message);
		break;
	case WIRE_APPEND_REPLY:
		check_append_reply(sim, from, &message);
		sim_stale_said(sim, from, to, &message, frame, len);
		sim_reads_followed(sim, from, to, message.term);
		break;
	case WIRE_TIMEOUT_NOW:
		sim_check_leads(sim, from, message.term);
		break;
	case WIRE_HELLO:
		check_hello(sim, from, &message);
		sim_stale_said_hello(sim, from, to, frame, len);
		sim_returns_said(sim, from, to, &message);
		sim_stale_said(sim, from, to, &message, frame, len);
		break;
	case WIRE_SNAPSHOT_OFFER:
		sim_check_leads(sim, from, message.term);
		check_snapshot(sim, from, message.snapshot_offer.index, message.snapshot_offer.term,
			       message.snapshot_offer.size);
		sim_level_sent(sim, from, to, sim_check_committed_at(sim->checks, message.snapshot_offer.index));
		break;
	case WIRE_SNAPSHOT_CHUNK:
		check_snapshot(sim, from, message.snapshot_chunk.index, message.snapshot_chunk.term,
			       message.snapshot_chunk.total);
		sim_snapshot_sent(sim, from, message.snapshot_chunk.index, message.snapshot_chunk.offset,
				  message.snapshot_chunk.data, message.snapshot_chunk.size);
		break;
	case WIRE_NOT_A_MEMBER:
		check_not_a_member(sim, from, to, &message);
		break;
	case WIRE_ENDPOINT:
		if (message.term != 0) /* who does not lead names none */
			sim_check_leads(sim, from, message.term);
		break;
	case WIRE_SNAPSHOT_REQUEST:
	case WIRE_CHECKPOINT:
		break;
	}
}
