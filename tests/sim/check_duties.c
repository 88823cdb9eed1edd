/*
 * What a member owes to another one that is in trouble and cannot help itself: a leader of the past hears from those who are further
 * on that its time is over, a follower that has lost what it acknowledged is believed, and a leader leaves no member of the cluster
 * without a word. Each of these is seen when it is due, long before somebody is left behind by it.
 *
 * Judged by what members were handed and what they sent. Must not know how they keep account of it.
 */
#include "check.h"

#include "daemon/assert.h"
#include "daemon/transport/wire.h"

#include <inttypes.h>
#include <stdlib.h>

#define WORD_US 1500000u /* a heartbeat comes much sooner; whoever seems to be too old for it is asked once a second */

/* A leader's doubt whether a member still holds what it has acknowledged. */
struct doubt {
	uint64_t term; /* 0: there is none */
	uint64_t match, losses;
	uint64_t round; /* the first that the leader began to ask it in since; 0: it has not asked again */
	bool certain;	/* since the last turn: it was asked and refuses again */
};

struct sim_duties {
	struct member_duties {
		uint32_t
			deposed; /* bit k: since the last turn member k was heard to lead an earlier term, and was not told */
		uint64_t led_term;
		uint64_t spoke_us[SIM_MEMBERS_MAX]; /* of its clock; in led_term */
		struct doubt doubts[SIM_MEMBERS_MAX];
	} members[SIM_MEMBERS_MAX];
};

void sim_duties_new(struct sim *sim)
{
	sim->duties = calloc(1, sizeof *sim->duties);
	raft_assert(sim->duties != NULL);
}

void sim_duties_free(struct sim *sim)
{
	free(sim->duties);
	sim->duties = NULL;
}

void sim_duties_started(struct sim *sim, unsigned number)
{
	sim->duties->members[number] = (struct member_duties){0};
}

/* This turn was a whole one, and all that was said in it has left. */
static bool is_whole(const struct sim *sim, unsigned number)
{
	return sim->members[number].goes_on && !sim->members[number].dying;
}

/* Leaders of the past ------------------------------------------------------------------------------------- */

/* Nothing in it that makes it one that no leader sends, nor anything to write, for which there might be no room. */
static bool is_plain_heartbeat(const struct wire_message *message)
{
	return message->cluster == SIM_CLUSTER && message->append.n_entries == 0 && message->term > 0 &&
	       message->append.prev_term <= message->term &&
	       (message->append.prev_index == 0) == (message->append.prev_term == 0);
}

/* Its answer may leave at once: what it would say is on the platter, and the core has been told. That a segment's header, or an
 * earlier part of what is being written, says the same already does not count. */
static bool may_say_its_term(const struct sim *sim, unsigned number, const struct raft_status *status)
{
	const struct sim_shadow *shadow = &sim->checks->members[number].shadow;
	struct storage_stats stats;
	storage_get_stats(replica_storage(sim->members[number].replica), &stats);
	return !shadow->rests_on_snapshot && shadow->term == status->hard_state.term &&
	       shadow->vote == status->hard_state.vote && stats.queued_bytes == 0 &&
	       !sim_platter_writes_log(sim->members[number].disk_files);
}

static void hear_heartbeat(struct sim *sim, unsigned number, const struct wire_message *message)
{
	struct raft_status status;
	if (message->term >= sim->checks->members[number].before.hard_state.term || !is_plain_heartbeat(message) ||
	    !sim_progress_believes(sim, number, message))
		return;
	raft_get_own_status(replica_core(sim->members[number].replica), &status);
	if (may_say_its_term(sim, number, &status))
		sim->duties->members[number].deposed |= 1u << (message->from - 1);
}

static void check_deposed(struct sim *sim, unsigned number, const struct raft_status *status)
{
	struct member_duties *duties = &sim->duties->members[number];
	for (unsigned k = 0; is_whole(sim, number) && k < sim_members(sim); k++)
		if ((duties->deposed >> k & 1) != 0)
			sim_fail(sim,
				 "member %u is in term %" PRIu64 " and was told by member %u that it leads an earlier "
				 "one, and does not answer",
				 number + 1, status->hard_state.term, k + 1);
	duties->deposed = 0;
}

/* What was lost ------------------------------------------------------------------------------------------- */

static const struct raft_progress *find_peer(const struct raft_status *status, uint64_t id)
{
	for (unsigned k = 0; k < status->n_peers; k++)
		if (status->peers[k].id == id)
			return &status->peers[k];
	return NULL;
}

