/* Faults of the network: links are cut and open again, connections seem to come and go, frames come that nobody sent now. */
#include "fault_steps.h"

#define MILLISECOND 1000u
#define SECOND 1000000u

/* The links from members of one set to members of another. */
static uint64_t links_between(const struct sim *sim, uint64_t from, uint64_t to)
{
	uint64_t links = 0;
	for (unsigned a = 0; a < sim_members(sim); a++)
		for (unsigned b = 0; b < sim_members(sim); b++)
			if (a != b && ((from >> a) & 1) != 0 && ((to >> b) & 1) != 0)
				links |= SIM_LINK_BIT(a, b);
	return links;
}

/* 0: from one side to the other, 1: back, else both. */
uint64_t sim_fault_between(const struct sim *sim, uint64_t one, uint64_t other, uint64_t direction)
{
	uint64_t links = direction == 1 ? 0 : links_between(sim, one, other);
	return direction == 0 ? links : links | links_between(sim, other, one);
}

static uint64_t cut_span(uint64_t number)
{
	return sim_fault_span(number, 20 * MILLISECOND, 8 * SECOND);
}

int sim_fault_partition(struct sim *sim, const struct sim_fault *fault)
{
	uint64_t links = sim_fault_between(sim, fault->a, ~fault->a, fault->b % 4);
	sim_note(sim, "partition %llx", (unsigned long long)links);
	sim_fault_cut(sim, links, 0, cut_span(fault->c));
	return links != 0;
}

/* A single link one way, or any set of links. */
int sim_fault_links(struct sim *sim, const struct sim_fault *fault)
{
	unsigned from = sim_fault_which(sim, fault);
	unsigned to = (unsigned)(fault->b / 4 % sim_members(sim));
	uint64_t links = fault->b % 2 == 0 ? SIM_LINK_BIT(from, to) : links_between(sim, ~0u, ~0u) & fault->b / 4;
	sim_note(sim, "links %llx are cut", (unsigned long long)links);
	sim_fault_cut(sim, links, 0, cut_span(fault->c));
	return links != 0;
}

/* Two groups that have only one member in common. */
int sim_fault_bridge(struct sim *sim, const struct sim_fault *fault)
{
	uint64_t bridge = (uint64_t)1 << sim_fault_which(sim, fault);
	uint64_t links = sim_fault_between(sim, fault->b & ~bridge, ~fault->b & ~bridge, 2);
	sim_note(sim, "only %u joins the two sides: links %llx are cut", sim_fault_which(sim, fault) + 1,
		 (unsigned long long)links);
	sim_fault_cut(sim, links, 0, cut_span(fault->c));
	return links != 0;
}

/* A link, or all of a member, opens and closes for seconds. */
int sim_fault_flapping(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_random random = {fault->b};
	uint64_t member = (uint64_t)1 << sim_fault_which(sim, fault);
	uint64_t peers = sim_random_below(&random, 2) == 0 ? ~member : sim_random_u64(&random);
	uint64_t links = sim_fault_between(sim, member, peers & ~member, sim_random_below(&random, 3));
	uint64_t end_us = sim_fault_span(fault->c, 500 * MILLISECOND, 8 * SECOND);
	for (uint64_t at = 0; at < end_us;) {
		uint64_t closed_us = 10 * MILLISECOND + sim_random_below(&random, 290 * MILLISECOND);
		sim_fault_cut(sim, links, at, closed_us);
		at += closed_us + 10 * MILLISECOND + sim_random_below(&random, 290 * MILLISECOND);
	}
	return links != 0;
}

/* The leader hears but is not heard, is heard but does not hear, or neither; by all, or by some. */
int sim_fault_isolate_leader(struct sim *sim, const struct sim_fault *fault)
{
	unsigned leader = sim_fault_leader(sim);
	if (leader == sim_members(sim))
		return 0;
	uint64_t peers = fault->a % 3 == 0 ? fault->a / 3 : ~0u;
	uint64_t links = sim_fault_between(sim, (uint64_t)1 << leader, peers, fault->b % 3);
	sim_note(sim, "leader %u is isolated: links %llx are cut", leader + 1, (unsigned long long)links);
	sim_fault_cut(sim, links, 0, cut_span(fault->c));
	return links != 0;
}

/* Links are cut one by one, and healed in another order. */
int sim_fault_swizzle(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_random random = {fault->b};
	uint64_t step_us = sim_fault_span(fault->c, 5 * MILLISECOND, 500 * MILLISECOND);
	uint64_t longest_us = 0;
	for (unsigned k = 0; k < sim_members(sim); k++) {
		uint64_t member = (uint64_t)1 << k;
		if (((fault->a >> k) & 1) == 0)
			continue;
		longest_us += step_us;
		uint64_t delay_us = 1 + sim_random_below(&random, longest_us);
		uint64_t more_us = sim_random_below(&random, step_us * sim_members(sim));
		sim_fault_cut(sim, sim_fault_between(sim, member, ~member, 2), delay_us, step_us * sim_members(sim) + more_us);
	}
	return longest_us > 0;
}

/* Transports report connections that come and go, in any order, whatever the truth is. */
int sim_fault_false_peer_events(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_random random = {fault->b};
	unsigned member = sim_fault_which(sim, fault);
	for (uint64_t n = 1 + fault->c % 6; n > 0; n--) {
		unsigned peer = (unsigned)sim_random_below(&random, sim_members(sim));
		bool up = sim_random_below(&random, 2) == 0; /* one draw a statement: C leaves their order open */
		uint64_t delay_us = sim_random_below(&random, 50 * MILLISECOND);
		if (peer != member)
			sim_network_peer_event(sim, member, peer, up, delay_us);
	}
	return sim->members[member].up;
}

int sim_fault_replay(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_random random = {fault->b};
	sim_network_replay(sim, &random);
	return 1;
}

int sim_fault_forge(struct sim *sim, const struct sim_fault *fault)
{
	unsigned to = sim_fault_which(sim, fault);
	return sim_forge(sim, (unsigned)(fault->c % sim_members(sim)), to, fault->b);
}
