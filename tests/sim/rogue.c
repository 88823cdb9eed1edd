/*
 * A client that keeps to no rule: it repeats requests, leaves some out, acknowledges replies that it never had, or none, names
 * sessions that there never were, or none, and sends what is no command. Its keys are as long or short as keys may be, and alike
 * up to their end. At times it fills the store with thousands of them, and takes them away again.
 *
 * It waits for no answer. Whatever comes of its requests is compared with the model when they are applied (sessions.c); no other
 * client reads its keys.
 */
#include "fault_steps.h"
#include "rogue.h"

#include "daemon/assert.h"
#include "kv/limits.h"

#include <stdlib.h>
#include <string.h>

#define SESSIONS 2u
#define AT_ONCE 16u
#define ENDINGS 24u /* of keys that differ in nothing else */
#define NONCE 0x726f677565u
#define HOARD_KEYS 3400u /* applied: more than a tree of two levels holds when they come in order */
#define HOARD_MIN 40u
#define HOARD_MAX 8000u /* numbers: some are lost on their way */
#define HOARD_PROPOSALS 8u
#define HOARD_RESTS 1000u /* of one that has gone, before the next */
#define VALUE_MAX 64u
#define COMMAND_MAX (KV_COMMAND_HEADER_SIZE + KV_KEY_SIZE_MAX + VALUE_MAX)
_Static_assert(AT_ONCE * COMMAND_MAX <= SIM_PROPOSAL_MAX, "they fit one proposal");
/* Not HOARD_KEYS: a leader whose store stands still takes many more before it applies them all. */
_Static_assert(HOARD_MAX + 2 * 6 * ENDINGS <= SIM_ROGUE_KEYS_MAX, "there are no more keys than that");

struct sim_rogue {
	struct rogue_session {
		uint64_t id;   /* 0: none */
		uint64_t next; /* sequence number */
	} sessions[SESSIONS];
	unsigned oldest; /* of the sessions, to be forgotten next */
	uint64_t values;
	unsigned hoarded;
	bool shrinks;
	unsigned rests; /* so many times it does nothing */
};

void sim_rogue_new(struct sim *sim)
{
	sim->rogue = calloc(1, sizeof *sim->rogue);
	raft_assert(sim->rogue != NULL);
}

void sim_rogue_free(struct sim *sim)
{
	free(sim->rogue);
	sim->rogue = NULL;
}

/* What became of its requests: it could have read it in the answers. */
void sim_rogue_modelled(struct sim *sim, uint64_t index, const struct kv_command *command, const struct kv_reply *reply)
{
	struct sim_rogue *rogue = sim->rogue;
	if (command->operation == KV_REGISTER && command->expected == NONCE) {
		rogue->sessions[rogue->oldest] = (struct rogue_session){.id = index, .next = 1};
		rogue->oldest = (rogue->oldest + 1) % SESSIONS;
		return;
	}
	for (unsigned k = 0; k < SESSIONS && command->session != 0; k++) {
		struct rogue_session *session = &rogue->sessions[k];
		if (session->id != command->session)
			continue;
		if (reply->status == KV_OUT_OF_ORDER)
			session->next = reply->revision;
		if (reply->status == KV_NO_SESSION)
			session->id = 0;
	}
}

/* Proposals ------------------------------------------------------------------------------------------- */

struct proposal {
	struct replicator_command commands[AT_ONCE];
	uint8_t bytes[AT_ONCE][COMMAND_MAX];
	uint32_t n;
};

static void add(struct proposal *proposal, const struct kv_command *command)
{
	raft_assert(proposal->n < AT_ONCE && kv_command_size(command) <= COMMAND_MAX);
	uint8_t *bytes = proposal->bytes[proposal->n];
	kv_command_encode(command, bytes);
	proposal->commands[proposal->n++] = (struct replicator_command){bytes, (uint32_t)kv_command_size(command)};
}

/* Mostly whoever leads. */
static unsigned whom(const struct sim *sim, struct sim_random *random)
{
	unsigned leader = sim_fault_leader(sim);
	unsigned any = (unsigned)sim_random_below(random, sim_members(sim));
	return leader == sim_members(sim) || sim_random_below(random, 8) == 0 ? any : leader;
}

static uint16_t draw_key(struct sim_random *random, uint8_t key[KV_KEY_SIZE_MAX])
{
	static const uint16_t sizes[] = {1, 2, 9, 20, 40, KV_KEY_SIZE_MAX};
	uint16_t size = sizes[sim_random_below(random, sizeof sizes / sizeof *sizes)];
	memset(key, sim_random_below(random, 2) == 0 ? 'r' : 0xff, size);
	if (size > 1)
		key[size - 1] = (uint8_t)sim_random_below(random, ENDINGS);
	return size;
}

static void draw_parts(struct sim *sim, struct sim_random *random, struct kv_command *command, uint8_t *key, uint8_t *value)
{
	static const enum kv_operation operations[] = {KV_PUT, KV_PUT, KV_PUT, KV_DELETE, KV_CAS, KV_NOTHING};
	command->operation = (uint8_t)operations[sim_random_below(random, sizeof operations / sizeof *operations)];
	if (command->operation == KV_NOTHING)
		return;
	command->key = key;
	command->key_size = draw_key(random, key);
	if (command->operation == KV_DELETE)
		return;
	memset(value, (int)(++sim->rogue->values & 0xff), VALUE_MAX);
	command->value = value;
	command->value_size = (uint32_t)(sim_random_below(random, 4) == 0 ? 0 : sim_random_below(random, VALUE_MAX + 1));
}