/* A refusal of what was acknowledged may have been overtaken by the acknowledgement. A second one, in a round that began after the
 * first had come, was not. */
static void hear_refusal(struct sim *sim, unsigned number, const struct wire_message *message)
{
	struct raft_status status;
	raft_get_status(replica_core(sim->members[number].replica), &status);
	const struct raft_progress *peer = find_peer(&status, message->from);
	if (status.role != RAFT_LEADER || status.hard_state.term != message->term || peer == NULL ||
	    !sim_progress_believes(sim, number, message) || message->append_reply.prev_index > peer->match)
		return;
	if (message->append_reply.prev_index == 0)
		return; /* it says its term, and refuses nothing */
	struct doubt *doubt = &sim->duties->members[number].doubts[message->from - 1];
	bool same = doubt->term == message->term && doubt->match == peer->match && doubt->losses == peer->losses;
	if (!same)
		*doubt = (struct doubt){.term = message->term, .match = peer->match, .losses = peer->losses};
	else if (doubt->round > 0 && message->append_reply.round >= doubt->round)
		doubt->certain = true;
}

static void check_doubts(struct sim *sim, unsigned number, const struct raft_status *status)
{
	struct member_duties *duties = &sim->duties->members[number];
	for (unsigned k = 0; k < sim_members(sim); k++) {
		struct doubt *doubt = &duties->doubts[k];
		if (!doubt->certain)
			continue;
		doubt->certain = false;
		const struct raft_progress *peer = find_peer(status, k + 1);
		bool leads = status->role == RAFT_LEADER && status->hard_state.term == doubt->term;
		if (is_whole(sim, number) && leads && peer != NULL && peer->losses == doubt->losses)
			sim_fail(sim,
				 "member %u was told twice that member %u does not hold entry %" PRIu64
				 ", and takes it for stored there",
				 number + 1, k + 1, doubt->match);
	}
}

/* Whom a leader leaves alone ------------------------------------------------------------------------------ */

/* A member whose directory has never been heard may not be there yet. */
static void check_spoke(struct sim *sim, unsigned number, const struct raft_status *status)
{
	const struct sim_member *member = &sim->members[number];
	struct member_duties *duties = &sim->duties->members[number];
	uint64_t now_us = sim_clock_us(sim, number);
	uint64_t term = status->role == RAFT_LEADER ? status->hard_state.term : 0;
	for (unsigned k = 0; term != 0 && k < sim_members(sim); k++) {
		bool belongs = k != number && (member->view.members >> k & 1) != 0 && member->view.incarnations[k] != 0;
		if (term != duties->led_term || !belongs)
			duties->spoke_us[k] = now_us;
		if (is_whole(sim, number) && member->stopped_us == 0 && now_us - duties->spoke_us[k] > WORD_US)
			sim_fail(sim, "member %u leads, and has said nothing to member %u for %" PRIu64 " us",
				 number + 1, k + 1, now_us - duties->spoke_us[k]);
	}
	duties->led_term = term;
}

/* --------------------------------------------------------------------------------------------------------- */

void sim_duties_heard(struct sim *sim, unsigned number, const struct wire_message *message)
{
	if (message->type == WIRE_APPEND)
		hear_heartbeat(sim, number, message);
	else if (message->type == WIRE_APPEND_REPLY && message->append_reply.rejected)
		hear_refusal(sim, number, message);
	else if (message->type == WIRE_APPEND_REPLY && message->from >= 1 && message->from <= sim_members(sim))
		sim->duties->members[number].doubts[message->from - 1] = (struct doubt){0};
}

void sim_duties_said(struct sim *sim, unsigned from, unsigned to, const struct wire_message *message)
{
	struct member_duties *duties = &sim->duties->members[from];
	struct doubt *doubt = &duties->doubts[to];
	if (message->type == WIRE_APPEND_REPLY)
		duties->deposed &= ~(1u << to);
	if (message->type != WIRE_APPEND && message->type != WIRE_HELLO)
		return;
	duties->spoke_us[to] = sim_clock_us(sim, from);
	if (message->type == WIRE_APPEND && doubt->term == message->term && doubt->round == 0)
		doubt->round = message->append.round;
}

void sim_duties_turn(struct sim *sim, unsigned number, const struct raft_status *status)
{
	check_deposed(sim, number, status);
	check_doubts(sim, number, status);
	check_spoke(sim, number, status);
}
