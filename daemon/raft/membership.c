/*
 * What the configuration in force means: who the peers are, who counts, what this member may do, and what changes when a
 * configuration comes, goes or is committed (dissertation, chapter 4).
 *
 * A configuration is in force from the moment it is in the log, committed or not. Requests are judged without
 * looking at one's own configuration (section 4.1): it may be older than the sender's. So whoever speaks is answered,
 * a voter that does not know yet that it is one votes, and the voter that a change removes may still be the only one
 * able to win before the change is committed (section 4.2.2, figure 4.6).
 *
 * Must not know: how a change is proposed (change.c), how entries travel.
 */
#include "internal.h"

/* Does the log go to it? */
bool raft_peer_replicates(const struct raft_peer *peer)
{
	return peer->kind == RAFT_PEER_MEMBER || peer->kind == RAFT_PEER_LEAVING;
}

/* This member's own place in a configuration, or NULL. Under another incarnation it is somebody else's. */
static const struct raft_config_member *find_self(const struct raft *core, const struct raft_config *config)
{
	const struct raft_config_member *member = raft_config_find(config, core->options.id);

	if (member && member->incarnation != 0 && core->options.incarnation != 0 &&
	    member->incarnation != core->options.incarnation)
		return NULL;
	return member;
}

/* Is the configuration in force not known to be committed? */
bool raft_config_pending(const struct raft *core)
{
	const struct raft_config_record *latest = raft_configs_latest(&core->configs);

	return latest && latest->index > core->commit;
}

/* The voter that the newest change takes the vote from may lead until the change is committed: it may hold entries that
 * the others need, the change itself among them. It does not count itself. */
static bool was_voter_before_change(const struct raft *core)
{
	const struct raft_config_member *member;

	if (core->configs.n < 2 || !raft_config_pending(core))
		return false;
	member = find_self(core, &core->configs.records[core->configs.n - 2].config);
	return member && member->role == RAFT_MEMBER_VOTER;
}

bool raft_may_campaign(const struct raft *core)
{
	return core->self_voter || was_voter_before_change(core);
}

/* Whoever asks believes that this member is a voter, and may know better: a learner whose promotion it has not seen must
 * vote, or one voter that fails could stop the cluster for ever. A blank member, and one whose id now belongs to another
 * incarnation, have forgotten or lost what a voter must remember. */
bool raft_may_vote(const struct raft *core)
{
	return core->self_member || was_voter_before_change(core);
}

/* Nobody else could have been elected, nobody has to be asked. */
bool raft_leads_alone(const struct raft *core)
{
	return core->self_voter && core->n_voters == 1;
}

/* Slots ------------------------------------------------------------------------------------------------ */

/* Whom to forget for a newcomer: strangers before leaving members, the one not heard for longest. */
static struct raft_peer *find_victim(struct raft *core)
{
	struct raft_peer *victim = NULL;

	for (unsigned i = 0; i < core->n_peers; i++) {
		struct raft_peer *peer = &core->peers[i];

		if (!victim || peer->kind < victim->kind ||
		    (peer->kind == victim->kind && peer->last_contact_us < victim->last_contact_us))
			victim = peer;
	}
	raft_assert(victim && victim->kind != RAFT_PEER_MEMBER); /* there are more slots than members */
	return victim;
}

/* A slot for somebody who has none. What is owed to the peer that loses its slot is lost, like any message may be. */
static struct raft_peer *take_slot(struct raft *core, uint64_t id)
{
	struct raft_peer *peer;

	raft_assert(id != RAFT_NO_MEMBER && id != core->options.id);
	raft_assert(!raft_find_peer(core, id));
	if (core->n_peers < RAFT_PEERS_MAX)
		peer = &core->peers[core->n_peers++];
	else
		peer = find_victim(core);
	*peer = (struct raft_peer){.id = id, .kind = RAFT_PEER_STRANGER, .next = 1};
	return peer;
}

