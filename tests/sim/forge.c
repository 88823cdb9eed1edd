/*
 * Strangers, and forgeries: whole frames, with a good checksum, that no correct member ever sends: of another cluster, from nobody, with numbers that cannot
 * be, or that contradict what is committed. They come from a program with a bug. A member refuses each, counts it, and nothing
 * that it holds has changed: that is up to the other checks.
 */
#include "check.h"
#include "fault_steps.h"

#include "daemon/assert.h"
#include "daemon/raft/config_codec.h"
#include "daemon/transport/wire.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TOO_BIG (UINT64_MAX / 2) /* for a term or an index */
#define GARBLED_MAX 64u
#define STRANGERS 40u /* more than a member keeps in mind */

/* Whom it goes to, and what is known of it. */
struct forger {
	struct sim *sim;
	struct sim_random random;
	unsigned to;
	struct raft_status status;
	struct raft_entry entries[2];
	uint8_t bytes[RAFT_CONFIG_SIZE_MAX];
	bool may_be_ignored; /* where it does not matter, it is not looked at */
};

/* The envelope. Each of these returns what is wrong with the frame. */
static const char *wrong_address(struct forger *forger, struct wire_message *message)
{
	message->type = WIRE_TIMEOUT_NOW;
	switch (sim_random_below(&forger->random, 5)) {
	case 0:
		message->cluster++;
		return "another cluster";
	case 1:
		message->to++;
		return "another receiver";
	case 2:
		message->from = message->to;
		return "from the receiver itself";
	case 3:
		message->from = 0;
		return "from nobody";
	default:
		message->term = TOO_BIG;
		return "a term that cannot be";
	}
}

static const char *wrong_vote_request(struct forger *forger, struct wire_message *message)
{
	message->type = WIRE_VOTE_REQUEST;
	message->term = forger->status.hard_state.term + 1000;
	message->vote_request.last_index = message->vote_request.last_term = 1;
	message->vote_request.pre_vote = sim_random_below(&forger->random, 2) == 0;
	switch (sim_random_below(&forger->random, 4)) {
	case 0:
		message->term = 0;
		return "a vote in term 0";
	case 1:
		message->vote_request.last_index = TOO_BIG;
		return "a candidate with an impossible log";
	case 2:
		message->vote_request.last_index = 0;
		return "a candidate with a term and no log";
	default:
		message->vote_request.last_term = message->term;
		return "a candidate with an entry of the term it wants to win";
	}
}

static const char *wrong_append(struct forger *forger, struct wire_message *message)
{
	message->append.entries = forger->entries;
	message->append.prev_index = forger->status.last_index + 1;
	message->append.prev_term = message->term;
	forger->entries[0] = (struct raft_entry){.term = message->term, .type = RAFT_ENTRY_NOOP};
	forger->entries[1] = forger->entries[0];
	switch (sim_random_below(&forger->random, 5)) {
	case 0:
		message->term = message->append.prev_term = 0;
		return "an append in term 0";
	case 1:
		message->append.prev_index = TOO_BIG;
		return "an append to an impossible place";
	case 2:
		message->append.prev_index = 0;
		return "an append to the beginning, after an entry";
	case 3:
		message->append.n_entries = 2;
		forger->entries[0].term++;
		return "entries whose terms go down";
	default:
		message->append.n_entries = 1;
		forger->entries[0].term++;
		return "an entry of a later term";
	}
}

/* It cannot come from a leader: that has every committed entry. */
static const char *wrong_leader(struct forger *forger, struct wire_message *message)
{
	uint64_t base = forger->status.base_index, commit = forger->status.commit;
	message->append.entries = forger->entries;
	if (commit <= base || commit < 2)
		return NULL;
	uint64_t at = base + 1 + sim_random_below(&forger->random, commit - base);
	uint64_t before = raft_term_at(replica_core(forger->sim->members[forger->to].replica), at - 1);
	message->append.prev_index = at - 1;
	message->append.prev_term = before;
	message->append.commit = commit;
	if (at > 1 && sim_random_below(&forger->random, 2) == 0) {
		message->append.prev_term = before + 1;
		return "another term for a committed entry";
	}
	forger->entries[0] = (struct raft_entry){.term = message->term, .type = RAFT_ENTRY_NOOP};
	message->append.n_entries = 1;
	return "another entry instead of a committed one";
}

