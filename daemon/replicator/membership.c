/*
 * Who belongs to the cluster, around the core that decides it: hellos, founding, lost disks, changes that operators ask
 * for, and the transport's connections, which follow the configuration in force.
 *
 * A member that no configuration names under its incarnation says hello to everybody it knows of until one does. From
 * these hellos the first of the configured members learns that all are blank and founds the cluster (DESIGN.md, rule 3),
 * and a leader learns that a member has come back with an empty directory: it loses its vote until it has caught up.
 */
#include "replica_internal.h"

#include "daemon/assert.h"

#include <errno.h>
#include <string.h>

_Static_assert(RAFT_ENDPOINT_MAX <= WIRE_ENDPOINT_MAX, "an endpoint of the configuration fits a frame");

#define ENDPOINT_TOLD_US 1000000u
#define NOT_A_MEMBER_US 1000000u /* a stranger is answered this often at most */
#define CONNECT_AGAIN_US 10000000u
#define FOUNDING_US 2000000u /* what others say about themselves counts for founding no longer than this */

/* Who is who ------------------------------------------------------------------------------------------ */

const struct raft_config *replica_config(const struct replica *replica, uint64_t *ret_index)
{
	struct raft_status status;
	uint64_t index = 0;
	raft_get_own_status(replica->core, &status);
	const struct raft_config *config = raft_config_at(replica->core, status.last_index, &index);
	if (ret_index != NULL)
		*ret_index = index;
	return config != NULL && config->n_members > 0 ? config : NULL;
}

static bool is_known(const struct replica *replica, uint64_t id)
{
	const struct raft_config *config = replica_config(replica, NULL);
	return (config != NULL && raft_config_find(config, id) != NULL) ||
	       raft_config_find(&replica->options.founders, id) != NULL;
}

/* Whose slot goes to another one is disconnected now: later nobody would know it any more. */
struct replica_peer *replica_find_peer(struct replica *replica, uint64_t id)
{
	struct replica_peer *unused = NULL, *left = NULL;
	if (id == replica->options.raft.id)
		return NULL;
	for (unsigned k = 0; k < 2 * RAFT_MEMBERS_MAX; k++) {
		struct replica_peer *peer = &replica->peers[k];
		if (peer->id == id)
			return peer;
		if (peer->id == 0 && unused == NULL)
			unused = peer;
		else if (peer->id != 0 && left == NULL && !is_known(replica, peer->id))
			left = peer;
	}
	if (!is_known(replica, id))
		return NULL;
	struct replica_peer *slot = unused != NULL ? unused : left;
	raft_assert(slot != NULL); /* there are not more members than slots, in configuration and file together */
	if (slot->id != 0)
		replica->transport->ops->remove_peer(replica->transport, slot->id);
	*slot = (struct replica_peer){.id = id};
	return slot;
}

bool replica_is_foreign(struct replica *replica, const struct wire_message *wire)
{
	const struct raft_config *config = replica_config(replica, NULL);
	const struct raft_config_member *member = config != NULL ? raft_config_find(config, wire->from) : NULL;
	if (member == NULL || member->incarnation == 0 || member->incarnation == wire->from_incarnation)
		return false;
	replica->stale_frames++;
	return true;
}

/* An answer of a later term than that of this leader: where it comes from this leader is none, and can take nobody in. */
bool replica_unseats(const struct replica *replica, const struct wire_message *wire)
{
	struct raft_status status;
	raft_get_own_status(replica->core, &status);
	return wire->type == WIRE_APPEND_REPLY && status.role == RAFT_LEADER && wire->term > status.hard_state.term;
}

/* Nothing was ever promised to anybody from this directory, and it holds nothing of any cluster: a snapshot that is here, or may be, but
 * is not installed yet, replaces at the next start whatever was founded meanwhile. One that was refused is of some cluster, too, and that
 * start may see it otherwise. */
