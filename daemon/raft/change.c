/*
 * How the configuration changes: one voter at a time (dissertation, section 4.1, with the correction of 2015: not before
 * the leader has committed an entry of its own term), by an operator, or by the leader itself when a member that joins
 * has caught up (section 4.2.1); and how the first one comes into the world.
 *
 * Must not know: who asks for a change, or why.
 */
#include "internal.h"

/* Is the member fit to be made a voter now? Heard a moment ago, and a round of catching up was short. */
static bool is_ready(const struct raft *core, const struct raft_peer *peer)
{
	return peer->caught_up && !peer->snapshot &&
	       core->now_us - peer->last_ack_us < core->options.election_timeout_min_us;
}

/* Nobody becomes a voter who could not help to commit at once: the cluster would be one voter weaker. */
static bool new_voter_is_ready(const struct raft *core, const struct raft_config *config)
{
	for (unsigned i = 0; i < config->n_members; i++) {
		const struct raft_config_member *member = &config->members[i];
		const struct raft_peer *peer = raft_find_peer_const(core, member->id);

		if (member->role == RAFT_MEMBER_VOTER && peer && !peer->voter && !is_ready(core, peer))
			return false;
	}
	return true;
}

/* Would enough of its voters answer? A change that cannot be committed blocks the next one, and perhaps everything. */
static bool has_quorum(const struct raft *core, const struct raft_config *config)
{
	unsigned n_voters = 0;
	unsigned n_alive = 0;

	for (unsigned i = 0; i < config->n_members; i++) {
		const struct raft_config_member *member = &config->members[i];
		const struct raft_peer *peer = raft_find_peer_const(core, member->id);

		if (member->role != RAFT_MEMBER_VOTER)
			continue;
		n_voters++;
		n_alive += peer ? core->now_us - peer->last_ack_us < core->options.election_timeout_max_us
				: member->id == core->options.id;
	}
	return n_alive >= n_voters / 2 + 1;
}

static bool names_self_wrongly(const struct raft *core, const struct raft_config *config)
{
	const struct raft_config_member *self = raft_config_find(config, core->options.id);

	return self && core->options.incarnation != 0 && self->incarnation != 0 &&
	       self->incarnation != core->options.incarnation;
}

/* RAFT_OK or a result for the caller. */
int raft_change_check(const struct raft *core, const struct raft_config *config, uint64_t previous_index)
{
	const struct raft_config_record *latest = raft_configs_latest(&core->configs);

	if (core->role != RAFT_LEADER)
		return RAFT_E_NOT_LEADER;
	if (core->commit < core->term_start)
		return RAFT_E_NOT_READY;
	if (raft_config_pending(core))
		return RAFT_E_CONFIG_PENDING;
	if (core->transfer.target != RAFT_NO_MEMBER)
		return RAFT_E_BUSY;
	raft_assert(latest && core->self_voter);
	if (previous_index != latest->index)
		return RAFT_E_STALE;
	if (raft_config_problem(config) || raft_config_step_problem(&latest->config, config) ||
	    names_self_wrongly(core, config))
		return RAFT_E_CONFIG_INVALID;
	if (!new_voter_is_ready(core, config))
		return RAFT_E_NOT_READY;
	return has_quorum(core, config) ? RAFT_OK : RAFT_E_NO_QUORUM;
}

/* The entry is in the log and in this step's write. */
static void note_config(struct raft *core, const struct raft_config *config, uint32_t size)
{
	raft_assert(core->out->write.config == NULL && core->out->write.first_index == core->log.last_index);
	core->out->write.config = core->config_bytes;
	core->out->write.config_size = size;
	raft_configs_push(&core->configs, core->log.last_index, config);
	raft_adopt_config(core);
}