struct raft_peer *raft_add_stranger(struct raft *core, uint64_t id)
{
	return take_slot(core, id);
}

/* Configurations that come and go ---------------------------------------------------------------------- */

static void become_stranger(struct raft_peer *peer)
{
	peer->kind = RAFT_PEER_STRANGER;
	peer->voter = false;
	peer->snapshot = false;
	peer->ballot = RAFT_BALLOT_NONE;
	peer->vote_request_due = false;
	peer->heartbeat_due = false;
}

static void leave(struct raft *core, struct raft_peer *peer)
{
	if (core->role != RAFT_LEADER) {
		become_stranger(peer);
		return;
	}
	peer->kind = RAFT_PEER_LEAVING;
	peer->voter = false;
	peer->leave_us = UINT64_MAX;
}

/* Nothing that the old data directory acknowledged says anything about the new one. As long as none is named, whichever came
 * under the id was heard; so a learner begins anew as well when its directory becomes known. A voter always had one. */
static void join(struct raft *core, struct raft_peer *peer, const struct raft_config_member *member)
{
	bool known = peer->kind == RAFT_PEER_MEMBER;
	bool other = peer->incarnation != member->incarnation &&
		     (peer->incarnation != 0 || peer->member_role != RAFT_MEMBER_VOTER);

	peer->kind = RAFT_PEER_MEMBER;
	peer->member_role = member->role;
	peer->incarnation = member->incarnation;
	peer->voter = member->role == RAFT_MEMBER_VOTER;
	if (core->role == RAFT_LEADER && (!known || other))
		raft_reset_progress(core, peer, core->log.last_index);
	raft_assert(peer->id == member->id);
}

static void adopt_peers(struct raft *core, const struct raft_config *config)
{
	for (unsigned i = 0; i < core->n_peers; i++)
		if (core->peers[i].kind == RAFT_PEER_MEMBER && !raft_config_find(config, core->peers[i].id))
			leave(core, &core->peers[i]);
	core->n_voters = 0;
	for (unsigned i = 0; i < config->n_members; i++) {
		const struct raft_config_member *member = &config->members[i];
		struct raft_peer *peer;

		core->n_voters += member->role == RAFT_MEMBER_VOTER;
		if (member->id == core->options.id)
			continue;
		peer = raft_find_peer(core, member->id);
		join(core, peer ? peer : take_slot(core, member->id), member);
	}
	raft_assert(core->n_voters > 0);
}

/* Only one that may campaign follows with a clock of its own. */
static void adopt_role(struct raft *core)
{
	bool may_campaign = raft_may_campaign(core);

	if (core->role == RAFT_LEADER || (core->role == RAFT_LEARNER) == !may_campaign)
		return;
	if (may_campaign) {
		core->role = RAFT_FOLLOWER;
		raft_reset_election_timer(core);
	} else if (core->role == RAFT_FOLLOWER) {
		core->role = RAFT_LEARNER;
	} else {
		raft_become_follower(core, core->hard.term);
	}
	raft_assert((core->role == RAFT_LEARNER) == !may_campaign);
}

/* The newest configuration of the log is in force: it was recovered, appended or installed, or the one after it was
 * truncated. */
void raft_adopt_config(struct raft *core)
{
	const struct raft_config_record *latest = raft_configs_latest(&core->configs);
	const struct raft_config_member *self = latest ? find_self(core, &latest->config) : NULL;

	core->self_member = self != NULL;
	core->self_voter = self && self->role == RAFT_MEMBER_VOTER;
	core->n_voters = 0;
	if (latest) {
		adopt_peers(core, &latest->config);
	} else {
		for (unsigned i = 0; i < core->n_peers; i++)
			become_stranger(&core->peers[i]);
	}
	if (core->out && latest)
		raft_trace(core, RAFT_TRACE_CONFIG, latest->index, core->n_voters);
	adopt_role(core);
	if (core->role == RAFT_LEADER)
		raft_reads_advance(core); /* fewer answers may be enough now, with nobody left to give another one */
}