static bool is_blank(const struct replica *replica)
{
	struct raft_status status;
	struct storage_snapshot_info newest;
	struct storage_snapshot_progress received;
	raft_get_own_status(replica->core, &status);
	storage_received(replica->storage, &received);
	return status.config_index == 0 && status.last_index == 0 && status.base_index == 0 &&
	       status.hard_state.term == 0 && received.phase != STORAGE_SNAPSHOT_FINISHING &&
	       replica->refused.index == 0 && !storage_snapshot_newest(replica->storage, &newest);
}

static bool is_first_founder(const struct replica *replica)
{
	const struct raft_config *founders = &replica->options.founders;
	return founders->n_members > 0 && founders->members[0].id == replica->options.raft.id;
}

/* Hellos ---------------------------------------------------------------------------------------------- */

void replica_send_hello(struct replica *replica, uint64_t peer)
{
	struct wire_message wire = replica_wire_message(replica, WIRE_HELLO, peer);
	const struct replica_peer *heard = replica_find_peer(replica, peer);
	wire.hello.version_min = (uint16_t)replica->level; /* whoever knows less would misread the log */
	wire.hello.version_max = (uint16_t)replica->options.level_max;
	wire.hello.blank = is_blank(replica) && !replica->aside;
	if (wire.hello.blank && is_first_founder(replica))
		wire.term = replica->founding_number;
	else if (heard != NULL)
		wire.term = heard->number;
	replica_send_wire(replica, &wire);
}

static void hello_all(struct replica *replica)
{
	const struct raft_config *config = replica_config(replica, NULL);
	if (config == NULL)
		config = &replica->options.founders;
	for (unsigned k = 0; k < config->n_members; k++)
		if (config->members[k].id != replica->options.raft.id)
			replica_send_hello(replica, config->members[k].id);
}

/* Founding -------------------------------------------------------------------------------------------- */

/* The founder alone votes; the others join with the directories that they were heard with, 0 for those that were not. */
static void founding_config(struct replica *replica, struct raft_config *ret)
{
	*ret = replica->options.founders;
	for (unsigned k = 0; k < ret->n_members; k++) {
		struct raft_config_member *member = &ret->members[k];
		const struct replica_peer *peer = replica_find_peer(replica, member->id);
		bool self = member->id == replica->options.raft.id;
		member->role = self ? RAFT_MEMBER_VOTER : RAFT_MEMBER_JOINING;
		member->incarnation = self ? replica->incarnation : peer != NULL ? peer->incarnation : 0;
	}
	ret->level = replica_level_of_all(replica, ret);
}

static int found(struct replica *replica)
{
	struct raft_config config;
	struct raft_event event = {.type = RAFT_EVENT_BOOTSTRAP, .now_us = replica->now_us, .bootstrap = &config};
	if (!replica_has_room(replica, &event))
		return REPLICATOR_E_DISK_FULL;
	founding_config(replica, &config);
	int r = replica_step(replica, &event, NULL, NULL);
	if (r == RAFT_OK)
		replica_log(replica, 5, "founded", "founds the cluster with %u members", config.n_members);
	return r == RAFT_OK || r < 0 ? r : REPLICATOR_E_MEMBERSHIP;
}

/* A hello may be an old one, from when its sender was blank, and the cluster have been founded since. Whoever repeats a number that
 * is no older than this is blank now. Other lives of this member began at other random numbers. */
static void number_hellos(struct replica *replica)
{
	if (replica->now_us < replica->founding_number_until_us)
		return;
	replica->founding_number_until_us = replica->now_us + FOUNDING_US;
	replica->founding_number += 2; /* stays odd: never 0, which is no number */
}

/* The one with the lowest id founds, and only when everybody is known to be blank: two can never do it, and one that
 * lost its disk later hears of a member that is not blank. One that gave up a damaged directory does not count as
 * blank: should all of them have done so, their data are still there, and there is no empty cluster in their place. */
static bool may_found(struct replica *replica)
{
	const struct raft_config *founders = &replica->options.founders;
	if (!is_first_founder(replica))
		return false;
	for (unsigned k = 1; k < founders->n_members; k++) {
		const struct replica_peer *peer = replica_find_peer(replica, founders->members[k].id);
		if (peer == NULL || peer->incarnation == 0 || !peer->blank || peer->number != replica->founding_number)
			return false;
	}
	return true;
}