/* The next number of the session, or one that it had, or one that it will have; now and then another session. */
static void draw_place(struct sim_random *random, struct rogue_session *session, struct kv_command *command)
{
	uint64_t more = 1 + sim_random_below(random, 8);
	command->session = session->id;
	switch (sim_random_below(random, 24)) {
	case 0:
		command->sequence = session->next > more ? session->next - more : 0;
		break;
	case 1:
		command->sequence = session->next + more;
		break;
	case 2:
		command->session = UINT64_MAX / 2 + more;
		break;
	case 3:
		command->session = 0;
		break;
	default:
		command->sequence = session->next++;
		break;
	}
	command->acknowledged = 1; /* keep every reply, for good */
	if (sim_random_below(random, 400) == 0)
		command->acknowledged = session->next + (more - 1) * 100; /* never had */
}

static void draw_command(struct sim *sim, struct sim_random *random, struct proposal *proposal)
{
	struct rogue_session *session = &sim->rogue->sessions[sim_random_below(random, SESSIONS)];
	struct kv_command command = {.operation = KV_REGISTER, .expected = NONCE};
	uint8_t key[KV_KEY_SIZE_MAX];
	uint8_t value[VALUE_MAX];
	if (session->id != 0) {
		command.expected = 0;
		draw_parts(sim, random, &command, key, value);
		draw_place(random, session, &command);
	}
	add(proposal, &command);
}

/* What no program that knows commands sends. False: it would be taken for another one. */
static bool spoil(struct sim_random *random, uint8_t *bytes, uint32_t *size)
{
	struct kv_command command;
	uint64_t how = sim_random_below(random, 4);
	if (how == 0)
		*size = (uint32_t)sim_random_below(random, *size);
	else if (how == 1)
		bytes[1] = (uint8_t)sim_random_below(random, 16); /* the operation */
	else
		bytes[sim_random_below(random, KV_COMMAND_HEADER_SIZE)] ^= (uint8_t)(1u << sim_random_below(random, 8));
	return kv_command_decode(bytes, *size, &command) != KV_DECODE_OK;
}

/* Requests without rules; or what is no command, past the member that would have refused it. */
int sim_fault_rogue(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_random random = {fault->b};
	struct proposal *proposal = calloc(1, sizeof *proposal);
	unsigned member = whom(sim, &random);
	raft_assert(proposal != NULL);
	for (uint64_t n = 1 + sim_random_below(&random, AT_ONCE); n > 0; n--)
		draw_command(sim, &random, proposal);
	bool spoils = sim_random_below(&random, 4) == 0;
	if (!spoils)
		sim_protocol_write(sim, member, sim_ticket_nobody(), proposal->commands, proposal->n);
	else if (spoil(&random, proposal->bytes[0], &proposal->commands[0].size))
		sim_member_write(sim, member, sim_ticket_nobody(), proposal->commands, 1);
	free(proposal);
	return 1;
}

/* Hoarding -------------------------------------------------------------------------------------------- */

/* The keys come and go from both ends, or as they happen to: each way splits and joins other nodes. */
static void hoard_one(struct sim *sim, struct proposal *proposal, bool scattered)
{
	struct sim_rogue *rogue = sim->rogue;
	uint8_t key[] = "rogue-0000";
	unsigned number = rogue->shrinks ? --rogue->hoarded : rogue->hoarded++;
	if (scattered)
		number = number * 7919u % HOARD_MAX;
	for (size_t at = sizeof key - 2; number > 0; at--, number /= 10)
		key[at] = (uint8_t)('0' + number % 10);
	const struct kv_command command = {.operation = rogue->shrinks ? KV_DELETE : KV_PUT,
					   .key = key,
					   .key_size = sizeof key - 1,
					   .value = key,
					   .value_size = rogue->shrinks ? 0 : 1};
	add(proposal, &command);
}

/* It gets as many as a tree of three levels needs, gives them up, and rests. */
static void hoard(struct sim *sim, unsigned leader, struct proposal *proposal)
{
	struct sim_rogue *rogue = sim->rogue;
	struct kv_stats stats = {0};
	if (sim->members[leader].up)
		kv_store_stats(sim->members[leader].store, &stats);
	proposal->n = 0;
	while (proposal->n < AT_ONCE)
		hoard_one(sim, proposal, sim->plan.seed % 2 == 0);
	if (rogue->hoarded + AT_ONCE > HOARD_MAX || stats.keys > HOARD_KEYS) {
		rogue->shrinks = true;
	} else if (rogue->hoarded < HOARD_MIN && rogue->shrinks) {
		rogue->shrinks = false;
		rogue->rests = HOARD_RESTS;
	}
}

int sim_fault_hoard(struct sim *sim, const struct sim_fault *fault)
{
	unsigned member = sim_fault_leader(sim);
	if (sim->rogue->rests > 0) {
		sim->rogue->rests--;
		return 0;
	}
	if (member == sim_members(sim))
		return 0;
	struct proposal *proposal = calloc(1, sizeof *proposal);
	raft_assert(proposal != NULL);
	for (uint64_t n = 1 + fault->b % HOARD_PROPOSALS; n > 0; n--) {
		hoard(sim, member, proposal);
		sim_protocol_write(sim, member, sim_ticket_nobody(), proposal->commands, proposal->n);
	}
	free(proposal);
	return 1;
}
