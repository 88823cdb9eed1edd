/*
 * Answers, votes and orders of earlier terms, held back by the network until they could do harm: a vote arrives when its
 * candidate campaigns again, an acknowledgement or an order to campaign when the member that it concerns leads again. And hellos
 * of older programs, and of members that were blank, for faults_aimed.c; hellos and answers of directories that are gone, for
 * faults_former.c.
 *
 * Everything here was really sent, by this sender to this receiver; it only arrives late. Must not know what members do with it.
 */
#include "check.h"

#include "daemon/assert.h"
#include "daemon/transport/wire.h"

#include <stdlib.h>
#include <string.h>

#define RARER 16u /* appends are so frequent that they bring back what is old less often */

struct kept {
	uint64_t term;
	uint8_t *data;
	size_t len;
};

/* A hello by which its sender knew less than it does now. */
struct old_hello {
	struct kept kept;
	uint64_t incarnation;
	unsigned level;
};

/* What one directory of a member has said to another member. */
struct said {
	uint64_t incarnation; /* 0: there was none */
	struct kept hello;
	struct kept answer; /* to an append: the first of the newest round … */
	uint64_t round;	    /* … of the newest term */
};

/* Between two members: what the first sent to the second. */
struct memory {
	struct kept vote;
	struct kept order;	   /* to campaign */
	struct kept answer, older; /* to appends: the newest, and the last one of an earlier term */
	struct old_hello hello;	   /* of the oldest program */
	struct old_hello blank;	   /* of an empty directory, the newest that there was */
	struct said present, former; /* the directory that it has, and the one before */
};

struct sim_stale {
	struct memory memory[SIM_MEMBERS_MAX][SIM_MEMBERS_MAX];
};

void sim_stale_new(struct sim *sim)
{
	sim->stale = calloc(1, sizeof *sim->stale);
	raft_assert(sim->stale != NULL);
}

void sim_stale_free(struct sim *sim)
{
	for (unsigned from = 0; from < SIM_MEMBERS_MAX; from++)
		for (unsigned to = 0; to < SIM_MEMBERS_MAX; to++) {
			struct memory *memory = &sim->stale->memory[from][to];
			free(memory->vote.data);
			free(memory->order.data);
			free(memory->answer.data);
			free(memory->older.data);
			free(memory->hello.kept.data);
			free(memory->blank.kept.data);
			free(memory->present.hello.data);
			free(memory->present.answer.data);
			free(memory->former.hello.data);
			free(memory->former.answer.data);
		}
	free(sim->stale);
	sim->stale = NULL;
}

static void keep(struct kept *kept, uint64_t term, const uint8_t *data, size_t len)
{
	kept->data = realloc(kept->data, len);
	raft_assert(kept->data != NULL);
	memcpy(kept->data, data, len);
	kept->len = len;
	kept->term = term;
}

static void keep_answer(struct memory *memory, uint64_t term, const uint8_t *data, size_t len)
{
	if (memory->answer.data != NULL && term > memory->answer.term) {
		struct kept older = memory->older;
		memory->older = memory->answer;
		memory->answer = older;
	}
	keep(&memory->answer, term, data, len);
}

/* What `from` once sent to `to` arrives now, if it is of an earlier term. */
static void bring_back(struct sim *sim, unsigned from, unsigned to, const struct kept *kept, uint64_t term,
		       unsigned rarer)
{
	struct sim_random *random = &sim->random_network;
	if (kept->data == NULL || kept->term >= term || !sim_random_chance(random, sim->plan.stale_answers / rarer))
		return;
	uint64_t delay_us = sim_random_below(random, 2 * sim->plan.delay_min_us + sim->plan.delay_spread_us + 1);
	sim->counts.frames_late++;
	sim_network_put(sim, from, to, kept->data, kept->len, delay_us);
}

void sim_stale_sent(struct sim *sim, unsigned from, unsigned to, const uint8_t *data, size_t len)
{
	struct memory *there = &sim->stale->memory[from][to];
	const struct memory *back = &sim->stale->memory[to][from];
	struct wire_message message;
	if (wire_decode(data, len, sim->checks->scratch, WIRE_ENTRIES_MAX, &message) != WIRE_OK)
		return;
	if (message.type == WIRE_VOTE_REPLY && message.vote_reply.granted && !message.vote_reply.pre_vote) {
		keep(&there->vote, message.term, data, len);
	} else if (message.type == WIRE_TIMEOUT_NOW) {
		keep(&there->order, message.term, data, len);
	} else if (message.type == WIRE_APPEND_REPLY) {
		keep_answer(there, message.term, data, len);
	} else if (message.type == WIRE_VOTE_REQUEST && !message.vote_request.pre_vote) {
		bring_back(sim, to, from, &back->vote, message.term, 1);
	} else if (message.type == WIRE_APPEND) {
		bring_back(sim, to, from, &back->older, message.term, RARER);
		bring_back(sim, from, to, &there->order, message.term, RARER);
	}
}