int replica_bootstrap(struct replica *replica, uint64_t now_us, uint64_t wall_ms)
{
	if (replica->failed != 0)
		return replica->failed;
	replica->now_us = now_us;
	replica->wall_ms = wall_ms;
	if (!is_blank(replica) || raft_config_find(&replica->options.founders, replica->options.raft.id) == NULL)
		return REPLICATOR_E_MEMBERSHIP;
	return found(replica);
}

/* Changes --------------------------------------------------------------------------------------------- */

static int result_from_change(int r)
{
	switch ((enum raft_result)r) {
	case RAFT_OK:
		return REPLICATOR_OK;
	case RAFT_E_NOT_LEADER:
		return REPLICATOR_E_NOT_LEADER;
	case RAFT_E_NOT_READY:
		return REPLICATOR_E_NOT_READY;
	case RAFT_E_BUSY:
	case RAFT_E_NO_QUORUM:
		return REPLICATOR_E_BUSY;
	case RAFT_E_CONFIG_PENDING:
		return REPLICATOR_E_PENDING;
	case RAFT_E_STALE:
		return REPLICATOR_E_STALE;
	case RAFT_E_CONFIG_INVALID:
	case RAFT_E_UNKNOWN_MEMBER:
	case RAFT_E_NOT_BLANK:
	case RAFT_E_INVALID:
		return REPLICATOR_E_MEMBERSHIP;
	}
	return r;
}

int replica_propose_config(struct replica *replica, const struct raft_config *config, uint64_t previous_index,
			   uint64_t *ret_index)
{
	struct raft_event event = {.type = RAFT_EVENT_CONFIG,
				   .now_us = replica->now_us,
				   .config = {.config = config, .previous_index = previous_index}};
	if (!storage_has_room(replica->storage) || !replica_has_room(replica, &event))
		return REPLICATOR_E_DISK_FULL;
	return result_from_change(replica_step(replica, &event, NULL, ret_index));
}

static bool set_endpoints(struct raft_config_member *member, const struct replicator_change *change)
{
	size_t peer = strlen(change->peer);
	size_t client = strlen(change->client);
	if (peer > RAFT_ENDPOINT_MAX || client > RAFT_ENDPOINT_MAX)
		return false;
	memset(member->peer_endpoint, 0, sizeof member->peer_endpoint);
	memset(member->client_endpoint, 0, sizeof member->client_endpoint);
	memcpy(member->peer_endpoint, change->peer, peer);
	memcpy(member->client_endpoint, change->client, client);
	return true;
}

/* Makes the change in *config. 0, REPLICATOR_E_MEMBERSHIP or -EINVAL. */
static int change_config(struct raft_config *config, const struct replicator_change *change)
{
	const struct raft_config_member *known = raft_config_find(config, change->id);
	struct raft_config_member member = {.id = change->id,
					    .role = change->stay_learner ? RAFT_MEMBER_LEARNER : RAFT_MEMBER_JOINING};
	if (change->id == RAFT_NO_MEMBER || (change->type == REPLICATOR_ADD) != (known == NULL))
		return REPLICATOR_E_MEMBERSHIP;
	if (known != NULL)
		member = *known;
	switch (change->type) {
	case REPLICATOR_REMOVE:
		return raft_config_remove(config, change->id) ? 0 : REPLICATOR_E_MEMBERSHIP;
	case REPLICATOR_PROMOTE:
		if (member.role == RAFT_MEMBER_VOTER)
			return REPLICATOR_E_MEMBERSHIP;
		member.role = RAFT_MEMBER_JOINING; /* the leader makes it a voter when it has caught up */
		break;
	case REPLICATOR_ADD:
	case REPLICATOR_MOVE:
		if (!set_endpoints(&member, change))
			return -EINVAL;
		break;
	}
	return raft_config_set(config, &member) ? 0 : REPLICATOR_E_MEMBERSHIP;
}

