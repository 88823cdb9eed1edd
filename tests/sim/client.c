/*
 * Simulated clients: when they ask what. A client has a session and up to a window of requests under way; what is not answered
 * it sends again to another member. It works in phases: a request now and then, as many as the window holds, or nothing for a
 * long time. It may vanish with requests open; a new one, with a new session, takes its place.
 *
 * What a client may see is checked in client_request.c.
 */
#include "client.h"

#include "daemon/assert.h"

#include <stdlib.h>

#define TRICKLE_US 20000u     /* between an answer and the next request */
#define BURST_US 2000u	      /* the same in a burst: what was answered meanwhile is replaced at once */
#define ABANDON_US 2000000u   /* a request that is not answered by then may be given up */
#define FLOOD_PROPOSALS 3000u /* most are refused: a flood ends when sessions expire */
#define ABANDON_CHANCE 20000u /* then, whenever it would be sent again */

static uint64_t below(struct sim *sim, uint64_t bound)
{
	return sim_random_below(&sim->random_client, bound);
}

static unsigned client_window(const struct sim *sim, const struct sim_client *client)
{
	return client->phase == PHASE_BURST ? REQUESTS_MAX : (unsigned)sim->plan.client_window;
}

static void begin_phase(struct sim *sim, unsigned number)
{
	struct sim_client *client = &sim->clients[number];
	uint64_t draw = below(sim, 1000000);
	if (!sim->calm && sim_random_chance(&sim->random_client, sim->plan.client_vanishing))
		client_vanish(sim, number);
	if (!sim->silent && sim_random_chance(&sim->random_client, sim->plan.client_duplicates))
		client_send_ghost(sim, number);
	client->sticky = !sim->calm && sim_random_chance(&sim->random_client, sim->plan.client_sticky);
	client->home = client->target;
	if (!sim->calm && sim_random_chance(&sim->random_client, sim->plan.client_flooding))
		client->flood_left = FLOOD_PROPOSALS;
	client->next_us = sim->now_us + below(sim, TRICKLE_US);
	if (draw < sim->plan.client_bursts) {
		client->phase = PHASE_BURST;
		client->phase_end_us = sim->now_us + 5000 + below(sim, 60000);
	} else if (!sim->calm && draw < sim->plan.client_bursts + sim->plan.client_idling) {
		uint64_t longest = below(sim, 8) == 0 ? 30000000 : 4000000;
		client->phase = PHASE_IDLE;
		client->phase_end_us = sim->now_us + 100000 + below(sim, longest);
	} else {
		client->phase = PHASE_TRICKLE;
		client->phase_end_us = sim->now_us + 100000 + below(sim, 3000000);
	}
}

static void change_target(struct sim *sim, struct sim_client *client)
{
	if (!client_takes_turns(sim)) {
		if (below(sim, 2) == 0)
			client->target = (unsigned)below(sim, sim_members(sim));
		return;
	}
	if (!client->stays)
		client->target = (client->target + 1) % sim_members(sim);
	client->stays = false;
}

/* Whatever waited long enough may go to another member. */
static void send_again(struct sim *sim, unsigned number)
{
	struct sim_client *client = &sim->clients[number];
	bool late = false;
	for (unsigned k = 0; k < client->n_requests; k++) {
		struct request *request = &client->requests[k];
		if (request->retry_us > sim->now_us)
			continue;
		late = true;
		if (!sim->calm && sim->now_us - request->begun_us > ABANDON_US &&
		    sim_random_chance(&sim->random_client, ABANDON_CHANCE))
			client_abandon(sim, request);
	}
	if (late)
		change_target(sim, client);
}

static void ask(struct sim *sim, unsigned number)
{
	struct sim_client *client = &sim->clients[number];
	if (sim->silent || sim->now_us < client->next_us || client->phase == PHASE_IDLE)
		return;
	if (client->session == 0) {
		if (client->n_requests > 0)
			return;
		client_begin_register(sim, number);
	} else {
		do {
			if (client->n_requests >= client_window(sim, client))
				break;
			client_begin_request(sim, number);
		} while (client->phase == PHASE_BURST);
	}
	client->next_us = sim->now_us + 1 + below(sim, client->phase == PHASE_BURST ? BURST_US : TRICKLE_US);
}

static void plan_next(struct sim *sim, unsigned number)
{
	struct sim_client *client = &sim->clients[number];
	uint64_t next = client->phase_end_us;
	if (!sim->silent && client->phase != PHASE_IDLE && client->n_requests < client_window(sim, client) &&
	    (client->session != 0 || client->n_requests == 0) && client->next_us < next)
		next = client->next_us;
	for (unsigned k = 0; k < client->n_requests; k++)
		if (client->requests[k].retry_us < next)
			next = client->requests[k].retry_us;
	if (sim->silent && client->n_requests == 0)
		return;
	if (next <= sim->now_us)
		next = sim->now_us + 1;
	if (client->wake_us > sim->now_us && client->wake_us <= next)
		return;
	client->wake_us = next;
	sim_schedule(sim, next - sim->now_us, (struct sim_event){.type = SIM_CLIENT, .member = number});
}

void sim_client_event(struct sim *sim, unsigned number)
{
	struct sim_client *client = &sim->clients[number];
	if (client->wake_us != sim->now_us)
		return; /* it was to act later, and has acted since */
	if (sim->now_us >= client->phase_end_us)
		begin_phase(sim, number);
	client_flood(sim, number);
	client_forget_reads(sim, number);
	send_again(sim, number);
	ask(sim, number);
	client_send(sim, number);
	plan_next(sim, number);
}

void sim_client_replan(struct sim *sim, unsigned number)
{
	plan_next(sim, number);
}

void sim_clients_begin(struct sim *sim)
{
	sim->clients = calloc(sim->plan.clients, sizeof *sim->clients);
	raft_assert(sim->clients != NULL);
	client_fates_new(sim);
	for (unsigned k = 0; k < sim->plan.clients; k++)
		plan_next(sim, k);
}

void sim_clients_end(struct sim *sim)
{
	client_fates_free(sim);
	free(sim->clients);
	sim->clients = NULL;
}

void sim_clients_calm(struct sim *sim)
{
	for (unsigned k = 0; k < sim->plan.clients; k++) {
		if (sim->clients[k].phase == PHASE_IDLE)
			sim->clients[k].phase_end_us = sim->now_us;
		plan_next(sim, k);
	}
}

void sim_clients_silence(struct sim *sim)
{
	sim->silent = true;
}

uint64_t sim_clients_floor(const struct sim *sim)
{
	uint64_t floor = sim->acknowledged;
	for (unsigned k = 0; sim->clients != NULL && k < sim->plan.clients; k++)
		for (unsigned r = 0; r < sim->clients[k].n_requests; r++)
			if (sim->clients[k].requests[r].floor < floor)
				floor = sim->clients[k].requests[r].floor;
	return floor;
}

bool sim_clients_wait(const struct sim *sim)
{
	for (unsigned k = 0; k < sim->plan.clients; k++)
		if (sim->clients[k].n_requests > 0)
			return true;
	return false;
}

void sim_clients_check_calm(struct sim *sim)
{
	for (unsigned k = 0; k < sim->plan.clients; k++)
		if (sim->clients[k].n_requests > 0)
			sim_fail(sim, "liveness: client %u has %u requests that were not answered in the calm", k,
				 sim->clients[k].n_requests);
}