/* A configuration that is none, or too many steps at once, behind the end of the log. */
static const char *wrong_config(struct forger *forger, struct wire_message *message)
{
	uint64_t index = 0;
	const struct raft *core = replica_core(forger->sim->members[forger->to].replica);
	const struct raft_config *known = raft_config_at(core, forger->status.last_index, &index);
	if (known == NULL || known->n_members == 0 || forger->status.last_index == 0)
		return NULL;
	struct raft_config config = *known;
	unsigned k = (unsigned)sim_random_below(&forger->random, config.n_members);
	uint64_t how = sim_random_below(&forger->random, 3);
	if (how == 0)
		for (unsigned i = 0; i < config.n_members; i++)
			config.members[i].role = i == k ? RAFT_MEMBER_VOTER : RAFT_MEMBER_LEARNER;
	else if (how == 1)
		config.members[k].incarnation ^= 1;
	size_t size = raft_config_encode(&config, forger->bytes);
	for (unsigned n = how < 2 ? 0 : 1 + (unsigned)sim_random_below(&forger->random, 2); n > 0; n--) {
		size_t at = sim_random_below(&forger->random, size < GARBLED_MAX ? size : GARBLED_MAX);
		uint64_t bit = sim_random_below(&forger->random, 16);
		forger->bytes[at] = (uint8_t)(bit < 8 ? forger->bytes[at] ^ 1u << bit : 0xffu);
	}
	if (how == 2 && sim_random_below(&forger->random, 4) == 0)
		size = sim_random_below(&forger->random, size);
	if (raft_config_level(forger->bytes, size) > known->level)
		return NULL; /* of a newer version: then the member stops, and is right */
	if (raft_config_decode(forger->bytes, (uint32_t)size, &config) == RAFT_CONFIG_OK &&
	    raft_config_step_problem(known, &config) == NULL)
		return NULL; /* it could be */
	message->append.entries = forger->entries;
	message->append.prev_index = forger->status.last_index;
	message->append.prev_term = raft_term_at(core, forger->status.last_index);
	forger->entries[0] = (struct raft_entry){
		.term = message->term, .type = RAFT_ENTRY_CONFIG, .data = forger->bytes, .size = (uint32_t)size};
	message->append.n_entries = 1;
	return "a configuration that cannot follow";
}

static const char *wrong_append_reply(struct forger *forger, struct wire_message *message)
{
	message->type = WIRE_APPEND_REPLY;
	message->term = forger->status.hard_state.term;
	forger->may_be_ignored = true; /* of another directory than the configuration names, or by another role */
	switch (sim_random_below(&forger->random, 4)) {
	case 0:
		message->append_reply.match = TOO_BIG;
		return "an answer with an impossible match";
	case 1:
		message->append_reply.conflict_index = TOO_BIG;
		return "an answer with an impossible conflict";
	case 2:
		message->append_reply.match = forger->status.last_index + 1000;
		return "an answer about entries that the leader does not have";
	default:
		message->append_reply.round = TOO_BIG;
		return "an answer to a round that never was";
	}
}

/* A follower says of an entry that it does not have it, and where to go on: behind that entry, or the entry is one that the leader
 * does not have either. It is believed only as far as it can be, and costs a round. */