static void log_change(const struct replica *replica, const struct replicator_change *change, uint64_t index)
{
	static const char *const did[] = {[REPLICATOR_ADD] = "added",
					  [REPLICATOR_REMOVE] = "removed",
					  [REPLICATOR_PROMOTE] = "a voter once it has caught up",
					  [REPLICATOR_MOVE] = "moved"};
	replica_log_about(replica, (struct replica_about){index, change->id}, 5, "membership-change",
			  "entry %llu changes the membership: member %llu is %s", (unsigned long long)index,
			  (unsigned long long)change->id, did[change->type]);
}

int replica_change(struct replica *replica, const struct replicator_change *change, uint64_t now_us, uint64_t wall_ms,
		   uint64_t *ret_index)
{
	uint64_t index = 0;
	const struct raft_config *current = replica_config(replica, &index);
	struct raft_status status;
	if (replica->failed != 0)
		return replica->failed;
	replica->now_us = now_us;
	replica->wall_ms = wall_ms;
	raft_get_own_status(replica->core, &status);
	if (status.role != RAFT_LEADER || current == NULL)
		return REPLICATOR_E_NOT_LEADER;
	if (change->if_index != 0 && change->if_index != index)
		return REPLICATOR_E_STALE;
	struct raft_config config = *current;
	int r = change_config(&config, change);
	if (r == 0)
		r = replica_propose_config(replica, &config, index, ret_index);
	if (r == 0)
		log_change(replica, change, *ret_index);
	return r;
}

/* A member of the configuration is heard with another directory than the one it has there. Its vote, its promises and
 * what it had stored are gone; in one step it becomes one that joins (README.md in ../raft says why that is safe).
 * When the change cannot be made now, the next hello, and answer, asks again. */
static int take_incarnation(struct replica *replica, const struct raft_config *current, uint64_t index,
			    const struct wire_message *wire)
{
	struct raft_config config = *current;
	struct raft_config_member member = *raft_config_find(current, wire->from);
	uint64_t before = member.incarnation;
	member.incarnation = wire->from_incarnation;
	if (before != 0 && member.role == RAFT_MEMBER_VOTER)
		member.role = RAFT_MEMBER_JOINING;
	bool set = raft_config_set(&config, &member);
	raft_assert(set); /* it replaces one */
	int r = replica_propose_config(replica, &config, index, NULL);
	if (r == 0 && before != 0)
		replica_log_about(replica, (struct replica_about){.peer = wire->from}, 4, "incarnation-changed",
				  "member %llu came back with another data directory: it rejoins as a learner",
				  (unsigned long long)wire->from);
	return r < 0 ? r : 0;
}

/* Each of those that have a slot is answered in its own time; one that asks more often than that keeps nobody else from it. The others,
 * of which there may be any number, share one. peer: NULL is one of these. */
static void tell_stranger(struct replica *replica, uint64_t config_index, struct replica_peer *peer, uint64_t to)
{
	uint64_t *told_us = peer != NULL ? &peer->stranger_told_us : &replica->stranger_told_us;
	bool is_early = replica->now_us - *told_us < NOT_A_MEMBER_US;
	if (*told_us > 0 && is_early)
		return;
	*told_us = replica->now_us;
	struct wire_message wire = replica_wire_message(replica, WIRE_NOT_A_MEMBER, to);
	wire.not_a_member.config_index = config_index;
	replica_send_wire(replica, &wire); /* arrives if the transport still knows it */
}

/* The core takes requests from every directory, and counts whatever it takes as heard of the member. */
void replica_note_named(struct replica *replica, const struct wire_message *wire)
{
	const struct raft_config *config = replica_config(replica, NULL);
	const struct raft_config_member *member = config != NULL ? raft_config_find(config, wire->from) : NULL;
	struct replica_peer *peer = replica_find_peer(replica, wire->from);
	if (peer != NULL && member != NULL && member->incarnation != 0 && member->incarnation == wire->from_incarnation)
		peer->named_us = replica->now_us;
}