static void keep_hello(struct old_hello *hello, const struct wire_message *message, const uint8_t *data, size_t len)
{
	keep(&hello->kept, message->term, data, len);
	hello->incarnation = message->from_incarnation;
	hello->level = message->hello.version_max;
}

void sim_stale_said_hello(struct sim *sim, unsigned from, unsigned to, const uint8_t *data, size_t len)
{
	struct memory *there = &sim->stale->memory[from][to];
	struct wire_message message;
	if (wire_decode(data, len, sim->checks->scratch, WIRE_ENTRIES_MAX, &message) != WIRE_OK)
		return;
	if (there->hello.incarnation != message.from_incarnation || there->hello.level > message.hello.version_max)
		keep_hello(&there->hello, &message, data, len);
	if (message.hello.blank && there->blank.incarnation != message.from_incarnation)
		keep_hello(&there->blank, &message, data, len);
}

bool sim_stale_hello(struct sim *sim, unsigned from, unsigned to, uint64_t incarnation, unsigned level)
{
	const struct old_hello *hello = &sim->stale->memory[from][to].hello;
	if (hello->kept.data == NULL || hello->incarnation != incarnation || hello->level >= level)
		return false;
	sim_network_put(sim, from, to, hello->kept.data, hello->kept.len, 0);
	return true;
}

bool sim_stale_was_blank(const struct sim *sim, unsigned from, unsigned to)
{
	return sim->stale->memory[from][to].blank.kept.data != NULL;
}

void sim_stale_blank_hello(struct sim *sim, unsigned from, unsigned to, uint64_t delay_us)
{
	const struct kept *kept = &sim->stale->memory[from][to].blank.kept;
	raft_assert(kept->data != NULL);
	sim_network_put(sim, from, to, kept->data, kept->len, delay_us);
}

/* Another directory than before: its buffers are those of the one that is forgotten. */
static void begin_directory(struct memory *there, uint64_t incarnation)
{
	struct said forgotten = there->former;
	there->former = there->present;
	there->present = (struct said){.incarnation = incarnation, .hello = forgotten.hello, .answer = forgotten.answer};
	there->present.hello.len = there->present.answer.len = 0;
}

void sim_stale_said(struct sim *sim, unsigned from, unsigned to, const struct wire_message *message,
		    const uint8_t *data, size_t len)
{
	struct memory *there = &sim->stale->memory[from][to];
	if (there->present.incarnation != message->from_incarnation)
		begin_directory(there, message->from_incarnation);
	struct kept *answer = &there->present.answer;
	if (message->type == WIRE_HELLO)
		keep(&there->present.hello, message->term, data, len);
	else if (answer->len == 0 || answer->term < message->term ||
		 (answer->term == message->term && there->present.round < message->append_reply.round)) {
		keep(answer, message->term, data, len);
		there->present.round = message->append_reply.round;
	}
}

static bool answered(const struct said *said, uint64_t incarnation, uint64_t term)
{
	return said->incarnation == incarnation && incarnation != 0 && said->hello.len > 0 && said->answer.len > 0 &&
	       said->answer.term == term;
}

bool sim_stale_answered(const struct sim *sim, unsigned from, unsigned to, uint64_t incarnation, uint64_t term)
{
	return answered(&sim->stale->memory[from][to].present, incarnation, term);
}

bool sim_stale_former_answered(const struct sim *sim, unsigned from, unsigned to, uint64_t incarnation, uint64_t term)
{
	const struct memory *there = &sim->stale->memory[from][to];
	return there->present.incarnation == incarnation && answered(&there->former, there->former.incarnation, term);
}

void sim_stale_former(struct sim *sim, unsigned from, unsigned to, uint64_t delay_us)
{
	const struct said *former = &sim->stale->memory[from][to].former;
	raft_assert(former->hello.len > 0 && former->answer.len > 0);
	sim_network_put(sim, from, to, former->hello.data, former->hello.len, delay_us);
	sim_network_put(sim, from, to, former->answer.data, former->answer.len, delay_us + 1);
}

void sim_stale_answer(struct sim *sim, unsigned from, unsigned to, uint64_t delay_us)
{
	const struct kept *answer = &sim->stale->memory[from][to].present.answer;
	if (answer->len > 0)
		sim_network_put(sim, from, to, answer->data, answer->len, delay_us);
}