static const char *odd_refusal(struct forger *forger, struct wire_message *message)
{
	const struct raft_status *status = &forger->status;
	uint64_t prev = status->last_index + 1 + sim_random_below(&forger->random, 10);
	uint64_t more = 1 + sim_random_below(&forger->random, 10);
	bool within = sim_random_below(&forger->random, 2) == 0;
	forger->may_be_ignored = true;
	if (status->role != RAFT_LEADER)
		return NULL;
	for (unsigned k = 0; k < status->n_peers && within; k++)
		if (status->peers[k].id == message->from && status->peers[k].match < status->last_index)
			prev = status->last_index;
	message->type = WIRE_APPEND_REPLY;
	message->term = status->hard_state.term;
	message->append_reply.rejected = true;
	message->append_reply.prev_index = prev;
	message->append_reply.conflict_index = prev + more;
	return prev > status->last_index ? "a refusal of an entry that the leader does not have"
					 : "a refusal that leads on";
}

/* Another leader in the same term. */
static const char *second_leader(struct forger *forger, struct wire_message *message)
{
	const struct raft_status *status = &forger->status;
	message->append.entries = forger->entries;
	if (status->role != RAFT_LEADER && (status->leader == 0 || status->leader == message->from))
		return NULL;
	message->term = status->hard_state.term;
	message->append.prev_index = message->append.prev_term = 0;
	return "a second leader";
}

static const char *forge(struct forger *forger, struct wire_message *message)
{
	static const char *(*const forgeries[])(struct forger *, struct wire_message *) = {
		wrong_address, wrong_vote_request, wrong_append,  wrong_leader,
		wrong_config,  wrong_append_reply, second_leader, odd_refusal};
	uint64_t n = sizeof forgeries / sizeof *forgeries;
	message->type = WIRE_APPEND;
	message->term = forger->status.hard_state.term + 1 + sim_random_below(&forger->random, 1000);
	return forgeries[sim_random_below(&forger->random, n)](forger, message);
}

/* What the frames say that the member takes in this turn, or not, this one among them. */
static uint64_t bad_frames(const struct sim *sim, unsigned member)
{
	struct replicator_status status;
	replica_get_status(sim->members[member].replica, &status);
	return status.bad_frames;
}

/* A member whose disk is full takes nothing, and one whose log has outgrown its share no entries: they do not look at what they do
 * not take. */
static bool looks(const struct sim *sim, unsigned member)
{
	const struct storage *storage = replica_storage(sim->members[member].replica);
	struct storage_stats stats;
	storage_get_stats(storage, &stats);
	return storage_takes(storage, 1, WIRE_FRAME_SIZE_MAX, false) &&
	       stats.log_bytes_since_snapshot + stats.queued_bytes < 2 * sim->members[member].snapshot_log_bytes;
}

int sim_forge(struct sim *sim, unsigned from, unsigned to, uint64_t seed)
{
	struct forger forger = {.sim = sim, .random = {seed}, .to = to};
	const struct sim_member *member = &sim->members[to];
	if (from == to || !sim_member_listens(sim, to))
		return 0;
	raft_get_status(replica_core(member->replica), &forger.status);
	struct wire_message message = {.cluster = SIM_CLUSTER,
				       .from = from + 1,
				       .from_incarnation = sim->members[from].incarnation,
				       .to = to + 1};
	const char *what = forge(&forger, &message);
	if (what == NULL)
		return 0;
	size_t size = wire_encoded_size(&message);
	uint8_t *frame = malloc(size);
	raft_assert(size > 0 && frame != NULL);
	wire_encode(&message, frame);
	sim_note(sim, "%u gets a frame that nobody sends: %s", to + 1, what);
	uint64_t before = bad_frames(sim, to);
	unsigned life = member->life;
	bool looked = looks(sim, to);
	bool taken = sim_network_deliver(sim, from, to, frame, size);
	free(frame);
	if (taken && looked && !forger.may_be_ignored && member->up && member->life == life &&
	    bad_frames(sim, to) == before)
		sim_fail(sim, "member %u does not refuse %s", to + 1, what);
	return 1;
}