/* The directory that the configuration names is still in use: a second one under the same id is a mistake, or a lie. */
static bool is_in_contact(const struct replica *replica, const struct replica_peer *peer)
{
	return peer->named_us > 0 && replica->now_us < peer->named_us + replica->options.raft.election_timeout_max_us;
}

/* A hello alone may be an old one, of a directory that was replaced long ago, and would take the vote of a voter that lacks nothing:
 * for good, if another one loses its data before that voter is heard again. So may an answer be, even one to this leader. Who answers
 * an append that was numbered after the hello is there, or was: unless the directory that the configuration names was heard since. */
static void expect_answer(struct replica *replica, struct replica_peer *peer, uint64_t incarnation, uint64_t term)
{
	peer->returned = (struct replica_returned){.incarnation = incarnation,
						   .term = term,
						   .round = raft_number_appends(replica->core),
						   .numbered_us = replica->now_us};
}

static bool is_awaited(const struct replica_peer *peer, uint64_t incarnation, uint64_t term)
{
	return peer->returned.incarnation == incarnation && peer->returned.term == term;
}

/* In the term of this leader: since an earlier one in which it led, too, another directory may have taken that one's place. */
static bool is_expected(const struct replica_peer *peer, const struct wire_message *wire, uint64_t term)
{
	return is_awaited(peer, wire->from_incarnation, term) && wire->term == term &&
	       wire->append_reply.round >= peer->returned.round;
}

int replica_on_foreign_answer(struct replica *replica, const struct wire_message *wire)
{
	struct raft_status status;
	uint64_t index = 0;
	struct replica_peer *peer = replica_find_peer(replica, wire->from);
	const struct raft_config *config = replica_config(replica, &index);
	raft_get_own_status(replica->core, &status);
	if (peer == NULL || wire->type != WIRE_APPEND_REPLY || status.role != RAFT_LEADER)
		return 0;
	/* It may believe that it is the member, as long ago it was, and follow: then only who greets it gets a hello. */
	replica_greet(replica, peer);
	if (!is_expected(peer, wire, status.hard_state.term) || is_in_contact(replica, peer))
		return 0;
	if (peer->named_us >= peer->returned.numbered_us) {
		expect_answer(replica, peer, wire->from_incarnation, wire->term);
		return 0;
	}
	peer->returned = (struct replica_returned){0};
	return take_incarnation(replica, config, index, wire);
}

int replica_on_hello(struct replica *replica, const struct wire_message *wire)
{
	struct raft_status status;
	uint64_t index = 0;
	struct replica_peer *peer = replica_find_peer(replica, wire->from);
	const struct raft_config *config = replica_config(replica, &index);
	if (peer != NULL) {
		peer->incarnation = wire->from_incarnation;
		peer->blank = wire->hello.blank;
		peer->number = wire->term;
	}
	if (!replica_note_level(replica, wire))
		return replica->failed;
	raft_get_own_status(replica->core, &status);
	if (config == NULL || wire->from_incarnation == 0)
		return 0;
	const struct raft_config_member *member = raft_config_find(config, wire->from);
	if (member == NULL && !status.config_pending)
		tell_stranger(replica, index, peer, wire->from);
	if (status.role != RAFT_LEADER || peer == NULL || member == NULL ||
	    member->incarnation == wire->from_incarnation)
		return 0;
	if (member->incarnation == 0)
		return take_incarnation(replica, config, index, wire);
	if (!is_awaited(peer, wire->from_incarnation, status.hard_state.term))
		expect_answer(replica, peer, wire->from_incarnation, status.hard_state.term);
	return 0;
}

/* The entry of the last configuration in its log that names this directory; 0: none does, or the id stands for another one meanwhile,
 * which its next hello may put right. */
