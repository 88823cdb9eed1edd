/*
 * What a leader makes of a directory of a member that its configuration does not name: one that was replaced and is there again, or
 * one that took the place of the one that is named.
 *
 * It takes such a directory in only when that is there: it said hello, and answered what the leader has sent after that, and after
 * the one that is named has answered for the last time. A hello and an answer of before, that come late, say nothing; who believes
 * them takes the vote of a voter that lacks nothing. As that voter is taken in again no harm shows, unless another one loses its
 * data meanwhile: so it is judged at once, from what the leader was handed and what it has sent.
 *
 * It says hello to a directory that answers, which may believe that it is the member's and say none by itself. And an answer of a
 * later term ends its leadership, wherever it comes from: that directory could never follow it.
 *
 * Must not know how leaders keep account of it.
 */
#include "check.h"

#include "daemon/assert.h"
#include "daemon/transport/wire.h"

#include <inttypes.h>
#include <stdlib.h>

#define WORD_US 1500000u /* it is said once a second */
#define HEARD_MAX 4u	 /* directories of one member that said hello in turn */

/* A directory that said hello to a leader whose configuration names another one. */
struct heard {
	uint64_t incarnation; /* 0: none */
	uint64_t
		round; /* the highest that the leader had sent in its term by then, or when the named one answered last */
	bool answered; /* a higher one */
};

struct sim_returns {
	struct led {
		uint64_t term,
			round; /* in which it leads, and the highest that it has sent; what follows is of this term */
		struct {
			struct heard heard[HEARD_MAX];
			unsigned n; /* ever */
		} of[SIM_MEMBERS_MAX];
	} led[SIM_MEMBERS_MAX];
	struct owed {
		uint32_t
			answers; /* bit k: since the last turn a directory of member k has answered that is not named */
		uint64_t told_term;		    /* highest of such an answer since then */
		uint64_t hello_us[SIM_MEMBERS_MAX]; /* of its clock: it said hello there, in this life; 0: it did not */
	} owed[SIM_MEMBERS_MAX];
};

void sim_returns_new(struct sim *sim)
{
	sim->returns = calloc(1, sizeof *sim->returns);
	raft_assert(sim->returns != NULL);
}

void sim_returns_free(struct sim *sim)
{
	free(sim->returns);
	sim->returns = NULL;
}

void sim_returns_started(struct sim *sim, unsigned number)
{
	sim->returns->led[number] = (struct led){0};
	sim->returns->owed[number] = (struct owed){0};
}

static struct led *led_in(struct sim *sim, unsigned number, uint64_t term)
{
	struct led *led = &sim->returns->led[number];
	if (led->term != term)
		*led = (struct led){.term = term};
	return led;
}

uint64_t sim_returns_round(const struct sim *sim, unsigned number, uint64_t term)
{
	const struct led *led = &sim->returns->led[number];
	return led->term == term ? led->round : 0;
}

void sim_returns_said(struct sim *sim, unsigned from, unsigned to, const struct wire_message *message)
{
	if (message->type == WIRE_HELLO) {
		sim->returns->owed[from].hello_us[to] = sim_clock_us(sim, from);
		return;
	}
	struct led *led = led_in(sim, from, message->term);
	if (message->append.round > led->round)
		led->round = message->append.round;
}

static struct heard *find(struct led *led, unsigned member, uint64_t incarnation)
{
	for (unsigned k = 0; k < HEARD_MAX; k++)
		if (led->of[member].heard[k].incarnation == incarnation)
			return &led->of[member].heard[k];
	return NULL;
}

/* The directory that the newest configuration of its log names, committed or not; 0: none. */
static uint64_t named(const struct sim *sim, unsigned number, const struct raft_status *status, uint64_t id)
{
	uint64_t index = 0;
	const struct raft_config *config =
		raft_config_at(replica_core(sim->members[number].replica), status->last_index, &index);
	const struct raft_config_member *member = config != NULL ? raft_config_find(config, id) : NULL;
	return member != NULL ? member->incarnation : 0;
}

static void hear_hello(struct sim *sim, unsigned number, const struct wire_message *message)
{
	struct raft_status status;
	unsigned member = (unsigned)message->from - 1;
	raft_get_own_status(replica_core(sim->members[number].replica), &status);
	if (status.role != RAFT_LEADER || message->from_incarnation == 0 ||
	    named(sim, number, &status, message->from) == message->from_incarnation)
		return;
	struct led *led = led_in(sim, number, status.hard_state.term);
	if (find(led, member, message->from_incarnation) == NULL)
		led->of[member].heard[led->of[member].n++ % HEARD_MAX] =
			(struct heard){.incarnation = message->from_incarnation, .round = led->round};
}

