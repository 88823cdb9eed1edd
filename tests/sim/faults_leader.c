/*
 * Faults in several steps, around the leader: one that is deposed while a minority, or late answers, let it believe that it
 * leads, and clients go on asking it; logs of several lengths and terms; a leader whose disk is behind when it dies.
 */
#include "fault_steps.h"

#define MILLISECOND 1000u
#define BURST_SIZE_MAX 8192u

/* What a step does: the lowest bits of its number. The rest: a seed, or links. */
enum step {
	STEP_BURST,	  /* the member takes a burst of writes */
	STEP_FULL_SPEED,  /* all links are as quick as before */
	STEP_REPLACED,	  /* whoever leads now is cut off, and everybody else may talk again */
	STEP_LOSES_POWER, /* the member does */
	STEP_ABANDONED,	  /* only so many voters hear the leader as it needs */
	STEP_TALK,	  /* clients ask again */
	STEP_USURPED,	  /* nobody hears the member any more; the others forget it in one way or another */
	STEP_FORGETS,	  /* a follower of the member does not hold any more what it has acknowledged */
	STEPS
};

static void step_later(struct sim *sim, uint64_t delay_us, enum step step, unsigned member, uint64_t seed)
{
	sim_fault_later(sim, delay_us, member, (seed / STEPS) * STEPS + step);
}

void sim_fault_forget_later(struct sim *sim, uint64_t delay_us, unsigned leader, uint64_t seed)
{
	step_later(sim, delay_us, STEP_FORGETS, leader, seed);
}

static unsigned voters(const struct sim *sim)
{
	return (unsigned)__builtin_popcount(sim->committed.voters);
}

/* Members that stay with the leader: with it they are a minority of the voters, often nobody. */
static uint64_t company_of(const struct sim *sim, unsigned leader, struct sim_random *random)
{
	uint64_t company = (uint64_t)1 << leader;
	uint64_t n = sim_random_below(random, (voters(sim) + 1) / 2);
	for (unsigned k = 1; k < sim_members(sim) && n > 0; k++) {
		unsigned member = (leader + k) % sim_members(sim);
		if (((sim->committed.voters >> member) & 1) == 0)
			continue;
		company |= (uint64_t)1 << member;
		n--;
	}
	return company;
}

/* Connections that close tell the others at once: they need not wait for a timeout. */
static void closes(struct sim *sim, unsigned leader, uint64_t others, struct sim_random *random)
{
	for (unsigned k = 0; k < sim_members(sim); k++) {
		uint64_t delay_us = sim_random_below(random, 20 * MILLISECOND);
		if (((others >> k) & 1) != 0 && sim->members[k].up)
			sim_network_peer_event(sim, k, leader, false, delay_us);
	}
}

/* Those with the leader are still writing what it appends when the next one comes and replaces it. */
static void writes_late(struct sim *sim, unsigned leader, uint64_t company, uint64_t span_us, struct sim_random *random)
{
	uint64_t slow_us = sim_fault_span(sim_random_u64(random), 20 * MILLISECOND, 1000 * MILLISECOND);
	for (unsigned k = 0; k < sim_members(sim); k++) {
		struct sim_disk_faults *faults = &sim->members[k].disk_faults;
		if (k == leader || ((company >> k) & 1) == 0)
			continue;
		faults->slow_us = slow_us;
		faults->slow_until_us = sim->now_us + span_us + 1000 * MILLISECOND;
	}
	for (unsigned n = 0; n < 8; n++) {
		uint64_t before_us = sim_random_below(random, span_us < slow_us ? span_us : slow_us);
		step_later(sim, span_us - before_us, STEP_BURST, leader, sim_random_u64(random));
	}
}

/*
 * The leader, and perhaps a minority with it, is heard no more by the others, which elect another one. Either it hears nobody
 * either, or it still hears their answers to what it said before: those are slow.
 */