static uint64_t last_named(const struct replica *replica, const struct raft_status *status)
{
	const struct raft_config_member *self = NULL;
	uint64_t index = status->last_index + 1;
	if (status->member)
		return status->config_index;
	while (self == NULL && index > status->base_index) {
		const struct raft_config *config = raft_config_at(replica->core, index - 1, &index);
		if (config == NULL)
			return 0;
		self = raft_config_find(config, replica->options.raft.id);
	}
	return self != NULL && self->incarnation == replica->incarnation ? index : 0;
}

/* Another member's committed configuration does not name this one. If that is newer than the last one that names it, it was removed
 * while it was away, or before it was started again: then it may hold the entry that removed it, and not know that this is committed.
 * One that no configuration names yet may be about to join, and the other behind. It believes only those whom it knows, by the number
 * that only they know. */
void replica_on_not_a_member(struct replica *replica, const struct wire_message *wire)
{
	struct raft_status status;
	const struct raft_config *config = replica_config(replica, NULL);
	raft_get_own_status(replica->core, &status);
	const struct raft_config_member *member = config != NULL ? raft_config_find(config, wire->from) : NULL;
	uint64_t named = last_named(replica, &status);
	if (config == NULL)
		replica_log_about(replica, (struct replica_about){.peer = wire->from}, 4, "not-a-member",
				  "member %llu belongs to a cluster that this one is not part of: 'raftctl member add' "
				  "makes it a member",
				  (unsigned long long)wire->from);
	else if (named > 0 && member != NULL && member->incarnation == wire->from_incarnation &&
		 member->incarnation != 0 && wire->not_a_member.config_index > named)
		replica->removed = true;
}

/* Whom to answer -------------------------------------------------------------------------------------- */

/* A member with an empty directory knows those who stand in its configuration file, one that was down for long those of its log, and
 * this leader may not be one of them: they would follow, but not be able to answer. Nor could they give their votes, when only this
 * member can still be elected. */
static void tell_endpoint(struct replica *replica)
{
	struct raft_status status;
	const struct raft_config *config = replica_config(replica, NULL);
	if (replica->now_us < replica->endpoint_told_us + ENDPOINT_TOLD_US)
		return;
	replica->endpoint_told_us = replica->now_us;
	raft_get_status(replica->core, &status);
	const struct raft_config_member *self =
		config != NULL ? raft_config_find(config, replica->options.raft.id) : NULL;
	bool wants_answers =
		status.role == RAFT_LEADER || status.role == RAFT_CANDIDATE || status.role == RAFT_PRE_CANDIDATE;
	if (!wants_answers || self == NULL || self->peer_endpoint[0] == '\0')
		return;
	for (unsigned k = 0; k < status.n_peers; k++) {
		if (replica->now_us < status.peers[k].last_contact_us + replica->options.raft.election_timeout_max_us)
			continue;
		struct wire_message wire = replica_wire_message(replica, WIRE_ENDPOINT, status.peers[k].id);
		wire.term = status.role == RAFT_LEADER ? status.hard_state.term : 0; /* durable: this member leads */
		memcpy(wire.endpoint.peer, self->peer_endpoint, strlen(self->peer_endpoint) + 1);
		replica_send_wire(replica, &wire);
	}
}

static void connect_to(struct replica *replica, const struct wire_message *wire)
{
	int r = replica->transport->ops->set_peer(replica->transport, wire->from, wire->endpoint.peer);
	if (r < 0)
		replica_log_about(replica, (struct replica_about){.peer = wire->from}, 4, "unreachable",
				  "cannot connect to member %llu at %s: %s", (unsigned long long)wire->from,
				  wire->endpoint.peer, strerror(-r));
	else
		replica_send_hello(replica, wire->from);
}

/* Believed by who knows of no cluster, and brings the leader to take it in; and by a member, of the leader that it follows or, when it
 * knows of none, of who would be elected. One at a time, and a leader that could be answered stays: whoever only says that it
 * belongs here must not use up the places of those who do. Of those who are known it is believed, too, for they may have moved while
 * this one was away: by a member, of the directory that it knows, or of a leader, which may have another one. That need not be one that
 * it follows already: a leader sends no log to whom it takes for too old, by an old hello perhaps, before it has an answer. */