/* In force at once (dissertation, section 4.1). */
void raft_change(struct raft *core, const struct raft_config *config)
{
	uint32_t size = (uint32_t)raft_config_encode(config, core->config_bytes);

	raft_assert(core->role == RAFT_LEADER && core->commit >= core->term_start);
	raft_assert(!raft_config_pending(core));
	core->out->first_index = core->log.last_index + 1;
	raft_append_own(core, &size, 1);
	note_config(core, config, size);
}

/* Catching up ------------------------------------------------------------------------------------------ */

/* Rounds: each brings the member what the log had when the round began. It has caught up when a round took less than an
 * election timeout: what it lacks then can be made good in that time as well. */
void raft_track_catch_up(struct raft *core, struct raft_peer *peer)
{
	raft_assert(core->role == RAFT_LEADER);
	if (peer->kind != RAFT_PEER_MEMBER || peer->voter || peer->snapshot)
		return;
	if (peer->round_target == 0) {
		peer->round_target = core->log.last_index;
		peer->round_start_us = core->now_us;
	}
	if (peer->match < peer->round_target)
		return;
	peer->caught_up = core->now_us - peer->round_start_us < core->options.election_timeout_min_us;
	peer->round_target = core->log.last_index;
	peer->round_start_us = core->now_us;
}

/* One member that joins and has caught up becomes a voter, if nothing speaks against it now. */
void raft_promote(struct raft *core)
{
	const struct raft_config_record *latest = raft_configs_latest(&core->configs);

	raft_assert(core->role == RAFT_LEADER && latest);
	if (core->out->write.first_index != 0 || core->no_room)
		return; /* this step has appended something already, or must not */
	for (unsigned i = 0; i < latest->config.n_members; i++) {
		const struct raft_config_member *member = &latest->config.members[i];
		const struct raft_peer *peer = raft_find_peer_const(core, member->id);
		struct raft_config config;

		/* A voter whose directory is not known could lose it, and nobody would notice. */
		if (core->options.incarnation != 0 && member->incarnation == 0)
			continue;
		if (member->role != RAFT_MEMBER_JOINING || !peer || !is_ready(core, peer))
			continue;
		config = latest->config;
		config.members[i].role = RAFT_MEMBER_VOTER;
		if (raft_change_check(core, &config, latest->index) != RAFT_OK)
			continue;
		raft_trace(core, RAFT_TRACE_PROMOTE, core->log.last_index + 1, member->id);
		raft_change(core, &config);
		core->out->first_index = 0; /* nobody asked for it */
		return;
	}
}

/* The first configuration ------------------------------------------------------------------------------ */

int raft_bootstrap_check(const struct raft *core, const struct raft_config *config)
{
	const struct raft_config_member *self;

	if (core->configs.n > 0 || core->hard.term > 0 || core->log.last_index > 0)
		return RAFT_E_NOT_BLANK;
	if (raft_config_problem(config) || names_self_wrongly(core, config))
		return RAFT_E_CONFIG_INVALID;
	self = raft_config_find(config, core->options.id);
	if (!self || self->role != RAFT_MEMBER_VOTER)
		return RAFT_E_CONFIG_INVALID;
	for (unsigned i = 0; i < config->n_members; i++)
		if (config->members[i].id != self->id && config->members[i].role == RAFT_MEMBER_VOTER)
			return RAFT_E_CONFIG_INVALID;
	return RAFT_OK;
}

/* A candidate with all votes that there are: as soon as its own is durable it leads, and the no-op of its term commits the
 * configuration. */
void raft_bootstrap(struct raft *core, const struct raft_config *config)
{
	uint32_t size = (uint32_t)raft_config_encode(config, core->config_bytes);

	raft_assert(core->role == RAFT_LEARNER && core->hard.term == 0);
	raft_log_append(&core->log, 1, size);
	raft_write_entries(core, 1, 1);
	core->out->write.term = 1;
	core->out->first_index = 1;
	note_config(core, config, size);
	raft_campaign(core, false);
	raft_assert(core->hard.term == 1 && raft_leads_alone(core));
}