int sim_fault_depose(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_random random = {fault->b};
	unsigned leader = sim_fault_leader(sim);
	if (leader == sim_members(sim) || voters(sim) < 3)
		return 0;
	uint64_t company = company_of(sim, leader, &random);
	uint64_t others = ~company & (((uint64_t)1 << sim_members(sim)) - 1);
	bool answers = sim_random_below(&random, 2) == 0;
	uint64_t slow_us = answers ? 10 * MILLISECOND + sim_random_below(&random, 250 * MILLISECOND) : 0;
	uint64_t span_us = sim_fault_span(fault->c, 200 * MILLISECOND, 4000 * MILLISECOND);
	sim_note(sim, "leader %u is to be deposed, with %llx", leader + 1, (unsigned long long)company);
	if (answers) {
		sim_network_slow(sim, sim_fault_between(sim, others, company, 0), slow_us);
		step_later(sim, span_us, STEP_FULL_SPEED, leader, 0);
	}
	sim_fault_cut(sim, sim_fault_between(sim, company, others, answers ? 0 : 2), slow_us, span_us);
	if (company != (uint64_t)1 << leader && sim_random_below(&random, 2) == 0)
		writes_late(sim, leader, company, slow_us + span_us, &random);
	if (sim_random_below(&random, 2) == 0)
		closes(sim, leader, others, &random);
	if (sim_random_below(&random, 2) == 0)
		step_later(sim, slow_us + 1, STEP_BURST, leader, sim_random_u64(&random));
	if (sim_random_below(&random, 2) == 0)
		step_later(sim, slow_us + span_us - 1, STEP_REPLACED, leader, sim_random_u64(&random));
	return 1;
}

/* Stopped for about as long as it takes the others to elect another one and clients to write there; clients ask it meanwhile. */
int sim_fault_stop_leader(struct sim *sim, const struct sim_fault *fault)
{
	unsigned leader = sim_fault_leader(sim);
	uint64_t election_us = sim->plan.election_min_us + sim->plan.election_spread_us;
	if (leader == sim_members(sim))
		return 0;
	return sim_fault_stop(sim, leader, fault->b % 2 == 0,
			      sim_fault_span(fault->c, sim->plan.election_min_us / 2, 6 * election_us));
}

/*
 * Some voters have not heard the leader for long and would elect another one, if only one more helped them. Then the leader is cut
 * off, and those that heard it until now have a reason to forget it: they restart at once, or their connections close. That matters
 * most where they have promised not to (leases), and only if their logs are no longer than those of the others: there clients are
 * silent in half of the cases, for a while before and until it is over.
 */
int sim_fault_usurp(struct sim *sim, const struct sim_fault *fault)
{
	unsigned leader = sim_fault_leader(sim);
	bool quiet = sim->plan.lease_drift_ppm > 0 && fault->c % 2 == 0;
	if (leader == sim_members(sim) || voters(sim) < 3)
		return 0;
	if (quiet)
		sim_clients_silence(sim);
	step_later(sim, quiet ? sim->plan.election_min_us : 0, STEP_ABANDONED, leader, fault->b);
	return 1;
}

void sim_fault_talk(struct sim *sim)
{
	if (!sim->silent)
		return;
	sim->silent = false;
	sim_clients_calm(sim);
}

static void abandoned(struct sim *sim, uint64_t seed)
{
	struct sim_random random = {seed};
	unsigned leader = sim_fault_leader(sim);
	uint64_t election_us = sim->plan.election_min_us + sim->plan.election_spread_us;
	if (leader == sim_members(sim) || voters(sim) < 3) {
		sim_fault_talk(sim);
		return;
	}
	uint64_t company = (uint64_t)1 << leader;
	uint64_t first = sim_random_below(&random, sim_members(sim));
	for (unsigned k = 0; k < sim_members(sim); k++) {
		unsigned member = (unsigned)(first + k) % sim_members(sim);
		bool voter = ((sim->committed.voters >> member) & 1) != 0 && member != leader;
		if (voter && (unsigned)__builtin_popcountll(company) < voters(sim) / 2 + 1)
			company |= (uint64_t)1 << member;
	}
	uint64_t one = (uint64_t)1 << leader;
	uint64_t wait_us = sim->plan.election_min_us + sim_random_below(&random, 3 * election_us);
	sim_note(sim, "leader %u has only %llx", leader + 1, (unsigned long long)company);
	sim_fault_cut(sim, sim_fault_between(sim, one, ~company, 2), 0, wait_us + 4 * election_us);
	step_later(sim, wait_us, STEP_USURPED, leader, sim_random_u64(&random));
}