void replica_on_endpoint(struct replica *replica, const struct wire_message *wire)
{
	struct raft_status status;
	raft_get_own_status(replica->core, &status);
	const struct raft_config *known = status.member ? replica_config(replica, NULL) : &replica->options.founders;
	const struct raft_config_member *member = known != NULL ? raft_config_find(known, wire->from) : NULL;
	bool has_other_leader = status.leader != RAFT_NO_MEMBER && status.leader != wire->from;
	bool leads = status.leader == wire->from || (wire->term != 0 && wire->term >= status.hard_state.term);
	bool is_content = status.member || (replica->guest != 0 && status.leader == replica->guest);
	if (is_content && has_other_leader)
		return;
	if (member != NULL) {
		if (status.member && member->incarnation != wire->from_incarnation && !leads)
			return;
		if (status.member && strcmp(member->peer_endpoint, wire->endpoint.peer) != 0)
			replica_find_peer(replica, wire->from)->astray = replica->any_astray = true;
		connect_to(replica, wire);
		return;
	}
	if (replica->guest != 0 && replica->guest != wire->from && !is_known(replica, replica->guest))
		replica->transport->ops->remove_peer(replica->transport, replica->guest);
	replica->guest = wire->from;
	connect_to(replica, wire);
}

/* The transport follows the configuration --------------------------------------------------------------- */

static void connect_member(struct replica *replica, const struct raft_config_member *member)
{
	if (member->id == replica->options.raft.id || member->peer_endpoint[0] == '\0')
		return;
	int r = replica->transport->ops->set_peer(replica->transport, member->id, member->peer_endpoint);
	replica->unconnected |= r < 0;
	if (r < 0)
		replica_log_about(replica, (struct replica_about){.peer = member->id}, 3, "unreachable",
				  "cannot connect to member %llu at %s: %s", (unsigned long long)member->id,
				  member->peer_endpoint, strerror(-r));
}

static void connect_members(struct replica *replica, const struct raft_config *config)
{
	replica->unconnected = false;
	for (unsigned k = 0; k < config->n_members; k++)
		connect_member(replica, &config->members[k]);
}

/* Those that left, but not at once: the leader still owes them the news of it. Whoever stands in the configuration file
 * keeps a connection: should it come back, it must be told that it is no member. */
static void disconnect_others(struct replica *replica)
{
	for (unsigned k = 0; k < 2 * RAFT_MEMBERS_MAX; k++) {
		struct replica_peer *peer = &replica->peers[k];
		if (peer->id == 0 || is_known(replica, peer->id))
			continue;
		replica->transport->ops->remove_peer(replica->transport, peer->id);
		*peer = (struct replica_peer){0};
	}
}

/* Who would be elected may be behind, and know only where it was before it moved: that counts until somebody leads. Then the
 * configuration does, which names at least where the leader found the others; only the leader itself may be elsewhere by now. */
static void tend_astray(struct replica *replica)
{
	struct raft_status status;
	const struct raft_config *config = replica_config(replica, NULL);
	raft_get_own_status(replica->core, &status);
	if (status.leader == RAFT_NO_MEMBER || config == NULL)
		return;
	replica->any_astray = false;
	for (unsigned k = 0; k < config->n_members; k++) {
		const struct raft_config_member *member = &config->members[k];
		struct replica_peer *peer = replica_find_peer(replica, member->id);
		if (peer == NULL || !peer->astray)
			continue;
		replica->any_astray |= member->id == status.leader;
		if (member->id == status.leader)
			continue;
		peer->astray = false;
		connect_member(replica, member);
	}
}

/* What had no place, or no memory, is tried again: those that left may have had it. */
static void tend_connections(struct replica *replica)
{
	const struct raft_config *config = replica_config(replica, NULL);
	if (replica->now_us < replica->disconnect_us)
		return;
	replica->disconnect_us = UINT64_MAX;
	disconnect_others(replica);
	if (replica->unconnected)
		connect_members(replica, config != NULL ? config : &replica->options.founders);
	if (replica->unconnected)
		replica->disconnect_us = replica->now_us + CONNECT_AGAIN_US;
}

