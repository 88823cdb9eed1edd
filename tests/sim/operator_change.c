/*
 * What operators ask members to do: changes of the membership, possible and impossible ones, hand-over, founding. In the bodies
 * that raftctl sends. What may be asked without danger to the data is up to faults_members.c.
 */
#include "operator.h"

#include "daemon/assert.h"
#include "kv/admin.h"
#include "kv/bytes.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define CHANGE_HEADER_SIZE 24u
#define CHANGE_AT_SIZES 2u /* of both endpoints */
_Static_assert(sizeof(((struct kv_change *)NULL)->peer) >= SIM_ENDPOINT_SIZE, "an endpoint fits");

/* A name that is longer than any member can keep. */
static void check_long_endpoint(const struct sim *sim, struct sim_random *random, const uint8_t *body)
{
	uint8_t copy[CHANGE_HEADER_SIZE + KV_ENDPOINT_MAX + 8u];
	struct kv_change change;
	size_t endpoint = KV_ENDPOINT_MAX + 1 + sim_random_below(random, 8);
	uint64_t at = CHANGE_AT_SIZES + 2 * sim_random_below(random, 2);
	memcpy(copy, body, CHANGE_HEADER_SIZE);
	memset(copy + CHANGE_HEADER_SIZE, 'x', endpoint);
	kv_put_u32(copy + CHANGE_AT_SIZES, 0);
	kv_put_u16(copy + at, (uint16_t)endpoint);
	if (kv_change_decode(copy, CHANGE_HEADER_SIZE + endpoint, &change))
		sim_fail(sim, "an endpoint of %zu characters is taken", endpoint);
}

/* Encoded by the operator, decoded by the member. */
static struct kv_change carry(struct sim *sim, struct sim_random *random, const struct kv_change *change)
{
	uint8_t body[sizeof(struct kv_change) + 64u];
	struct kv_change arrived = {0};
	size_t size = kv_change_size(change);
	raft_assert(size <= sizeof body);
	kv_change_encode(body, change);
	for (unsigned k = 0; k < SIM_DISTORTIONS; k++)
		sim_codec_distort(sim, random, SIM_CODEC_CHANGE, body, size);
	check_long_endpoint(sim, random, body);
	if (!kv_change_decode(body, size, &arrived) || kv_change_size(&arrived) != size || arrived.id != change->id)
		sim_fail(sim, "a change of the membership arrives as another one");
	return arrived;
}

int sim_operator_change(struct sim *sim, unsigned member, const struct kv_change *change, uint64_t seed)
{
	struct sim_random random = {seed};
	const struct kv_change arrived = carry(sim, &random, change);
	const struct replicator_change asked = {.type = (enum replicator_change_type)arrived.type,
						.id = arrived.id,
						.stay_learner = (arrived.flags & KV_CHANGE_STAY_LEARNER) != 0,
						.peer = arrived.peer,
						.client = arrived.client,
						.if_index = arrived.if_index};
	return sim_member_change(sim, member, &asked);
}

static struct kv_change change_of(const struct sim *sim, enum kv_change_type type, unsigned member)
{
	struct kv_change change = {.type = (uint8_t)type, .id = member + 1};
	sim_endpoint_name(sim, member, change.peer);
	(void)snprintf(change.client, sizeof change.client, "clients-%u", member + 1);
	return change;
}

/* Nothing that the member has may make it take this change. */
static int impossible(struct sim *sim, unsigned member, const struct kv_change *change, uint64_t seed, const char *what)
{
	if (sim_operator_change(sim, member, change, seed) == 0)
		sim_fail(sim, "member %u takes a change that is impossible: %s", member + 1, what);
	return 1;
}

/* Changes that make no sense are refused, whoever is asked; a move to another endpoint is done. */
int sim_operator_mistake(struct sim *sim, unsigned member, uint64_t seed)
{
	struct sim_random random = {seed};
	const struct sim_view *view = &sim->members[member].view;
	unsigned other = (unsigned)sim_random_below(&random, sim_members(sim));
	bool known = ((view->members >> other) & 1) != 0;
	if (!sim_member_listens(sim, member) || view->members == 0)
		return 0;
	struct kv_change change = change_of(sim, KV_CHANGE_MOVE, other);
	switch (sim_random_below(&random, 5)) {
	case 0: /* the membership is another one than the operator has seen */
		change.if_index = view->index + 1 + sim_random_below(&random, 1000);
		return impossible(sim, member, &change, seed, "another membership is meant");
	case 1:
		change.type = known ? KV_CHANGE_ADD : KV_CHANGE_REMOVE;
		return impossible(sim, member, &change, seed, known ? "it is a member" : "it is no member");
	case 2:
		change.type = KV_CHANGE_PROMOTE;
		if (((view->voters >> other) & 1) == 0 && known)
			return 0;
		return impossible(sim, member, &change, seed, "it is a voter, or no member");
	case 3:
		change.type = KV_CHANGE_REMOVE;
		if (view->voters != 1u << other)
			return 0;
		return impossible(sim, member, &change, seed, "it is the last voter");
	default:
		if (!known)
			return impossible(sim, member, &change, seed, "it is no member");
		change.client[0] = (char)('a' + seed % 26);
		change.if_index = seed % 2 == 0 ? view->index : 0;
		(void)sim_operator_change(sim, member, &change, seed);
		return 1;
	}
}

/* Only the first of the founders may be told to found the cluster: anybody else might found another one. */
int sim_operator_bootstrap(struct sim *sim, unsigned member)
{
	struct raft_status status;
	if (!sim_member_listens(sim, member))
		return 0;
	raft_get_status(replica_core(sim->members[member].replica), &status);
	bool blank = status.config_index == 0 && status.last_index == 0 && status.hard_state.term == 0;
	if (blank && (member > 0 || sim->committed.index > 0))
		return 0;
	int r = sim_member_bootstrap(sim, member);
	if (!blank && r == 0)
		sim_fail(sim, "member %u belongs to a cluster and founds another one", member + 1);
	return 1;
}

void sim_operator_transfer(struct sim *sim, unsigned member, uint64_t target, uint64_t seed)
{
	struct sim_random random = {seed};
	uint8_t body[KV_TRANSFER_BODY_SIZE];
	uint64_t arrived;
	kv_transfer_encode(body, target);
	sim_codec_distort(sim, &random, SIM_CODEC_TRANSFER, body, sizeof body);
	if (!kv_transfer_decode(body, sizeof body, &arrived) || arrived != target)
		sim_fail(sim, "an order to hand over arrives as another one");
	sim_member_transfer(sim, member, arrived);
}
