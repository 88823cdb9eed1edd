/*
 * The leader's beats, kept for a while so that people can watch them: who answered, and after how long. One comparison a
 * message; nobody has to watch, and nothing is decided by it.
 *
 * Must not know: who watches.
 */
#include "internal.h"

static struct raft_beat *newest(struct raft *core)
{
	return &core->beats.ring[core->beats.number % RAFT_BEATS_KEPT];
}

/* An append was sent now. */
void raft_beats_on_send(struct raft *core)
{
	struct raft_beats *beats = &core->beats;

	raft_assert(core->role == RAFT_LEADER);
	if (beats->number > 0 && newest(core)->term == core->hard.term &&
	    core->now_us - beats->began_us < core->options.heartbeat_us)
		return;
	beats->number++;
	beats->began_us = core->now_us;
	*newest(core) = (struct raft_beat){.number = beats->number, .term = core->hard.term, .began_us = core->now_us};
}

/* An answer to an append of this term has arrived. */
void raft_beats_on_reply(struct raft *core, struct raft_peer *peer)
{
	struct raft_beat *beat = newest(core);

	raft_assert(core->role == RAFT_LEADER);
	if (peer->beat == core->beats.number || core->beats.number == 0 || beat->n_answers == RAFT_MEMBERS_MAX)
		return;
	peer->beat = core->beats.number;
	beat->answers[beat->n_answers].id = peer->id;
	beat->answers[beat->n_answers].after_us = core->now_us - beat->began_us;
	beat->n_answers++;
	beat->n_voters += peer->voter;
	if (!beat->quorum && beat->n_voters + core->self_voter >= raft_quorum(core)) {
		beat->quorum = true;
		beat->quorum_us = core->now_us - beat->began_us;
	}
}

const struct raft_beat *raft_next_beat(const struct raft *core, uint64_t after)
{
	const struct raft_beats *beats = &core->beats;
	uint64_t oldest = beats->number > RAFT_BEATS_KEPT ? beats->number - RAFT_BEATS_KEPT + 1 : 1;

	if (after >= beats->number)
		return NULL;
	return &beats->ring[(after < oldest ? oldest : after + 1) % RAFT_BEATS_KEPT];
}