/* What a member says to whoever led an earlier term, that its own is higher, says nothing about a log, and nothing to the leader of
 * that very term: here it comes in the newest round, from one whose log the leader knows. */
int sim_fault_hollow_refusal(struct sim *sim, const struct sim_fault *fault)
{
	struct raft_status status;
	unsigned leader = sim_fault_leader(sim);
	if (leader == sim_members(sim) || !sim_member_listens(sim, leader))
		return 0;
	raft_get_status(replica_core(sim->members[leader].replica), &status);
	if (status.n_peers == 0)
		return 0;
	const struct raft_progress *peer = &status.peers[fault->a % status.n_peers];
	if (peer->match == 0)
		return 0;
	unsigned from = (unsigned)peer->id - 1;
	struct wire_message message = {.type = WIRE_APPEND_REPLY,
				       .cluster = SIM_CLUSTER,
				       .from = peer->id,
				       .from_incarnation = sim->members[leader].view.incarnations[from],
				       .to = leader + 1,
				       .term = status.hard_state.term};
	message.append_reply.rejected = true;
	message.append_reply.round = sim_returns_round(sim, leader, status.hard_state.term);
	size_t size = wire_encoded_size(&message);
	uint8_t *frame = malloc(size);
	raft_assert(size > 0 && frame != NULL);
	wire_encode(&message, frame);
	sim_note(sim, "leader %u gets a refusal from %u that says nothing", leader + 1, from + 1);
	(void)sim_network_deliver(sim, from, leader, frame, size);
	free(frame);
	return 1;
}

/* Strangers ------------------------------------------------------------------------------------------- */

/* Frames that are right, of a term that is over or of one that has a leader, from members of no configuration: machines that were
 * taken out of service long ago. They are answered, or not, and change nothing; however many they are, nobody loses its place for
 * them. */
static void draw_stranger(struct sim *sim, struct sim_random *random, unsigned to, struct wire_message *message)
{
	struct raft_status status;
	raft_get_status(replica_core(sim->members[to].replica), &status);
	*message = (struct wire_message){.cluster = SIM_CLUSTER,
					 .from = SIM_MEMBERS_MAX + 1 + sim_random_below(random, STRANGERS),
					 .from_incarnation = sim_random_u64(random) | 1,
					 .to = to + 1};
	bool led = status.leader != 0 && status.role != RAFT_CANDIDATE && status.role != RAFT_LEADER;
	message->term = led ? status.hard_state.term : status.hard_state.term - 1;
	message->type = sim_random_below(random, 2) == 0 ? WIRE_VOTE_REQUEST : WIRE_TIMEOUT_NOW;
	message->vote_request.pre_vote = message->type == WIRE_VOTE_REQUEST;
}

int sim_fault_strangers(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_random random = {fault->b};
	unsigned to = sim_fault_which(sim, fault);
	unsigned connection = (to + 1) % SIM_MEMBERS_MAX; /* whichever it may be: the frame says who sends it */
	unsigned life = sim->members[to].life;
	struct raft_status status;
	uint64_t n = 1 + sim_random_below(&random, 2 * STRANGERS);
	if (!sim_member_listens(sim, to))
		return 0;
	raft_get_status(replica_core(sim->members[to].replica), &status);
	if (status.hard_state.term < 2)
		return 0;
	sim_note(sim, "%u hears of %" PRIu64 " strangers", to + 1, n);
	for (; n > 0 && sim->members[to].life == life && sim_member_listens(sim, to); n--) {
		struct wire_message message;
		draw_stranger(sim, &random, to, &message);
		size_t size = wire_encoded_size(&message);
		uint8_t *frame = malloc(size);
		raft_assert(size > 0 && frame != NULL);
		wire_encode(&message, frame);
		(void)sim_network_deliver(sim, connection, to, frame, size);
		free(frame);
	}
	return 1;
}