/* The directory that the configuration names answers: until now no other one has taken its place. */
static void hear_named(struct sim *sim, unsigned number, const struct wire_message *message)
{
	struct led *led = &sim->returns->led[number];
	struct raft_status status;
	raft_get_own_status(replica_core(sim->members[number].replica), &status);
	if (status.role != RAFT_LEADER || status.hard_state.term != led->term ||
	    named(sim, number, &status, message->from) != message->from_incarnation ||
	    !storage_has_room(replica_storage(sim->members[number].replica)))
		return;
	for (unsigned k = 0; k < HEARD_MAX; k++) {
		led->of[message->from - 1].heard[k].round = led->round;
		led->of[message->from - 1].heard[k].answered = false;
	}
}

static bool any_heard(const struct led *led, unsigned member)
{
	for (unsigned k = 0; k < HEARD_MAX; k++)
		if (led->of[member].heard[k].incarnation != 0)
			return true;
	return false;
}

/* Of a leader. Of a directory that is the member's by its configuration other checks know what it owes. */
static void hear_answer(struct sim *sim, unsigned number, const struct wire_message *message)
{
	struct owed *owed = &sim->returns->owed[number];
	struct raft_status status;
	raft_get_own_status(replica_core(sim->members[number].replica), &status);
	uint64_t incarnation = named(sim, number, &status, message->from);
	if (status.role != RAFT_LEADER || incarnation == 0 || incarnation == message->from_incarnation)
		return;
	if (message->term == status.hard_state.term)
		owed->answers |= 1u << (message->from - 1);
	if (message->term > status.hard_state.term && message->term > owed->told_term &&
	    storage_has_room(replica_storage(sim->members[number].replica)))
		owed->told_term = message->term;
}

/* The view is that of the last turn: a directory that has just been taken in costs a closer look. */
static bool is_foreign(const struct sim *sim, unsigned number, const struct wire_message *message)
{
	return message->cluster == SIM_CLUSTER && message->to == number + 1 && message->from != message->to &&
	       message->from_incarnation != 0 &&
	       sim->members[number].view.incarnations[message->from - 1] != message->from_incarnation;
}

void sim_returns_heard(struct sim *sim, unsigned number, const struct wire_message *message)
{
	struct led *led = &sim->returns->led[number];
	unsigned member = (unsigned)message->from - 1;
	if (message->from == 0 || message->from > sim_members(sim))
		return;
	if (message->type == WIRE_APPEND_REPLY && is_foreign(sim, number, message))
		hear_answer(sim, number, message);
	if (message->type == WIRE_HELLO)
		hear_hello(sim, number, message);
	if (message->type != WIRE_APPEND_REPLY || message->term != led->term || !any_heard(led, member))
		return;
	struct heard *heard = find(led, member, message->from_incarnation);
	if (heard == NULL)
		hear_named(sim, number, message);
	else if (message->append_reply.round > heard->round)
		heard->answered = true;
}

static void check_greeted(const struct sim *sim, unsigned number, const struct owed *owed)
{
	uint64_t now_us = sim_clock_us(sim, number);
	for (unsigned k = 0; k < sim_members(sim); k++)
		if ((owed->answers >> k & 1) != 0 && (owed->hello_us[k] == 0 || now_us - owed->hello_us[k] > WORD_US))
			sim_fail(sim,
				 "member %u leads and has an answer of member %u from a directory that it does not "
				 "know, and "
				 "does not greet it",
				 number + 1, k + 1);
}

void sim_returns_turn(struct sim *sim, unsigned number, const struct raft_status *status)
{
	struct owed *owed = &sim->returns->owed[number];
	const struct sim_member *member = &sim->members[number];
	bool whole = member->goes_on && !member->dying && member->stopped_us == 0;
	if (whole && owed->answers != 0)
		check_greeted(sim, number, owed);
	if (whole && status->hard_state.term < owed->told_term)
		sim_fail(sim,
			 "member %u leads term %" PRIu64 " and was answered in term %" PRIu64
			 ", from a directory that it does not know",
			 number + 1, status->hard_state.term, owed->told_term);
	owed->answers = 0;
	owed->told_term = 0;
}

/* What brought the directory in counts once. */
static void check_taken(struct sim *sim, unsigned leader, unsigned member, uint64_t incarnation, uint64_t term)
{
	struct led *led = led_in(sim, leader, term);
	struct heard *heard = find(led, member, incarnation);
	if (heard == NULL || !heard->answered)
		sim_fail(sim,
			 "member %u takes in directory %" PRIx64 " of member %u in term %" PRIu64
			 ", which has answered nothing that was sent after %s",
			 leader + 1, incarnation, member + 1, term,
			 heard == NULL ? "a hello of it, nor said one" : "its hello");
	*heard = (struct heard){0};
}

void sim_returns_config(struct sim *sim, const struct sim_config *before, const struct sim_config *config)
{
	unsigned leader = sim_check_term(sim, config->term)->leader;
	for (unsigned k = 0; leader > 0 && k < config->config.n_members; k++) {
		const struct raft_config_member *member = &config->config.members[k];
		const struct raft_config_member *was = raft_config_find(&before->config, member->id);
		if (was != NULL && was->incarnation != 0 && was->incarnation != member->incarnation)
			check_taken(sim, leader - 1, (unsigned)member->id - 1, member->incarnation, config->term);
	}
}