static void report_difference(struct replica *replica, const struct raft_config *config)
{
	const struct raft_config *file = &replica->options.founders;
	for (unsigned k = 0; k < config->n_members; k++) {
		const struct raft_config_member *member = &config->members[k];
		const struct raft_config_member *other = raft_config_find(file, member->id);
		if (other == NULL || strcmp(other->peer_endpoint, member->peer_endpoint) != 0)
			replica_log(replica, 5, "configuration-differs",
				    "member %llu is at %s by the log, which decides, and %s in the configuration file",
				    (unsigned long long)member->id, member->peer_endpoint,
				    other != NULL ? other->peer_endpoint : "missing");
	}
	for (unsigned k = 0; k < file->n_members; k++)
		if (raft_config_find(config, file->members[k].id) == NULL)
			replica_log(replica, 5, "configuration-differs",
				    "member %llu of the configuration file is no member by the log, which decides",
				    (unsigned long long)file->members[k].id);
}

static void follow_config(struct replica *replica)
{
	uint64_t index = 0;
	const struct raft_config *config = replica_config(replica, &index);
	if (config == NULL || (replica->followed_config && replica->followed_config_index == index))
		return;
	if (!replica->followed_config)
		report_difference(replica, config);
	replica->followed_config = true;
	replica->followed_config_index = index;
	for (unsigned k = 0; k < config->n_members; k++)
		(void)replica_find_peer(replica, config->members[k].id); /* gives it a slot */
	connect_members(replica, config);
	replica->disconnect_us = replica->now_us + 4 * replica->options.raft.election_timeout_max_us;
	replica->hello_us = 0; /* is this member one? */
}

void replica_membership_start(struct replica *replica)
{
	const struct raft_config *founders = &replica->options.founders;
	replica->hello_us = 0;
	replica->founding_number = replica->options.seed | 1;
	replica->own_role = replica_own_role(replica);
	for (unsigned k = 0; k < founders->n_members; k++)
		(void)replica_find_peer(replica, founders->members[k].id);
	connect_members(replica, founders);
	replica->disconnect_us = replica->unconnected ? replica->now_us + CONNECT_AGAIN_US : UINT64_MAX;
	follow_config(replica);
}

unsigned replica_own_role(const struct replica *replica)
{
	const struct raft_config *config = replica_config(replica, NULL);
	const struct raft_config_member *self =
		config != NULL ? raft_config_find(config, replica->options.raft.id) : NULL;
	return self != NULL ? (unsigned)self->role : 0;
}

/* The configuration knows this member by its directory, not only by its id. */
static bool is_named(const struct replica *replica)
{
	const struct raft_config *config = replica_config(replica, NULL);
	const struct raft_config_member *self =
		config != NULL ? raft_config_find(config, replica->options.raft.id) : NULL;
	return self != NULL && self->incarnation != 0;
}

int replica_tend_membership(struct replica *replica)
{
	struct raft_status status;
	int r = 0;
	follow_config(replica);
	tell_endpoint(replica);
	if (replica->any_astray)
		tend_astray(replica);
	tend_connections(replica);
	raft_get_own_status(replica->core, &status);
	if (status.member && status.leader != RAFT_NO_MEMBER && is_named(replica)) {
		replica->hello_us = UINT64_MAX;
		return 0;
	}
	/* A member that hears of no leader asks as well, now and then: it may have been removed while it was away. */
	if (replica->hello_us == UINT64_MAX)
		replica->hello_us = replica->now_us + REPLICA_HELLO_US;
	if (replica->now_us < replica->hello_us)
		return 0;
	replica->hello_us = replica->now_us + (status.member && is_named(replica) ? NOT_A_MEMBER_US : REPLICA_HELLO_US);
	number_hellos(replica);
	hello_all(replica);
	if (is_blank(replica) && !replica->aside && may_found(replica))
		r = found(replica);
	return r < 0 ? r : 0;
}