static void usurped(struct sim *sim, unsigned leader, uint64_t seed)
{
	struct sim_random random = {seed};
	uint64_t one = (uint64_t)1 << leader;
	uint64_t election_us = sim->plan.election_min_us + sim->plan.election_spread_us;
	uint64_t how = sim_random_below(&random, 3);
	sim_note(sim, "leader %u is usurped", leader + 1);
	step_later(sim, election_us, STEP_TALK, leader, 0);
	sim_fault_cut(sim, sim_fault_between(sim, one, ~one, 2), 0,
		      election_us + sim_random_below(&random, 3 * election_us));
	if (how == 0)
		closes(sim, leader, ~one, &random);
	for (unsigned k = 0; how == 1 && k < sim_members(sim); k++) {
		struct replicator_status status;
		if (k == leader || !sim->members[k].up)
			continue;
		/* Those that have not heard it for long are the ones that would be elected: they go on. */
		replica_get_status(sim->members[k].replica, &status);
		if (status.leader != sim->members[leader].id)
			continue;
		sim_member_crash(sim, k, SIM_KILL);
		sim_fault_restart(sim, k, 1 + sim_random_below(&random, 5 * MILLISECOND));
	}
}

/* A disk that is slow but alive, more to write than a record takes, and death on the way. */
int sim_fault_slow_writer(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_random random = {fault->b};
	unsigned leader = sim_fault_leader(sim);
	unsigned member = fault->a % 3 > 0 ? leader : (unsigned)(fault->a / 3 % sim_members(sim));
	if (leader == sim_members(sim))
		return 0;
	struct sim_disk_faults *faults = &sim->members[member].disk_faults;
	uint64_t span_us = sim_fault_span(fault->c, 50 * MILLISECOND, 2000 * MILLISECOND);
	faults->slow_us = sim_fault_span(fault->b, 10 * MILLISECOND, sim->plan.election_min_us);
	faults->slow_until_us = sim->now_us + span_us;
	sim_note(sim, "the disk of %u is slow", member + 1);
	for (uint64_t n = 1 + sim_random_below(&random, 4); n > 0; n--) {
		uint64_t delay_us = sim_random_below(&random, span_us);
		step_later(sim, delay_us, STEP_BURST, leader, sim_random_u64(&random));
	}
	if (sim_random_below(&random, 4) != 0) {
		uint64_t delay_us = sim_random_below(&random, span_us);
		step_later(sim, delay_us, STEP_LOSES_POWER, member, sim_random_u64(&random));
	}
	return 1;
}

static void burst(struct sim *sim, unsigned member, uint64_t seed)
{
	struct sim_random random = {seed};
	uint64_t proposals = 1 + sim_random_below(&random, 12);
	uint64_t size = sim_fault_span(seed, 1, BURST_SIZE_MAX);
	for (uint64_t k = 0; k < proposals; k++)
		sim_client_burst(sim, member, 1 + (unsigned)sim_random_below(&random, 16), (uint32_t)size);
}

static void replaced(struct sim *sim, uint64_t seed)
{
	unsigned leader = sim_fault_leader(sim);
	if (leader == sim_members(sim))
		return;
	uint64_t one = (uint64_t)1 << leader;
	sim_note(sim, "leader %u is replaced", leader + 1);
	sim_fault_cut(sim, sim_fault_between(sim, one, ~one, 2), 0,
		      sim_fault_span(seed, 300 * MILLISECOND, 3000 * MILLISECOND));
	if (seed / STEPS % 2 == 0)
		burst(sim, leader, seed);
}

void sim_fault_step(struct sim *sim, unsigned member, uint64_t number)
{
	switch ((enum step)(number % STEPS)) {
	case STEP_BURST:
		burst(sim, member, number);
		return;
	case STEP_FULL_SPEED:
		sim_network_slow(sim, ~(uint64_t)0, 0);
		return;
	case STEP_REPLACED:
		replaced(sim, number);
		return;
	case STEP_ABANDONED:
		abandoned(sim, number);
		return;
	case STEP_TALK:
		sim_fault_talk(sim);
		return;
	case STEP_USURPED:
		usurped(sim, member, number);
		return;
	case STEP_FORGETS:
		sim_fault_forget(sim, member, number);
		return;
	case STEP_LOSES_POWER:
		if (!sim->members[member].up)
			return;
		sim_member_crash(sim, member, SIM_POWER_CUT);
		sim_fault_restart(sim, member, sim_fault_span(number, MILLISECOND, 5000 * MILLISECOND));
		return;
	case STEPS:
		return;
	}
}
