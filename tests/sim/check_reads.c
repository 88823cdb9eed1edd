/*
 * Reads are as strong as they say (dissertation, section 6.4), seen from outside: whoever answers one has learned, after it
 * came, that a majority still followed, and answers from a state that has everything that anybody had committed by then.
 *
 * A follower that answers an append of a term has not voted in a later one by that moment, and no later leader can have
 * committed anything without a majority: so it is enough to look at when such answers are sent. With leases a voter that is bound by
 * a promise counts like one that has just answered (check_lease.c).
 *
 * Must not know rounds: how a leader tells one answer from another is its own affair.
 */
#include "check.h"

#include "daemon/assert.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* One that a member took and has not answered. */
struct read {
	uint64_t ticket;
	uint64_t moment;    /* at which it came */
	uint64_t asked_us;  /* … and the world's time */
	uint64_t committed; /* then, by anybody */
};

struct sim_reads {
	uint64_t moment; /* ascending: moments are told apart, not measured */
	struct reader {
		struct read *open; /* oldest first */
		size_t n, capacity;
		uint64_t term;	    /* in which it took reads last … */
		uint64_t followed[SIM_MEMBERS_MAX]; /* … and when each member last answered an append of that term */
		uint64_t confirmed; /* a majority followed at this moment or later */
		uint64_t covered_us; /* with leases: at this time, or later, a majority followed or was bound */
		uint32_t config;    /* in force after its last turn */
		struct read answered; /* the newest one that it answered in this turn; ticket 0: none */
	} members[SIM_MEMBERS_MAX];
};

void sim_reads_new(struct sim *sim)
{
	sim->reads = calloc(1, sizeof *sim->reads);
	raft_assert(sim->reads != NULL);
}

void sim_reads_free(struct sim *sim)
{
	for (unsigned k = 0; k < SIM_MEMBERS_MAX; k++)
		free(sim->reads->members[k].open);
	free(sim->reads);
	sim->reads = NULL;
}

void sim_reads_started(struct sim *sim, unsigned number)
{
	struct reader *reader = &sim->reads->members[number];
	reader->n = 0;
	reader->config = sim->checks->members[number].config;
	reader->answered.ticket = 0;
}

void sim_reads_asked(struct sim *sim, unsigned number, uint64_t ticket)
{
	struct reader *reader = &sim->reads->members[number];
	struct raft_status status;
	raft_get_own_status(replica_core(sim->members[number].replica), &status);
	if (reader->term != status.hard_state.term)
		memset(reader->followed, 0, sizeof reader->followed);
	reader->term = status.hard_state.term;
	if (reader->n == reader->capacity) {
		reader->capacity = reader->capacity * 2 + 16;
		reader->open = reallocarray(reader->open, reader->capacity, sizeof *reader->open);
		raft_assert(reader->open != NULL);
	}
	reader->open[reader->n++] = (struct read){.ticket = ticket,
						  .moment = ++sim->reads->moment,
						  .asked_us = sim->now_us,
						  .committed = sim->checks->committed_last};
}

void sim_reads_followed(struct sim *sim, unsigned follower, unsigned leader, uint64_t term)
{
	struct reader *reader = &sim->reads->members[leader];
	if (term == reader->term)
		reader->followed[follower] = ++sim->reads->moment;
}

/* The last moment of which it is known that a majority of the voters followed; 0: none. */
static uint64_t followed_at(const struct sim *sim, const struct sim_config *config, unsigned leader)
{
	uint64_t best = 0;
	unsigned needed = (unsigned)__builtin_popcount(config->voters) / 2 + 1;
	uint64_t moments[SIM_MEMBERS_MAX] = {0};
	for (unsigned k = 0; k < SIM_MEMBERS_MAX; k++) {
		if ((config->voters >> k & 1) == 0)
			continue;
		/* What a retired member says nobody reads here. */
		bool always = k == leader || sim->checks->members[k].retired;
		moments[k] = always ? UINT64_MAX : sim->reads->members[leader].followed[k];
	}
	for (unsigned k = 0; k < SIM_MEMBERS_MAX; k++) {
		unsigned n = 0;
		for (unsigned other = 0; other < SIM_MEMBERS_MAX; other++)
			n += moments[other] >= moments[k];
		if (n >= needed && moments[k] > best)
			best = moments[k];
	}
	return best;
}

/* A promise says nothing about later than now: its leader may still put an end to it. */
static void cover(struct sim *sim, unsigned number, uint32_t config)
{
	struct reader *reader = &sim->reads->members[number];
	if (sim->leases == NULL || config == 0)
		return;
	uint64_t until_us = sim_leases_horizon(sim, number, reader->term, &sim->checks->configs[config]);
	if (until_us > sim->now_us)
		until_us = sim->now_us;
	if (until_us > reader->covered_us)
		reader->covered_us = until_us;
}

/* By the configuration that was in force when the turn began, or by the one that is now. */
static void confirm(struct sim *sim, unsigned number)
{
	const struct sim_checks *checks = sim->checks;
	struct reader *reader = &sim->reads->members[number];
	const uint32_t configs[] = {reader->config, checks->members[number].config};
	for (unsigned k = 0; k < 2; k++) {
		uint64_t moment = configs[k] > 0 ? followed_at(sim, &checks->configs[configs[k]], number) : 0;
		if (moment > reader->confirmed)
			reader->confirmed = moment == UINT64_MAX ? sim->reads->moment : moment;
		cover(sim, number, configs[k]);
	}
}

void sim_reads_turn(struct sim *sim, unsigned number)
{
	struct reader *reader = &sim->reads->members[number];
	const struct read *answered = &reader->answered;
	if (reader->n > 0 || answered->ticket != 0)
		confirm(sim, number);
	if (answered->ticket != 0 && answered->moment > reader->confirmed &&
	    answered->asked_us > reader->covered_us + SIM_ROUNDING_US)
		sim_fail(sim, "member %u answers a read, and no majority has followed it since that came%s", number + 1,
			 sim->leases != NULL ? ", nor was bound by a promise" : "");
	reader->answered.ticket = 0;
	reader->config = sim->checks->members[number].config;
}

/* The oldest of that ticket: a client that waits long asks again. */
static struct read take(struct sim *sim, unsigned number, uint64_t ticket)
{
	struct reader *reader = &sim->reads->members[number];
	size_t k = 0;
	while (k < reader->n && reader->open[k].ticket != ticket)
		k++;
	if (k == reader->n)
		sim_fail(sim, "member %u answers read %" PRIx64 ", which nobody asked it for", number + 1, ticket);
	struct read read = reader->open[k];
	reader->n--;
	memmove(&reader->open[k], &reader->open[k + 1], (reader->n - k) * sizeof *reader->open);
	return read;
}

void sim_reads_answered(struct sim *sim, unsigned number, uint64_t ticket)
{
	struct read read = take(sim, number, ticket);
	struct read *answered = &sim->reads->members[number].answered;
	struct replicator_status status;
	replica_get_status(sim->members[number].replica, &status);
	if (status.applied < read.committed)
		sim_fail(sim,
			 "member %u answers a read after entry %" PRIu64 ", entry %" PRIu64
			 " was committed when it came",
			 number + 1, status.applied, read.committed);
	if (answered->ticket == 0 || read.moment > answered->moment)
		*answered = read;
}

void sim_reads_dropped(struct sim *sim, unsigned number, uint64_t ticket)
{
	(void)take(sim, number, ticket);
}