/* A new leader finds a change that is not committed yet: the member that it removes is told by this leader. */
void raft_mark_leaving(struct raft *core)
{
	const struct raft_config *before;

	raft_assert(core->role == RAFT_LEADER);
	if (core->configs.n < 2 || !raft_config_pending(core))
		return;
	before = &core->configs.records[core->configs.n - 2].config;
	for (unsigned i = 0; i < before->n_members; i++) {
		uint64_t id = before->members[i].id;
		struct raft_peer *peer = raft_find_peer(core, id);

		if (id == core->options.id || (peer && peer->kind == RAFT_PEER_MEMBER))
			continue;
		if (!peer)
			peer = take_slot(core, id);
		peer->kind = RAFT_PEER_LEAVING;
		peer->leave_us = UINT64_MAX;
	}
}

/* Only a leader sees anybody off. */
void raft_forget_leaving(struct raft *core)
{
	for (unsigned i = 0; i < core->n_peers; i++)
		if (core->peers[i].kind == RAFT_PEER_LEAVING)
			become_stranger(&core->peers[i]);
}

/* What commitment brings ------------------------------------------------------------------------------- */

/* A member that was removed hears of it: from the commitment on for one election timeout, which is a few heartbeats. If it
 * is down that long it stays in the dark; leader stickiness keeps it from disturbing anybody. */
static void see_off(struct raft *core)
{
	for (unsigned i = 0; i < core->n_peers; i++) {
		struct raft_peer *peer = &core->peers[i];

		if (peer->kind != RAFT_PEER_LEAVING)
			continue;
		if (peer->leave_us == UINT64_MAX && !raft_config_pending(core)) {
			peer->leave_us = core->now_us + core->options.election_timeout_max_us;
			peer->heartbeat_due = true;
		} else if (core->now_us >= peer->leave_us) {
			become_stranger(peer);
		}
	}
}

/* Named as a member before its incarnation was heard: that may have been meant for an earlier directory. */
static bool named_only(const struct raft *core, const struct raft_config *config)
{
	const struct raft_config_member *member = find_self(core, config);

	return member && member->incarnation == 0 && core->options.incarnation != 0;
}

/* Only committed configurations tell: one that is truncated again never was. A directory that the newest one does not name
 * was removed if an earlier one did, under its own incarnation; if one only named the id, then not while the id stands
 * there: a member that comes back with an empty directory reads of all that in the past of its predecessors. */
static void note_removal(struct raft *core)
{
	const struct raft_configs *configs = &core->configs;
	const struct raft_config_record *committed = raft_configs_at(configs, core->commit);
	bool removed;

	for (size_t i = 0; !core->was_member && i < configs->n && configs->records[i].index <= core->commit; i++) {
		const struct raft_config *config = &configs->records[i].config;

		core->was_named |= named_only(core, config);
		core->was_member = find_self(core, config) && !named_only(core, config);
	}
	/* Under another incarnation it is still named: an old hello may have made it so, and its next one puts it right. */
	removed = !core->self_member && committed && (core->was_member || core->was_named) &&
		  !raft_config_find(&committed->config, core->options.id);
	if (removed && !core->removed)
		raft_trace(core, RAFT_TRACE_REMOVED, committed->index, 0);
	core->removed = removed;
}

/* At the end of every step: the commit index may have passed the newest configuration. */
void raft_settle_membership(struct raft *core)
{
	raft_assert(core->out);
	note_removal(core);
	if (core->role == RAFT_LEADER && !raft_may_campaign(core)) {
		/* It saw its own end through (dissertation, section 4.2.2) and leaves nobody waiting. */
		raft_hand_over_at_once(core);
		raft_become_follower(core, core->hard.term);
	}
	adopt_role(core);
	if (core->role != RAFT_LEADER)
		return;
	see_off(core);
	raft_promote(core);
}
